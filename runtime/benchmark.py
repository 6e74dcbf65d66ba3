"""`python -m runtime.benchmark A.tflite [B.tflite ...]`: time for one image, the model alone and in all.

The files take turns in one process, so that whatever else the machine does meets all of them alike.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import UserError, exit_on_user_error
from runtime.files import write_json
from runtime.fit import FITS, checked_fit
from runtime.image import read_rgb
from runtime.other_formats import file_bytes
from runtime.segmenter import Segmenter

WARM_UP = 3  # the first runs allocate and fill caches


def measure(
    segmenters: list[Segmenter], rgb: np.ndarray, runs: int, fit: str = "auto"
) -> list[dict[str, Any]]:
    """One row a segmenter: `model_ms` (the interpreter alone) and `whole_ms` (resize, model, resize back),
    each {"median", "p10", "p90"} in milliseconds over `runs` rounds; `fit` as `Segmenter.placing` takes it."""
    batches = [segmenter.prepare(rgb, fit) for segmenter in segmenters]
    model = np.zeros((runs, len(segmenters)))
    whole = np.zeros((runs, len(segmenters)))
    for number in range(-WARM_UP, runs):
        for index, segmenter in enumerate(segmenters):
            start = time.perf_counter()
            for window in batches[index]:
                segmenter.invoke(window[None])
            middle = time.perf_counter()
            segmenter.segment(rgb, fit)
            if number >= 0:
                model[number, index] = middle - start
                whole[number, index] = time.perf_counter() - middle
    return [
        {
            "file": str(segmenter.path),
            "bytes": file_bytes(segmenter.path),
            "input": list(segmenter.size),
            "fit": segmenter.placing((rgb.shape[0], rgb.shape[1]), fit).fit,
            "output": segmenter.output,
            "threads": segmenter.threads,
            "runs": runs,
            "model_ms": _spread(model[:, index]),
            "whole_ms": _spread(whole[:, index]),
        }
        for index, segmenter in enumerate(segmenters)
    ]


def table(rows: list[dict[str, Any]]) -> str:
    head = f"{'file':<44} {'MB':>6} {'input':>9} {'model ms (p10..p90)':>24} {'whole ms (p10..p90)':>24}"
    lines = [head, "-" * len(head)]
    for row in rows:
        name = Path(row["file"]).name
        name = name if len(name) <= 44 else name[:20] + "..." + name[-21:]
        size = "x".join(str(side) for side in row["input"])
        lines.append(
            f"{name:<44} {row['bytes'] / 1e6:>6.2f} {size:>9} {_cell(row['model_ms']):>24} "
            f"{_cell(row['whole_ms']):>24}"
        )
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m runtime.benchmark",
        description="Latency of .tflite segmenters, side by side: medians over interleaved runs.",
    )
    result.add_argument("models", type=Path, nargs="+", metavar="MODEL.tflite")
    result.add_argument("--threads", type=int, default=2, metavar="N", help="CPU threads (default 2)")
    result.add_argument("--runs", type=int, default=50, metavar="N", help="rounds measured (default 50)")
    result.add_argument(
        "--image", type=Path, metavar="FILE", help="image to segment (default: noise of 480x360 pixels)"
    )
    result.add_argument(
        "--fit", default="auto", metavar="|".join(FITS), help="how the image is placed (default auto)"
    )
    result.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file too")
    return result


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    if args.runs < 1:
        raise UserError(f"--runs is {args.runs}; it has to be 1 or more.")
    segmenters = [Segmenter(path, threads=args.threads) for path in args.models]
    if args.image:
        rgb = read_rgb(args.image)
    else:
        rgb = np.random.default_rng(0).integers(0, 256, (360, 480, 3), dtype=np.uint8)
    rows = measure(segmenters, rgb, args.runs, checked_fit(args.fit, "--fit"))
    print(f"image {rgb.shape[1]}x{rgb.shape[0]}, {args.threads} threads, {args.runs} interleaved runs")
    print(table(rows))
    if args.json:
        write_json(args.json, rows)
    return 0


def _spread(seconds: np.ndarray) -> dict[str, float]:
    low, middle, high = np.percentile(seconds * 1e3, (10, 50, 90))
    return {"median": round(float(middle), 3), "p10": round(float(low), 3), "p90": round(float(high), 3)}


def _cell(spread: dict[str, float]) -> str:
    return f"{spread['median']:.1f} ({spread['p10']:.1f}..{spread['p90']:.1f})"


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
