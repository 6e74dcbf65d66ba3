"""One pass over a split: the confusion matrix, what each image adds to it, and further metrics, in constant memory.

Every metric is a sum over images of an array of fixed shape, so that a split of any length takes the memory of two
images: one that the model looks at while the next is decoded and the one before is counted.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from evaluation import boundary, calibration, confusion_counts, metrics
from evaluation.metric import Metric, Prediction
from runtime.errors import UserError
from training.data.spec import DatasetSpec, Example
from training.progress_bar import bar

# RGB uint8 (H, W, 3) -> class ids (H, W).
Predict = Callable[[np.ndarray], np.ndarray]
# RGB uint8 (H, W, 3) -> class ids (H, W), and probabilities float32 (H, W, C) that sum to 1.
Score = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

# What --metrics can name: (classes, trimap widths) -> Metric. The scores are asked of the model only where one needs
# them.
METRICS: dict[str, Callable[[int, Sequence[int]], Metric]] = {
    "boundary": lambda classes, widths: boundary.boundary(classes),
    "trimap": boundary.trimap,
    "ap": lambda classes, widths: calibration.precision(classes),
    "ece": lambda classes, widths: calibration.calibration(classes),
}
CHEAP = "boundary,trimap"  # tens of milliseconds for a large image; what needs scores takes most of a second


class Evaluation(NamedTuple):
    """What a pass found: the sum, (C, C) int64, rows the truth; and for each image its name and its
    metrics.counts, (N, 3, C) int64; the median seconds that the model took; `extra` holds one entry a further
    metric."""

    spec: DatasetSpec
    matrix: np.ndarray
    names: list[str]
    counts: np.ndarray
    seconds: float
    extra: dict[str, Any]


def measure_or_refuse(
    label: str, examples: Sequence[Example], spec: DatasetSpec, predict: Predict, **how: Any
) -> Evaluation:
    """`measure`; UserError, which names the model by `label`, where its predictions do not fit the classes."""
    try:
        return measure(examples, spec, predict, **how)
    except ValueError as error:
        raise UserError(
            f"{label} does not fit the {len(spec.classes)} classes of {spec.name}: {error}"
        ) from error


def measure(
    examples: Sequence[Example],
    spec: DatasetSpec,
    predict: Predict,
    *,
    score: Score | None = None,
    extra: Mapping[str, Metric] | None = None,
    then: Callable[[Prediction], None] | None = None,
) -> Evaluation:
    """Look at every example once. `score` is asked instead of `predict` where one of the `extra` metrics needs
    probabilities; `then` gets every image, such as to write it.

    The seconds of an image are the model's own, while the images beside it are decoded and counted. ValueError
    when the model predicts a class that the spec does not have, or an image of another size.
    """
    chosen = dict(extra or {})
    ask: Score | None = score if any(metric.probabilities for metric in chosen.values()) else None
    classes = len(spec.classes)
    matrix = np.zeros((classes, classes), np.int64)
    counts, seconds = [], []
    totals: dict[str, np.ndarray] = {}

    def count(seen: Prediction) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        found = confusion_counts.confusion_matrix(seen.truth, seen.predicted, classes)
        if then:
            then(seen)
        return found, {key: metric.count(seen) for key, metric in chosen.items()}

    def add(found: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
        np.add(matrix, found, out=matrix)
        counts.append(metrics.counts(found))
        for key, array in arrays.items():
            totals[key] = totals[key] + array if key in totals else array

    with ThreadPoolExecutor(2) as pool, bar(len(examples), "image") as line:
        counting: Future[tuple[np.ndarray, dict[str, np.ndarray]]] | None = None
        for example, (rgb, truth) in _ahead(examples, pool):
            before = time.monotonic()
            predicted, probabilities = ask(rgb) if ask else (predict(rgb), None)
            seconds.append(time.monotonic() - before)
            seen = Prediction(example.name, truth, _ids(predicted, classes), probabilities)
            if counting:
                add(*counting.result())
            counting = pool.submit(count, seen)
            line.set_postfix_str(
                f"mIoU {metrics.percent(float(metrics.mean_iou(metrics.counts(matrix))), 1)}", refresh=False
            )
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


def asked(text: str) -> list[str]:
    """The metrics that a command line names, such as "boundary,ap", "all" or "none"; UserError on another name."""
    names = {"all": list(METRICS), "none": []}.get(text, [part.strip() for part in text.split(",")])
    for name in names:
        if name not in METRICS:
            raise UserError(
                f"--metrics {text}: there is no metric called '{name}'; there is {', '.join(METRICS)}, all and none."
            )
    return names


def chosen(
    names: Sequence[str],
    classes: int,
    widths: Sequence[int] = boundary.TRIMAP_WIDTHS,
    *,
    lacking: str = "",
    say: Callable[[str], None] = print,
) -> dict[str, Metric]:
    """The metrics of these names. `lacking` names what gives class ids alone, "" where there are scores: where all are
    asked for, what needs scores is then left out, which `say` is told; else it is a UserError.
    """
    found = {name: METRICS[name](classes, widths) for name in names}
    needy = [name for name, metric in found.items() if metric.probabilities]
    if not lacking or not needy:
        return found
    reason = (
        f"{lacking} gives class ids, and {' and '.join(needy)} need scores: export it with --output scores"
    )
    if set(names) != set(METRICS):
        raise UserError(f"--metrics {','.join(names)}: {reason}")
    say(f"{reason}.")
    return {name: metric for name, metric in found.items() if name not in needy}


def trimap_widths(text: str) -> tuple[int, ...]:
    """Such as "1,2,4" -> (1, 2, 4), rising; UserError on anything but whole pixels from 1 on."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(
            f"--trimap-widths {text} are not whole numbers of pixels from 1 on, such as 1,2,4,8,16"
        )
    return tuple(sorted({int(part) for part in parts}))


def result(evaluation: Evaluation) -> dict[str, Any]:
    """The scores, each a fraction 0..1, ready for JSON: metrics.scores, `images`, `miou_interval` and `extra`.

    The rows of `classes` get a class's Boundary IoU and average precision as well, where they were measured.
    """
    found = metrics.scores(evaluation.matrix, evaluation.spec.classes)
    for key, column in (("boundary", "boundary_iou"), ("ap", "ap")):
        for name, value in evaluation.extra.get(key, {}).get("classes", {}).items():
            found["classes"][name][column] = value
    return {
        **found,
        "images": len(evaluation.names),
        "miou_interval": metrics.bootstrap(evaluation.counts),
        **evaluation.extra,
    }


def text(scores: dict[str, Any]) -> str:
    """The result for people to read: metrics.table, and a line for each further metric, in per cent."""
    lines = [metrics.table(scores)]
    if "boundary" in scores:
        found = scores["boundary"]
        lines.append(
            f"{'boundary iou':<24}{_number(found['mean']):>8}  ({found['dilation_ratio']:g} of the diagonal)"
        )
    if "trimap" in scores:
        pairs_of = zip(scores["trimap"]["widths"], scores["trimap"]["mean"], strict=True)
        lines.append(
            f"{'trimap iou':<26}" + ", ".join(f"{width} px {_number(mean)}" for width, mean in pairs_of)
        )
    if "ap" in scores:
        found = scores["ap"]
        lines.append(
            f"{'average precision':<24}{_number(found['mean']):>8}  (off by {_number(found['error_bound'])} at most)"
        )
    if "ece" in scores:
        found = scores["ece"]
        lines.append(
            f"{'calibration error':<24}{_number(found['ece']):>8}  (largest in a bin {_number(found['mce'])})"
        )
    if "corruptions" in scores:
        found = scores["corruptions"]
        worst = min(found["means"], key=found["means"].__getitem__)
        left = (
            f"({_number(found['relative'])}% of the clean images')" if found["relative"] is not None else ""
        )
        lines.append(f"{'mean iou, corrupted':<24}{_number(found['mean']):>8}  {left}".rstrip())
        lines.append(f"{'worst corruption':<24}{_number(found['means'][worst]):>8}  ({worst})")
    if "cityscapes" in scores:
        found = scores["cityscapes"]
        lines.append("\nofficial protocol of Cityscapes       iou    iiou")
        for what in ("classes", "categories"):
            for name, row in found[what].items():
                lines.append(f"{name:<32}{_number(row['iou']):>9}{_number(row['iiou']):>8}")
            key = {"classes": "class", "categories": "category"}[what]
            means = [_number(found[f"mean_{key}_{score}"]) for score in ("iou", "iiou")]
            lines.append(f"{'mean of the ' + what:<32}{means[0]:>9}{means[1]:>8}\n")
    return "\n".join(lines).rstrip("\n")


def _number(fraction: float) -> str:
    return metrics.percent(fraction, unit="")
