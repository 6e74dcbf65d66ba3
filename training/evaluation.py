"""One pass over a split: the confusion matrix, what each picture adds to it, and further metrics, in constant memory.

Every metric is a sum over pictures of an array of fixed shape, so that a split of any length takes the memory of two
pictures: one that the model looks at while the next is decoded and the one before is counted.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from training import metrics, pairs
from training.data.spec import DatasetSpec, Example
from training.progress import bar

# RGB uint8 (H, W, 3) -> class ids (H, W).
Predict = Callable[[np.ndarray], np.ndarray]
# RGB uint8 (H, W, 3) -> class ids (H, W), and probabilities float32 (H, W, C) that sum to 1.
Score = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class Seen(NamedTuple):
    """A picture that was looked at: train ids of truth (255 is void) and prediction, uint8 (H, W)."""

    name: str
    truth: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray | None  # float32 (H, W, C), where the metrics asked for them


class Metric(NamedTuple):
    """`count` is what one picture adds, an array of fixed shape; `result` makes scores of the sum and the classes."""

    count: Callable[[Seen], np.ndarray]
    result: Callable[[np.ndarray, Sequence[str]], dict[str, Any]]
    probabilities: bool = False  # whether `count` needs them


class Evaluation(NamedTuple):
    """What a pass found: the sum, (C, C) int64, rows the truth; and for each picture its name and its
    metrics.counts, (N, 3, C) int64; the median seconds that the model took; `extra` holds one entry a further
    metric."""

    spec: DatasetSpec
    matrix: np.ndarray
    names: list[str]
    counts: np.ndarray
    seconds: float
    extra: dict[str, Any]


def measure(
    examples: Sequence[Example],
    spec: DatasetSpec,
    predict: Predict,
    *,
    score: Score | None = None,
    extra: Mapping[str, Metric] | None = None,
    then: Callable[[Seen], None] | None = None,
) -> Evaluation:
    """Look at every example once. `score` is asked instead of `predict` where one of the `extra` metrics needs
    probabilities; `then` gets every picture, such as to write it.

    The seconds of a picture are the model's own, while the pictures beside it are decoded and counted. ValueError
    when the model predicts a class that the spec does not have, or a picture of another size.
    """
    chosen = dict(extra or {})
    ask: Score | None = score if any(metric.probabilities for metric in chosen.values()) else None
    classes = len(spec.classes)
    matrix = np.zeros((classes, classes), np.int64)
    counts, seconds = [], []
    totals: dict[str, np.ndarray] = {}

    def count(seen: Seen) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        found = pairs.confusion_matrix(seen.truth, seen.predicted, classes)
        if then:
            then(seen)
        return found, {key: metric.count(seen) for key, metric in chosen.items()}

    def add(found: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
        np.add(matrix, found, out=matrix)
        counts.append(metrics.counts(found))
        for key, array in arrays.items():
            totals[key] = totals[key] + array if key in totals else array

    with ThreadPoolExecutor(2) as pool, bar(len(examples), "picture") as line:
        counting: Future[tuple[np.ndarray, dict[str, np.ndarray]]] | None = None
        for example, (rgb, truth) in _ahead(examples, pool):
            before = time.monotonic()
            predicted, probabilities = ask(rgb) if ask else (predict(rgb), None)
            seconds.append(time.monotonic() - before)
            seen = Seen(example.name, truth, _ids(predicted, classes), probabilities)
            if counting:
                add(*counting.result())
            counting = pool.submit(count, seen)
            line.set_postfix_str(f"mIoU {_percent(metrics.mean_iou(metrics.counts(matrix)))}", refresh=False)
            line.update()
        if counting:
            add(*counting.result())
    return Evaluation(
        spec,
        matrix,
        [example.name for example in examples],
        np.array(counts, np.int64).reshape(-1, 3, classes),
        float(np.median(seconds)) if seconds else float("nan"),
        {key: chosen[key].result(total, spec.classes) for key, total in totals.items()},
    )


def _ahead(
    examples: Sequence[Example], pool: ThreadPoolExecutor
) -> Iterator[tuple[Example, tuple[np.ndarray, np.ndarray]]]:
    """Each example with what it reads; the next one is being read meanwhile."""
    reading = pool.submit(examples[0].read) if examples else None
    for index, example in enumerate(examples):
        assert reading is not None
        pair = reading.result()
        if index + 1 < len(examples):
            reading = pool.submit(examples[index + 1].read)
        yield example, pair


def _ids(predicted: np.ndarray, classes: int) -> np.ndarray:
    if predicted.dtype == np.uint8:
        return predicted
    if predicted.size and not (predicted.min() >= 0 and predicted.max() < classes):
        raise ValueError(f"a predicted class id lies outside 0..{classes - 1}")
    return predicted.astype(np.uint8)


def result(evaluation: Evaluation) -> dict[str, Any]:
    """The scores, each a fraction 0..1, ready for JSON: metrics.scores, `images`, `miou_interval` and `extra`."""
    found = metrics.scores(evaluation.matrix, evaluation.spec.classes)
    return {
        **found,
        "images": len(evaluation.names),
        "miou_interval": metrics.bootstrap(evaluation.counts),
        **evaluation.extra,
    }


def _percent(fraction: float) -> str:
    return "-" if np.isnan(fraction) else f"{100 * fraction:.1f}%"
