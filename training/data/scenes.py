"""`scenes`, the data set that comes with Kerbside: road scenes drawn by our own code, made when they are read.

`draw(seed, index, size)` gives the same bytes on every call and in every process; the scene does not depend on
the size, which may be any. Train and val draw from separate random streams. All 19 classes of Cityscapes
appear, at frequencies about as uneven as there.

    python -m training.data.scenes --write DIR --count 50 --size 512x1024
    python -m training.data.scenes --sheet sheet.png --count 12
"""

import dataclasses
import re
import sys
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from drawing import backdrop, layout, lens, street
from drawing.canvas import Canvas
from runtime.encoding import encoded
from runtime.errors import UserError, exit_on_user_error
from runtime.files import WRITING, write_whole
from training import command_line
from training.data import cityscapes
from training.data.spec import Example

SPLITS = ("train", "val")  # the position is part of the random stream's key
COUNTS = {"train": 400, "val": 50}
SIZE = (256, 512)  # height, width
SIDES = (16, 8192)  # the least and the greatest side
MOST = 999_999  # scenes of a split: the names have six digits
CITY = "drawn"
OWN = re.compile(  # what `--write` makes, beneath its folder
    rf"(leftImg8bit|gtFine)/(train|val)/{CITY}/({re.escape(WRITING)}\d+-)?{CITY}_\d{{6}}_000000_"
    r"(leftImg8bit|gtFine_labelIds|gtFine_instanceIds)\.png(\.part)?"
)


TAXONOMIES = {
    name: dataclasses.replace(spec, splits=SPLITS, size=SIZE) for name, spec in cityscapes.TAXONOMIES.items()
}


class Scene(NamedTuple):
    """`image` uint8 (H, W, 3) RGB; `label_ids` uint8 (H, W), Cityscapes' raw ids 0..33; `instance_ids` int32
    (H, W), label id * 1000 + k for people and vehicles, else the label id."""

    image: np.ndarray
    label_ids: np.ndarray
    instance_ids: np.ndarray


def draw(seed: int, index: int, size: tuple[int, int], *, split: str = "train") -> Scene:
    """Draw scene `index` of a split at `size` (height, width)."""
    plan = layout.plan(np.random.default_rng([seed, SPLITS.index(split), index]))
    canvas = Canvas(size, plan.view, plan.light)
    weather = plan.light.weather
    backdrop.sky(canvas, plan.cover, plan.cloud, flat=weather in ("fog", "snow", "rain"))
    street.ground(canvas, plan.street, plan.lawns, plan.snow)
    street.shade(canvas, plan.boxes, plan.wet)
    backdrop.hills(canvas, plan.ridge, 420.0, (86.0, 104.0, 76.0))
    backdrop.skyline(canvas, plan.blocks, plan.tints, plan.snow)
    for drawing in plan.ordered():
        drawing(canvas)
    lens.finish(canvas, plan.camera)
    ids = canvas.ids
    return Scene(canvas.image, np.where(ids < 1000, ids, ids // 1000).astype(np.uint8), ids)


def examples(
    split: str,
    data_dir: Path | str | None = None,
    taxonomy: str = "cityscapes19",
    *,
    seed: int = 0,
    count: int | None = None,
    size: tuple[int, int] = SIZE,
) -> tuple[list[Example], list[str]]:
    """`count` scenes of a split, drawn when they are read; there is no folder, so `data_dir` is not looked at.

    The train ids follow `taxonomy`. Raises UserError on an unknown split, a count or a size out of range.
    """
    del data_dir
    if split not in SPLITS:
        raise UserError(f"scenes has no split {split!r}; there is {' and '.join(SPLITS)}.")
    count = COUNTS[split] if count is None else count
    _check(count, size, seed)
    table = cityscapes.TABLES[taxonomy, "labelIds"]

    def read(index: int) -> tuple[np.ndarray, np.ndarray]:
        scene = draw(seed, index, size, split=split)
        return scene.image, table[scene.label_ids]

    def raw(index: int) -> tuple[np.ndarray, np.ndarray]:
        scene = draw(seed, index, size, split=split)
        return scene.image, scene.label_ids

    names = [f"scene_{split}_{k:06d}" for k in range(count)]
    return [Example(name, partial(read, k), raw=partial(raw, k)) for k, name in enumerate(names)], []


def _check(count: int, size: tuple[int, int], seed: int) -> None:
    if not 1 <= count <= MOST:
        raise UserError(f"--count {count} is out of range; it goes from 1 to {MOST}.")
    if not all(SIDES[0] <= side <= SIDES[1] for side in size):
        raise UserError(
            f"size {size[0]}x{size[1]} is out of range; each side goes from {SIDES[0]} to {SIDES[1]} pixels."
        )
    if seed < 0:
        raise UserError(f"--seed {seed} is negative; it must be 0 or more.")


def paths(folder: Path, split: str, index: int) -> tuple[Path, Path, Path]:
    """Where the image, its label ids and its instance ids go, as in the official Cityscapes archive."""
    name = f"{CITY}_{index:06d}_000000"
    truth = folder / "gtFine" / split / CITY
    return (
        folder / "leftImg8bit" / split / CITY / f"{name}_leftImg8bit.png",
        truth / f"{name}_gtFine_labelIds.png",
        truth / f"{name}_gtFine_instanceIds.png",
    )


def write(folder: Path, splits: tuple[str, ...], count: int, size: tuple[int, int], seed: int) -> None:
    """Write `count` scenes of each split into `folder`, each file whole or not at all."""
    _check(count, size, seed)
    _claim(folder)
    start, done, total = time.monotonic(), 0, count * len(splits)
    for split in splits:
        for index in range(count):
            scene = draw(seed, index, size, split=split)
            arrays = (scene.image, scene.label_ids, scene.instance_ids.astype(np.uint16))
            for path, array in zip(paths(folder, split, index), arrays, strict=True):
                write_whole(path, encoded(array, ".png"))
            done += 1
            rate = done / (time.monotonic() - start)
            _say(f"{done}/{total} scenes at {size[0]}x{size[1]}, {rate:.1f} a second", last=done == total)


def _claim(folder: Path) -> None:
    """Refuse a folder that holds anything but what this program wrote."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is not a folder; --write needs a folder that is new, empty or its own.")
    if not folder.is_dir():
        return
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not OWN.fullmatch(path.relative_to(folder).as_posix()):
            raise UserError(
                f"{folder} holds {path.relative_to(folder)}, which is not a drawn scene; "
                "choose a folder that is new or empty."
            )


def _say(line: str, *, last: bool) -> None:
    """One line that renews itself on a terminal, and only the last one elsewhere."""
    if sys.stderr.isatty():
        print(f"\r{line}", end="\n" if last else "", file=sys.stderr, flush=True)
    elif last:
        print(line, file=sys.stderr)


def sheet(count: int, size: tuple[int, int], seed: int, split: str) -> np.ndarray:
    """A contact sheet, uint8 RGB: images with their labels in Cityscapes' colours, two pairs a row."""
    _check(count, size, seed)
    colours = np.zeros((256, 3), np.uint8)
    for label in cityscapes.LABELS:
        colours[label.id] = label.colour
    pairs = []
    for index in range(count):
        scene = draw(seed, index, size, split=split)
        pair = np.concatenate([scene.image, colours[scene.label_ids]], 1)
        pairs.append(np.pad(pair, ((2, 2), (2, 2), (0, 0)), constant_values=255))
    if len(pairs) % 2:
        pairs.append(np.full_like(pairs[0], 255))
    return np.concatenate([np.concatenate(pairs[k : k + 2], 1) for k in range(0, len(pairs), 2)])


def main(arguments: list[str]) -> int:
    parser = command_line.Parser(prog="python -m training.data.scenes", description=__doc__.split("\n\n")[0])
    parser.add_argument("--write", type=Path, metavar="DIR", help="write them as a Cityscapes folder")
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="write a contact sheet with the labels"
    )
    parser.add_argument("--count", type=int, default=12, metavar="N", help="scenes of each split (12)")
    parser.add_argument("--size", default="256x512", metavar="HxW", help="height x width (256x512)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, other scenes (0)")
    parser.add_argument("--split", choices=(*SPLITS, "both"), default="both", help="which to write (both)")
    options = parser.parse_args(arguments)
    size = command_line.size(options.size, "--size")
    if options.write is None and options.sheet is None:
        raise UserError("nothing to do; give --write DIR or --sheet FILE.png.")
    if options.write is not None:
        splits = SPLITS if options.split == "both" else (options.split,)
        write(options.write, splits, options.count, size, options.seed)
    if options.sheet is not None:
        if options.sheet.suffix.lower() != ".png":
            raise UserError(f"--sheet {options.sheet} does not end in .png; the sheet is a PNG file.")
        split = "train" if options.split == "both" else options.split
        write_whole(options.sheet, encoded(sheet(options.count, size, options.seed, split), ".png"))
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main, sys.argv[1:]))
