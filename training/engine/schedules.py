"""Learning-rate schedules: plain functions of how far the run is, in a literal table. Each gives a factor of the rate.

`progress` is 0 at the first step after warm-up and 1 after the last one; `floor` is the factor that a decay ends at.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from runtime.errors import UserError


def poly(progress: tf.Tensor, *, power: float = 0.9, floor: float = 0.0) -> tf.Tensor:
    """(1 - t)^power, 0.9 as in DeepLab (Chen et al. 2017, section 4)."""
    return floor + (1.0 - floor) * (1.0 - progress) ** power


def linear(progress: tf.Tensor, *, floor: float = 0.0) -> tf.Tensor:
    """1 - t, as in SegFormer (Xie et al. 2021, section 4.1: poly with the power 1)."""
    return floor + (1.0 - floor) * (1.0 - progress)


def cosine(progress: tf.Tensor, *, floor: float = 0.0) -> tf.Tensor:
    """Half a cosine (Loshchilov and Hutter, SGDR, 2017, eq. 5, one period)."""
    return floor + (1.0 - floor) * 0.5 * (1.0 + tf.cos(progress * math.pi))


def step(
    progress: tf.Tensor, *, milestones: float | Sequence[float] = (0.6, 0.8), gamma: float = 0.1
) -> tf.Tensor:
    """gamma to the power of the milestones passed (He et al. 2016, section 4.2; torch's MultiStepLR).

    A milestone is a share of the schedule, 0..1, so that it stays in place when --epochs changes.
    """
    passed = tf.zeros_like(progress)
    for milestone in _several(milestones):
        passed += tf.cast(progress >= milestone - ROUNDING, progress.dtype)
    return gamma**passed


def one_cycle(
    progress: tf.Tensor,
    *,
    peak: float = 0.3,
    start: float = 0.04,
    end: float = 4e-6,
    shape: str = "cosine",
    three_phases: bool = False,
) -> tf.Tensor:
    """From `start` to 1 at `peak` of the schedule, then to `end` (Smith and Topin 2018, arXiv:1708.07120, section 3).

    The defaults are those of torch's OneCycleLR: `start` is 1 / div_factor, `end` that over final_div_factor.
    `three_phases` comes down to `start` as slowly as it went up and then goes on to `end`; with `shape=linear` that
    is the paper's own cycle. Deviation: the optimizer's momentum does not run against the rate.
    """
    knots = [(0.0, start), (peak, 1.0), *([(2.0 * peak, start)] if three_phases else []), (1.0, end)]
    factor = tf.fill(tf.shape(progress), start)
    for (begin, low), (stop, high) in zip(knots, knots[1:], strict=False):
        way = tf.clip_by_value((progress - begin) / max(stop - begin, ROUNDING), 0.0, 1.0)
        if shape == "cosine":
            way = 0.5 * (1.0 - tf.cos(way * math.pi))
        factor = tf.where(progress >= begin, low + (high - low) * way, factor)
    return factor


def constant(progress: tf.Tensor) -> tf.Tensor:
    """Always 1."""
    return tf.ones_like(progress)


ROUNDING = 1e-6  # of progress in float32: the step at a milestone is past it

SCHEDULES: dict[str, Callable[..., Any]] = {
    "poly": poly,
    "linear": linear,
    "cosine": cosine,
    "step": step,
    "one_cycle": one_cycle,
    "constant": constant,
}
# What every number of an option lies between.
_BOUNDS: dict[str, tuple[float, float]] = {
    "power": (0.01, 100.0),
    "floor": (0.0, 1.0),
    "milestones": (0.0, 1.0),
    "gamma": (1e-6, 1.0),
    "peak": (0.0, 1.0),
    "start": (1e-9, 1.0),
    "end": (0.0, 1.0),
}
_CHOICES: dict[str, tuple[Any, ...]] = {"shape": ("cosine", "linear"), "three_phases": (True, False)}


def check(name: str, options: Mapping[str, Any]) -> None:
    """Raise UserError, one sentence, when the schedule does not take these options or these values."""
    known = [option for option in inspect.signature(SCHEDULES[name]).parameters if option != "progress"]
    for option, value in options.items():
        if option not in known:
            raise UserError(
                f"the schedule {name} has no option {option}: it takes {', '.join(known) or 'none'}"
            )
        if option in _CHOICES:
            if value not in _CHOICES[option]:
                choices = " or ".join(str(choice).lower() for choice in _CHOICES[option])
                raise UserError(f"--schedule-set {option} is {value}: it must be {choices}")
            continue
        low, high = _BOUNDS[option]
        for number in _several(value) if option == "milestones" else (value,):
            if not _is_number(number) or not low <= number <= high:
                raise UserError(f"--schedule-set {option} is {value}: it must lie in {low:g} to {high:g}")
    if options.get("three_phases") and options.get("peak", 0.3) > 0.5:
        raise UserError("--schedule-set three_phases goes up and down alike: its peak must lie in 0 to 0.5")


def learning_rate(
    name: str, step: tf.Tensor, *, base: float, warmup: int, steps: int, options: Mapping[str, Any]
) -> tf.Tensor:
    """Linear warm-up over `warmup` steps to the schedule's first rate, then the schedule over the rest of `steps`.

    Step 0 takes 1 / warmup of that rate and not none (mmengine's LinearLR with that start_factor).
    """
    position = tf.cast(step, tf.float32)
    factor = SCHEDULES[name]
    progress = tf.clip_by_value((position - warmup) / max(1, steps - warmup), 0.0, 1.0)
    first = factor(tf.zeros_like(progress), **options)
    warm = base * first * (position + 1.0) / max(1, warmup)
    return tf.where(position < warmup, warm, base * factor(progress, **options))


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple | list) else (value,)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
