"""Which signal tells that an image is unlike what a model knows, and what it costs.

    python -m benchmarks.unlike FILE.tflite ... --data-dir CAMVID [--drives 0016E5]

FILE.tflite has scores: of the variant scores, or a mask file with the second output of `export` (add it to an older one
by `python -m export.add_confidence`). AUROC of each signal: the share of pairs of an image that the model knows and one
that it does not in which the first has the larger value. Known: CamVid's val and the drives of its train split (of the
drives that --drives names alone). Not known: the photographs of scikit-image, drawn scenes, images of val under each
corruption in severities 1, 3 and 5, and images of 20x20 pixels. Times are of the process's CPU, medians, in turn.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from evaluation import corruptions
from runtime.confidence import place_likelihood
from runtime.errors import UserError, exit_on_user_error
from runtime.fit import join_scores
from runtime.image import read_rgb
from runtime.segmenter import Segmenter
from training.data import scenes

DRIVES = ("0001TP", "0006R0", "0016E5")
SEVERITIES = (1, 3, 5)
Images = dict[str, list[np.ndarray]]


def known(folder: Path, drives: Sequence[str], count: int) -> Images:
    """Images of val and of each drive of train, evenly spread."""
    files = {"val": sorted((folder / "val").glob("*.png"))}
    files |= {f"train {drive}": sorted((folder / "train").glob(f"{drive}*.png")) for drive in drives}
    if not all(files.values()):
        raise UserError(f"{folder} lacks images of val or of {', '.join(drives)} in train")
    return {
        name: [read_rgb(path) for path in paths[:: -(-len(paths) // count)]] for name, paths in files.items()
    }


def unknown(val: Sequence[np.ndarray], count: int) -> Images:
    """The groups that a model of streets does not know, or knows less the stronger the corruption is."""
    import skimage.data  # requirements-parity.txt

    paths = sorted(Path(skimage.data.__file__).parent.glob("*.*"))
    photographs = [_photograph(path) for path in paths if path.suffix in (".png", ".jpg")]
    found: Images = {"scikit-image": photographs, "drawn": [_drawn(index) for index in range(count)]}
    names = list(corruptions.CORRUPTIONS)
    for severity in SEVERITIES:
        found[f"corrupted {severity}"] = [
            corruptions.corrupted(val[place % len(val)], names[place % len(names)], severity, str(place))
            for place in range(2 * len(names))
        ]
    small = [*val[::2], *photographs]
    found["20x20"] = [cv2.resize(rgb, (20, 20), interpolation=cv2.INTER_AREA) for rgb in small]
    return found


def _photograph(path: Path) -> np.ndarray:
    """One of scikit-image's; two of them have 16 bits, of which OpenCV takes the high byte."""
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))


def _drawn(index: int) -> np.ndarray:
    return scenes.draw(0, index, (360, 480), split="val").image


def signals(segmenter: Segmenter, rgb: np.ndarray) -> dict[str, float]:
    """Every signal of one image, the larger the more known."""
    found = segmenter.segment(rgb)
    evidence = found.evidence
    if evidence is None or not evidence.maps:
        raise UserError(f"{segmenter.path} has no scores: python -m export.add_confidence adds them")
    classes = range(len(segmenter.labels))
    scores = np.stack([join_scores(evidence.maps, evidence.place, index) for index in classes], axis=-1)
    scores = scores.reshape(-1, len(classes))
    ordered = np.sort(scores, axis=1)
    powers = np.exp(scores - ordered[:, -1:])
    shares = powers / powers.sum(axis=1, keepdims=True)
    likeliest, entropy = shares.max(axis=1), -(shares * np.log(shares + 1e-12)).sum(axis=1)
    mirrored = segmenter.segment(np.ascontiguousarray(rgb[:, ::-1])).ids[:, ::-1]
    result = {
        "largest softmax, mean": likeliest.mean(),
        "largest softmax, 10th percentile": np.percentile(likeliest, 10),
        "share of pixels above 0.7": (likeliest > 0.7).mean(),
        "entropy, mean": -entropy.mean(),
        "margin of softmax, mean": (likeliest - np.sort(shares, axis=1)[:, -2]).mean(),
        "margin of scores, mean": (ordered[:, -1] - ordered[:, -2]).mean(),
        "highest score, mean": ordered[:, -1].mean(),
        "energy, mean": (np.log(powers.sum(axis=1)) + ordered[:, -1]).mean(),
        "agreement with the mirrored image": (mirrored == found.ids).mean(),
    }
    if evidence.facts.shares is not None:
        result["places of the classes"] = place_likelihood(found.ids, evidence.facts.shares)
    result["a doubt is told (share)"] = float(not found.doubt)
    return {name: float(value) for name, value in result.items()}


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The share of pairs in which the positive is larger; ties count half."""
    difference = np.subtract.outer(np.asarray(positive), np.asarray(negative))
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def cost(segmenter: Segmenter, rgb: np.ndarray, turns: int) -> dict[str, float]:
    """Milliseconds of CPU of an image, medians: segmented, with doubt and mean confidence, and mirrored too."""
    mirrored = np.ascontiguousarray(rgb[:, ::-1])

    def told() -> None:
        found = segmenter.segment(rgb)
        _ = found.doubt, found.mean_confidence

    ways: dict[str, Callable[[], object]] = {
        "segmentation": lambda: segmenter.segment(rgb),
        "with doubt and mean confidence": told,
        "with the mirrored image": lambda: (segmenter.segment(rgb), segmenter.segment(mirrored)),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            start = time.process_time()
            way()
            taken[name] += [1e3 * (time.process_time() - start)] if turn else []
    return {name: float(np.median(times)) for name, times in taken.items()}


def main(argv: Sequence[str] | None = None) -> int:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.unlike",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("files", nargs="+", type=Path, metavar="FILE.tflite")
    command.add_argument("--data-dir", type=Path, required=True, metavar="CAMVID")
    command.add_argument("--drives", nargs="+", default=list(DRIVES), choices=DRIVES, metavar="DRIVE")
    command.add_argument(
        "--images", type=int, default=20, metavar="N", help="of val, of a drive and drawn; 20"
    )
    args = command.parse_args(argv)
    streets = known(args.data_dir, args.drives, args.images)
    others = unknown(streets["val"], args.images)
    for path in args.files:
        segmenter = Segmenter(path).warm_up()
        found = {
            name: [signals(segmenter, rgb) for rgb in images]
            for name, images in {**streets, **others}.items()
        }
        print(f"\n{path.name}\n\n| AUROC | {' | '.join(others)} |\n|{'---|' * (1 + len(others))}")
        for signal in list(found["val"][0])[:-1]:
            positive = [one[signal] for name in streets for one in found[name]]
            row = (auroc(positive, [one[signal] for one in found[name]]) for name in others)
            print(f"| {signal} | {' | '.join(f'{value:.3f}' for value in row)} |")
        told = (
            f"{name} {sum(1 - one['a doubt is told (share)'] for one in rows):.0f} of {len(rows)}"
            for name, rows in found.items()
        )
        print(f"\na doubt is told: {', '.join(told)}")
        times = cost(segmenter, streets["val"][0], 15)
        first = times["segmentation"]
        print(
            ", ".join(f"{name} {value:.1f} ms ({value / first:.2f})" for name, value in times.items()),
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
