"""Losses that are a mean over pixels: 255 is no pixel of theirs. Whatever the logits' dtype, they count in float32."""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from training.data.spec import VOID_ID

SMALLEST = 1e-7  # of 1 - p under an exponent below 1, whose slope at 0 is infinite


def cross_entropy(
    outputs: Mapping[str, tf.Tensor],
    labels: tf.Tensor,
    class_weights: Sequence[float] | None = None,
    *,
    seed: tf.Tensor | Sequence[int] = (0, 0),
    label_smoothing: float = 0.0,
) -> tf.Tensor:
    """Pixel-wise cross-entropy, the mean over the pixels that count; 0 where none does.

    `outputs["logits"]` (B, H, W, C); `labels` (B, H, W) integers, 255 ignored. With `class_weights` (C floats) the
    mean is the weighted one, divided by the sum of the weights, as PyTorch's is. `label_smoothing` 0..1 is the share
    of the target that is spread over all classes alike (Szegedy et al. 2016, arXiv:1512.00567, section 7); where
    classes weigh, each class's part of it does too, as in PyTorch. Nothing is random.
    """
    weight = pixel_weights(labels, class_weights)
    loss = weight * log_loss(outputs, labels)
    if label_smoothing:
        spread = -tf.nn.log_softmax(tf.cast(outputs["logits"], tf.float32))
        if class_weights is not None:
            spread *= tf.constant(class_weights, tf.float32)
        spread = tf.where(labels == VOID_ID, 0.0, tf.reduce_mean(spread, axis=-1))
        loss = (1.0 - label_smoothing) * loss + label_smoothing * spread
    return tf.math.divide_no_nan(tf.reduce_sum(loss), tf.reduce_sum(weight))


def ohem(
    outputs: Mapping[str, tf.Tensor],
    labels: tf.Tensor,
    class_weights: Sequence[float] | None = None,
    *,
    seed: tf.Tensor | Sequence[int] = (0, 0),
    thresh: float = 0.7,
    min_kept: float = 0.0625,
) -> tf.Tensor:
    """Cross-entropy of the hard pixels only: those whose own class has a probability below `thresh`, and at least
    about `min_kept` of each image (Shrivastava et al. 2016, arXiv:1604.03540; mmsegmentation's OHEMPixelSampler).

    An image keeps the pixels below the larger of `thresh` and its probability number `min_kept` (from 0) in rising
    order. `min_kept` is a number of pixels, or below 1 a share of the image's counted ones; `thresh` 0 keeps those
    hardest alone. The sum is divided by the weights of all counted pixels, kept or not, as mmsegmentation's is with
    avg_non_ignore. Inputs and weights as of cross_entropy; 0 where nothing counts.

    Deviations: the threshold is each image's own, where theirs is one for the batch on a device, so that it does
    not depend on what lies beside an image; `min_kept` has a default that follows the size of the crop (theirs,
    100,000, keeps all of a small one); without a threshold theirs orders pixels by their weighted losses.
    """
    loss = log_loss(outputs, labels)
    weight = pixel_weights(labels, class_weights)
    kept = tf.cast(hard_pixels(loss, labels != VOID_ID, thresh, min_kept), tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(loss * weight * kept), tf.reduce_sum(weight))


def hard_pixels(loss: tf.Tensor, counted: tf.Tensor, thresh: float, min_kept: float) -> tf.Tensor:
    """Which pixels `ohem` keeps of those that are counted, bool (B, H, W); `loss` is what `log_loss` gives."""
    wanted = _kept(tf.math.count_nonzero(counted, axis=(1, 2), dtype=tf.int32), min_kept)  # (B,)
    probability = tf.where(counted, tf.exp(-tf.stop_gradient(loss)), 2.0)  # void comes last
    flat = tf.reshape(probability, [tf.shape(loss)[0], -1])  # (B, H x W)
    rising = -tf.math.top_k(-flat, tf.reduce_max(wanted) + 1).values
    limit = tf.maximum(tf.gather(rising, wanted, batch_dims=1), thresh)[:, None, None]
    return counted & (probability < limit)


def _kept(pixels: tf.Tensor, min_kept: float) -> tf.Tensor:
    """The place, from 0, of the probability below which an image of so many counted pixels keeps all."""
    if min_kept < 1:
        wanted = tf.cast(min_kept * tf.cast(pixels, tf.float32), tf.int32)
    else:
        wanted = tf.fill(tf.shape(pixels), int(min_kept))
    return tf.maximum(tf.minimum(wanted, pixels - 1), 0)


def focal(
    outputs: Mapping[str, tf.Tensor],
    labels: tf.Tensor,
    class_weights: Sequence[float] | None = None,
    *,
    seed: tf.Tensor | Sequence[int] = (0, 0),
    gamma: float = 2.0,
) -> tf.Tensor:
    """-(1 - p)^gamma log p, p the softmax's probability of a pixel's own class: what is easy counts for little.

    Lin et al. 2017 (arXiv:1708.02002), equation 4, with the softmax in place of the sigmoid, as Keras'
    CategoricalFocalCrossentropy has it; `class_weights` are its alpha. `gamma` 0 is cross-entropy. Inputs, mean and
    weights as of cross_entropy. Deviation: for 0 < gamma < 1 there is no slope where 1 - p is below 1e-7.
    """
    loss = log_loss(outputs, labels)
    weight = pixel_weights(labels, class_weights)
    modulated = _power(-tf.math.expm1(-loss), gamma) * loss
    return tf.math.divide_no_nan(tf.reduce_sum(modulated * weight), tf.reduce_sum(weight))


def sigmoid_focal(
    outputs: Mapping[str, tf.Tensor],
    labels: tf.Tensor,
    class_weights: Sequence[float] | None = None,
    *,
    seed: tf.Tensor | Sequence[int] = (0, 0),
    gamma: float = 2.0,
    alpha: float = 0.25,
) -> tf.Tensor:
    """Focal loss of every class against the rest by its own sigmoid (Lin et al. 2017, arXiv:1708.02002, equation 5).

    `alpha` 0..1 weighs a pixel's own class, 1 - alpha every other one. The mean over the counted pixels and their
    classes, as segmentation_models_pytorch's FocalLoss and mmsegmentation's; Lin et al. divide by the number of
    objects, which a label map has none of. Inputs as of cross_entropy, without class weights.
    """
    logits = tf.cast(outputs["logits"], tf.float32)
    own = tf.one_hot(_ids(labels), logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    margin = tf.where(own, logits, -logits)  # the sigmoid of it is the probability of what is true
    loss = _power(tf.sigmoid(-margin), gamma) * tf.nn.softplus(-margin)
    per_pixel = tf.reduce_mean(tf.where(own, alpha, 1.0 - alpha) * loss, axis=-1)
    weight = pixel_weights(labels, None)
    return tf.math.divide_no_nan(tf.reduce_sum(per_pixel * weight), tf.reduce_sum(weight))


def _power(wrong: tf.Tensor, gamma: float) -> tf.Tensor:
    return tf.maximum(wrong, SMALLEST) ** gamma if 0.0 < gamma < 1.0 else wrong**gamma


def log_loss(outputs: Mapping[str, tf.Tensor], labels: tf.Tensor) -> tf.Tensor:
    """-log p of each pixel's own class, (B, H, W) float32; what it is where a pixel is void means nothing."""
    logits = tf.cast(outputs["logits"], tf.float32)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=_ids(labels), logits=logits)


def pixel_weights(labels: tf.Tensor, class_weights: Sequence[float] | None) -> tf.Tensor:
    """What each pixel weighs, like labels but float32: its class's weight, 1 without weights, 0 where it is void."""
    weight = tf.cast(labels != VOID_ID, tf.float32)
    if class_weights is not None:
        weight *= tf.gather(tf.constant(class_weights, tf.float32), _ids(labels))
    return weight


def pixel_normaliser(
    outputs: Mapping[str, tf.Tensor], labels: tf.Tensor, class_weights: Sequence[float] | None
) -> tf.Tensor:
    """The sum of the pixels' weights."""
    return tf.reduce_sum(pixel_weights(labels, class_weights))


def _ids(labels: tf.Tensor) -> tf.Tensor:
    """Labels as int32, class 0 for void: such a pixel is to weigh nothing."""
    return tf.where(labels == VOID_ID, 0, tf.cast(labels, tf.int32))
