"""Losses: plain functions of (outputs, labels, class_weights, seed=), in a literal table. 255 is never a class.

`outputs` is the model's dict, `labels` (B, H, W) integers (SAM has its own), `class_weights` one float a class or
None, `seed` two integers that decide whatever the loss draws at random: the step gives other ones at every step
and on every replica, and the same ones again after a resume.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np
import tensorflow as tf

from runtime.errors import UserError
from training.data.spec import IGNORE_ID
from training.mask_loss import mask2former
from training.prompt_loss import sam


def cross_entropy(
    outputs: dict[str, tf.Tensor],
    labels: tf.Tensor,
    class_weights: Sequence[float] | None = None,
    *,
    seed: tf.Tensor | Sequence[int] = (0, 0),
) -> tf.Tensor:
    """Pixel-wise cross-entropy, the mean over the pixels that count; 0 where none does.

    `outputs["logits"]` (B, H, W, C) float32; `labels` (B, H, W) integers, 255 ignored. With `class_weights`
    (C floats) the mean is the weighted one, divided by the sum of the weights, as PyTorch's is. Nothing is random.
    """
    logits = tf.cast(outputs["logits"], tf.float32)
    labels = tf.cast(labels, tf.int32)
    counted = labels != IGNORE_ID
    safe = tf.where(counted, labels, 0)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=safe, logits=logits)
    weight = tf.cast(counted, tf.float32)
    if class_weights is not None:
        weight *= tf.gather(tf.constant(class_weights, tf.float32), safe)
    return tf.math.divide_no_nan(tf.reduce_sum(loss * weight), tf.reduce_sum(weight))


LOSSES: dict[str, Callable[..., tf.Tensor]] = {
    "cross_entropy": cross_entropy,
    "mask2former": mask2former,
    "sam": sam,
}
# What each reads of the model's outputs, and which can weight classes.
READS = {
    "cross_entropy": ("logits",),
    "mask2former": ("query_logits", "mask_logits"),
    "sam": ("masks", "iou", "single_mask", "single_iou"),
}
WEIGHTED = ("cross_entropy",)
# The loss of a model that is not trained by pixel-wise cross-entropy.
MODEL_LOSSES = {"mask2former": "mask2former", "sam": "sam"}


def check(loss: str, outputs: Collection[str]) -> None:
    """Raise UserError when the model does not give what the loss reads."""
    missing = [key for key in READS[loss] if key not in outputs]
    if missing:
        raise UserError(
            f"the loss {loss} needs {' and '.join(missing)}, which this model does not give: choose another --loss"
        )


def training_loss(
    loss: Callable[..., tf.Tensor],
    outputs: dict[str, tf.Tensor],
    labels: tf.Tensor,
    class_weights: Sequence[float] | None,
    *,
    auxiliary_weight: float,
    seed: tf.Tensor,
) -> tf.Tensor:
    """`loss`, plus `auxiliary_weight` times the same loss of the auxiliary head where the model has one.

    An auxiliary head gives `aux_logits` (B, H, W, C). Zhao et al., "Pyramid Scene Parsing Network" (2017), section
    4, weights it 0.4, as mmsegmentation does; torchvision's reference training takes 0.5.
    """
    total = loss(outputs, labels, class_weights, seed=seed)
    if "aux_logits" in outputs:
        total += auxiliary_weight * loss({"logits": outputs["aux_logits"]}, labels, class_weights, seed=seed)
    return total


def main_outputs(outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Without what only training looks at: auxiliary heads and earlier layers."""
    return {key: value for key, value in outputs.items() if not key.startswith("aux_")}


def inverse_log(frequencies: np.ndarray) -> np.ndarray:
    """1 / ln(1.10 + p), p the class's share of the counted pixels (Paszke et al., ENet, 2016, section 5.1, whose
    constant is 1.02; 1.10 bounds a weight at 10.5 where theirs reaches 50)."""
    return 1.0 / np.log(1.10 + frequencies)


def uniform(frequencies: np.ndarray) -> np.ndarray:
    return np.ones_like(frequencies)


CLASS_WEIGHTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"none": uniform, "inverse_log": inverse_log}


def class_frequencies(label_maps: Iterable[np.ndarray], classes: int) -> np.ndarray:
    """Each class's share of the counted pixels, (C,) float64 that sum to 1."""
    counts = np.zeros(classes, np.int64)
    for labels in label_maps:
        counts += np.bincount(labels.ravel(), minlength=256)[:classes]
    return counts / max(1, counts.sum())
