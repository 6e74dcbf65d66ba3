"""Looks at a data set: python -m training.data.inspect DATA [--data-dir DIR] [--data-option NAME=VALUE ...].

    python -m training.data.inspect scenes
    python -m training.data.inspect camvid --data-dir data/camvid --split train val
    python -m training.data.inspect folder --data-dir data/yard --data-option ratios=0.8,0.2 group=folder

Every image is read once, with its label map as it is stored and as the model sees it. What comes out: the label
ids that there are, with the class that each becomes; the share of each class; sizes of images; images that are
in a split twice or in two splits (by the hash of their pixels); and what is wrong. Written to inspect/DATA (or
--out): inspect.json with all of it, and samples.png, which is to be looked at.
"""

import argparse
import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.errors import UserError, WriteError, exit_on_user_error
from runtime.files import write_json
from training.command_line import Parser, add_data_option
from training.data import mixture, opened, sample_sheet
from training.data.files import damaged_jpeg
from training.data.spec import VOID_ID, DatasetSpec, Example
from training.progress_bar import counter

LISTED = 10  # sentences of one kind that are printed; inspect.json has all of them


class Seen(NamedTuple):
    """What is kept of one image.

    `pairs` (N, 3) int64 are raw id, train id, pixels; the train id is -1 where the image was refused. `size` is
    (height, width), `pixels` a hash of them; both are None where not even the image could be read.
    """

    size: tuple[int, int] | None
    pixels: str | None
    pairs: np.ndarray
    problem: str | None


class Part(NamedTuple):
    """One split: its examples, what was seen of each, and the problems met when it was listed.

    `missing` says why a test split is not there, which training can do without."""

    examples: list[Example]
    seen: list[Seen]
    problems: list[str]
    missing: str = ""


def look(example: Example) -> Seen:
    """Read one image with its label map, as stored and as train ids."""
    raw: np.ndarray | None = None
    rgb: np.ndarray | None = None
    ids: np.ndarray | None = None
    problem = None
    try:
        if example.raw:
            rgb, raw = example.raw()
        rgb, ids = example.read()
    except UserError as error:
        problem = str(error)
    stored = ids if raw is None else raw
    pairs = np.zeros((0, 3), np.int64) if stored is None else _pairs(stored, ids)
    if rgb is None:
        return Seen(None, None, pairs, problem)
    digest = hashlib.blake2b(np.ascontiguousarray(rgb).data, digest_size=16, key=str(rgb.shape).encode())
    return Seen((rgb.shape[0], rgb.shape[1]), digest.hexdigest(), pairs, problem)


def _pairs(raw: np.ndarray, ids: np.ndarray | None) -> np.ndarray:
    """(N, 3): raw id, train id (-1 without `ids`), pixels. Colours (H, W, 3) become 24-bit numbers."""
    codes = raw.astype(np.int64)
    if raw.ndim == 3:
        codes = codes[..., 0] << 16 | codes[..., 1] << 8 | codes[..., 2]
    train = np.full(codes.shape, -1, np.int64) if ids is None else ids.astype(np.int64)
    both = (codes << 9 | train + 1).ravel()
    if both.max(initial=0) < 1 << 18:  # ids of a byte: counting is many times faster than sorting
        counts = np.bincount(both)
        keys = np.flatnonzero(counts)
        return np.stack([keys >> 9, (keys & 511) - 1, counts[keys]], axis=1)
    keys, counts = np.unique(both, return_counts=True)
    return np.stack([keys >> 9, (keys & 511) - 1, counts], axis=1)


def scan(
    examples: Sequence[Example], *, workers: int = 2, progress: Callable[[int, int], None] | None = None
) -> Iterator[Seen]:
    """`look` at every example, in order."""
    with ThreadPoolExecutor(workers) as pool:
        for done, seen in enumerate(pool.map(look, examples), 1):
            if progress:
                progress(done, len(examples))
            yield seen


def report(name: str, spec: DatasetSpec, parts: dict[str, Part], coloured: bool) -> dict[str, Any]:
    """Everything that inspect.json holds. `coloured`: the raw ids are 24-bit colours."""
    return {
        "data": name,
        "taxonomy": spec.name,
        "classes": [
            {"name": label, "colour": list(colour)}
            for label, colour in zip(spec.classes, spec.palette, strict=True)
        ],
        "splits": {split: _split(part, spec) for split, part in parts.items()},
        "ids": _ids([seen for part in parts.values() for seen in part.seen], spec, coloured),
        "missing": {split: part.missing for split, part in parts.items() if part.missing},
        "duplicates": _duplicates(parts),
        "problems": _problems(parts, spec),
    }


def _split(part: Part, spec: DatasetSpec) -> dict[str, Any]:
    """Images, sizes, and for each class its share of the pixels that count and of the images."""
    pixels, images = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for seen in part.seen:
        good = seen.pairs[seen.pairs[:, 1] >= 0]
        np.add.at(pixels, good[:, 1], good[:, 2])
        images[np.unique(good[:, 1])] += 1
    count = len(spec.classes)
    sizes = Counter(seen.size for seen in part.seen if seen.size)
    return {
        "pictures": len(part.seen),
        "good": sum(seen.problem is None for seen in part.seen),
        "sizes": [
            {"width": width, "height": height, "pictures": number}
            for (height, width), number in sizes.most_common()
        ],
        "void_share": _share(pixels[VOID_ID], pixels.sum()),
        "pixels": {label: int(pixels[index]) for index, label in enumerate(spec.classes)},
        "share": {label: _share(pixels[i], pixels[:count].sum()) for i, label in enumerate(spec.classes)},
        "pictures_with": {label: int(images[index]) for index, label in enumerate(spec.classes)},
    }


def _ids(seen: Sequence[Seen], spec: DatasetSpec, coloured: bool) -> list[dict[str, Any]]:
    """Every raw id, in order: its pixels, its images, and the class (or classes) that it becomes."""
    pixels: Counter[int] = Counter()
    images: Counter[int] = Counter()
    becomes: dict[int, set[int]] = {}
    for one in seen:
        for raw, train, count in one.pairs.tolist():
            pixels[raw] += count
            becomes.setdefault(raw, set()).add(train)
        images.update(set(one.pairs[:, 0].tolist()))
    total = sum(pixels.values())
    rows = []
    for raw in sorted(pixels):
        trains = sorted(becomes[raw] - {-1})
        names = [spec.classes[train] if train < len(spec.classes) else "ignored" for train in trains]
        colour = spec.palette[trains[0]] if trains and trains[0] < len(spec.palette) else None
        rows.append(
            {
                "id": f"#{raw:06x}" if coloured else raw,
                "class": ", ".join(names) or "refused",
                "colour": list(colour) if colour else None,
                "pixels": pixels[raw],
                "share": _share(pixels[raw], total),
                "pictures": images[raw],
                "pictures_share": _share(images[raw], len(seen)),
            }
        )
    return rows


def _duplicates(parts: dict[str, Part]) -> list[list[str]]:
    """Images of the very same pixels, each as split/name: those that lie in two splits first."""
    found: dict[str, list[str]] = {}
    for split, part in parts.items():
        for example, seen in zip(part.examples, part.seen, strict=True):
            if seen.pixels:
                found.setdefault(seen.pixels, []).append(f"{split}/{example.name}")
    twice = [names for names in found.values() if len(names) > 1]
    return sorted(twice, key=lambda names: len({name.split("/")[0] for name in names}) == 1)


def _problems(parts: dict[str, Part], spec: DatasetSpec) -> dict[str, list[str]]:
    """Sentences by kind; kinds without any are left out."""
    found: dict[str, list[str]] = {
        "files": [problem for part in parts.values() for problem in part.problems]
        + [seen.problem for part in parts.values() for seen in part.seen if seen.problem],
        "void": [
            f"{split}/{example.name} is void in every pixel: nothing is learnt from it or scored on it."
            for split, part in parts.items()
            for example, seen in zip(part.examples, part.seen, strict=True)
            if seen.problem is None and (seen.pairs[:, 1] == VOID_ID).all()
        ],
        "duplicates": [_duplicate(names) for names in _duplicates(parts)],
        "classes": _missing_classes(parts, spec),
        "groups": _groups(parts),
    }
    return {kind: sentences for kind, sentences in found.items() if sentences}


def _duplicate(names: list[str]) -> str:
    across = len({name.split("/")[0] for name in names}) > 1
    return f"{' and '.join(names)} are the same image" + (", in different splits." if across else ".")


def _missing_classes(parts: dict[str, Part], spec: DatasetSpec) -> list[str]:
    sentences = []
    for split, part in parts.items():
        if part.missing:
            continue
        there = {int(train) for seen in part.seen for train in seen.pairs[:, 1]}
        absent = [label for index, label in enumerate(spec.classes) if index not in there]
        if absent:
            sentences.append(f"{split} has no pixel of {', '.join(absent)}.")
    return sentences


def _groups(parts: dict[str, Part]) -> list[str]:
    """Groups (folders, cities, drives) with images in two splits: their neighbours may be nearly the same."""
    groups = {split: {example.group for example in part.examples} - {""} for split, part in parts.items()}
    listed = [split for split in parts if len(set().union(*groups.values())) > 1]
    return [
        f"{first} and {second} share images of the group {', '.join(sorted(both)[:5])}"
        f"{' and others' if len(both) > 5 else ''}: neighbouring frames may be nearly the same image."
        for place, first in enumerate(listed)
        for second in listed[place + 1 :]
        if (both := groups[first] & groups[second])
    ]


def _share(part: Any, whole: Any) -> float:
    return float(part) / float(whole) if whole else 0.0


def text(result: dict[str, Any]) -> str:
    """What is printed: ids, classes, sizes, and what is wrong."""
    lines = [
        f"{'id':>9}  {'colour':<8} {'class':<24} {'pixels':>14} {'% pixels':>9} {'images':>9} {'% images':>11}"
    ]
    for row in result["ids"]:
        lines.append(
            f"{row['id']:>9}  {_hex(row['colour']):<8} {row['class'][:24]:<24} {row['pixels']:>14,} "
            f"{100 * row['share']:>9.3f} {row['pictures']:>9,} {100 * row['pictures_share']:>11.1f}"
        )
    splits = result["splits"]
    lines += ["", "% of the pixels that count (and of the images that show it)"]
    lines.append(f"{'class':<24}" + "".join(f"{split:>18}" for split in splits))
    for entry in result["classes"]:
        cells = (_cell(part, entry["name"]) for part in splits.values())
        lines.append(f"{entry['name'][:24]:<24}" + "".join(f"{cell:>18}" for cell in cells))
    voids = (f"{100 * part['void_share']:.3f}" for part in splits.values())
    lines.append(f"{'(ignored, of all)':<24}" + "".join(f"{void + ' ' * 8:>18}" for void in voids))
    lines.append("")
    for split, part in splits.items():
        if split in result["missing"]:
            lines.append(
                f"{split}: not there, and not needed for training ({result['missing'][split].rstrip('.')})"
            )
            continue
        shown = [f"{size['width']}x{size['height']} ({size['pictures']})" for size in part["sizes"]]
        more = f" and {len(shown) - 4} other sizes" if len(shown) > 4 else ""
        lines.append(f"{split}: {part['pictures']} images, {', '.join(shown[:4])}{more}")
    for kind, sentences in result["problems"].items():
        lines += ["", f"{KINDS[kind]} ({len(sentences)})"]
        lines += [f"  {sentence}" for sentence in sentences[:LISTED]]
        lines += [f"  and {len(sentences) - LISTED} more in inspect.json"] if len(sentences) > LISTED else []
    return "\n".join([*lines, "", "Nothing is wrong with it."] if not result["problems"] else lines)


def _hex(colour: list[int] | None) -> str:
    return "" if colour is None else "#{:02x}{:02x}{:02x}".format(*colour)


KINDS = {
    "files": "Files that training refuses",
    "void": "Images without any class",
    "duplicates": "The same image twice",
    "classes": "Classes that a split lacks",
    "groups": "Groups that straddle splits",
}


def _cell(part: dict[str, Any], label: str) -> str:
    shown = 100 * part["pictures_with"][label] / max(1, part["good"])
    return f"{100 * part['share'][label]:.3f} ({shown:5.1f})"


def inspect(
    name: str,
    data_dir: mixture.Folder,
    taxonomy: str | None,
    options: dict[str, Any],
    wanted: Sequence[str] = (),
) -> tuple[DatasetSpec, dict[str, Part], bool]:
    """Read every split, or those wanted. A split that cannot be listed is a problem of its own, unless none can."""
    spec, listing = opened(name, data_dir, taxonomy, options)
    for split in wanted:
        if split not in spec.splits:
            raise UserError(f"There is no split of {name} called {split}; there is {', '.join(spec.splits)}.")
    parts: dict[str, Part] = {}
    missing: list[UserError] = []
    said: set[str] = set()
    for split in wanted or spec.splits:
        try:
            examples, problems, note = listing(split)
        except UserError as error:
            missing.append(error)
            lacking = split == "test"
            parts[split] = Part([], [], [] if lacking else [str(error)], str(error) if lacking else "")
            continue
        if note and note not in said:
            print(note)
            said.add(note)
        with damaged_jpeg.heard() as warnings:
            seen = list(scan(examples, progress=counter(f"reading {split}")))
            warned = warnings()
        if warned:
            bad = damaged_jpeg.found(examples)
            seen = [one._replace(problem=one.problem or bad.get(place)) for place, one in enumerate(seen)]
        parts[split] = Part(examples, seen, problems)
        for remarks in dict.fromkeys(example.remarks for example in examples if example.remarks):
            for sentence in remarks():
                print(f"{split}: {sentence}")
    if len(missing) == len(parts):
        raise missing[0]
    first = next((part.examples[0] for part in parts.values() if part.examples), None)
    return spec, parts, _coloured(first)


def _coloured(example: Example | None) -> bool:
    """Whether the label maps are stored as colours."""
    try:
        return bool(example and example.raw and example.raw()[1].ndim == 3)
    except UserError:
        return False


def main(argv: Sequence[str] | None = None) -> int:
    command = Parser(
        prog="python -m training.data.inspect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("data", help="a data set, or a mixture such as camvid+scenes")
    command.add_argument(
        "--data-dir", metavar="DIR", nargs="+", help="its folder, or camvid=DIR cityscapes=DIR"
    )
    command.add_argument("--classes", metavar="TAXONOMY")
    add_data_option(command)
    command.add_argument("--split", nargs="+", default=[], help="these splits only")
    command.add_argument("--samples", type=int, default=4, metavar="N", help="images of each split to draw")
    command.add_argument("--out", metavar="DIR", help="inspect/DATA if not given")
    args = command.parse_args(argv)
    options = dict(args.data_options)
    spec, parts, coloured = inspect(
        args.data, mixture.folders(args.data_dir, args.data), args.classes, options, args.split
    )
    result = report(args.data, spec, parts, coloured)
    folder = Path(args.out or f"inspect/{args.data}")
    try:
        write_json(folder / "inspect.json", result)
    except WriteError as error:
        raise UserError(f"{error.what}; choose another --out.") from error
    chosen = {split: sample_sheet.chosen(_classes_of(part), args.samples) for split, part in parts.items()}
    images = [
        (f"{split}/{parts[split].examples[index].name}", *parts[split].examples[index].read())
        for split, indices in chosen.items()
        for index in indices
    ]
    sample_sheet.draw(folder / "samples.png", images, spec)
    print(text(result))
    print(f"\nwritten to {folder}: inspect.json, samples.png")
    return 0


def _classes_of(part: Part) -> list[set[int] | None]:
    """The classes in each image; None where it was refused."""
    return [None if seen.problem else set(seen.pairs[:, 1].tolist()) - {VOID_ID} for seen in part.seen]


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
