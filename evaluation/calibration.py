"""What the probabilities are worth: average precision of each class, and expected calibration error.

Both stream: an image adds to histograms of fixed size.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from evaluation.metric import Metric, Prediction
from training.data.spec import VOID_ID

ECE_BINS = 15  # of equal width, Guo et al.'s number

# Bins of a probability p: 128 to each doubling of p below 1/2, down to 2**-64, and of 1 - p above it, down to 2**-24,
# which is as near to 1 as a float32 gets: a trained model's probabilities crowd at both ends. The exponent of a float32
# with the first 7 bits of its fraction is such a number already.
_DROPPED_BITS = 16
_FIRST = (127 - 64) * 128 - 1  # the number right below 2**-64: all that is smaller shares bin 0
_NEAR_ONE = (127 - 24) * 128 - 1  # the same for 1 - p
_LAST = 2 * 126 * 128 - _FIRST - _NEAR_ONE  # the bin of 1
SCORE_BINS = _LAST + 1
# From here up, where 1 - p is below 2**-16, a bin holds one float32 and hides no order.
_SINGLE = _LAST - 8 * 128
ROWS = 64  # of an image that are looked at together


def score_bins(probabilities: np.ndarray) -> np.ndarray:
    """The bin of each probability, uint16 0..SCORE_BINS - 1, rising with it; what is outside 0..1 is clipped."""
    values = np.clip(probabilities, np.float32(0), np.float32(1), dtype=np.float32)
    upper = values > 0.5
    np.subtract(1, values, out=values, where=upper)  # exact in float32
    numbers = values.view(np.int32) >> _DROPPED_BITS
    below = np.maximum(numbers, _FIRST) - _FIRST
    above = 2 * 126 * 128 - _FIRST - np.maximum(numbers, _NEAR_ONE)
    return np.where(upper, above, below).astype(np.uint16)


def precision_counts(seen: Prediction, classes: int) -> np.ndarray:
    """(2, C, SCORE_BINS) int64: for each class and bin of its probability, the pixels of the class and the others.

    Void pixels do not count.
    """
    total = np.zeros((2, classes, SCORE_BINS), np.int64)
    for truth, _, probabilities in _counted_rows(seen, classes):
        bins = score_bins(np.ascontiguousarray(probabilities.T))  # (C, n)
        own = truth.astype(np.int64) * SCORE_BINS + bins[truth, np.arange(len(truth))]
        total[0] += np.bincount(own, minlength=classes * SCORE_BINS).reshape(classes, SCORE_BINS)
        for index in range(classes):
            total[1, index] += np.bincount(bins[index], minlength=SCORE_BINS)
    total[1] -= total[0]
    return total


def average_precision(positive: np.ndarray, negative: np.ndarray) -> tuple[float, float]:
    """Average precision of binned scores, and how far that of the scores themselves can be from it.

    `positive` and `negative` are the pixels of each bin, from the lowest scores to the highest. Scores of one bin count
    as equal. Within a bin of p positives and n negatives, t positives and f negatives above it, the precision at each
    positive is at most (t + p) / (t + p + f), where all of them come first, and at the i-th at least
    (t + i) / (t + i + f + n), where they come last; the bound adds up both sides. NaN for a class without pixels.
    """
    rows = np.flatnonzero(positive)[::-1]
    if not len(rows):
        return float("nan"), float("nan")
    above_t, above_f = (np.cumsum(part[::-1])[::-1] - part for part in (positive, negative))
    p, n, t, f = (part[rows].astype(np.float64) for part in (positive, negative, above_t, above_f))
    ties = p * (t + p) / (t + p + f + n)
    best = p * (t + p) / (t + p + f)
    # The sum over i of 1 / (x + i), i = 1..p, is below log((x + p) / x).
    x = t + f + n
    worst = p - (f + n) * np.log1p(np.divide(p, x, out=np.zeros_like(p), where=x > 0))
    inexact = rows < _SINGLE
    error = max(((best - ties) * inexact).sum(), ((ties - worst) * inexact).sum())
    return float(ties.sum() / p.sum()), float(error / p.sum())


def precision(classes: int) -> Metric:
    """Pixel-wise average precision of each class over the split, and its mean over the classes that have pixels.

    All pixels that count are ranked by the probability of the class; AP = sum_n (R_n - R_(n-1)) P_n over the
    thresholds, with precision P and recall R, not interpolated, as scikit-learn's average_precision_score. Here
    probabilities of one bin (score_bins) are equal; `error_bound` is the most that any AP of this evaluation can be
    off for it, whatever the order within the bins.
    """

    def result(total: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
        found = [average_precision(positive, negative) for positive, negative in zip(*total, strict=True)]
        present = [row for row in found if row[0] == row[0]]
        return {
            "mean": float(np.mean([value for value, _ in present])) if present else float("nan"),
            "classes": {name: value for name, (value, _) in zip(names, found, strict=True)},
            "error_bound": max((error for _, error in present), default=float("nan")),
        }

    return Metric(lambda seen: precision_counts(seen, classes), result, probabilities=True)


def confidence_counts(seen: Prediction, classes: int, bins: int = ECE_BINS) -> np.ndarray:
    """(3, bins) float64: pixels, their summed confidence, and those that are right, for each bin of confidence.

    Confidence is the probability of the predicted class, the largest unless classes were merged after the prediction;
    bin m of M holds what is above (m - 1) / M and up to m / M. Void pixels do not count.
    """
    total = np.zeros((3, bins))
    for truth, predicted, probabilities in _counted_rows(seen, classes):
        confidence = probabilities[np.arange(len(predicted)), predicted].astype(np.float64)
        index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
        total[0] += np.bincount(index, minlength=bins)
        total[1] += np.bincount(index, weights=confidence, minlength=bins)
        total[2] += np.bincount(index, weights=predicted == truth, minlength=bins)
    return total


def calibration(classes: int, bins: int = ECE_BINS) -> Metric:
    """Expected and maximum calibration error over the pixels of the split, and the reliability diagram's numbers.

    C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, equations 3 and 5:
    the mean and the maximum over the bins of |accuracy - confidence|, the mean weighted by their pixels.
    """

    def result(total: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
        pixels, confidence, right = total
        filled = pixels > 0
        gaps = np.abs(right - confidence)[filled]
        nothing = np.full(bins, np.nan)
        means = [np.divide(part, pixels, out=nothing.copy(), where=filled) for part in (confidence, right)]
        return {
            "ece": float(gaps.sum() / pixels.sum()) if filled.any() else float("nan"),
            "mce": float((gaps / pixels[filled]).max()) if filled.any() else float("nan"),
            "bins": {
                "pixels": pixels.astype(np.int64).tolist(),
                "confidence": means[0].tolist(),
                "accuracy": means[1].tolist(),
            },
        }

    return Metric(lambda seen: confidence_counts(seen, classes, bins), result, probabilities=True)


def _counted_rows(seen: Prediction, classes: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Truth (n,), prediction (n,) and probabilities (n, C) of the pixels that count, some rows of the image at a
    time. ValueError when there are none of this shape, or when one is NaN."""
    found = seen.probabilities
    if found is None or found.shape != (*seen.truth.shape, classes):
        shape = None if found is None else found.shape
        raise ValueError(f"probabilities are {shape}, not {(*seen.truth.shape, classes)}")
    for start in range(0, len(seen.truth), ROWS):
        rows = slice(start, start + ROWS)
        counted = seen.truth[rows] != VOID_ID
        if counted.any():
            kept = found[rows][counted]
            if np.isnan(kept).any():
                raise ValueError("a probability is not a number")
            yield seen.truth[rows][counted], seen.predicted[rows][counted], kept
