"""The teacher of a distillation: a run, converted weights or a `.tflite`, asked for its logits of a training batch."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from runtime import Segmenter
from runtime.bundle import numbered
from runtime.errors import UserError
from runtime.files import file_sha256
from training.data.labels.same_classes import reordered
from training.data.labels.taxonomies import plain_names
from training.engine.gradients import Logits
from training.runs import trained_run
from training.runs.settings import LossSettings
from zoo import contract
from zoo.convert import model_config

LEAST = 1e-6  # of a probability, before its logarithm is taken


def fingerprint(path: Path) -> str:
    """The SHA-256 of the teacher's weights, by which a resumed run knows it. UserError when there are none."""
    if path.suffix != ".tflite" and not path.name.endswith(model_config.SUFFIX):
        path = trained_run.load(path).weights_path
    if not path.is_file():
        raise UserError(f"the teacher {path} is not there: name a run folder, a .weights.h5 or a .tflite")
    return file_sha256(path)


def refuse_own_folder(teacher: str | None, run_folder: Path) -> None:
    """UserError when the teacher lies in the run's own folder, where --fresh would throw it away."""
    path = Path(teacher).resolve() if teacher else None
    if path and run_folder.resolve() in (path, *path.parents):
        raise UserError(f"the teacher {teacher} lies in the run's own folder: choose another --name")


def open_teacher(loss: LossSettings, crop: tuple[int, int], classes: Sequence[str]) -> Logits | None:
    """What gives the logits of the teacher for crops (height, width), None where there is none.

    In inference mode, no gradient; in the order of `classes`, whatever the teacher's own is. Call it under
    `strategy.scope()`. UserError, one sentence, when the teacher's classes are not `classes`, when it has changed since
    the recipe was made, or when it gives no scores.
    """
    if not loss.teacher:
        return None
    path = Path(loss.teacher)
    if fingerprint(path) != loss.teacher_sha256:
        raise UserError(
            f"the teacher {path} has changed since this run began: bring back the one it began with"
        )
    return _file(path, classes) if path.suffix == ".tflite" else _run(path, crop, classes)


def _run(path: Path, crop: tuple[int, int], classes: Sequence[str]) -> Logits:
    found = trained_run.load(path)
    order = _order(path, found.spec.classes, classes)
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("float32")
    try:
        model = found.model(crop)
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
    if not isinstance(model.output, dict) or contract.LOGITS not in model.output:
        raise UserError(f"the teacher {path} gives no logits of classes: name a semantic segmenter")
    if order == sorted(order):
        return lambda images: model(images, training=False)[contract.LOGITS]
    return lambda images: tf.gather(model(images, training=False)[contract.LOGITS], order, axis=-1)


def _file(path: Path, classes: Sequence[str]) -> Logits:
    segmenter = Segmenter(path)
    if segmenter.output != "scores":
        raise UserError(f"the teacher {path} gives class ids, not scores: export it with --output scores")
    order = _order(path, segmenter.labels, classes)
    probabilities = _are_probabilities(segmenter)

    def scores(images: np.ndarray) -> np.ndarray:
        rounded = np.clip(np.rint(images.astype(np.float32)), 0, 255).astype(np.uint8)
        found = np.stack([segmenter.scores(rgb) for rgb in rounded])[..., order]
        return np.log(np.maximum(found, LEAST)) if probabilities else found

    def logits(images: tf.Tensor) -> tf.Tensor:
        # Declared stateless, which it is: else it would count as a side effect, which deterministic runs order.
        found = tf.numpy_function(scores, [images], tf.float32, stateful=False)
        return tf.ensure_shape(found, (*images.shape[:3], len(classes)))

    return logits


def _order(path: Path, theirs: Sequence[str], ours: Sequence[str]) -> list[int]:
    """The teacher's place of each of our classes: by name where it has names, else as they stand. UserError when its
    classes are not ours."""
    unnamed = tuple(theirs) == numbered(len(theirs))
    alike = unnamed or plain_names(theirs) == plain_names(ours)
    order = list(range(len(ours))) if alike else reordered(theirs, ours)
    if order is None or len(theirs) != len(ours):
        raise UserError(
            f"the teacher {path} has the classes {', '.join(theirs)}, but the data has {', '.join(ours)}: name a "
            "teacher of the same classes, or choose others with --classes"
        )
    return order


def _are_probabilities(segmenter: Segmenter) -> bool:
    """Whether a file ends in a softmax, as some published ones do: what it gives for noise is positive and sums to 1,
    but for what quantisation takes."""
    noise = np.random.default_rng(0).integers(0, 256, (*segmenter.size, 3), dtype=np.uint8)
    scores = segmenter.scores(noise)
    slack = max(0.05, scores.shape[-1] / 512)
    return bool(scores.min() >= 0.0 and np.abs(scores.sum(axis=-1) - 1.0).max() < slack)
