"""Losses that are a mean over pixels: 255 is no pixel of theirs. Whatever the logits' dtype, they count in float32."""

from collections.abc import Sequence

import tensorflow as tf

from training.data.spec import IGNORE_ID


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
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=_ids(labels), logits=logits)
    weight = pixel_weights(labels, class_weights)
    return tf.math.divide_no_nan(tf.reduce_sum(loss * weight), tf.reduce_sum(weight))


def pixel_weights(labels: tf.Tensor, class_weights: Sequence[float] | None) -> tf.Tensor:
    """What each pixel weighs, like labels but float32: its class's weight, 1 without weights, 0 where it is void."""
    weight = tf.cast(labels != IGNORE_ID, tf.float32)
    if class_weights is not None:
        weight *= tf.gather(tf.constant(class_weights, tf.float32), _ids(labels))
    return weight


def pixel_share(
    outputs: dict[str, tf.Tensor], labels: tf.Tensor, class_weights: Sequence[float] | None
) -> tf.Tensor:
    """The sum of the pixels' weights."""
    return tf.reduce_sum(pixel_weights(labels, class_weights))


def _ids(labels: tf.Tensor) -> tf.Tensor:
    """Labels as int32, class 0 for void: such a pixel is to weigh nothing."""
    return tf.where(labels == IGNORE_ID, 0, tf.cast(labels, tf.int32))
