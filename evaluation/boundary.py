"""IoU where it is hard, near boundaries: Boundary IoU and trimap IoU, both for semantic segmentation.

Boundary IoU: B. Cheng, R. Girshick, P. Dollar, A. Berg, A. Kirillov, "Boundary IoU: Improving Object-Centric Image
Segmentation Evaluation", CVPR 2021, equation 1. Trimap IoU: P. Kraehenbuehl, V. Koltun, "Efficient Inference in Fully
Connected CRFs with Gaussian Edge Potentials", NIPS 2011, section 5, as IoU in L. Chen et al., "DeepLab", TPAMI 2018,
section 4.3.

Distances are those of a square window (Chebyshev), as the authors' repeated 3x3 erosion measures them. One erosion and
one dilation of the label map find the band of all classes at once: a pixel is inside its class where the smallest and
the largest id of the window are its own.
"""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from evaluation import metrics
from evaluation.confusion_counts import pairs
from evaluation.metric import Metric, Prediction
from training.data.spec import VOID_ID

DILATION_RATIO = 0.02  # of the image's diagonal, the authors' default
TRIMAP_WIDTHS = (1, 2, 4, 8, 16)  # pixels


def near_others(labels: np.ndarray, distance: int, *, edge: bool) -> np.ndarray:
    """bool (H, W): which pixels of a uint8 label map have another id within `distance` pixels (1 or more).

    With `edge`, what lies beyond the image is another id too, as the authors of Boundary IoU have it.
    """
    side = 2 * distance + 1
    window = cv2.getStructuringElement(cv2.MORPH_RECT, (side, side))
    # OpenCV's default border changes neither a minimum nor a maximum.
    near: np.ndarray = cv2.erode(labels, window) != cv2.dilate(labels, window)
    if edge:
        near[:distance] = near[-distance:] = True
        near[:, :distance] = near[:, -distance:] = True
    return near


def boundary_counts(seen: Prediction, classes: int, ratio: float = DILATION_RATIO) -> np.ndarray:
    """(3, C) metrics.counts of the boundary regions: hit is where both boundaries hold the same class.

    The paper has no void: here void is cut out of truth and prediction alike, so that the prediction has a boundary
    along it where the truth has one.
    """
    height, width = seen.truth.shape
    distance = max(1, round(ratio * math.hypot(height, width)))
    predicted = np.where(seen.truth == VOID_ID, np.uint8(VOID_ID), seen.predicted)
    kept = [
        np.where(near_others(ids, distance, edge=True), ids, np.uint8(VOID_ID))
        for ids in (seen.truth, predicted)
    ]
    joint = pairs(*kept)
    return np.stack([np.diag(joint), joint.sum(axis=1), joint.sum(axis=0)])[:, :classes]


def trimap_counts(seen: Prediction, classes: int, widths: Sequence[int] = TRIMAP_WIDTHS) -> np.ndarray:
    """(W, 3, C) metrics.counts of the pixels within each width of a true boundary, on either side of it.

    A boundary lies between two classes, or a class and void: the papers' data marks objects' outlines by void. Void
    itself does not count, and the image's edge is no boundary.
    """
    found = []
    for width in widths:
        band = near_others(seen.truth, width, edge=False)
        truth = np.where(band, seen.truth, np.uint8(VOID_ID))
        found.append(metrics.counts(pairs(truth, seen.predicted)[:classes, :classes]))
    return np.stack(found)


def boundary(classes: int, ratio: float = DILATION_RATIO) -> Metric:
    """Boundary IoU of each class over the whole split, and its mean over the classes that have true pixels."""

    def result(total: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
        values = metrics.iou(total)
        return {
            "mean": float(metrics.mean_iou(total)),
            "classes": {name: float(value) for name, value in zip(names, values, strict=True)},
            "dilation_ratio": ratio,
        }

    return Metric(lambda seen: boundary_counts(seen, classes, ratio), result)


def trimap(classes: int, widths: Sequence[int] = TRIMAP_WIDTHS) -> Metric:
    """IoU within each band: `mean` and every class have one value a width."""

    def result(total: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
        values = metrics.iou(total)  # (W, C)
        return {
            "widths": list(widths),
            "mean": metrics.mean_iou(total).tolist(),
            "classes": {name: values[:, index].tolist() for index, name in enumerate(names)},
        }

    return Metric(lambda seen: trimap_counts(seen, classes, widths), result)
