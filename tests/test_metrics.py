"""Scores against sets of pixels counted by hand."""

import numpy as np
import pytest

from training import metrics


def by_sets(truth: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, list[float]]:
    """The definitions, taken literally, on sets of pixel positions."""
    counted = {i for i in range(truth.size) if truth[i] < classes}
    rows: dict[str, list[float]] = {"iou": [], "dice": [], "precision": [], "recall": [], "specificity": []}
    for c in range(classes):
        t = {i for i in counted if truth[i] == c}
        p = {i for i in counted if predicted[i] == c}
        rows["iou"].append(len(t & p) / len(t | p))
        rows["dice"].append(2 * len(t & p) / (len(t) + len(p)))
        rows["precision"].append(len(t & p) / len(p))
        rows["recall"].append(len(t & p) / len(t))
        rows["specificity"].append(len(counted - t - p) / len(counted - t))
    return rows


def test_every_score_matches_its_definition_on_sets() -> None:
    rng = np.random.default_rng(3)
    truth = rng.choice([0, 1, 2, 3, 255], 900, p=[0.5, 0.2, 0.15, 0.1, 0.05]).astype(np.uint8)
    predicted = np.where(rng.random(900) < 0.7, np.minimum(truth, 3), rng.integers(0, 4, 900)).astype(
        np.uint8
    )
    matrix = metrics.confusion_matrix(truth, predicted, 4)
    result = metrics.scores(matrix, ["a", "b", "c", "d"])
    expected = by_sets(truth, predicted, 4)
    for column, values in expected.items():
        got = [result["classes"][name][column] for name in "abcd"]
        np.testing.assert_allclose(got, values, rtol=1e-12, err_msg=column)
    assert result["miou"] == pytest.approx(np.mean(expected["iou"]), rel=1e-12)
    assert result["mean_accuracy"] == pytest.approx(np.mean(expected["recall"]), rel=1e-12)
    counted = truth != 255
    assert result["pixel_accuracy"] == pytest.approx(np.mean(truth[counted] == predicted[counted]), rel=1e-12)
    shares = [np.mean(truth[counted] == c) for c in range(4)]
    weighted = np.dot(shares, expected["iou"])
    assert result["frequency_weighted_iou"] == pytest.approx(weighted, rel=1e-12)


def test_rows_are_truth_and_columns_prediction() -> None:
    matrix = metrics.confusion_matrix(np.array([0, 0, 1, 255]), np.array([1, 1, 1, 0]), 2)
    assert matrix.tolist() == [[0, 2], [0, 1]]


def test_a_class_that_is_absent_is_left_out_of_the_mean() -> None:
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])
    result = metrics.scores(metrics.confusion_matrix(truth, predicted, 4), ["a", "b", "c", "d"])
    assert result["miou"] == pytest.approx((1.0 + 0.5) / 2)
    assert result["classes"]["c"]["iou"] == 0.0  # predicted, and wrong
    assert np.isnan(result["classes"]["d"]["iou"])  # neither there nor predicted
    assert "-" in metrics.table(result)


def test_all_void_gives_nan_and_not_an_error() -> None:
    result = metrics.scores(metrics.confusion_matrix(np.full(9, 255), np.zeros(9, int), 2), ["a", "b"])
    assert np.isnan(result["miou"]) and result["pixels"] == 0


def test_broken_input_is_refused() -> None:
    with pytest.raises(ValueError, match="shape|are"):
        metrics.confusion_matrix(np.zeros((2, 2), int), np.zeros((2, 3), int), 2)
    with pytest.raises(ValueError, match="outside 0..1"):
        metrics.confusion_matrix(np.array([0]), np.array([5]), 2)
