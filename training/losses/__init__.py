"""Losses: plain functions in a literal table, terms that are made of them, and what a model is trained by.

A loss is a mean over something: pixels, images, masks, prompts. Its `normaliser` is how much of that a batch holds. So
a batch may be computed in parts (replicas, micro-batches): each part's mean counts by its share of the whole's, and
the parts sum to the loss of the whole batch, however unevenly void lies in it.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import tensorflow as tf

from runtime.errors import UserError
from training.losses.boundaries import boundary
from training.losses.detail import detail
from training.losses.distillation import distillation
from training.losses.mask_loss import mask2former, mask2former_normalisers
from training.losses.pidnet_loss import pidnet
from training.losses.pixels import cross_entropy, focal, ohem, pixel_normaliser, sigmoid_focal
from training.losses.prompt_loss import prompt_normaliser, sam
from training.losses.regions import dice, image_normaliser, lovasz, tversky
from training.losses.weighting import CLASS_WEIGHTS, check_class_weights, class_weights
from training.losses.weighting import PREFIX as CLASS_WEIGHTS_PREFIX

__all__ = [
    "ALIASES",
    "CLASS_WEIGHTS",
    "LOSSES",
    "MODEL_LOSSES",
    "Loss",
    "Term",
    "check",
    "check_class_weights",
    "class_weights",
    "main_outputs",
    "parse",
    "normalisers",
    "training_loss",
    "validation_loss",
    "written",
]


class Loss(NamedTuple):
    """A row of LOSSES.

    `function(outputs, labels, class_weights, *, seed, **options)` gives the mean over what this batch holds, float32:
    a scalar, or a vector of parts that sum to the loss where each part is a mean over something else. `outputs` is
    the model's dict, `labels` (B, H, W) integers with 255 for void (SAM has its own), `class_weights` C floats or
    None, `seed` two integers that decide whatever is drawn at random: the step gives other ones at every step and
    on every replica, and the same ones again after a resume.
    `reads`: the keys of `outputs` that it needs. `weighted`: whether class weights mean something to it.
    `normaliser(outputs, labels, class_weights)`: what that mean was taken over, float32, a scalar or one value a part;
    of `outputs` it reads static shapes only, so that `model.output` will do. 0 where nothing counts.
    `options`: the function's own options, each with the lowest and the highest value that it may have.
    """

    function: Callable[..., tf.Tensor]
    reads: tuple[str, ...]
    weighted: bool
    normaliser: Callable[..., tf.Tensor]
    options: dict[str, tuple[float, float]] = {}


LOGITS = ("logits",)  # such a loss is taken of every auxiliary head too

LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(cross_entropy, LOGITS, True, pixel_normaliser, {"label_smoothing": (0.0, 1.0)}),
    "ohem": Loss(ohem, LOGITS, True, pixel_normaliser, {"thresh": (0.0, 1.0), "min_kept": (0.0, 1e9)}),
    "focal": Loss(focal, LOGITS, True, pixel_normaliser, {"gamma": (0.0, 20.0)}),
    "sigmoid_focal": Loss(
        sigmoid_focal, LOGITS, False, pixel_normaliser, {"gamma": (0.0, 20.0), "alpha": (0.0, 1.0)}
    ),
    "dice": Loss(dice, LOGITS, False, image_normaliser, {"smooth": (0.0, 1e6)}),
    "tversky": Loss(
        tversky,
        LOGITS,
        False,
        image_normaliser,
        {"alpha": (0.0, 10.0), "beta": (0.01, 10.0), "smooth": (0.0, 1e6)},
    ),
    "lovasz": Loss(lovasz, LOGITS, False, image_normaliser),
    "boundary": Loss(boundary, LOGITS, False, image_normaliser, {"width": (1, 15), "reach": (0, 63)}),
    "pidnet": Loss(
        pidnet,
        ("logits", "boundary_logits"),
        True,
        image_normaliser,
        {
            "thresh": (0.0, 1.0),
            "min_kept": (0.0, 1e9),
            "sure": (0.0, 1.0),
            "auxiliary": (0.0, 1e3),
            "boundary": (0.0, 1e3),
        },
    ),
    "detail": Loss(detail, ("detail_logits",), False, image_normaliser, {"smooth": (0.0, 1e6)}),
    "mask2former": Loss(
        mask2former, ("query_logits", "mask_logits"), False, mask2former_normalisers, {"points": (1, 10**6)}
    ),
    "sam": Loss(sam, ("masks", "iou", "single_mask", "single_iou"), False, prompt_normaliser),
    # A step with a teacher adds this term itself (--teacher-weight, --teacher-temperature).
    "distillation": Loss(
        distillation, ("logits", "teacher_logits"), False, pixel_normaliser, {"temperature": (0.01, 1000.0)}
    ),
}
ALIASES = {"ce": "cross_entropy"}
# The loss of a model that is not trained by pixel-wise cross-entropy alone.
MODEL_LOSSES = {"mask2former": "mask2former", "sam": "sam", "pidnet": "pidnet", "stdc": "ohem+detail"}


class Term(NamedTuple):
    """One summand: `weight` times the row of LOSSES called `name`, with the options that are not its defaults."""

    weight: float
    name: str
    options: dict[str, Any]

    @property
    def loss(self) -> Loss:
        return LOSSES[self.name]


def parse(text: str, options: Mapping[str, Any] | None = None) -> list[Term]:
    """`ce+0.5*dice` -> its terms. An option `dice.smooth` is that term's, `smooth` that of every term that has it.

    Raises UserError, one sentence, for a name or an option that is not there and for a value out of range.
    """
    terms: list[Term] = []
    for part in text.split("+"):
        factor, star, name = part.rpartition("*")
        weight = _weight(factor, part) if star else 1.0
        name = _known(name.strip())
        if name in [term.name for term in terms]:
            raise UserError(f"the loss {text} names {name} twice: give it once, with the sum of both weights")
        terms.append(Term(weight, name, {}))
    for key, value in sorted(
        (options or {}).items(), key=lambda item: "." in item[0]
    ):  # dice.smooth over smooth
        _give(terms, key, value)
    return terms


def _known(name: str) -> str:
    name = ALIASES.get(name, name)
    if name not in LOSSES:
        known = [*LOSSES, *ALIASES]
        raise UserError(f"unknown loss '{name}'{_near(name, known)}: it must be one of {', '.join(known)}")
    return name


def _near(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _weight(factor: str, part: str) -> float:
    try:
        weight = float(factor)
    except ValueError:
        weight = math.nan
    if not 0.0 < weight < math.inf:
        raise UserError(f"'{part}' is not WEIGHT*LOSS with a weight above 0, such as 0.5*dice")
    return weight


def _give(terms: list[Term], key: str, value: Any) -> None:
    """Put an option into every term that it is for."""
    prefix, _, option = key.rpartition(".")
    if prefix == CLASS_WEIGHTS_PREFIX:  # not a loss's: check_class_weights sees to it
        return
    asked = [term for term in terms if not prefix or term.name == ALIASES.get(prefix, prefix)]
    if not asked:
        names = ", ".join(term.name for term in terms)
        raise UserError(f"the option {key} is for a loss that this run has not: its terms are {names}")
    known = sorted({name for term in asked for name in term.loss.options})
    if option not in known:
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        loss = "+".join(term.name for term in asked)
        raise UserError(f"the loss {loss} has no option '{option}'{_near(option, known)}: {takes}")
    for term in asked:
        if option in term.loss.options:
            _check_value(key, value, *term.loss.options[option])
            term.options[option] = value


def _check_value(key: str, value: Any, low: float, high: float) -> None:
    whole = isinstance(low, int)
    if (
        isinstance(value, bool)
        or not isinstance(value, int if whole else int | float)
        or not low <= value <= high
    ):
        what = "a whole number" if whole else "a number"
        raise UserError(f"the option {key} is {value}: it must be {what} in {low:g} to {high:g}")


def written(terms: Sequence[Term]) -> str:
    """The terms in one spelling, whatever the user's: `ce + 1*dice` is `cross_entropy+dice`."""
    return "+".join(term.name if term.weight == 1.0 else f"{term.weight!r}*{term.name}" for term in terms)


def check(terms: Sequence[Term], outputs: Collection[str]) -> None:
    """Raise UserError when the model does not give what a term reads."""
    for term in terms:
        missing = [key for key in term.loss.reads if key not in outputs]
        if missing:
            keys = " and ".join(missing)
            raise UserError(
                f"the loss {term.name} needs {keys}, which this model does not give: choose another --loss"
            )


def normalisers(
    terms: Sequence[Term],
    outputs: Mapping[str, Any],
    labels: Any,
    class_weights: Sequence[float] | None,
) -> list[tf.Tensor]:
    """Each term's normaliser of this batch. Sums over the parts of a whole batch are the `totals` of training_loss.

    `outputs` may be `model.output`: only static shapes are read.
    """
    return [term.loss.normaliser(outputs, labels, _weights_for(term, class_weights)) for term in terms]


def training_loss(
    terms: Sequence[Term],
    outputs: Mapping[str, tf.Tensor],
    labels: Any,
    class_weights: Sequence[float] | None,
    *,
    auxiliary_weight: float,
    seed: tf.Tensor | Sequence[int],
    totals: Sequence[tf.Tensor] | None = None,
) -> tf.Tensor:
    """The weighted sum of the terms, and of the auxiliary heads' where the model has some, a float32 scalar.

    With `totals` (those of the whole batch, see `normalisers`) this batch is a part of it, and gives the part of the
    whole's loss that is its own: the sum over all parts is the loss of the whole batch. Without, it is the whole.

    A key that starts with `aux_logits`, (B, H, W, C), is an auxiliary head: every term that reads `logits` is taken
    of it too, `auxiliary_weight` times. Zhao et al., "Pyramid Scene Parsing Network" (2017), section 4, weights it
    0.4, as mmsegmentation does; torchvision's reference training takes 0.5.
    """
    loss = tf.zeros(())
    for index, term in enumerate(terms):
        weights = _weights_for(term, class_weights)
        part: Any = 1.0
        if totals is not None:
            part = tf.math.divide_no_nan(term.loss.normaliser(outputs, labels, weights), totals[index])
        for factor, head in _heads(term, outputs, auxiliary_weight):
            mean = term.loss.function(head, labels, weights, seed=seed, **term.options)
            loss += term.weight * factor * tf.reduce_sum(part * mean)
    return loss


def _heads(
    term: Term, outputs: Mapping[str, tf.Tensor], auxiliary_weight: float
) -> Iterator[tuple[float, Mapping[str, tf.Tensor]]]:
    yield 1.0, outputs
    if term.loss.reads == LOGITS:
        for key in outputs:
            if key.startswith("aux_logits"):
                yield auxiliary_weight, {"logits": outputs[key]}


def _weights_for(term: Term, class_weights: Sequence[float] | None) -> Sequence[float] | None:
    return class_weights if term.loss.weighted else None


def validation_loss(terms: Sequence[Term], outputs: Mapping[str, tf.Tensor], labels: Any) -> tf.Tensor:
    """The loss of `main_outputs`, every class weighing the same; what it draws at random is always the same."""
    return training_loss(terms, outputs, labels, None, auxiliary_weight=0.0, seed=(0, 0))


def main_outputs(outputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Without what only training looks at: auxiliary heads and earlier layers."""
    return {key: value for key, value in outputs.items() if not key.startswith("aux_")}
