"""Latency of the models that ship, for the page's Results and docs/models/.

    python -m benchmarks.shipped_latency [--note "idle"]     # writes docs/models/latency.json

Whole path (uint8 image in, class ids out) on an image of the size that each model takes, two threads, the files in
turn, medians over 60 runs.
"""

import argparse
import sys
from datetime import date
from pathlib import Path

from benchmarks.zoo_page import machine
from runtime.errors import UserError, exit_on_user_error
from runtime.files import write_json
from runtime.image import read_rgb, resize_rgb
from runtime.segmenter import Segmenter
from runtime.shipped_files import measured

OUT = Path("docs/models/latency.json")
IMAGE = Path("examples/sunny_street.jpg")


def main(argv: list[str] | None = None) -> int:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.shipped_latency", description=(__doc__ or "").splitlines()[0]
    )
    command.add_argument("--note", default="", help="what else the machine was doing")
    command.add_argument("--runs", type=int, default=60)
    options = command.parse_args(argv)
    paths = sorted(Path("models").glob("*.tflite"))
    if not paths:
        raise UserError("models/ holds no .tflite file; run this in the folder of the repository.")
    found = {}
    sizes = {path: Segmenter(path).size for path in paths}
    for size in sorted(set(sizes.values())):
        alike = [path for path in paths if sizes[path] == size]
        found.update(measured(alike, resize_rgb(read_rgb(IMAGE), size), options.runs))
    facts = {
        "command": "python -m benchmarks.shipped_latency",
        "date": date.today().isoformat(),
        "machine": machine(),
        "note": options.note,
        "threads": 2,
        "runs": options.runs,
        "milliseconds": found,
    }
    write_json(OUT, facts)
    print("\n".join(f"{name}: {value} ms" for name, value in found.items()), f"-> {OUT}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
