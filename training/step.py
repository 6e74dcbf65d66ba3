"""One training step as one tf.function under a tf.distribute strategy.

The step computes everything first (loss, gradients, new weights, new BatchNorm statistics, new optimizer
state), looks whether loss and gradients are finite, and only then assigns. A bad step thus changes nothing,
not even a moving mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from training.losses import LOSSES, check, training_loss
from training.recipe import Recipe
from training.schedules import learning_rate


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A row of SCHEDULES as Keras' optimizers want it: a function of the steps taken."""

    def __init__(self, name: str, base: float, warmup: int, steps: int) -> None:
        self.name, self.base, self.warmup, self.steps = name, base, warmup, steps

    def __call__(self, step: Any) -> Any:
        step = tf.convert_to_tensor(step)
        return learning_rate(self.name, step, base=self.base, warmup=self.warmup, steps=self.steps)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "base": self.base, "warmup": self.warmup, "steps": self.steps}


def build_optimizer(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """AdamW or SGD with Nesterov momentum 0.9, decoupled weight decay. The step itself clips."""
    schedule = Schedule(
        recipe.schedule,
        recipe.learning_rate,
        int(recipe.warmup_epochs * steps_per_epoch),
        recipe.epochs * steps_per_epoch,
    )
    common: dict[str, Any] = {
        "learning_rate": schedule,
        "weight_decay": recipe.weight_decay,
    }
    if recipe.optimizer == "sgd":
        optimizer: Any = keras.optimizers.SGD(momentum=0.9, nesterov=True, **common)
    else:
        optimizer = keras.optimizers.AdamW(**common)
    # Norms and biases are not decayed: shrinking them only moves the scale that the next layer undoes. Nor are
    # Mask2Former's learned rows (queries, their positions and the levels'), which its authors leave alone too.
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma", "^weight$"])
    if recipe.precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def rate_factors(model: keras.Model, backbone_rate: float) -> list[float]:
    """One factor a trainable variable: `backbone_rate` in the layer named `backbone`, else 1."""
    inside: set[int] = set()
    if any(layer.name == "backbone" for layer in model.layers):
        inside = {id(variable) for variable in model.get_layer("backbone").trainable_variables}
    return [backbone_rate if id(variable) in inside else 1.0 for variable in model.trainable_variables]


@dataclass(frozen=True)
class Trainee:
    """What a step reads and assigns; `ema` shadows `model.weights`, empty when the recipe has none."""

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    ema: list[tf.Variable]

    def variables(self) -> dict[str, Any]:
        """Every variable that a resume needs, by a stable name. `model.variables` holds the seeds of dropout
        too, which `model.weights` does not."""
        named: dict[str, Any] = {}
        for kind, variables in (
            ("model", self.model.variables),
            ("optimizer", self.optimizer.variables),
            ("ema", self.ema),
        ):
            named.update({f"{kind}/{index:04d}": variable for index, variable in enumerate(variables)})
        return named


def make_trainee(model: keras.Model, recipe: Recipe, steps_per_epoch: int) -> Trainee:
    optimizer = build_optimizer(recipe, steps_per_epoch)
    optimizer.build(model.trainable_variables)
    ema = [tf.Variable(weight.value, trainable=False) for weight in model.weights] if recipe.ema else []
    return Trainee(model, optimizer, ema)


def make_train_step(
    trainee: Trainee, recipe: Recipe, strategy: tf.distribute.Strategy, class_weights: Sequence[float] | None
) -> Callable[[Any, Any], tuple[tf.Tensor, tf.Tensor]]:
    """(images, labels) of one global batch -> (loss, whether the step was finite and taken)."""
    model, optimizer = trainee.model, trainee.optimizer
    check(recipe.loss, model.output)
    loss_of = partial(training_loss, LOSSES[recipe.loss], auxiliary_weight=recipe.auxiliary_weight)
    factors = rate_factors(model, recipe.backbone_rate)
    replicas = strategy.num_replicas_in_sync
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

    def compute(images: tf.Tensor, labels: tf.Tensor) -> tuple[Any, ...]:
        """Loss, gradients and new state of one replica's share of the batch. Assigns nothing."""
        weights = [tf.convert_to_tensor(variable.value) for variable in model.trainable_variables]
        state = [tf.convert_to_tensor(variable.value) for variable in model.non_trainable_variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            outputs, new_state = model.stateless_call(weights, state, images, training=True)
            loss = loss_of(outputs, labels, class_weights, seed=_seed(recipe, optimizer))
            target = optimizer.scale_loss(loss) if scaled else loss
        gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(target, weights)]
        if replicas > 1:
            gradients, loss, new_state = _shared(gradients, loss, new_state)
        if recipe.clip_norm:  # here, and not in the optimizer, which would clip before replicas are averaged
            scale = tf.cast(optimizer.dynamic_scale, tf.float32) if scaled else 1.0
            gradients, _ = tf.clip_by_global_norm(gradients, recipe.clip_norm * scale)
        finite = tf.math.is_finite(loss)
        if not scaled:  # LossScaleOptimizer itself looks at the gradients and halves its scale.
            finite &= tf.math.is_finite(tf.linalg.global_norm(gradients))
        return loss, finite, gradients, new_state

    def assign(gradients: Sequence[tf.Tensor], new_state: Sequence[tf.Tensor]) -> None:
        before = [tf.identity(variable.value) for variable in model.trainable_variables]
        # Keras sums over the replicas; the mean has been taken already.
        optimizer.apply([gradient / replicas for gradient in gradients], model.trainable_variables)
        for variable, old, factor in zip(model.trainable_variables, before, factors, strict=True):
            # AdamW's and SGD's updates are proportional to the rate, so a lower rate is a shorter way.
            if factor != 1.0:
                variable.value.assign(old + factor * (variable.value - old))
        for variable, value in zip(model.non_trainable_variables, new_state, strict=True):
            variable.value.assign(tf.cast(value, variable.dtype))
        _average(trainee, recipe.ema)

    @tf.function(reduce_retracing=True)
    def train_step(images: Any, labels: Any) -> tuple[tf.Tensor, tf.Tensor]:
        loss, finite, gradients, new_state = strategy.run(compute, args=(images, labels))
        loss = strategy.reduce(tf.distribute.ReduceOp.MEAN, loss, axis=None)
        finite = tf.reduce_all(tf.stack(strategy.experimental_local_results(finite)))
        if finite:  # a tf.cond: outside strategy.run, since replicas may not meet inside a condition
            strategy.run(assign, args=(gradients, new_state))
        return loss, finite

    return train_step


def _average(trainee: Trainee, longest: float) -> None:
    taken = tf.cast(trainee.optimizer.iterations.value, tf.float32)
    # A young average follows the weights closely, as in TF1's ExponentialMovingAverage(num_updates).
    decay = tf.minimum(longest, (1.0 + taken) / (10.0 + taken))
    for weight, shadow in zip(trainee.model.weights, trainee.ema, strict=bool(trainee.ema)):
        shadow.assign(decay * shadow + (1.0 - decay) * weight.value)


def _seed(recipe: Recipe, optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    """Two integers for what a loss draws at random, made from what every checkpoint holds: the steps taken."""
    step = tf.stack([tf.constant(recipe.seed, tf.int32), tf.cast(optimizer.iterations.value, tf.int32)])
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    return tf.random.experimental.stateless_fold_in(step, replica)


def _shared(gradients: Any, loss: Any, new_state: Any) -> tuple[Any, Any, Any]:
    """Means over the replicas. Statistics are averaged too, so that every replica keeps the same ones; the
    seeds of dropout, which are integers, are the same already."""
    context = tf.distribute.get_replica_context()
    mean = tf.distribute.ReduceOp.MEAN
    state = [
        context.all_reduce(mean, value) if value.dtype.is_floating else value
        for value in map(tf.convert_to_tensor, new_state)
    ]
    return context.all_reduce(mean, gradients), context.all_reduce(mean, loss), state
