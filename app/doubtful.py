"""Which regions of a prediction are likeliest to be wrong, so that Correct can offer them first."""

from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 700  # pixels: larger images are looked at every second, third, ... pixel
LEAST_SHARE = 0.002  # of the image; what is smaller is not worth a click


@dataclass(frozen=True)
class Doubtful:
    """A connected region of one class: a pixel (x, y) well inside it, its share of the image and its mean confidence,
    both 0..1."""

    x: int
    y: int
    class_id: int
    share: float
    confidence: float


def regions(
    ids: np.ndarray, confidence: np.ndarray | None, changed: np.ndarray | None = None, most: int = 3
) -> list[Doubtful]:
    """The regions of class ids, uint8 (H, W), in the order of how many of their pixels are wrong if `confidence`,
    float32 (H, W), 0..1, is the chance that a pixel is right: its sum of 1 - confidence. Up to `most` of them.

    Left out are regions of which half or more has been `changed`, bool (H, W). [] without confidence.
    """
    if confidence is None:
        return []
    step = -(-max(ids.shape) // SIDE)
    small, sure = np.ascontiguousarray(ids[::step, ::step]), confidence[::step, ::step]
    done = np.zeros(small.shape, bool) if changed is None else changed[::step, ::step]
    found = []
    for class_id in np.unique(small):
        count, parts = cv2.connectedComponents((small == class_id).astype(np.uint8), connectivity=8)
        flat = parts.ravel()
        pixels = np.bincount(flat, minlength=count)
        doubt = np.bincount(flat, 1.0 - sure.ravel(), minlength=count)
        mended = np.bincount(flat, done.ravel(), minlength=count)
        for part in range(1, count):
            if pixels[part] >= LEAST_SHARE * small.size and 2 * mended[part] < pixels[part]:
                found.append((doubt[part], int(class_id), parts == part))
    chosen = sorted(found, key=lambda one: -one[0])[:most]
    return [_described(part, class_id, sure, step) for _, class_id, part in chosen]


def _described(part: np.ndarray, class_id: int, sure: np.ndarray, step: int) -> Doubtful:
    """With the pixel that is farthest from the border."""
    inner = cv2.distanceTransform(np.pad(part, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(inner.argmax()), part.shape)
    return Doubtful(int(x) * step, int(y) * step, class_id, float(part.mean()), float(sure[part].mean()))
