"""The floor that a model must clear: Otsu's threshold, one class for each side of it.

Source: Otsu, "A threshold selection method from gray-level histograms" (1979), as cv2.threshold computes it.
Which class a side is, is learnt by counting pixels on the training split.
"""

import cv2
import numpy as np

from training import metrics
from training.data.pipeline import DecodedCache

PICTURES = 100


def bright_side(rgb: np.ndarray) -> np.ndarray:
    """1 where the grey value lies above Otsu's threshold of this picture, else 0; uint8 (H, W)."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[1]


def baseline(training: DecodedCache, validation: DecodedCache, classes: int) -> float:
    """The mIoU, 0..1, on up to 100 validation pictures, learnt on up to 100 training pictures."""
    counts = np.zeros((2, 256), np.int64)
    for index in range(min(PICTURES, len(training.examples))):
        rgb, labels = training.read(index)
        side = bright_side(rgb).astype(np.int64)
        counts += np.bincount((side * 256 + labels).ravel(), minlength=512).reshape(2, 256)
    side_class = counts[:, :classes].argmax(axis=1).astype(np.uint8)
    matrix = np.zeros((classes, classes), np.int64)
    for index in range(min(PICTURES, len(validation.examples))):
        rgb, labels = validation.read(index)
        matrix += metrics.confusion_matrix(labels, side_class[bright_side(rgb)], classes)
    return metrics.scores(matrix, [str(index) for index in range(classes)])["miou"]
