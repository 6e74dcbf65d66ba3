"""Average precision against scikit-learn, within the bound that is stated; calibration error against torchmetrics."""

import numpy as np
import pytest
from scipy.special import softmax

from evaluation import calibration, inference
from evaluation.metric import Prediction
from tests import references

CLASSES = 4
NAMES = list("abcd")


def looked_at(sharpness: float, seed: int = 0, shape: tuple[int, int] = (70, 51)) -> Prediction:
    """An image whose probabilities are as sharp as asked, right most of the time, with void."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(*shape, CLASSES)).astype(np.float32)
    truth = (logits + rng.normal(size=logits.shape)).argmax(-1).astype(np.uint8)
    truth[rng.random(shape) < 0.1] = 255
    probabilities = inference.probabilities(logits * np.float32(sharpness))
    return Prediction("a", truth, probabilities.argmax(-1).astype(np.uint8), probabilities)


def exact(images: list[Prediction]) -> list[float]:
    average_precision_score = references.sklearn_metrics().average_precision_score
    truth = np.concatenate([seen.truth.ravel() for seen in images])
    values = np.concatenate([seen.probabilities.reshape(-1, CLASSES) for seen in images])
    counted = truth != 255
    return [
        float(average_precision_score(truth[counted] == index, values[counted, index]))
        for index in range(CLASSES)
    ]


@pytest.mark.parametrize("sharpness", [0.5, 1, 4, 12, 40])
def test_average_precision_is_scikit_learns_within_the_bound(sharpness):
    images = [looked_at(sharpness, seed) for seed in (0, 1)]
    metric = calibration.precision(CLASSES)
    found = metric.result(sum(metric.count(seen) for seen in images), NAMES)
    difference = np.abs(np.array(list(found["classes"].values())) - exact(images))
    assert difference.max() <= found["error_bound"] < 0.02
    assert found["mean"] == pytest.approx(np.mean(exact(images)), abs=found["error_bound"])


def test_average_precision_is_exact_where_scores_have_a_bin_each():
    """Also where many pixels have the same score, for which scikit-learn has one threshold."""
    rng = np.random.default_rng(5)
    first = rng.choice(np.float32([0, 2**-20, 0.125, 0.25, 0.5, 0.75, 1 - 2**-18, 1]), (60, 40))
    probabilities = np.stack([first, 1 - first], axis=-1)
    truth = (rng.random(first.shape) > 0.2 + 0.5 * first).astype(np.uint8)
    seen = Prediction("a", truth, probabilities.argmax(-1).astype(np.uint8), probabilities)
    metric = calibration.precision(2)
    found = metric.result(metric.count(seen), ["a", "b"])
    average_precision_score = references.sklearn_metrics().average_precision_score
    expected = [average_precision_score(truth.ravel() == i, probabilities[..., i].ravel()) for i in (0, 1)]
    np.testing.assert_allclose(list(found["classes"].values()), expected, rtol=1e-12)


def test_the_bound_holds_for_any_order_within_a_bin():
    """The worst and the best order that one bin can hide, and random ones, by counting."""
    positive, negative = np.array([3, 5, 2]), np.array([40, 3, 1])
    value, error = calibration.average_precision(positive, negative)
    rng = np.random.default_rng(0)
    orders = [np.repeat([0, 1], [3, 40]), np.repeat([1, 0], [40, 3])]
    orders += [rng.permutation(np.repeat([0, 1], [3, 40])) for _ in range(200)]
    top = np.repeat([0, 1, 0, 1], [2, 1, 5, 3])
    found = []
    for order in orders:
        hit = np.concatenate([top, order]) == 0
        found.append((np.cumsum(hit) / np.arange(1, len(hit) + 1))[hit].mean())
    assert max(abs(one - value) for one in found) <= error
    assert error < 2 * max(abs(one - value) for one in found)


def test_bins_keep_the_order_and_the_ends():
    tiny = np.float32(2) ** np.arange(-70, 0, 0.01, dtype=np.float32)
    values = np.sort(np.concatenate([[0, 1, 0.5], tiny, 1 - tiny]).astype(np.float32))
    bins = calibration.score_bins(values)
    assert (np.diff(bins.astype(int)) >= 0).all()
    assert bins[0] == 0 and bins[-1] == calibration.SCORE_BINS - 1
    # One bin spans less than 1/127 of p, or of 1 - p above a half.
    for low, high in zip(values[:-1], values[1:], strict=True):
        rest = min(high, 1 - low) if low < 0.5 else 1 - low
        if rest > 2**-24 and low > 2**-64 and high - low > rest / 127:
            assert (
                calibration.score_bins(np.array([low, high]))[0]
                < calibration.score_bins(np.array([low, high]))[1]
            )


def test_a_class_without_pixels_has_no_average_precision():
    seen = looked_at(1)
    none = seen._replace(truth=np.where(seen.truth == 2, np.uint8(255), seen.truth))
    metric = calibration.precision(CLASSES)
    found = metric.result(metric.count(none), NAMES)
    assert np.isnan(found["classes"]["c"]) and 0 < found["mean"] < 1
    nothing = seen._replace(truth=np.full_like(seen.truth, 255))
    assert np.isnan(metric.result(metric.count(nothing), NAMES)["mean"])


@pytest.mark.slow  # imports PyTorch and torchmetrics
@pytest.mark.parametrize("sharpness", [0.5, 2, 12])
def test_expected_calibration_error_is_torchmetrics(sharpness):
    torch, torchmetrics = references.torch(), references.torchmetrics_classification()
    images = [looked_at(sharpness, seed) for seed in (0, 1)]
    metric = calibration.calibration(CLASSES)
    found = metric.result(sum(metric.count(seen) for seen in images), NAMES)
    truth = np.concatenate([seen.truth.ravel() for seen in images])
    values = np.concatenate([seen.probabilities.reshape(-1, CLASSES) for seen in images])
    for norm, key in (("l1", "ece"), ("max", "mce")):
        expected = torchmetrics.multiclass_calibration_error(
            torch.from_numpy(values),
            torch.from_numpy(truth.astype(np.int64)),
            CLASSES,
            15,
            norm,
            ignore_index=255,
        )
        assert found[key] == pytest.approx(float(expected), abs=1e-5)  # torchmetrics adds up float32
    assert sum(found["bins"]["pixels"]) == (truth != 255).sum()


def test_calibration_error_by_arithmetic():
    """0.95 sure and right 3 times of 4, 0.55 sure and right once of 1; 1.0 falls into the last bin of (0.9, 1.0]."""
    first = np.float32([[0.95, 0.95, 0.95, 0.95, 0.55, 1.0]])
    truth = np.uint8([[0, 0, 0, 1, 0, 255]])
    seen = Prediction("a", truth, np.zeros((1, 6), np.uint8), np.stack([first, 1 - first], -1))
    found = calibration.calibration(2, 10)
    result = found.result(found.count(seen), ["a", "b"])
    assert result["ece"] == pytest.approx((4 * 0.2 + 1 * 0.45) / 5, abs=1e-6)
    assert result["mce"] == pytest.approx(0.45, abs=1e-6)
    assert result["bins"]["pixels"] == [0, 0, 0, 0, 0, 1, 0, 0, 0, 4]
    # A confidence on the border of two bins belongs to the lower one.
    edges = seen._replace(probabilities=np.stack([np.full((1, 6), 0.75), np.full((1, 6), 0.25)], -1))
    assert calibration.confidence_counts(edges, 2, 4)[0].tolist() == [0, 0, 5, 0]


def test_what_is_no_probability_is_refused():
    seen = looked_at(1)
    broken = seen.probabilities.copy()
    broken[seen.truth != 255] = np.nan
    for metric in (calibration.precision(CLASSES), calibration.calibration(CLASSES)):
        with pytest.raises(ValueError, match="not a number"):
            metric.count(seen._replace(probabilities=broken))
        with pytest.raises(ValueError, match="probabilities are"):
            metric.count(seen._replace(probabilities=broken[..., :3]))


def test_probabilities_are_left_as_they_are_and_logits_are_not():
    logits = np.random.default_rng(0).normal(size=(130, 5, 3)).astype(np.float32)
    found = inference.probabilities(logits)
    np.testing.assert_allclose(found, softmax(logits, axis=-1), atol=1e-6)
    assert inference.probabilities(found) is found
