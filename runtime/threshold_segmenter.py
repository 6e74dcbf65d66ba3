"""Segmenters without a model: a fixed threshold on grey, Otsu's, and Otsu's for three and four levels.

Sources: Otsu, "A Threshold Selection Method from Gray-Level Histograms", 1979, as OpenCV computes it; Liao, Chen,
Chung, "A fast algorithm for multilevel thresholding", 2001, as skimage.filters.threshold_multiotsu computes it, with
its float32 sums in their order, so that the thresholds are the same. Grey is ITU-R BT.601 (0.299 R + 0.587 G +
0.114 B). Deviation: an image of fewer grey values than levels is refused by threshold_multiotsu; here each value is
a region of its own.
"""

import time

import cv2
import numpy as np

from runtime.bundle import Colour, spread_palette
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
    """`binary` at the value that parts the image's grey levels best."""
    start = time.perf_counter()
    found = binary(rgb, value=otsu_value(rgb), foreground=foreground)
    return Segmentation(found.ids, found.labels, found.palette, time.perf_counter() - start, rgb)


def otsu_value(rgb: np.ndarray) -> int:
    """Otsu's threshold, 0..255."""
    value, _ = cv2.threshold(grey(rgb), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return int(value)


def multi_otsu_values(rgb: np.ndarray, levels: int = 3) -> tuple[int, ...]:
    """The thresholds between 3 or 4 regions of grey, ascending: region i is t[i-1] < grey <= t[i]."""
    if levels not in (3, 4):
        raise UserError(f"levels is {levels}; several thresholds are found for 3 or 4 levels, otsu has 2.")
    counts = np.bincount(grey(rgb).ravel(), minlength=256)
    values = np.flatnonzero(counts)
    if len(values) <= levels:
        own = [int(value) for value in values] + [255] * levels
        return tuple(own[: levels - 1])
    bottom, top, between = _criteria(counts, int(values[0]), int(values[-1]))
    if levels == 3:
        return _largest((bottom[:, None] + top) + between)
    # One first threshold at a time: 256 KB instead of 64 MB.
    best = np.float32(-np.inf)
    found: tuple[int, ...] = (0, 0, 0)
    for first in range(int(values[0]), int(values[-1])):
        sums = ((bottom[first] + top) + between[first][:, None]) + between
        if sums.max() > best:
            best, found = sums.max(), (first, *_largest(sums))
    return found


def _criteria(counts: np.ndarray, lowest: int, highest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float32 terms of a lowest region up to t, (256,), a highest above t, (256,), and t < grey <= u, (256, 256)."""
    shares = counts.astype(np.float32) / np.float32(counts.sum())
    places = np.maximum(np.arange(256) - lowest, 0).astype(np.float32)
    places[lowest] = 1  # as the reference has it
    zeroth, first = np.cumsum(shares, dtype=np.float32), np.cumsum(places * shares, dtype=np.float32)

    def term(z: np.ndarray, m: np.ndarray) -> np.ndarray:
        return np.divide(m * m, z, out=np.zeros_like(z), where=z > 0)

    greys = np.arange(256)
    bottom, top = term(zeroth, first), term(zeroth[-1] - zeroth, first[-1] - first)
    bottom[: lowest + 1] = 0  # the darkest value alone has no term in the reference
    bottom[:lowest], top[highest:] = -np.inf, -np.inf
    between = term(zeroth[None] - zeroth[:, None], first[None] - first[:, None])
    between[greys[:, None] >= greys[None]] = -np.inf
    return bottom, top, between


def _largest(sums: np.ndarray) -> tuple[int, ...]:
    return tuple(int(place) for place in np.unravel_index(sums.argmax(), sums.shape))


def multi_otsu(rgb: np.ndarray, levels: int = 3) -> Segmentation:
    """Regions of grey from dark to bright, cut at `multi_otsu_values`."""
    start = time.perf_counter()
    cuts = multi_otsu_values(rgb, levels)
    ids = np.digitize(grey(rgb), cuts, right=True).astype(np.uint8)
    labels = tuple(f"level {index}" for index in range(levels))
    return Segmentation(ids, labels, spread_palette(levels), time.perf_counter() - start, rgb)


def grey(rgb: np.ndarray) -> np.ndarray:
    """RGB, uint8 (H, W, 3) -> grey, uint8 (H, W)."""
    return cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
