"""Losses of how well each class's region is covered: one number a class and image, the mean over both.

Every function here takes `outputs["logits"]` (B, H, W, C), counted in float32, and `labels` (B, H, W) integers with
255 for void, which is left out of every sum. A class that is not in an image's label map has no region there, and
is left out of that image's mean; an image that is all void is left out of the batch's. 0 where nothing counts.

One deviation from all references is common to them: segmentation_models_pytorch and mmsegmentation sum a region over
the batch of a device by default; here an image counts for itself, as under Lovász' `per_image`, so that the loss of
a batch does not depend on how it is spread over devices. For one image at a time they are the same.
"""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from training.data.spec import VOID_ID


def tversky(
    outputs: Mapping[str, tf.Tensor],
    labels: tf.Tensor,
    class_weights: Sequence[float] | None = None,
    *,
    seed: tf.Tensor | Sequence[int] = (0, 0),
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 0.0,
) -> tf.Tensor:
    """1 - TP / (TP + alpha FP + beta FN), of softmax probabilities (Salehi et al. 2017, arXiv:1706.05721, equation 3).

    `alpha` weighs what is wrongly in a region, `beta` what is missing. `smooth` is added above and below the line.
    The defaults are the paper's best. Deviation: the absent classes, which mmsegmentation counts with a score near
    0 and segmentation_models_pytorch as learnt, are left out.
    """
    probabilities, truth = _regions(outputs, labels)
    hit = tf.reduce_sum(probabilities * truth, axis=(1, 2))  # (B, C)
    size = tf.reduce_sum(truth, axis=(1, 2))
    false = tf.reduce_sum(probabilities, axis=(1, 2)) - hit
    score = tf.math.divide_no_nan(hit + smooth, hit + alpha * false + beta * (size - hit) + smooth)
    return image_mean(1.0 - score, size > 0, labels)


def dice(
    outputs: Mapping[str, tf.Tensor],
    labels: tf.Tensor,
    class_weights: Sequence[float] | None = None,
    *,
    seed: tf.Tensor | Sequence[int] = (0, 0),
    smooth: float = 0.0,
) -> tf.Tensor:
    """1 - 2 TP / (2 TP + FP + FN), of softmax probabilities: Dice loss, the Tversky loss that weighs both errors alike.

    Milletari et al. 2016 (arXiv:1606.04797), with plain sums below the line, as Sudre et al. 2017
    (arXiv:1707.03237) and segmentation_models_pytorch have them, where theirs are of squares. `smooth` as of Tversky,
    in the units of one of the two regions that dice adds.
    """
    return tversky(outputs, labels, alpha=0.5, beta=0.5, smooth=0.5 * smooth)


def lovasz(
    outputs: Mapping[str, tf.Tensor],
    labels: tf.Tensor,
    class_weights: Sequence[float] | None = None,
    *,
    seed: tf.Tensor | Sequence[int] = (0, 0),
) -> tf.Tensor:
    """Lovász-softmax: the extension of 1 - IoU from sets of wrong pixels to their softmax errors, a class at a time.

    Berman et al. 2018 (arXiv:1705.08790), the Lovász-Softmax loss and algorithm 1, over the classes that are present,
    an image at a time. Sorts every image's pixels once a class.
    """
    probabilities, truth = _regions(outputs, labels)
    counted = tf.cast(labels != VOID_ID, tf.float32)[..., None]
    # Void has an error of -1: it is sorted behind every pixel that counts, and the ramp below gives it no slope.
    errors = tf.abs(truth - probabilities) - (1.0 - counted)
    errors, truth = _pixels_last(errors), _pixels_last(truth)  # (B, C, H x W)
    falling, order = tf.math.top_k(errors, tf.shape(errors)[-1])
    slope = tf.stop_gradient(_jaccard_slope(tf.gather(truth, order, batch_dims=2)))
    loss = tf.reduce_sum(tf.nn.relu(falling) * slope, axis=-1)  # (B, C)
    return image_mean(loss, tf.reduce_any(truth > 0, axis=-1), labels)


def _jaccard_slope(truth: tf.Tensor) -> tf.Tensor:
    """What each pixel, in falling order of error, adds to 1 - IoU when it becomes wrong too (algorithm 1)."""
    size = tf.reduce_sum(truth, axis=-1, keepdims=True)
    intersection = size - tf.cumsum(truth, axis=-1)
    union = size + tf.cumsum(1.0 - truth, axis=-1)
    distance = 1.0 - intersection / tf.maximum(union, 1.0)
    return distance - tf.pad(distance, [[0, 0], [0, 0], [1, 0]])[..., :-1]


def _pixels_last(x: tf.Tensor) -> tf.Tensor:
    """(B, H, W, C) -> (B, C, H x W)."""
    return tf.reshape(tf.transpose(x, [0, 3, 1, 2]), [tf.shape(x)[0], x.shape[-1], -1])


def _regions(outputs: Mapping[str, tf.Tensor], labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Probabilities and truth, (B, H, W, C) float32, both 0 where a pixel is void."""
    probabilities = tf.nn.softmax(tf.cast(outputs["logits"], tf.float32))
    counted = tf.cast(labels != VOID_ID, tf.float32)[..., None]
    return probabilities * counted, one_hot(labels, probabilities.shape[-1])


def one_hot(labels: tf.Tensor, classes: int) -> tf.Tensor:
    """(B, H, W, C) float32, all 0 where a pixel is void: 255 lies beyond the classes."""
    return tf.one_hot(tf.cast(labels, tf.int32), classes)


def image_mean(loss: tf.Tensor, there: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Losses (B, C), of the classes that are there, bool (B, C): each image's mean, and of those the mean."""
    weight = tf.cast(there, tf.float32)
    each = tf.math.divide_no_nan(tf.reduce_sum(loss * weight, axis=1), tf.reduce_sum(weight, axis=1))
    return tf.math.divide_no_nan(tf.reduce_sum(each), image_normaliser({}, labels, None))


def image_normaliser(
    outputs: Mapping[str, tf.Tensor], labels: tf.Tensor, class_weights: Sequence[float] | None
) -> tf.Tensor:
    """The number of images that have a pixel that counts."""
    return tf.reduce_sum(tf.cast(tf.reduce_any(labels != VOID_ID, axis=(1, 2)), tf.float32))
