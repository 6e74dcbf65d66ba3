"""What is optimised and how fast: the optimizer, its schedule, rates by layer, and what is frozen."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from runtime.errors import UserError
from training.engine import schedules
from training.runs.settings import OptimisationSettings
from zoo import contract, keras_private


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A row of SCHEDULES as Keras' optimizers want it: a function of the steps taken."""

    def __init__(
        self, name: str, base: float, warmup: int, steps: int, options: Mapping[str, Any] | None = None
    ) -> None:
        self.name = name
        self.facts: dict[str, Any] = {
            "base": base,
            "warmup": warmup,
            "steps": steps,
            "options": options or {},
        }

    def __call__(self, step: Any) -> Any:
        return schedules.learning_rate(self.name, tf.convert_to_tensor(step), **self.facts)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, **self.facts}


class Fused:
    """What AdamW and SGD below add to Keras' own: each variable has a rate of its own, and its decay and its update
    go through memory once or twice where Keras' go ten times, by TensorFlow's fused kernels. The same numbers, to
    float rounding.

    `factors`: of the learning rate, one for each variable that the optimizer was built with.
    """

    factors: Sequence[float] = ()
    decay = 0.0

    def update_step(self: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Of one replica's tf.Variable."""
        index = keras_private.place_of(self, variable)
        rate = tf.cast(learning_rate, variable.dtype) * (self.factors[index] if self.factors else 1.0)
        if self.decay and keras_private.decays(self, variable):
            variable.assign_sub(variable * (rate * self.decay))
        self.fused(index, variable.handle, tf.cast(gradient, variable.dtype), rate)


class AdamW(Fused, keras.optimizers.Adam):
    """Keras' Adam, with the decay of AdamW."""

    def fused(self, index: int, variable: tf.Tensor, gradient: tf.Tensor, rate: tf.Tensor) -> None:
        momentum, velocity = keras_private.adam_moments(self, index)
        step = tf.cast(self.iterations.value + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable,
            m=momentum.value.handle,
            v=velocity.value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class SGD(Fused, keras.optimizers.SGD):
    """Keras' SGD with Nesterov momentum."""

    def fused(self, index: int, variable: tf.Tensor, gradient: tf.Tensor, rate: tf.Tensor) -> None:
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable,
            accum=self.momentums[index].value.handle,
            lr=rate,
            grad=gradient,
            momentum=self.momentum,
            use_nesterov=True,
        )


def build_optimizer(
    settings: OptimisationSettings, steps_per_epoch: int, factors: Sequence[float] = ()
) -> keras.optimizers.Optimizer:
    """AdamW or SGD with Nesterov momentum 0.9, decoupled weight decay; `factors` as in Fused. The step itself clips."""
    schedule = Schedule(
        settings.schedule,
        settings.learning_rate,
        int(settings.warmup_epochs * steps_per_epoch),
        settings.epochs * steps_per_epoch,
        settings.schedule_options,
    )
    if settings.optimizer == "sgd":
        optimizer: Any = SGD(schedule, momentum=0.9, nesterov=True)
    else:
        optimizer = AdamW(schedule)
    optimizer.factors, optimizer.decay = tuple(factors), settings.weight_decay
    # Only kernels decay. Shrinking a norm's scale or a bias only moves what the next layer undoes; learned rows
    # (queries, positions, tokens) and tables of position biases are left alone by their papers' authors too.
    optimizer.exclude_from_weight_decay(var_names=["^(?!.*kernel)"])
    if settings.precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def layers(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, keras.layers.Layer]]:
    """(path, layer) of every layer; those of a nested model have its name before theirs: backbone/Conv1."""
    for layer in model.layers:
        path = prefix + layer.name
        if isinstance(layer, keras.Model):
            yield from layers(layer, f"{path}/")
        else:
            yield path, layer


def rate_factors(model: keras.Model, rates: Mapping[str, float]) -> list[float]:
    """One factor of the learning rate for each of `model.trainable_variables`: that of the longest of the prefixes,
    the keys of `rates`, that its layer's path begins with, else 1. UserError for a prefix of no layer."""
    factor_of: dict[int, float] = {}
    found = list(layers(model))
    for prefix in sorted(rates, key=len):
        for layer in _beginning(found, prefix, "--lr-mult"):
            factor_of.update({id(variable): rates[prefix] for variable in layer.trainable_variables})
    return [factor_of.get(id(variable), 1.0) for variable in model.trainable_variables]


def rates(settings: OptimisationSettings, model: keras.Model) -> dict[str, float]:
    """The recipe's rates by prefix, `backbone_rate` among them where the model has a backbone."""
    has_backbone = any(layer.name == contract.BACKBONE for layer in model.layers)
    return {**({contract.BACKBONE: settings.backbone_rate} if has_backbone else {}), **settings.rates}


def freeze(model: keras.Model, settings: OptimisationSettings) -> None:
    """Take what the recipe freezes out of `model.trainable_variables`; Keras runs a frozen BatchNorm in inference
    mode. UserError for a prefix of no layer, for BatchNorm where there is none, and when nothing is left to train.
    """
    found = list(layers(model))
    for prefix in settings.freeze:
        for layer in _beginning(found, prefix, "--freeze"):
            layer.trainable = False
    if settings.freeze_bn != "none":
        prefix = "" if settings.freeze_bn == "all" else contract.BACKBONE
        norms = [
            norm
            for path, layer in found
            if path.startswith(prefix)
            for norm in keras_private.flat_layers(layer)
            if isinstance(norm, keras.layers.BatchNormalization)
        ]
        if not norms:
            raise UserError(
                f"--freeze-bn {settings.freeze_bn} finds no BatchNorm in this model: leave it out"
            )
        for norm in norms:
            norm.trainable = False
    if not model.trainable_variables:
        raise UserError(f"--freeze {' '.join(settings.freeze)} leaves nothing to train: freeze less")


def moving_state(model: keras.Model) -> list[int]:
    """Places in `model.non_trainable_variables` of what training changes: BatchNorm's statistics and dropout's seeds,
    but nothing of a frozen layer."""
    fixed = {
        id(variable)
        for layer in keras_private.flat_layers(model)
        if not layer.trainable
        for variable in layer.non_trainable_variables
        if not variable.dtype.startswith(("int", "uint"))
    }
    return [i for i, variable in enumerate(model.non_trainable_variables) if id(variable) not in fixed]


def _beginning(
    found: Sequence[tuple[str, keras.layers.Layer]], prefix: str, flag: str
) -> list[keras.layers.Layer]:
    chosen = [layer for path, layer in found if path.startswith(prefix) and layer.weights]
    if not chosen:
        tops = dict.fromkeys(path.partition("/")[0] for path, layer in found if layer.weights)
        raise UserError(
            f"{flag} {prefix}: no layer's path begins so; this model has {', '.join(list(tops)[:12])}, ..."
        )
    return chosen
