"""How many calibration images int8 needs, by measurement: python -m benchmarks.calibration_images RUN.

A file is exported for each number of images of the run's train split, biases corrected, and set beside the float
Keras model on images of val: mIoU points lost, pixels that agree, and the RMS error of the logits relative to their
standard deviation. `--steps` takes away what export/equalise.py and export/ranges.py do, one after the other, down to
TensorFlow's own calibrator; `--corrupted N` adds images
corrupted at that severity; `--keep-float OP`
adds files in which ops stay in float32, more of them from row to row, and what an image then takes.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from runtime.errors import exit_on_user_error
from training.command_line import Parser
from training.start_tensorflow import start_tensorflow

COUNTS = (8, 16, 32, 100, 200)


def parser() -> Parser:
    command = Parser(
        prog="python -m benchmarks.calibration_images",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("run", metavar="RUN")
    command.add_argument("--counts", type=int, nargs="+", default=COUNTS, metavar="N")
    command.add_argument("--precision", choices=("int8", "mixed"), default="int8")
    command.add_argument("--images", type=int, default=50, metavar="N", help="of val; 50")
    command.add_argument("--steps", action="store_true", help="measure without each step of ours too")
    command.add_argument("--corrupted", type=int, choices=(1, 2, 3, 4, 5), metavar="N", help="a severity")
    command.add_argument("--keep-float", nargs="+", default=[], metavar="OP", help="one op more a row")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    start_tensorflow()
    from export import equalise, parity, ranges, tflite
    from export.examples import examples_of, size_of_data
    from training.runs.trained_run import load

    run = load(args.run)
    examples = examples_of(run)
    size = size_of_data(run, examples)
    model, shown = run.model(image_size=size), parity.spread(examples("val"), args.images)
    keras = parity.keras_predict(model)
    print(f"{len(shown)} images of val, {size[0]}x{size[1]}, {args.precision}")
    print(
        f"{'calibration':>28} {'mIoU, Keras':>12} {'file':>7} {'lost':>6} {'agree':>9} {'off by':>8} {'ms':>6}"
    )
    own, most = (equalise.equalised, ranges.taken), max(args.counts)
    both, one, none = (True, True), (False, True), (False, False)
    rows: list[tuple[str, tuple[bool, bool], int, tuple[str, ...]]] = []
    rows += [(str(count), both, count, ()) for count in args.counts]
    if args.steps:
        rows += [(f"{most}, not equalised", one, most, ()), (f"{most}, TensorFlow's ranges", none, most, ())]
    rows += [
        (f"{most}, {last} in float", both, most, tuple(args.keep_float[:last]))
        for last in range(1, len(args.keep_float) + 1)
    ]
    for name, steps, count, keep_float in rows:
        equalise.equalised, ranges.taken = (
            step if on else _left for step, on in zip(own, steps, strict=True)
        )
        images = tflite.calibration_images(examples("train"), count, size)
        file = tflite.convert(model, size, args.precision, "mask", images, keep_float=keep_float)
        predict = tflite.predictor(file, "mask")
        found = parity.measure(keras, predict, shown, run.spec, size)
        off = _distance(keras, predict, shown[:5], size)
        if args.corrupted:
            bad = parity.measure(keras, predict, parity.corrupted(shown, args.corrupted), run.spec, size)
        print(
            f"{name:>28} {100 * found.keras['miou']:12.2f} {100 * found.file['miou']:7.2f} {found.loss:6.2f} "
            f"{100 * found.agreement:8.3f}% {100 * off:7.3f}% {1e3 * _seconds(file, images[0]):6.1f}"
            + (f"  corrupted: {bad.loss:6.2f} {100 * bad.agreement:8.3f}%" if args.corrupted else ""),
            flush=True,
        )
    return 0


def _left(calibrated: bytes, images: Sequence[np.ndarray], threads: int = 2) -> bytes:
    return calibrated


def _seconds(file: bytes, image: np.ndarray) -> float:
    """The median of 30 turns of the model alone, two threads."""
    from export import run_tflite

    run, taken = run_tflite.runner(file), []
    for _ in range(30):
        start = time.perf_counter()
        run(image)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def _distance(reference: Any, candidate: Any, examples: Sequence[Any], size: tuple[int, int]) -> float:
    from runtime.image import resize_rgb

    images = [resize_rgb(example.read()[0], size) for example in examples]
    pairs = [(reference(image)[1], candidate(image)[1]) for image in images]
    pairs = [(logits, found[..., : logits.shape[-1]]) for logits, found in pairs]
    wanted = np.stack([logits for logits, _ in pairs])
    return float(np.sqrt(np.mean([np.mean((a - b) ** 2) for a, b in pairs])) / wanted.std())


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
