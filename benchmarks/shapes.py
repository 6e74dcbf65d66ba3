"""Images of other shapes than the model's input: mIoU and time of each way to place them (runtime/fit.py).

    python -m benchmarks.shapes [MODEL.tflite ...] --data-dir CAMVID [--split val] [--every 1]
    python -m benchmarks.shapes [MODEL.tflite ...] --latency 1920x1080 1280x720

mIoU: each labelled image is cut from its middle to each aspect, and shown whole at twice its size. `part` is what the
model says of the same pixels when it sees the whole image, which a camera of that shape does not have. Letterboxes are
measured on grey, on the image's mean colour and within reflected borders. Times are medians of the whole path, beside
each other in one process.

Latency: letterbox and tiles against stretch on an image of each size, in turn; the median of the ratios of turns.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from evaluation import metrics
from runtime.errors import UserError, exit_on_user_error
from runtime.image import read_rgb, resize_ids, resize_rgb
from runtime.segmenter import Segmenter
from training import data
from training.command_line import Parser
from training.data.spec import Example
from training.progress_bar import counter

SHAPES = {"16:9": 16 / 9, "2:1": 2.0, "3:1": 3.0, "1:1": 1.0, "3:4": 3 / 4, "9:16": 9 / 16}
WHOLE, TWICE = "whole", "whole, twice its size"
IMAGE = Path("examples/sunny_street.jpg")

Way = Callable[[Segmenter, np.ndarray], np.ndarray]  # an image -> class ids (H, W)


def fitted(fit: str) -> Way:
    return lambda segmenter, rgb: segmenter.segment(rgb, fit).ids


def bordered(border: str) -> Way:
    """A letterbox whose border is mean (the image's own colour) or reflected."""

    def way(segmenter: Segmenter, rgb: np.ndarray) -> np.ndarray:
        place = segmenter.placing((rgb.shape[0], rgb.shape[1]), "letterbox")
        (height, width), (top, left) = place.inner, place.at
        sides = (top, place.frame[0] - height - top, left, place.frame[1] - width - left)
        small = resize_rgb(rgb, place.inner)
        kind = cv2.BORDER_REFLECT if border == "reflected" else cv2.BORDER_CONSTANT
        frame = cv2.copyMakeBorder(small, *sides, kind, value=[float(value) for value in small.mean((0, 1))])
        ids = segmenter.segment(frame, "stretch").ids[top : top + height, left : left + width]
        return resize_ids(ids, (rgb.shape[0], rgb.shape[1]))

    return way


WAYS: dict[str, Way] = {
    "stretch": fitted("stretch"),
    "letterbox, grey": fitted("letterbox"),
    "mean colour": bordered("mean"),
    "reflected": bordered("reflected"),
    "tiles": fitted("tiles"),
    "auto": fitted("auto"),
}


def main(argv: Sequence[str] | None = None) -> int:
    command = Parser(
        prog="python -m benchmarks.shapes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "models", nargs="*", type=Path, metavar="MODEL.tflite", help="the shipped int8 files"
    )
    command.add_argument("--data", default="camvid")
    command.add_argument("--data-dir", metavar="DIR")
    command.add_argument("--split", default="val")
    command.add_argument(
        "--every", type=int, default=1, metavar="N", help="take every Nth image (default all)"
    )
    command.add_argument("--latency", nargs="+", metavar="WxH", help="measure time alone, at these sizes")
    command.add_argument("--runs", type=int, default=60, help="turns of --latency (default 60)")
    command.add_argument("--threads", type=int, default=2)
    args = command.parse_args(argv)
    paths = args.models or sorted(Path("models").glob("*_int8.tflite"))
    if not paths:
        raise UserError(
            "models/ holds no int8 file; name a .tflite, or run this in the folder of the repository."
        )
    segmenters = [Segmenter(path, threads=args.threads).warm_up() for path in paths]
    if args.latency:
        sizes = [_size(text) for text in args.latency]
        for segmenter in segmenters:
            print(f"\n{segmenter.path.name}\n{latency(segmenter, sizes, args.runs)}")
        return 0
    spec, examples = data.load(args.data, args.split, args.data_dir, progress=counter("checking"))
    for segmenter in segmenters:
        if len(segmenter.labels) != len(spec.classes):
            raise UserError(
                f"{segmenter.path} has {len(segmenter.labels)} classes, and {args.data} has {len(spec.classes)}."
            )
        chosen = examples[:: max(1, args.every)]
        print(
            f"\n{segmenter.path.name}, {len(chosen)} images of {args.split}\n{scores(segmenter, chosen)}",
            flush=True,
        )
    return 0


def scores(segmenter: Segmenter, examples: Sequence[Example]) -> str:
    """The table of one model: mIoU in % and milliseconds of each way, for each shape."""
    classes = segmenter.labels
    matrices: dict[tuple[str, str], np.ndarray] = defaultdict(
        lambda: np.zeros((len(classes), len(classes)), np.int64)
    )
    taken = defaultdict(list)
    tell = counter("segmenting")
    for done, example in enumerate(examples, 1):
        rgb, truth = example.read()
        whole = segmenter.segment(rgb, "stretch").ids
        for shape, (image, label, part) in shown(rgb, truth, whole).items():
            matrices[shape, "part"] += metrics.confusion_matrix(label, part, len(classes))
            for name, way in WAYS.items():
                before = cv2.getTickCount()
                ids = way(segmenter, image)
                taken[shape, name].append(1e3 * (cv2.getTickCount() - before) / cv2.getTickFrequency())
                matrices[shape, name] += metrics.confusion_matrix(label, ids, len(classes))
        tell(done, len(examples))
    rows = [f"| | part | {' | '.join(WAYS)} |", "|---|---|" + "---|" * len(WAYS)]
    for shape in dict.fromkeys(shape for shape, _ in matrices):
        miou = {
            name: 100 * metrics.scores(matrices[shape, name], classes)["miou"] for name in ("part", *WAYS)
        }
        cells = [f"{miou[name]:.1f} ({np.median(taken[shape, name]):.0f} ms)" for name in WAYS]
        rows.append(f"| {shape} | {miou['part']:.1f} | {' | '.join(cells)} |")
    return "\n".join(rows)


def shown(rgb: np.ndarray, *maps: np.ndarray) -> dict[str, tuple[np.ndarray, ...]]:
    """By shape: the image and maps of its size, uint8, cut from the middle; and all of it at twice its size."""
    twice = (2 * rgb.shape[0], 2 * rgb.shape[1])
    found = {name: tuple(cut(array, aspect) for array in (rgb, *maps)) for name, aspect in SHAPES.items()}
    found[TWICE] = (resize_rgb(rgb, twice), *(resize_ids(array, twice) for array in maps))
    return found


def cut(array: np.ndarray, aspect: float) -> np.ndarray:
    """The largest middle part of an image (H, W, ...) that is `aspect` times as wide as it is high."""
    height, width = array.shape[:2]
    rows, columns = min(height, round(width / aspect)), min(width, round(height * aspect))
    top, left = (height - rows) // 2, (width - columns) // 2
    return np.ascontiguousarray(array[top : top + rows, left : left + columns])


def latency(segmenter: Segmenter, sizes: Sequence[tuple[int, int]], runs: int) -> str:
    """The table of one model: milliseconds of each fit, and how many times as long as stretch it takes."""
    rows = [
        "| image | stretch, ms | letterbox, ms | against stretch | tiles, ms | against stretch |",
        "|---|---|---|---|---|---|",
    ]
    for size in sizes:
        rgb = resize_rgb(read_rgb(IMAGE), size)
        fits = ("stretch", "letterbox", "tiles")
        taken = np.array([[segmenter.segment(rgb, fit).seconds for fit in fits] for _ in range(3 + runs)])[3:]
        ratios = np.median(taken / taken[:, :1], axis=0)
        stretch, letterbox, tiles = (f"{1e3 * middle:.1f}" for middle in np.median(taken, axis=0))
        cells = [f"{size[1]}x{size[0]}", stretch, letterbox, f"{ratios[1]:.3f}", tiles, f"{ratios[2]:.2f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _size(text: str) -> tuple[int, int]:
    """WxH -> (height, width)."""
    width, times, height = text.partition("x")
    if not (times and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UserError(f"--latency {text} is not WIDTHxHEIGHT in pixels, such as 1920x1080.")
    return int(height), int(width)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
