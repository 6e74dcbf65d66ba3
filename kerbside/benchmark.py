"""`kerbside benchmark FILE...`: format, precision, input, threads, MB, memory, milliseconds, and mIoU with --data.

One table, and with --json one file to send back: it says on what machine it was measured (docs/devices.md). Times are
taken in one process, the files in turn; the peak memory of each in a process of its own that runs it three times.
"""

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from runtime import benchmark
from runtime.errors import UserError, exit_on_user_error
from runtime.files import write_json
from runtime.fit import FITS, checked_fit
from runtime.image import read_rgb
from runtime.segmenter import Segmenter
from runtime.version import VERSION

FORMAT = 1  # of the JSON
FORMATS = {".onnx": "ONNX", ".xml": "OpenVINO"}
RUNNERS = ("ai-edge-litert", "onnxruntime", "openvino", "numpy", "opencv-python")
HEAD = ("file", "format", "precision", "input", "threads", "MB", "peak MB", "median ms", "p90 ms", "mIoU")


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="kerbside benchmark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument(
        "models", nargs="+", metavar="FILE", help=".tflite, .onnx, .xml, or a name of kerbside list"
    )
    result.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="CPU threads, each in turn (1 2)"
    )
    result.add_argument("--runs", type=int, default=30, metavar="N", help="rounds measured (default 30)")
    result.add_argument(
        "--image", type=Path, metavar="FILE", help="image to segment (default: noise of 480x360)"
    )
    result.add_argument(
        "--fit", default="auto", metavar="|".join(FITS), help="how the image is placed (default auto)"
    )
    data = result.add_argument_group("mIoU, which needs pip install '.[train]'")
    data.add_argument("--data", metavar="DATA", help="a data set of the files' classes, such as camvid")
    data.add_argument("--data-dir", metavar="DIR", nargs="+", help="its folder")
    data.add_argument("--split", default="val", help="val if not given")
    data.add_argument(
        "--images", type=int, metavar="N", help="so many of it, spread evenly; all if not given"
    )
    result.add_argument("--json", type=Path, metavar="FILE", help="everything, to send back")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    _check(args)
    rgb = (
        read_rgb(args.image)
        if args.image
        else np.random.default_rng(0).integers(0, 256, (360, 480, 3), np.uint8)
    )
    segmenters = [Segmenter(path, threads) for path in args.models for threads in args.threads]
    rows = benchmark.measure(segmenters, rgb, args.runs, args.fit)
    scores = _scores(segmenters[:: len(args.threads)], args) if args.data else {}
    for row, segmenter in zip(rows, segmenters, strict=True):
        row["file"] = segmenter.path.name
        row["format"] = FORMATS.get(segmenter.path.suffix, "TFLite")
        row["precision"] = segmenter.bundle.precision if segmenter.bundle else ""
        row["peak_memory_bytes"] = peak_memory(segmenter.path, segmenter.threads)
        row["miou"] = scores.get(segmenter.path)
    found = {
        "format": FORMAT,
        "kerbside": VERSION,
        "machine": machine(),
        "image": list(rgb.shape[:2]),
        "data": None
        if not args.data
        else {"name": args.data, "split": args.split, "images": scores.pop(None)},
        "rows": rows,
    }
    print(table(found))
    if args.json:
        write_json(args.json, found)
        print(f"{args.json}: docs/devices.md says where such a file goes")
    return 0


def _check(args: argparse.Namespace) -> None:
    for name, values in (("runs", [args.runs]), ("threads", args.threads), ("images", [args.images])):
        for value in values:
            if value is not None and value < 1:
                raise UserError(f"--{name} is {value}; it has to be 1 or more.")
    if args.data_dir and not args.data:
        raise UserError("--data-dir is the folder of a data set: name that with --data, such as camvid.")
    checked_fit(args.fit, "--fit")


def machine() -> dict[str, Any]:
    """What it was measured on: the processor by its own name, cores, memory, system, Python, and what ran the files."""
    versions = {}
    for name in RUNNERS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "load": None if load is None else round(load, 2),  # at the end: how busy it was, 1 a busy core
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
        "date": datetime.now(UTC).date().isoformat(),
    }


def _processor() -> str:
    """Of a board the name of the board, else that of the processor."""
    for path, sign in (("/proc/device-tree/model", ""), ("/proc/cpuinfo", "model name")):
        try:
            lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith(sign):
                return line.rpartition(":")[2].strip().strip("\0")
    return platform.processor() or "unknown"


def peak_memory(path: Path, threads: int) -> int | None:
    """Bytes of a process of its own that loads a file and runs it; None where the system does not say."""
    command = [sys.executable, "-m", "runtime.peak_memory", str(path.absolute()), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=shipped_packages())
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip() not in ("", "0") else None


def shipped_packages() -> Path:
    """The folder that `runtime` is imported from: a command may be given in any other."""
    return Path(__file__).parents[1]


def _scores(segmenters: Sequence[Segmenter], args: argparse.Namespace) -> dict[Path | None, Any]:
    """Each file's mIoU, 0..1, by its path, and the number of images by None."""
    try:
        from evaluation import metrics
        from training.data import load, mixture
        from training.progress_bar import counter
    except ImportError as error:
        raise UserError(
            f"--data needs what is not installed here ({error.name}): pip install '.[train]' in the checkout"
        ) from error
    folders = mixture.folders(args.data_dir, args.data)
    spec, examples = load(args.data, args.split, folders, None, progress=counter(f"checking {args.split}"))
    for segmenter in segmenters:
        if segmenter.labels != tuple(spec.classes):
            raise UserError(
                f"{segmenter.path} has the classes {', '.join(segmenter.labels[:3])}, ..., and {args.data} has "
                f"{', '.join(spec.classes[:3])}, ...: name the data that it was made for"
            )
    if args.images and args.images < len(examples):
        examples = [examples[place * len(examples) // args.images] for place in range(args.images)]
    count, say = len(spec.classes), counter("measuring")
    matrices = [np.zeros((count, count), np.int64) for _ in segmenters]
    for done, example in enumerate(examples, 1):
        rgb, label = example.read()
        for matrix, segmenter in zip(matrices, segmenters, strict=True):
            matrix += metrics.confusion_matrix(label, segmenter.segment(rgb, args.fit).ids, count)
        say(done, len(examples))
    found: dict[Path | None, Any] = {
        segmenter.path: metrics.scores(matrix, spec.classes)["miou"]
        for segmenter, matrix in zip(segmenters, matrices, strict=True)
    }
    return {**found, None: len(examples)}


def table(found: dict[str, Any]) -> str:
    """One line a file and number of threads, below the machine."""
    on, data = found["machine"], found["data"]
    rows = [HEAD]
    for row in found["rows"]:
        memory, miou = row["peak_memory_bytes"], row["miou"]
        rows.append(
            (
                row["file"],
                row["format"],
                row["precision"] or "-",
                "x".join(map(str, row["input"])),
                str(row["threads"]),
                f"{row['bytes'] / 1e6:.2f}",
                "-" if memory is None else f"{memory / 1e6:.0f}",
                f"{row['whole_ms']['median']:.1f}",
                f"{row['whole_ms']['p90']:.1f}",
                "-" if miou is None else f"{100 * miou:.2f}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines[1:1] = ["-" * len(lines[0])]
    busy = "" if on["load"] is None else f", load {on['load']:g}"
    lines.insert(0, f"{on['processor']}, {on['cores']} cores{busy}, {on['system']}, {on['date']}")
    height, width = found["image"]
    said = f"ms: the whole path (resize, model, resize back) of an image of {width}x{height}"
    if data:
        said += f"; mIoU, %: {data['images']} images of {data['name']} {data['split']}"
    return "\n".join([*lines, said])


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
