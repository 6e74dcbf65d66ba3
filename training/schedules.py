"""Learning-rate schedules: plain functions of the step, in a literal table. Each returns a factor 0..1."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

POLY_POWER = 0.9


def poly(progress: tf.Tensor) -> tf.Tensor:
    """(1 - t)^0.9, as in DeepLab (Chen et al. 2017, section 4)."""
    return (1.0 - progress) ** POLY_POWER


def linear(progress: tf.Tensor) -> tf.Tensor:
    """1 - t, as in SegFormer (Xie et al. 2021, section 4.1: poly with the power 1)."""
    return 1.0 - progress


def cosine(progress: tf.Tensor) -> tf.Tensor:
    """Half a cosine (Loshchilov and Hutter, SGDR, 2017, eq. 5, one period)."""
    return 0.5 * (1.0 + tf.cos(progress * 3.141592653589793))


def constant(progress: tf.Tensor) -> tf.Tensor:
    return tf.ones_like(progress)


SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "poly": poly,
    "linear": linear,
    "cosine": cosine,
    "constant": constant,
}


def learning_rate(name: str, step: tf.Tensor, *, base: float, warmup: int, steps: int) -> tf.Tensor:
    """Linear warm-up over `warmup` steps to `base`, then the schedule over what is left of `steps`."""
    position = tf.cast(step, tf.float32)
    progress = tf.clip_by_value((position - warmup) / max(1, steps - warmup), 0.0, 1.0)
    rate = base * SCHEDULES[name](progress)
    return tf.where(position < warmup, base * (position + 1.0) / max(1, warmup), rate)
