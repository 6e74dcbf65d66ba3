"""Files before the Segmenter that are no `.tflite`: `.onnx`, and `.xml` of OpenVINO, where what runs them is installed.

Ours carry the note of a `.tflite` in their metadata (export/onnx_model.py, export/openvino_model.py). Others' run too
when they take one (1, H, W, 3) image, as a `.tflite` has to.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

from runtime.bundle import NOTE, Bundle, note_of
from runtime.errors import UserError


class Format(NamedTuple):
    """What runs files of a suffix: the module and class here, and the package behind them."""

    module: str
    interpreter: str
    package: str


FORMATS = {
    ".onnx": Format("runtime.onnx_file", "OnnxInterpreter", "onnxruntime"),
    ".xml": Format("runtime.openvino_file", "OpenVinoInterpreter", "openvino"),
}


def opened(path: Path, threads: int) -> tuple[Any, Bundle | None]:
    """What runs a file, with LiteRT's methods, and its note if it has one of ours.

    Raises UserError when its package is not installed, or the file is missing or none of that format.
    """
    found = FORMATS[path.suffix]
    if path.is_dir() or not path.exists():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {state}; name a .tflite, .onnx or .xml file.")
    if importlib.util.find_spec(found.package) is None:
        raise UserError(
            f"{path} needs {found.package}, which is not installed here: pip install {found.package}; a .tflite does "
            "without."
        )
    interpreter = getattr(importlib.import_module(found.module), found.interpreter)(path, threads)
    text = interpreter.texts.get(NOTE)
    return interpreter, None if text is None else note_of(text.encode(), path)


def file_bytes(path: Path) -> int:
    """The size of a model's file, with that of its weights where they lie beside it."""
    beside = path.with_suffix(".bin")
    return path.stat().st_size + (beside.stat().st_size if path.suffix == ".xml" and beside.exists() else 0)
