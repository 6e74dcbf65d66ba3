"""Losses: plain functions of (outputs, labels), in a literal table. 255 is ignored everywhere."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf

from training.data.spec import IGNORE_ID


def cross_entropy(
    outputs: dict[str, tf.Tensor], labels: tf.Tensor, class_weights: Sequence[float] | None = None
) -> tf.Tensor:
    """Pixel-wise cross-entropy, the mean over the pixels that count; 0 where none does.

    `outputs["logits"]` (B, H, W, C) float32; `labels` (B, H, W) integers, 255 ignored. With `class_weights`
    (C floats) the mean is the weighted one, divided by the sum of the weights, as PyTorch's is.
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


LOSSES: dict[str, Callable[..., tf.Tensor]] = {"cross_entropy": cross_entropy}


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
