"""One confusion matrix feeds every score. NumPy only, so that the page and the device can use it.

Source of the definitions: Long, Shelhamer, Darrell, "Fully convolutional networks for semantic segmentation"
(2015), section 5, for the four overall scores; the Cityscapes evaluation protocol for class IoU over the
whole split (one matrix, not an average over images).
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from runtime.strict_json import without_nan, written

DRAWN_AT_ONCE = 100  # resamples of the bootstrap whose images are in memory


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Count pixels, (C, C) int64: rows are the truth, columns the prediction.

    `labels` and `predictions` are integer arrays of one shape. A label outside 0..C-1 (255, void) does not
    count; a prediction outside it raises ValueError, since that is a broken model and not a void pixel.
    """
    if labels.shape != predictions.shape:
        raise ValueError(f"labels are {labels.shape} but predictions {predictions.shape}")
    counted = (labels >= 0) & (labels < classes)
    truth = labels[counted].astype(np.int64)
    predicted = predictions[counted].astype(np.int64)
    if predicted.size and (predicted.min() < 0 or predicted.max() >= classes):
        raise ValueError(f"a predicted class id lies outside 0..{classes - 1}")
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """NaN where there is nothing to divide by: the class was neither there nor predicted."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def counts(matrix: np.ndarray) -> np.ndarray:
    """(3, C) int64: hit, true and predicted pixels of each class; all that an IoU needs, and it adds up."""
    return np.stack([np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)])


def iou(counts: np.ndarray) -> np.ndarray:
    """(..., C) IoU of (..., 3, C) counts; NaN where a class is neither there nor predicted."""
    hit, truth, predicted = np.moveaxis(counts, -2, 0)
    return _ratio(hit, truth + predicted - hit)


def mean_iou(counts: np.ndarray) -> np.ndarray:
    """(...,) mean IoU of (..., 3, C) counts over the classes that have true pixels; NaN where none has."""
    present = counts[..., 1, :] > 0
    return _ratio(np.where(present, iou(counts), 0).sum(axis=-1), present.sum(axis=-1))


def bootstrap(
    counts: np.ndarray,
    *,
    base: np.ndarray | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any] | None:
    """Percentile bootstrap interval of the mIoU over images, from the (N, 3, C) counts of each image.

    Efron, Tibshirani, "An Introduction to the Bootstrap" (1993), section 13.3: as many images as there are, drawn
    with replacement; their counts are added and give one mIoU; `level` of the `resamples` mIoUs lie within
    `low`..`high`. It says how much the choice of images matters, not how much training does. None for fewer than
    two images. Frames of one drive are not independent, so that over video the interval is too narrow.

    With `base`, another model's counts of the same images, the interval is that of the mIoU above the base's, paired:
    each draw takes the same images of both, so that what makes an image hard for both does not widen it.
    """
    if len(counts) < 2:
        return None
    values = resampled(counts, resamples, seed)
    if base is not None:
        values = values - resampled(base, resamples, seed)
    tail = 100 * (1 - level) / 2
    low, high = (
        np.nanpercentile(values, [tail, 100 - tail]) if not np.isnan(values).all() else (np.nan, np.nan)
    )
    return {"low": float(low), "high": float(high), "level": level, "resamples": resamples, "seed": seed}


def resampled(counts: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(resamples,) mIoUs of N images drawn with replacement from (N, 3, C) counts; what is drawn depends on N and
    the seed alone."""
    images = len(counts)
    flat = counts.reshape(images, -1).astype(np.float64)
    draws = np.random.default_rng(seed)
    found = []
    for start in range(0, resamples, DRAWN_AT_ONCE):
        drawn = draws.integers(0, images, (min(DRAWN_AT_ONCE, resamples - start), images))
        times = np.stack([np.bincount(row, minlength=images) for row in drawn]).astype(np.float64)
        found.append(mean_iou((times @ flat).reshape(len(drawn), *counts.shape[1:])))
    return np.concatenate(found)


def scores(matrix: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Every score of one confusion matrix, each a fraction 0..1.

    A class without a single true pixel is left out of the means (its IoU would depend on the images chosen
    alone); its own row is NaN, or 0 where it was predicted all the same.

    Returns `pixel_accuracy`, `mean_accuracy`, `miou`, `frequency_weighted_iou`, `pixels`, and `classes`: for
    each name `iou`, `dice` (the F1 score), `precision`, `recall` (sensitivity), `specificity`, `share` (of the true
    pixels).
    """
    matrix = matrix.astype(np.float64)
    total = matrix.sum()
    hit = np.diag(matrix)
    truth, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    iou = _ratio(hit, truth + predicted - hit)
    recall = _ratio(hit, truth)
    columns = {
        "iou": iou,
        "dice": _ratio(2 * hit, truth + predicted),
        "precision": _ratio(hit, predicted),
        "recall": recall,
        "specificity": _ratio(total - truth - predicted + hit, total - truth),
        "share": _ratio(truth, np.full_like(truth, total)),
    }
    present = truth > 0
    return {
        "pixel_accuracy": float(hit.sum() / total) if total else float("nan"),
        "mean_accuracy": float(recall[present].mean()) if present.any() else float("nan"),
        "miou": float(iou[present].mean()) if present.any() else float("nan"),
        "frequency_weighted_iou": float((truth[present] * iou[present]).sum() / total)
        if total
        else float("nan"),
        "pixels": int(total),
        "classes": {
            name: {column: float(values[index]) for column, values in columns.items()}
            for index, name in enumerate(class_names)
        },
    }


def total_matrix(pairs: Iterable[tuple[np.ndarray, np.ndarray]], classes: int) -> np.ndarray:
    """The confusion matrices of (labels, predictions) of many images as one, (C, C) int64; zeros without any."""
    matrix = np.zeros((classes, classes), np.int64)
    for labels, predictions in pairs:
        matrix += confusion_matrix(labels, predictions, classes)
    return matrix


def as_json(result: dict[str, Any], matrix: np.ndarray) -> bytes:
    """The scores with their confusion matrix as JSON; null where a score does not exist."""
    return written({**result, "confusion_matrix": matrix.tolist()})


def as_csv(result: dict[str, Any]) -> bytes:
    """The scores of the classes, one class a line."""
    columns = list(next(iter(result["classes"].values())))
    rows = [[name, *(row[column] for column in columns)] for name, row in result["classes"].items()]
    return csv_bytes([["class", *columns], *rows])


def csv_bytes(rows: Sequence[Sequence[Any]]) -> bytes:
    """Rows as a CSV file; empty where a number does not exist."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(without_nan(rows))
    return text.getvalue().encode()


def percent(fraction: float | None, digits: int = 2, unit: str = "%") -> str:
    """A score, a fraction 0..1, for people to read, such as "71.80%"; "-" where there is none: None, NaN or below 0,
    which a run has before its first epoch ends."""
    there = fraction is not None and fraction >= 0  # NaN is not
    return f"{100 * fraction:.{digits}f}{unit}" if there else "-"  # type: ignore[operator]


def table(result: dict[str, Any]) -> str:
    """The scores as text, percentages, one class a line."""
    columns = list(next(iter(result["classes"].values())))
    width = max([len(name) for name in result["classes"]] + [len("class")])
    lines = [f"{'class':<{width}}" + "".join(f"{column:>13}" for column in columns)]
    for name, row in result["classes"].items():
        lines.append(f"{name:<{width}}" + "".join(f"{_percent(row[column]):>13}" for column in columns))
    lines.append("")
    for key in ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou"):
        interval = _interval(result) if key == "miou" else ""
        lines.append(f"{key.replace('_', ' '):<24}{_percent(result[key]):>8}{interval}")
    return "\n".join(lines)


def _interval(result: dict[str, Any]) -> str:
    """Such as "  (95% CI 71.80 to 75.60, 1000 resamples of images)"; "" where there is none."""
    found = result.get("miou_interval")
    if not found:
        return ""
    low, high = _percent(found["low"]), _percent(found["high"])
    return f"  ({100 * found['level']:g}% CI {low} to {high}, {found['resamples']} resamples of images)"


def _percent(fraction: float) -> str:
    return percent(fraction, unit="")
