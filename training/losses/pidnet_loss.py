"""PIDNet's loss: where classes meet, pixels count twice, and a branch of its own learns where that is."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from training.data.spec import VOID_ID
from training.losses.pixels import hard_pixels, log_loss, pixel_weights
from training.losses.regions import image_normaliser

WIDTH = 4  # of a boundary, in pixels
# Where the pixel lies that a pixel is compared with: above, on the right, and diagonally below.
NEIGHBOURS = ((-1, 0), (0, 1), (1, 1), (1, -1))


def pidnet(
    outputs: Mapping[str, tf.Tensor],
    labels: tf.Tensor,
    class_weights: Sequence[float] | None = None,
    *,
    seed: tf.Tensor | Sequence[int] = (0, 0),
    thresh: float = 0.9,
    min_kept: float = 0.02,
    sure: float = 0.8,
    auxiliary: float = 0.4,
    boundary: float = 20.0,
) -> tf.Tensor:
    """auxiliary * l0 + boundary * l1 + l2 + l3 (Xu et al. 2023, arXiv:2206.02066, equation 8), their mean over images.

    l0 is the cross-entropy of "aux_logits", l1 the balanced binary cross-entropy of "boundary_logits" (B, H, W, 1)
    against `boundary_truth`, l2 the cross-entropy of the hard pixels of "logits" (B, H, W, C), l3 that of the hard ones
    among those where the boundary branch is more than `sure` of a boundary. Hard are the pixels of `ohem`: `thresh`
    and `min_kept` are its own, the latter 131,072 of the authors' six crops of 1024x1024. `labels` (B, H, W) integers,
    255 ignored. Of class weights l0 is a weighted mean; l2 and l3 are multiplied by them, and not divided again, as in
    the references. Where there are no "aux_logits", as in validation, l0 is 0.

    Deviations from the authors' code: each image has its own threshold, mean and balance, where theirs has one for the
    batch on a device; void pixels count in none of them, where theirs take void for no boundary.
    """
    counted = labels != VOID_ID
    weights = pixel_weights(labels, class_weights)
    loss = log_loss(outputs, labels)
    boundary_logits = tf.cast(outputs["boundary_logits"], tf.float32)[..., 0]
    near = counted & (tf.sigmoid(boundary_logits) > sure)
    total = boundary * _balanced(boundary_logits, labels)
    for pixels in (counted, near):
        hard = hard_pixels(loss, pixels, thresh, min_kept)
        total += _mean(loss * weights, tf.cast(hard, tf.float32))
    if "aux_logits" in outputs:
        total += auxiliary * _mean(log_loss({"logits": outputs["aux_logits"]}, labels), weights)
    return tf.math.divide_no_nan(tf.reduce_sum(total), image_normaliser({}, labels, None))


def boundary_truth(labels: tf.Tensor) -> tf.Tensor:
    """Where two classes meet, bool (B, H, W), drawn WIDTH pixels wide: mmsegmentation's GenerateEdge.

    A pixel is marked where one of its NEIGHBOURS is of another class, neither being void.
    """
    height, width = tf.shape(labels)[1], tf.shape(labels)[2]
    around = tf.pad(labels, [[0, 0], [1, 1], [1, 1]], constant_values=VOID_ID)
    marked = tf.zeros_like(labels, tf.bool)
    for down, right in NEIGHBOURS:
        other = around[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        marked |= (labels != other) & (other != VOID_ID)
    marked &= labels != VOID_ID
    sides = [WIDTH // 2, WIDTH - WIDTH // 2 - 1]  # as OpenCV centres an even square
    marks = tf.pad(tf.cast(marked, tf.float32), [[0, 0], sides, sides])[..., None]
    return tf.nn.max_pool2d(marks, WIDTH, strides=1, padding="VALID")[..., 0] > 0


def _mean(values: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Each image's weighted mean, (B, H, W) -> (B,); 0 where nothing weighs."""
    return tf.math.divide_no_nan(
        tf.reduce_sum(values * weight, axis=(1, 2)), tf.reduce_sum(weight, axis=(1, 2))
    )


def _balanced(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy (B,), a boundary's pixels weighing as much in all as the others'."""
    counted = tf.cast(labels != VOID_ID, tf.float32)
    truth = boundary_truth(labels)
    share = _mean(tf.cast(truth, tf.float32), counted)[:, None, None]
    weight = tf.where(truth, 1.0 - share, share)
    loss = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.cast(truth, tf.float32), logits=logits)
    return _mean(loss * weight, counted)
