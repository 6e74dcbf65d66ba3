"""STDC's detail loss: early maps learn where classes meet, so that no branch of its own has to keep details."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from training.data.spec import VOID_ID
from training.losses.regions import image_normaliser

STRIDES = (1, 2, 4)  # of the Laplacian
WEIGHTS = (0.6, 0.3, 0.1)  # what each stride's map weighs, the authors' constants
THRESHOLD = 0.1


def detail(
    outputs: Mapping[str, tf.Tensor],
    labels: tf.Tensor,
    class_weights: Sequence[float] | None = None,
    *,
    seed: tf.Tensor | Sequence[int] = (0, 0),
    smooth: float = 1.0,
) -> tf.Tensor:
    """Binary cross-entropy plus dice loss of "detail_logits" (B, H, W, 1) against `detail_truth`, the mean over images.

    Fan et al. 2021 (arXiv:2104.13188), equations 2 and 3; dice is 1 - (2 sum(p g) + smooth) / (sum(p^2) + sum(g^2) +
    smooth) with p the sigmoid and g the truth. `labels` (B, H, W) integers, 255 ignored: void pixels count in neither.
    For use beside a loss of the logits: `ohem+detail`. Deviation: the cross-entropy is a mean over each image's own
    pixels and then over images, so that an image with much void weighs as much as another.
    """
    counted = tf.cast(labels != VOID_ID, tf.float32)
    logits = tf.cast(outputs["detail_logits"], tf.float32)[..., 0]
    truth = tf.cast(detail_truth(labels), tf.float32) * counted
    found = tf.sigmoid(logits) * counted
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=truth, logits=logits) * counted
    entropy = tf.math.divide_no_nan(_sum(entropy), _sum(counted))
    dice = 1.0 - (2.0 * _sum(found * truth) + smooth) / (_sum(found**2) + _sum(truth**2) + smooth)
    dice *= tf.cast(_sum(counted) > 0, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(entropy + dice), image_normaliser({}, labels, None))


def detail_truth(labels: tf.Tensor) -> tf.Tensor:
    """Where the label map has details, bool (B, H, W): section 3.4, as mmsegmentation's STDCHead has it.

    A Laplacian of the ids at three strides, brought to full size by nearest neighbour, is a detail where it is above
    THRESHOLD, and so is the weighted sum of the three. Ids are numbers here: of two classes that meet, the larger id is
    marked, on the crop's edge too, and void beside a pixel hides it, as in theirs.
    """
    ids = tf.cast(labels, tf.float32)[..., None]
    kernel = tf.constant([[-1.0, -1.0, -1.0], [-1.0, 8.0, -1.0], [-1.0, -1.0, -1.0]])[..., None, None]
    padded = tf.pad(ids, [[0, 0], [1, 1], [1, 1], [0, 0]])
    size = tf.shape(labels)[1:3]
    total = tf.zeros_like(ids)
    for stride, weight in zip(STRIDES, WEIGHTS, strict=True):
        edges = tf.nn.conv2d(padded, kernel, strides=stride, padding="VALID")
        edges = tf.cast(_nearest(edges, size) > THRESHOLD, tf.float32)
        total += weight * edges
    return total[..., 0] > THRESHOLD


def _nearest(x: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """(B, h, w, 1) -> (B, H, W, 1): position i takes what stands at floor(i * h / H), as in PyTorch."""
    for axis in (1, 2):
        index = tf.range(size[axis - 1]) * tf.shape(x)[axis] // size[axis - 1]
        x = tf.gather(x, index, axis=axis)
    return x


def _sum(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(x, axis=(1, 2))
