"""Two segmenters without a model: a fixed threshold on grey, and Otsu's.

Source: Otsu, "A Threshold Selection Method from Gray-Level Histograms", 1979, as OpenCV computes it; grey is
ITU-R BT.601 (0.299 R + 0.587 G + 0.114 B). Deviation: none.
"""

import time

import cv2
import numpy as np

from runtime.bundle import Colour
from runtime.errors import UserError
from runtime.segmenter import Segmentation

LABELS = ("background", "foreground")
PALETTE: tuple[Colour, ...] = ((32, 38, 52), (255, 176, 32))
SIDES = ("bright", "dark")


def binary(rgb: np.ndarray, value: int = 127, foreground: str = "bright") -> Segmentation:
    """Foreground where grey > `value` ("bright") or grey <= `value` ("dark"); `value` is 0..255."""
    if not 0 <= value <= 255:
        raise UserError(f"the threshold is {value}; it has to be from 0 to 255.")
    if foreground not in SIDES:
        raise UserError(f"the foreground is {foreground!r}; it has to be one of {', '.join(SIDES)}.")
    start = time.perf_counter()
    kind = cv2.THRESH_BINARY if foreground == "bright" else cv2.THRESH_BINARY_INV
    _, ids = cv2.threshold(grey(rgb), value, 1, kind)
    return Segmentation(ids, LABELS, PALETTE, time.perf_counter() - start, rgb)


def otsu(rgb: np.ndarray, foreground: str = "bright") -> Segmentation:
    """`binary` at the value that parts the picture's grey levels best."""
    start = time.perf_counter()
    found = binary(rgb, value=otsu_value(rgb), foreground=foreground)
    return Segmentation(found.ids, found.labels, found.palette, time.perf_counter() - start, rgb)


def otsu_value(rgb: np.ndarray) -> int:
    """Otsu's threshold, 0..255."""
    value, _ = cv2.threshold(grey(rgb), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return int(value)


def grey(rgb: np.ndarray) -> np.ndarray:
    """RGB, uint8 (H, W, 3) -> grey, uint8 (H, W)."""
    return cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
