"""How much each class weighs in a loss that weights classes: from how often it occurs, or as given. NumPy only."""

import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from runtime.errors import UserError
from training.data.labels.class_counts import Occurrence

PREFIX = "class_weights"  # of their options among those of the losses: class_weights.beta=0.99


def inverse_log(found: Occurrence, *, constant: float = 1.10) -> np.ndarray:
    """1 / ln(constant + p), p the class's share of the counted pixels (Paszke et al., ENet, 2016, arXiv:1606.02147,
    section 5.1, whose constant is 1.02; 1.10 bounds a weight at 10.5 where theirs reaches 50)."""
    return 1.0 / np.log(constant + found.frequencies())


def median_frequency(found: Occurrence) -> np.ndarray:
    """The median of f over f, f the class's share of the counted pixels of the images that hold it (Eigen and
    Fergus 2015, arXiv:1411.4734; SegNet's weights). A class that never occurs weighs 0."""
    frequency = _quotient(found.pixels, found.around)
    there = found.images > 0
    return _quotient(np.median(frequency[there]) if there.any() else 0.0, frequency)


def effective_number(found: Occurrence, *, beta: float = 0.999) -> np.ndarray:
    """(1 - beta) / (1 - beta^n), scaled to a mean of 1 over the classes that occur (Cui et al. 2019,
    arXiv:1901.05555, whose weights sum to the number of classes). A class that never occurs weighs 0.

    n is the number of images that hold the class, not of its pixels, which repeat one another: over the millions
    of pixels of a class every beta of the paper (0.9 to 0.9999) gives all classes one weight.
    """
    weights = _quotient(1.0 - beta, 1.0 - beta**found.images)
    there = found.images > 0
    return weights / weights[there].mean() if there.any() else weights


def _quotient(above: Any, below: np.ndarray) -> np.ndarray:
    """above / below, 0 where below is."""
    return np.divide(above, below, out=np.zeros(len(below)), where=below > 0)


# From how often each class occurs to its weight. "none", and numbers such as 0.5,1,2, need no counting.
CLASS_WEIGHTS: dict[str, Callable[..., np.ndarray]] = {
    "inverse_log": inverse_log,
    "median_frequency": median_frequency,
    "effective_number": effective_number,
}
# What each of their options lies between.
OPTIONS: dict[str, dict[str, tuple[float, float]]] = {
    "inverse_log": {"constant": (1.0001, 100.0)},
    "effective_number": {"beta": (0.0, 1.0 - 1e-12)},
}


def check_class_weights(asked: str, options: Mapping[str, Any], classes: Sequence[str] = ()) -> None:
    """Raise UserError, one sentence, when `--class-weights` is no name and no list of numbers, one a class (if the
    classes are known yet), or when `options`, the losses' own, hold one that it does not take."""
    taken = OPTIONS.get(asked, {})
    for key, value in options.items():
        prefix, _, name = key.rpartition(".")
        if prefix == PREFIX and name not in taken:
            takes = f"it takes {', '.join(taken)}" if taken else "it takes none"
            raise UserError(f"--class-weights {asked} has no option '{name}': {takes}")
        if prefix == PREFIX and not (_is_number(value) and taken[name][0] <= value <= taken[name][1]):
            low, high = taken[name]
            raise UserError(f"the option {key} is {value}: it must lie in {low:g} to {high:.12g}")
    if asked == "none" or asked in CLASS_WEIGHTS:
        return
    weights = _given(asked)
    if classes and len(weights) != len(classes):
        raise UserError(
            f"--class-weights has {len(weights)} numbers, but there are {len(classes)} classes: give one each for "
            f"{', '.join(classes)}"
        )


def _given(asked: str) -> list[float]:
    """0.5,1,2 -> numbers."""
    try:
        weights = [float(part) for part in asked.split(",")]
    except ValueError:
        known = ["none", *CLASS_WEIGHTS]
        near = get_close_matches(asked, known, 1, cutoff=0.5)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(
            f"unknown class weights '{asked}'{hint}: it must be one of {', '.join(known)}, or one number a class, "
            "such as 0.5,1,2"
        ) from None
    if not all(0.0 <= weight < math.inf for weight in weights) or not any(weights):
        raise UserError(f"--class-weights {asked}: each must be a number from 0 on, and not all of them 0")
    return weights


def class_weights(
    asked: str, options: Mapping[str, Any], classes: Sequence[str], found: Occurrence
) -> list[float] | None:
    """One weight a class, or None for `none`, from how often each occurs in the training split.

    Raises UserError as check_class_weights does.
    """
    check_class_weights(asked, options, classes)
    if asked == "none":
        return None
    if asked not in CLASS_WEIGHTS:
        return _given(asked)
    own = {
        key.removeprefix(f"{PREFIX}."): value
        for key, value in options.items()
        if key.startswith(f"{PREFIX}.")
    }
    return CLASS_WEIGHTS[asked](found.of(len(classes)), **own).tolist()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
