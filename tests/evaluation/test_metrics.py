"""Scores against sets of pixels counted by hand."""

import numpy as np
import pytest
from scipy import stats

from evaluation import confusion_counts, metrics


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


def images(count: int, seed: int = 0, classes: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    """Label maps, the last class in few of them, with their predictions."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(count):
        truth = rng.integers(0, classes - (index % 4 > 0), (20, 30)).astype(np.uint8)
        wrong = rng.random(truth.shape) < rng.random()
        predicted = np.where(wrong, rng.integers(0, classes, truth.shape), truth).astype(np.uint8)
        truth[rng.random(truth.shape) < 0.1] = 255
        found.append((truth, predicted))
    return found


def test_pairs_count_what_the_confusion_matrix_counts() -> None:
    for truth, predicted in [*images(3), *images(2, seed=1, classes=254)]:
        classes = int(max(truth[truth < 255].max(), predicted.max())) + 1
        expected = metrics.confusion_matrix(truth, predicted, classes)
        assert (confusion_counts.confusion_matrix(truth, predicted, classes) == expected).all()
    with pytest.raises(ValueError, match="outside 0..2"):
        confusion_counts.confusion_matrix(np.uint8([[0, 1]]), np.uint8([[0, 3]]), 3)
    assert confusion_counts.confusion_matrix(np.uint8([[0, 255]]), np.uint8([[0, 3]]), 3).sum() == 1
    with pytest.raises(ValueError, match="labels are"):
        confusion_counts.confusion_matrix(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 3)


def test_pairs_stay_exact_beyond_the_integers_of_float32() -> None:
    """OpenCV gives float32, where 2**24 + 1 is 2**24; an image is counted in parts."""
    truth, predicted = np.zeros((4101, 4101), np.uint8), np.zeros((4101, 4101), np.uint8)
    assert truth.size > 2**24
    assert confusion_counts.pairs(truth, predicted)[0, 0] == truth.size


def test_the_mean_iou_of_counts_is_that_of_the_matrix() -> None:
    for truth, predicted in images(6):
        matrix = metrics.confusion_matrix(truth, predicted, 5)
        expected = metrics.scores(matrix, list("abcde"))["miou"]
        assert metrics.mean_iou(metrics.counts(matrix)) == pytest.approx(expected, rel=1e-12)
    assert np.isnan(metrics.mean_iou(np.zeros((3, 5))))


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    counts = np.stack([metrics.counts(metrics.confusion_matrix(*pair, 5)) for pair in images(37)])

    def statistic(drawn: np.ndarray, axis: int) -> np.ndarray:
        hit, truth, predicted = np.moveaxis(counts[drawn].sum(axis=axis - 2 if axis < 0 else axis), -2, 0)
        return np.nanmean(np.where(truth > 0, hit / (truth + predicted - hit), np.nan), axis=-1)

    expected = stats.bootstrap(
        (np.arange(37),),
        statistic,
        vectorized=True,
        n_resamples=1000,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval
    found = metrics.bootstrap(counts, level=0.9, resamples=1000, seed=3)
    assert found is not None
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert found["low"] < metrics.mean_iou(counts.sum(axis=0)) < found["high"]


def test_the_interval_is_printed_beside_the_miou_and_one_image_has_none() -> None:
    counts = np.stack([metrics.counts(metrics.confusion_matrix(*pair, 5)) for pair in images(5)])
    matrix = sum(metrics.confusion_matrix(*pair, 5) for pair in images(5))
    result = {**metrics.scores(matrix, list("abcde")), "miou_interval": metrics.bootstrap(counts)}
    line = next(line for line in metrics.table(result).splitlines() if line.startswith("miou"))
    assert "(95% CI " in line and line.endswith(", 1000 resamples of images)")
    assert metrics.bootstrap(counts[:1]) is None
    assert np.isnan(metrics.bootstrap(np.zeros((3, 3, 5), np.int64))["low"])
