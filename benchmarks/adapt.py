"""What carrying rows of the head over gives: python -m benchmarks.adapt CAMVID --out DIR [--epochs 10] [--seeds 0 1 2].

A shipped CamVid model is adapted to 20 training images of CamVid with other classes: three of one's own, or road11.
Each runs twice, with names that the model has ("carried") and with names that nobody has ("new head"), which is all
that differs. Folders of links to CamVid's files are made below DIR, runs below DIR/runs; a run that is there already is
not trained again. Prints a table: mIoU over images of CamVid's val after one epoch and after all, mean and range over
the seeds.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

from training.data.labels import taxonomies

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "deeplabv3plus_mobilenet_edgetpu_camvid.weights.h5"
TRAIN, VAL = 20, 34  # images, from all over CamVid's splits
CAMVID = taxonomies.classes("camvid11")
# What the classes are, as CamVid's: three of one's own, and road11.
CLASSES: dict[str, dict[str, tuple[str, ...]]] = {
    "3 own classes": {
        "road": ("Road",),
        "car": ("Car",),
        "rest": tuple(name for name in CAMVID if name not in ("Road", "Car")),
    },
    "road11": {str(to): (name,) for name, to in taxonomies.targets("camvid11", "road11").items()},
}
WAYS = ("carried", "new head")
# A small rate, as few images want it, and ten times that for the head, which is new in part; the norms keep their
# statistics, and the weights themselves are scored, not their average, since there are few steps.
FLAGS = [
    *("--learning-rate", "1e-4", "--lr-mult", "classifier=10", "--warmup-epochs", "0.5"),
    *("--crop", "192x192", "--batch", "4", "--ema", "0", "--freeze-bn", "all"),
]


def main() -> None:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("camvid", type=Path, metavar="CAMVID")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    command.add_argument("--epochs", type=int, default=10)
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    command.add_argument("--sets", nargs="+", choices=CLASSES, default=list(CLASSES))
    args = command.parse_args()
    print(f"| classes | head | after 1 epoch | after {args.epochs} |\n|---|---|---|---|")
    for name in args.sets:
        for way in WAYS:
            folder = args.out / f"{name} {way}".replace(" ", "_")
            link(args.camvid.resolve(), folder, CLASSES[name], renamed=way == "new head")
            curves = [trained(folder, args, seed) for seed in args.seeds]
            first, last = ([curve[place] for curve in curves] for place in (0, -1))
            print(f"| {name} | {way} | {shown(first)} | {shown(last)} |", flush=True)


def link(camvid: Path, folder: Path, classes: dict[str, tuple[str, ...]], renamed: bool) -> None:
    """A data set of the kind --data folder: links to images and label maps, and the classes made of CamVid's ids."""
    for split, count in (("train", TRAIN), ("val", VAL)):
        names = sorted(path.name for path in (camvid / split).glob("*.png"))
        chosen = [names[place * len(names) // count] for place in range(count)]
        for kind, source in (("images", split), ("masks", f"{split}annot")):
            place = folder / kind / split
            place.mkdir(parents=True, exist_ok=True)
            for name in chosen:
                if not (place / name).is_symlink():
                    (place / name).symlink_to(camvid / source / name)
    listed = [
        {"name": f"nobody's {place}" if renamed else name, "ids": [CAMVID.index(one) for one in parts]}
        for place, (name, parts) in enumerate(classes.items())
    ]
    (folder / "classes.json").write_text(
        json.dumps({"classes": listed, "ignore": [len(CAMVID)]}), encoding="utf-8"
    )


def trained(folder: Path, args: argparse.Namespace, seed: int) -> list[float]:
    """The mIoU on val after each epoch of one run."""
    name = f"{folder.name}-{seed}"
    history = args.out / "runs" / name / "history.csv"
    if not history.is_file() or len(read(history)) < args.epochs:
        flags = [*FLAGS, "--epochs", str(args.epochs), "--seed", str(seed), "--name", name, "--fresh"]
        data = ["--data", "folder", "--data-dir", str(folder.resolve()), "--init", str(MODEL)]
        subprocess.run(
            [sys.executable, "-m", "training.train", "deeplabv3plus", *data, *flags],
            cwd=args.out,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
            stdout=sys.stderr,
        )
    return read(history)


def read(history: Path) -> list[float]:
    with history.open(newline="", encoding="utf-8") as file:
        return [100 * float(row["val_miou"]) for row in csv.DictReader(file)]


def shown(values: list[float]) -> str:
    return f"{sum(values) / len(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
