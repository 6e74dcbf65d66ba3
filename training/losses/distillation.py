"""Knowledge distillation: what a trained model, the teacher, makes of the same images is learnt too."""

from collections.abc import Sequence

import tensorflow as tf

from training.losses.pixels import pixel_weights


def distillation(
    outputs: dict[str, tf.Tensor],
    labels: tf.Tensor,
    class_weights: Sequence[float] | None = None,
    *,
    seed: tf.Tensor | Sequence[int] = (0, 0),
    temperature: float = 1.0,
) -> tf.Tensor:
    """T^2 KL(teacher || student) of each pixel's classes, both softened by the temperature T; the mean over the pixels
    that count, 0 where none does (Hinton et al. 2015, arXiv:1503.02531, section 2; pixel by pixel as in Liu et al.
    2019, arXiv:1903.04197, section 3.1, with T = 1).

    `outputs["logits"]` and `outputs["teacher_logits"]`, (B, H, W, C), count in float32; the step follows no gradient
    into the teacher. T^2 keeps the gradient at the size of the other losses' whatever T is. `labels` (B, H, W), 255
    void.
    Deviation: Hinton's cross-entropy with the softened teacher is less its entropy here, which no weight changes.
    """
    student = tf.nn.log_softmax(tf.cast(outputs["logits"], tf.float32) / temperature)
    teacher = tf.nn.log_softmax(tf.cast(outputs["teacher_logits"], tf.float32) / temperature)
    divergence = tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)
    weight = pixel_weights(labels, None)
    mean = tf.math.divide_no_nan(tf.reduce_sum(divergence * weight), tf.reduce_sum(weight))
    return temperature**2 * mean
