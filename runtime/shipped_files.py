"""The `.tflite` files of a folder as a table: what their notes say of them, and how long each takes."""

from pathlib import Path
from typing import Any

import numpy as np

from runtime import strict_json
from runtime.benchmark import measure
from runtime.bundle import read_note
from runtime.segmenter import Segmenter
from runtime.strict_json import fits


def rows(folder: Path) -> list[dict[str, Any]]:
    """One row a file, by name: file, model, data, precision, input [H, W], classes, bytes, miou, pixel_accuracy (0..1,
    as measured at export) and split; beside them float_miou and float_pixel_accuracy, those of the same weights in
    float on the same images, and pixel_agreement, the share of pixels on which both agree (0..1); None where the file
    does not say. class_iou: name -> (in float, of the file), for the classes of which both are told."""
    return [_row(path) for path in sorted(folder.glob("*.tflite"))]


def _row(path: Path) -> dict[str, Any]:
    note = read_note(path)
    wanted = {"miou": float, "pixel_accuracy": float, "split": str}
    scores = {
        key: value for key, value in note.get("scores", {}).items() if fits(value, wanted.get(key, Any))
    }
    parity = _mapping(note.get("parity"))
    exact, agreed = _mapping(parity.get("keras")), parity.get("pixel_agreement")
    by_class, exact_by_class = _mapping(scores.get("class_iou")), _mapping(exact.get("class_iou"))
    return {
        "file": path.name,
        "model": note.get("model"),
        "data": note.get("data"),
        "precision": note.get("precision"),
        "input": note.get("size"),
        "classes": len(note["labels"]) if "labels" in note else None,
        "bytes": path.stat().st_size,
        "miou": scores.get("miou"),
        "pixel_accuracy": scores.get("pixel_accuracy"),
        "split": scores.get("split"),
        "float_miou": _number(exact.get("miou")),
        "float_pixel_accuracy": _number(exact.get("pixel_accuracy")),
        "pixel_agreement": _number(agreed),
        "class_iou": {
            name: (float(exact_by_class[name]), float(value))
            for name, value in by_class.items()
            if fits(value, float) and fits(exact_by_class.get(name), float)
        },
    }


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    return value if fits(value, float) else None


def latencies(path: Path) -> dict[str, Any]:
    """What `python -m benchmarks.shipped_latency` wrote: `date`, `machine`, `command`, `threads` and `milliseconds`,
    the median of the whole path by file name. {} where there is no such file."""
    try:
        found = strict_json.read(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("milliseconds"), dict) else {}


def measured(paths: list[Path], rgb: np.ndarray, runs: int = 20) -> dict[str, float]:
    """File name -> median milliseconds from an image, uint8 (H, W, 3), to its class ids, here and now; the files in
    turn, two threads. UserError when a file cannot be loaded."""
    found = measure([Segmenter(path) for path in paths], rgb, runs)
    return {Path(row["file"]).name: round(row["whole_ms"]["median"], 2) for row in found}
