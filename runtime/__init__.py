"""On the device: one `.tflite` file in, class ids out. NumPy, OpenCV and ai_edge_litert only.

    from runtime import Segmenter
    segmentation = Segmenter("models/x.tflite").segment(rgb)

The names below are fetched when first used, so that `runtime.errors` and `runtime.image` cost no interpreter.
"""

import os
import sys
from typing import TYPE_CHECKING, Any

from runtime.headers import MAX_PIXELS

# OpenCV's decoders hold to it too, whatever our own reading of a header says; it is read when cv2 is imported.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))

if sys.argv[:1] == ["-m"]:  # a command of ours, whose package is imported before its arguments are there
    from runtime.opencv import end_in_a_sentence

    end_in_a_sentence()

if TYPE_CHECKING:
    from runtime.bundle import Bundle, read_bundle
    from runtime.errors import UserError
    from runtime.segmenter import Segmentation, Segmenter

__all__ = ["Bundle", "Segmentation", "Segmenter", "UserError", "read_bundle"]

_HOME = {
    "Bundle": "runtime.bundle",
    "Segmentation": "runtime.segmenter",
    "Segmenter": "runtime.segmenter",
    "UserError": "runtime.errors",
    "read_bundle": "runtime.bundle",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'runtime' has no attribute {name!r}; it has {', '.join(__all__)}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
