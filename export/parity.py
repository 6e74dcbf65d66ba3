"""The gate that each export passes: Keras against the exported file, on the same real images.

Both sides get the very same uint8 image at the file's size; both masks are brought back to the label's size
the same way (nearest neighbour), so the two mIoU differ only by what the export changed. Compared are

- the largest difference between two logits, over all pixels and classes,
- the share of pixels, at the file's size, whose class id is the same,
- mIoU of both, and the points lost.

A file whose output is class ids has no logits to compare. Its logits come from a twin: the same flatbuffer,
cut before its ARG_MAX (see `tflite.scores_twin`); its ids and its mIoU are always those of the file itself.

int8 and mixed are compared a second time, on corrupted images (evaluation/corruptions.py): the ranges of 8 bits were
learnt from clean ones, and need not hold at night. The bound on lost mIoU counts for the worse of both.

fp32 must be the same function, so it is bound by logits and ids alone. The other precisions change numbers on
purpose, so what binds them is the mIoU that they lose, and for fp16 the ids as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evaluation import corruptions, metrics, robustness
from export import CALIBRATED, Examples, Job
from runtime.errors import UserError
from runtime.image import resize_ids, resize_rgb
from training.data.spec import DatasetSpec, Example
from training.progress_bar import counter
from training.runs.trained_model import TrainedModel

# uint8 (H, W, 3) -> class ids (H, W), logits float32 (H, W, C)
Predict = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Bounds:
    """What a precision may change: `difference` is the largest between two logits, `agreement` the least share
    of equal ids, `loss` the mIoU points (hundredths) that may be lost; None binds nothing."""

    difference: float | None
    agreement: float | None
    loss: float


BOUNDS = {
    "fp32": Bounds(difference=1e-3, agreement=0.9999, loss=0.01),
    "fp16": Bounds(difference=None, agreement=0.995, loss=0.1),
    "dynamic": Bounds(difference=None, agreement=None, loss=0.5),
    "mixed": Bounds(difference=None, agreement=None, loss=0.3),
    "int8": Bounds(difference=None, agreement=None, loss=0.5),
}


COARSER = "int8"  # whose bounds a file of --mask-stride has, in any precision
SEVERITY = 2  # of the corruptions; each image is seen under one of them, in turn


@dataclass(frozen=True)
class Parity:
    """What was measured. `keras` and `file` are rows of `metrics.scores`; fractions are 0..1. Where images
    have no labels, `labelled` is false and Keras' own ids are the truth for both. `corrupted` is the same on
    corrupted images, where they were looked at."""

    split: str
    images: int
    largest_difference: float
    largest_logit: float
    agreement: float
    keras: dict[str, Any]
    file: dict[str, Any]
    labelled: bool = True
    corrupted: "Parity | None" = None

    @property
    def loss(self) -> float:
        """mIoU points that the file is worse by; negative where it is better."""
        return 100 * (self.keras["miou"] - self.file["miou"])

    def to_json(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "images": self.images,
            "largest_logit_difference": self.largest_difference,
            "largest_logit": self.largest_logit,
            "pixel_agreement": self.agreement,
            "miou_points_lost": self.loss,
            "truth": "labels" if self.labelled else "Keras' own class ids",
            "keras": _short(self.keras),
            "file": _short(self.file),
            **({"corrupted": self.corrupted.to_json() | {"severity": SEVERITY}} if self.corrupted else {}),
        }


def _short(scores: dict[str, Any]) -> dict[str, Any]:
    return {
        "miou": scores["miou"],
        "pixel_accuracy": scores["pixel_accuracy"],
        "class_iou": {name: row["iou"] for name, row in scores["classes"].items()},
    }


def spread(examples: Sequence[Example], count: int | None) -> list[Example]:
    """`count` examples spread evenly over all of them (neighbours in a list are often one drive)."""
    if count is None or count >= len(examples):
        return list(examples)
    return [examples[index * len(examples) // count] for index in range(count)]


def measure(
    reference: Predict,
    candidate: Predict,
    examples: Sequence[Example],
    spec: DatasetSpec,
    size: tuple[int, int],
    split: str = "val",
    progress: Callable[[int, int], None] | None = None,
    labelled: bool = True,
) -> Parity:
    """Run both sides over the examples; `size` is the (height, width) that both take;
    `progress` is told (done, total). Without labels, the ids of the reference are the truth."""
    if not examples:
        raise UserError(f"{spec.name} {split} has no image to compare the exported model on; one is needed.")
    classes = len(spec.classes)
    keras_matrix = np.zeros((classes, classes), np.int64)
    file_matrix = np.zeros((classes, classes), np.int64)
    largest = difference = 0.0
    equal = pixels = 0
    for done, example in enumerate(examples, 1):
        rgb, label = example.read()
        rgb = resize_rgb(rgb, size)
        keras_ids, keras_logits = reference(rgb)
        file_ids, file_logits = candidate(rgb)
        file_logits = file_logits[..., : keras_logits.shape[-1]]  # less the copies of rewrite.widen_argmax
        # NaN must not hide: np.maximum hands it on where max() would drop it.
        difference = float(np.maximum(difference, np.abs(keras_logits - file_logits).max()))
        largest = float(np.maximum(largest, np.abs(keras_logits).max()))
        equal += int((keras_ids == file_ids).sum())
        pixels += keras_ids.size
        label = label if labelled else keras_ids
        keras_matrix += metrics.confusion_matrix(label, resize_ids(keras_ids, label.shape), classes)
        file_matrix += metrics.confusion_matrix(label, resize_ids(file_ids, label.shape), classes)
        if progress:
            progress(done, len(examples))
    if not keras_matrix.any():
        raise UserError(
            f"{spec.name} {split} has no labelled pixel, so the exported file cannot be scored on it."
        )
    return Parity(
        split=split,
        images=len(examples),
        largest_difference=difference,
        largest_logit=largest,
        agreement=equal / pixels,
        keras=metrics.scores(keras_matrix, spec.classes),
        file=metrics.scores(file_matrix, spec.classes),
        labelled=labelled,
    )


def failures(parity: Parity, precision: str, allow_loss: float | None = None) -> list[str]:
    """Why the gate is shut: a phrase for each bound that is broken, naming what was found and the bound.

    `allow_loss` replaces the bound on lost mIoU, in points, and lifts fp16's bound on equal ids with it; fp32
    has no such leave, because a float file that differs is a fault and not a price.
    """
    bounds, found = BOUNDS[precision], []
    if precision == "fp32":
        allow_loss = None
    # Written as `not (... <= ...)` so that NaN fails.
    if bounds.difference is not None and not (parity.largest_difference <= bounds.difference):
        found.append(f"logits differ by {parity.largest_difference:.2g} (at most {bounds.difference:g})")
    if not np.isfinite(parity.largest_difference):
        found.append("logits are not finite")
    if bounds.agreement is not None and allow_loss is None and not (parity.agreement >= bounds.agreement):
        found.append(f"{100 * parity.agreement:.3f}% of pixels agree (at least {100 * bounds.agreement:g}%)")
    points = bounds.loss if allow_loss is None else allow_loss
    for where, seen in (("", parity), (" on corrupted images", parity.corrupted)):
        if seen and not (seen.loss <= points):
            keras, file = 100 * seen.keras["miou"], 100 * seen.file["miou"]
            found.append(
                f"mIoU{where} falls from {keras:.2f} to {file:.2f}, {seen.loss:.2f} points (at most {points:g})"
            )
    return found


def gate(parity: Parity, precision: str, name: str, allow_loss: float | None = None) -> None:
    """Raise UserError, naming both numbers of each broken bound, unless the file may be published."""
    found = failures(parity, precision, allow_loss)
    if found:
        way_out = "" if precision == "fp32" else "; --allow-loss POINTS raises the bound on mIoU, on record"
        raise UserError(f"{name} is not written, it is not as good as the run: {'; '.join(found)}{way_out}.")


def pass_through(
    run: TrainedModel, model: Any, candidate: Predict, job: Job, examples: Examples
) -> dict[str, Any]:
    """Measure on the run's val split, print the table, and raise UserError unless the bounds hold.

    Returns the record that travels with the file.
    """
    reference, seen = keras_predict(model), spread(examples("val"), job.parity_images)

    def compared(chosen: Sequence[Example], what: str) -> Parity:
        told = counter(what)
        return measure(reference, candidate, chosen, run.spec, job.size, progress=told, labelled=run.labelled)

    found = compared(seen, "comparing")
    if job.precision in CALIBRATED:
        found = replace(found, corrupted=compared(corrupted(seen), "comparing, corrupted"))
    print(table(found), flush=True)
    # A coarser mask is another function than Keras': what binds it is the mIoU that it loses.
    gate(found, job.precision if job.mask_stride == 1 else COARSER, job.out.name, job.allow_loss)
    return {**found.to_json(), "allow_loss": job.allow_loss}


def corrupted(examples: Sequence[Example], severity: int = SEVERITY) -> list[Example]:
    """The same images, each under one of the corruptions in turn."""
    names = list(corruptions.CORRUPTIONS)
    return [
        robustness.corrupted(example, names[place % len(names)], severity)
        for place, example in enumerate(examples)
    ]


def table(parity: Parity) -> str:
    """Everything measured, a line each."""
    rows = [
        ("images", f"{parity.images} of {parity.split}"),
        (
            "largest logit difference",
            f"{parity.largest_difference:.3g} (logits up to {parity.largest_logit:.3g})",
        ),
        ("pixels that agree", f"{100 * parity.agreement:.3f}%"),
        ("mIoU, Keras", f"{100 * parity.keras['miou']:.2f}{'' if parity.labelled else ' (it is the truth)'}"),
        ("mIoU, file", f"{100 * parity.file['miou']:.2f}"),
        ("mIoU points lost", f"{parity.loss:.2f}"),
    ]
    if parity.corrupted:
        keras, file = (100 * scores["miou"] for scores in (parity.corrupted.keras, parity.corrupted.file))
        rows.append(("corrupted images", f"{keras:.2f} to {file:.2f}, {parity.corrupted.loss:.2f} lost"))
    return "\n".join(f"  {name:<26}{value}" for name, value in rows)


def ids_of(logits: np.ndarray) -> np.ndarray:
    """int32 (H, W), wider than the ids of any file: in bytes on both sides ids from 256 on would come round alike."""
    return logits.argmax(-1).astype(np.int32)


def keras_predict(model: Any) -> Predict:
    """The reference: the Keras model in float32 with training=False, its ids by argmax over its logits."""
    import tensorflow as tf

    @tf.function
    def logits_of(image: Any) -> Any:
        return model(tf.cast(image, tf.float32), training=False)["logits"]

    def predict(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = logits_of(tf.constant(rgb[None])).numpy()[0]
        return ids_of(logits), logits

    return predict
