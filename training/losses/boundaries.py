"""A loss of where classes meet: how far the outlines in prediction and truth are from each other."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from training.data.spec import VOID_ID
from training.losses.regions import image_mean, one_hot

EPSILON = 1e-7


def boundary(
    outputs: Mapping[str, tf.Tensor],
    labels: tf.Tensor,
    class_weights: Sequence[float] | None = None,
    *,
    seed: tf.Tensor | Sequence[int] = (0, 0),
    width: int = 1,
    reach: int = 2,
) -> tf.Tensor:
    """1 - the boundary F1 of softmax probabilities (Bokhovkin and Burnaev 2019, arXiv:1905.07852).

    `outputs["logits"]` (B, H, W, C), counted in float32; `labels` (B, H, W) integers, 255 ignored. A class's boundary
    is what a maximum over a window finds of the others beside it, `width` pixels deep; precision and recall are how
    much of the predicted boundary lies within `reach` pixels of the true one, and the other way round. (The paper's
    windows are theta_0 = 2 width + 1 and theta = 2 reach + 1, 3 and 5 here.) For use beside a loss that knows regions:
    `ce+0.5*boundary`. The mean over the classes that have a boundary in an image, and over the images that have
    a pixel that counts; an image of one class has no boundary and costs 0.

    Void is no neighbour: a class has no boundary against it, nor against the image's edge. Deviation: none else; the
    paper leaves open what to do about void and about classes that are absent.
    """
    counted = tf.cast(labels != VOID_ID, tf.float32)[..., None]
    probabilities = tf.nn.softmax(tf.cast(outputs["logits"], tf.float32))
    truth = one_hot(labels, probabilities.shape[-1])
    found = _edges(probabilities, counted, width)  # (B, H, W, C)
    true = tf.stop_gradient(_edges(truth, counted, width))
    precision = _share_near(found, _widened(true, reach))
    recall = _share_near(true, _widened(found, reach))
    f1 = 2.0 * precision * recall / (precision + recall + EPSILON)  # (B, C)
    return image_mean(1.0 - f1, tf.reduce_any(true > 0, axis=(1, 2)), labels)


def _edges(inside: tf.Tensor, counted: tf.Tensor, width: int) -> tf.Tensor:
    """Where a class, (B, H, W, C) in 0..1, is less sure of itself nearby: pool(1 - y) - (1 - y), 0 in void."""
    outside = (1.0 - inside) * counted
    return (_widened(outside, width) - outside) * counted


def _widened(x: tf.Tensor, by: int) -> tf.Tensor:
    """The maximum over the pixels at most `by` rows and columns away."""
    return tf.nn.max_pool2d(x, 2 * by + 1, strides=1, padding="SAME")


def _share_near(edges: tf.Tensor, near: tf.Tensor) -> tf.Tensor:
    """How much of the edges is near, (B, C) in 0..1."""
    return tf.reduce_sum(edges * near, axis=(1, 2)) / (tf.reduce_sum(edges, axis=(1, 2)) + EPSILON)
