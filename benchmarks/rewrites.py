"""What export/rewrite.py gains: python -m benchmarks.rewrites RUN [--size HxW] [--threads N].

The int8 `mask` file as the converter writes it, with each rewrite and with all; they take turns in one process, a
train image a turn: medians, the spread from the 10th to the 90th percentile, and whether the class ids are the same.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from runtime.errors import exit_on_user_error
from training.command_line import Parser
from training.command_line import size as parse_size
from training.start_tensorflow import start_tensorflow


def main(argv: Sequence[str] | None = None) -> int:
    command = Parser(
        prog="python -m benchmarks.rewrites",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("run", metavar="RUN")
    command.add_argument("--size", metavar="HxW", help="those of the data if not given")
    command.add_argument("--threads", type=int, default=2, metavar="N")
    command.add_argument("--runs", type=int, default=200, help="turns of each file (default 200)")
    args = command.parse_args(argv)
    start_tensorflow()
    from export import rewrite, run_tflite, surgery, tflite
    from export.examples import examples_of, size_of_data
    from training.runs.trained_run import load

    run = load(args.run)
    examples = examples_of(run)
    size = parse_size(args.size) if args.size else size_of_data(run, examples)
    images = tflite.calibration_images(examples("train"), 16, size)
    faster, rewrite.faster = rewrite.faster, lambda flatbuffer, target="xnnpack": flatbuffer
    plain = tflite.convert(run.model(image_size=size), size, "int8", "mask", images)
    rewrite.faster = faster

    def rewritten(*rewrites: Callable[[Any], None]) -> bytes:
        model = surgery.read(plain)
        for change in rewrites:
            change(model)
        return surgery.write(model)

    files = {
        "as converted": plain,
        "the image by float32": rewritten(rewrite.image_by_float),
        "sixteen scores": rewritten(rewrite.widen_argmax),
        "a RELU alone by QUANTIZE": rewritten(rewrite.relu_by_quantize),
        "all": faster(plain),
    }
    runners = {name: run_tflite.runner(file, args.threads) for name, file in files.items()}
    taken: dict[str, list[float]] = {name: [] for name in files}
    same = dict.fromkeys(files, True)
    for turn in range(args.runs):
        image, ids = images[turn % len(images)], {}
        for name, segment in runners.items():
            start = time.perf_counter()
            ids[name] = segment(image)
            taken[name].append(1e3 * (time.perf_counter() - start))
            same[name] &= np.array_equal(ids[name], ids["as converted"])
    print(f"{args.run}, {size[0]}x{size[1]}, {args.threads} threads, {args.runs} turns\n")
    print("| file | ms (p10..p90) | of the first | same ids |\n|---|---|---|---|")
    first = float(np.median(taken["as converted"]))
    for name, times in taken.items():
        low, middle, high = np.percentile(times, (10, 50, 90))
        print(f"| {name} | {middle:.2f} ({low:.2f}..{high:.2f}) | {middle / first:.2f} | {same[name]} |")
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
