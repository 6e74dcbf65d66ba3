"""ClassMix (V. Olsson, W. Tranheden, J. Pinto, L. Svensson, "ClassMix: Segmentation-Based Data Augmentation for
Semi-Supervised Learning", WACV 2021, arXiv:2007.07936, section 3): half of the classes of one image are pasted upon
another one, and so is what a teacher says of both.

Reference code: WilhelmT/ClassMix, trainSSL.py and utils/transformsgpu.py. Deviations:

- What lies outside an image, where it was turned or shrunk, is of no class: it is neither pasted nor learnt, and counts
  in the mean over all pixels as 0.
- The share of sure pixels, by which the loss is weighted, is that of each mixed image, not of the batch, so that
  the parts of a batch (micro-batches, devices) add up to the whole.
- The image beneath is the next one of the same part of the batch, there of the whole batch.
"""

from collections.abc import Sequence

import tensorflow as tf

SURE = 0.968  # a probability of the teacher's from which on a pixel counts as sure; the reference code's


def class_mask(ids: tf.Tensor, inside: tf.Tensor, seed: tf.Tensor | Sequence[int], classes: int) -> tf.Tensor:
    """Which pixels are pasted, bool (B, H, W): those of half of the classes that are there, rounded down.

    `ids` are integers (B, H, W) below `classes`, `inside` bool (B, H, W); `seed` two integers that decide which half.
    """
    there = tf.stack(
        [tf.reduce_any((ids == index) & inside, axis=(1, 2)) for index in range(classes)], axis=-1
    )  # (B, C)
    draws = tf.random.stateless_uniform(tf.shape(there), seed, alg="philox")
    order = tf.argsort(tf.where(there, draws, 2.0), axis=-1)
    rank = tf.argsort(order, axis=-1)  # 0 is that of the class with the lowest draw
    half = tf.reduce_sum(tf.cast(there, tf.int32), axis=-1, keepdims=True) // 2
    return tf.gather(rank < half, ids, batch_dims=1) & inside


def mix(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Each of `values` (B, H, W, ...) where `mask` (B, H, W) is true, elsewhere the next; of the last, the first."""
    wide = tf.reshape(mask, tf.concat([tf.shape(mask), tf.ones(tf.rank(values) - 3, tf.int32)], axis=0))
    return tf.where(wide, values, tf.roll(values, -1, axis=0))


def consistency(logits: tf.Tensor, ids: tf.Tensor, sure: tf.Tensor, inside: tf.Tensor) -> tf.Tensor:
    """The mean over all pixels of the cross-entropy with the teacher's `ids`, each image weighted by its share of
    pixels that the teacher was `sure` of; float32.

    `logits` (B, H, W, C); `ids` integers, `sure` and `inside` bool (B, H, W). Pixels that are not inside count as 0.
    """
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(ids, tf.cast(logits, tf.float32))
    counts = tf.cast(inside, tf.float32)
    shares = tf.reduce_mean(tf.cast(sure & inside, tf.float32), axis=(1, 2), keepdims=True)
    return tf.reduce_mean(shares * counts * entropy)
