"""Boundary IoU and trimap IoU against the authors' formula on one class at a time, with OpenCV and SciPy."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from evaluation import boundary, measurement
from evaluation.metric import Prediction
from runtime.errors import UserError

CLASSES = 4


def blobs(seed: int, height: int = 61, width: int = 83, void: float = 0.0) -> np.ndarray:
    """A label map of smooth regions, uint8, with regions of void."""
    rng = np.random.default_rng(seed)
    planes = rng.normal(size=(CLASSES, 7, 9)).astype(np.float32)
    labels = np.stack([cv2.resize(plane, (width, height)) for plane in planes]).argmax(0).astype(np.uint8)
    if void:
        labels[cv2.resize(rng.random((6, 8), np.float32), (width, height)) < void] = 255
    return labels


def seen(void: float = 0.0) -> Prediction:
    return Prediction("a", blobs(1, void=void), blobs(2), None)


def mask_boundary(mask: np.ndarray, ratio: float) -> np.ndarray:
    """As the paper's authors find it: a mask less its erosion, repeated 3x3, with zeros around the image."""
    height, width = mask.shape
    times = max(1, int(round(ratio * np.sqrt(height**2 + width**2))))
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=times)
    return mask & ~eroded[1:-1, 1:-1].astype(bool)


@pytest.mark.parametrize("ratio", [0.005, 0.02, 0.025, 0.1])
@pytest.mark.parametrize("void", [0.0, 0.35])
def test_boundary_iou_is_the_authors_formula_for_each_class(ratio, void):
    image = seen(void)
    metric = boundary.boundary(CLASSES, ratio)
    found = metric.result(metric.count(image), list("abcd"))
    counted = image.truth != 255
    expected = []
    for index in range(CLASSES):
        true = mask_boundary(image.truth == index, ratio)
        guess = mask_boundary((image.predicted == index) & counted, ratio)
        expected.append((true & guess).sum() / (true | guess).sum())
    np.testing.assert_allclose(list(found["classes"].values()), expected, rtol=1e-12)
    assert found["mean"] == pytest.approx(np.mean(expected), rel=1e-12)


def test_boundary_iou_of_a_shifted_square_by_arithmetic():
    """A boundary of one pixel: two 8x8 squares, one pixel apart, share two sides of 7 pixels but for the ends."""
    truth, predicted = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    truth[5:13, 5:13] = predicted[5:13, 6:14] = 1
    counts = boundary.boundary_counts(Prediction("a", truth, predicted, None), 2, 0.02)
    assert counts[:, 1].tolist() == [14, 28, 28]


@pytest.mark.parametrize("void", [0.0, 0.35])
def test_trimap_iou_is_the_iou_of_a_band_found_by_distances(void):
    image, widths = seen(void), (1, 3, 7)
    metric = boundary.trimap(CLASSES, widths)
    found = metric.result(metric.count(image), list("abcd"))
    far = np.full(image.truth.shape, np.inf)
    for label in np.unique(image.truth):
        own = image.truth == label
        # For each pixel of this label, how far the next pixel of another one is.
        far[own] = ndimage.distance_transform_cdt(own, "chessboard")[own]
    for at, width in enumerate(widths):
        band = (far <= width) & (image.truth != 255)
        ious = []
        for index in range(CLASSES):
            true, guess = band & (image.truth == index), band & (image.predicted == index)
            ious.append((true & guess).sum() / (true | guess).sum())
        np.testing.assert_allclose([found["classes"][name][at] for name in "abcd"], ious, rtol=1e-12)
        assert found["mean"][at] == pytest.approx(np.mean(ious), rel=1e-12)
    assert found["widths"] == [1, 3, 7]


def test_counts_of_two_images_add_up():
    """The IoU of a split is that of all its pixels, not a mean over images."""
    metric = boundary.boundary(CLASSES)
    one, two = seen(), Prediction("b", blobs(3), blobs(4), None)
    total = metric.count(one) + metric.count(two)
    hit, true, guess = total
    np.testing.assert_allclose(
        list(metric.result(total, list("abcd"))["classes"].values()), hit / (true + guess - hit)
    )


def test_a_band_wider_than_the_image_is_all_of_it():
    image = seen()
    metric = boundary.trimap(CLASSES, (1000,))
    matrix = np.bincount(image.truth.ravel() * 4 + image.predicted.ravel(), minlength=16).reshape(4, 4)
    iou = np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))
    assert metric.result(metric.count(image), list("abcd"))["mean"][0] == pytest.approx(iou.mean())


@pytest.mark.parametrize("text", ["", "0", "2,-1", "1.5", "wide"])
def test_widths_that_are_none(text):
    with pytest.raises(UserError, match="--trimap-widths .* whole numbers"):
        measurement.trimap_widths(text)


def test_widths_rise():
    assert measurement.trimap_widths("8, 2,2") == (2, 8)
