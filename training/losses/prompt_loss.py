"""SAM's loss (Kirillov et al. 2023, arXiv:2304.02643, section 3 and appendix A): mask loss and IoU loss.

Targets are those of `training.engine.prompts.prepare`. The loss of a mask is 20 times focal loss (Lin et al. 2017,
alpha 0.25, gamma 2) plus dice loss (Milletari et al. 2016). A prompt of one element may mean several things: of its
three masks only the one with the least loss is trained. A prompt of several elements trains the single mask. The IoU
that the model expects of each of the masks that a prompt trains among is pulled to the one that it has, by mean squared
error.
"""

from collections.abc import Sequence

import tensorflow as tf

from training.data.spec import VOID_ID

FOCAL_WEIGHT, DICE_WEIGHT, IOU_WEIGHT = 20.0, 1.0, 1.0
ALPHA, GAMMA = 0.25, 2.0


def sam(
    outputs: dict[str, tf.Tensor],
    labels: dict[str, tf.Tensor],
    class_weights: Sequence[float] | None = None,
    *,
    seed: tf.Tensor | Sequence[int] = (0, 0),
) -> tf.Tensor:
    """The mean over the prompts that have a pixel that counts; 0 where none has. Nothing is random.

    `outputs`: masks (B, N, 3, h, w), iou (B, N, 3), single_mask (B, N, 1, h, w), single_iou (B, N, 1), float32.
    `labels`: region (B, N, h, w) with 1 inside, 0 outside and 255 where nothing counts; several (B, N) bool.
    """
    outputs = {key: tf.cast(value, tf.float32) for key, value in outputs.items()}
    region, several = labels["region"], labels["several"]
    counted = tf.cast(region != VOID_ID, tf.float32)[:, :, None]  # (B, N, 1, h, w)
    inside = tf.cast(region == 1, tf.float32)[:, :, None]
    three, three_iou = mask_loss(outputs["masks"], inside, counted), _iou(outputs["masks"], inside, counted)
    one, one_iou = (
        mask_loss(outputs["single_mask"], inside, counted),
        _iou(outputs["single_mask"], inside, counted),
    )
    of_three = tf.reduce_min(three, -1) + IOU_WEIGHT * _mean_square(outputs["iou"], three_iou)
    of_one = tf.reduce_min(one, -1) + IOU_WEIGHT * _mean_square(outputs["single_iou"], one_iou)
    loss = tf.where(several, of_one, of_three)  # (B, N)
    weight = _counted(region)
    return tf.math.divide_no_nan(tf.reduce_sum(loss * weight), tf.reduce_sum(weight))


def prompt_normaliser(
    outputs: dict[str, tf.Tensor], labels: dict[str, tf.Tensor], class_weights: Sequence[float] | None
) -> tf.Tensor:
    """The number of prompts that have a pixel that counts."""
    return tf.reduce_sum(_counted(labels["region"]))


def _counted(region: tf.Tensor) -> tf.Tensor:
    """1 for a prompt that has a pixel that counts, else 0: (B, N, h, w) -> (B, N) float32."""
    return tf.cast(tf.reduce_any(region != VOID_ID, axis=(2, 3)), tf.float32)


def mask_loss(logits: tf.Tensor, inside: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
    """20 focal + 1 dice of each mask: logits (B, N, M, h, w) and 0 or 1 (B, N, 1, h, w) -> (B, N, M)."""
    share = tf.sigmoid(logits)
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(
        labels=inside + tf.zeros_like(logits), logits=logits
    )
    wrong = inside * (1.0 - share) + (1.0 - inside) * share
    balance = ALPHA * inside + (1.0 - ALPHA) * (1.0 - inside)
    focal = _sum(balance * wrong**GAMMA * cross_entropy * counted) / tf.maximum(_sum(counted), 1.0)
    overlap = _sum(share * inside * counted)
    total = _sum(share * counted) + _sum(inside * counted)
    dice = 1.0 - (2.0 * overlap + 1.0) / (total + 1.0)
    return FOCAL_WEIGHT * focal + DICE_WEIGHT * dice


def _iou(logits: tf.Tensor, inside: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
    """The IoU of each thresholded mask with the region, (B, N, M); no gradient goes through."""
    mask = tf.cast(logits > 0, tf.float32) * counted
    overlap, union = _sum(mask * inside), _sum(tf.maximum(mask, inside * counted))
    return tf.stop_gradient(tf.math.divide_no_nan(overlap, union))


def _mean_square(expected: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean((expected - found) ** 2, -1)


def _sum(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(x, axis=(3, 4))
