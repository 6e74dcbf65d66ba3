"""One training step as one tf.function under a tf.distribute strategy.

The step computes everything first (loss, gradients, new BatchNorm statistics), looks whether loss and gradients are
finite, and only then assigns. A bad step thus changes nothing, not even a moving mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from training.engine.fused_norms import fuse_norms
from training.engine.gradients import Logits, check_parts, make_gradients, over_replicas
from training.engine.mean_teacher import make_consistency
from training.engine.optimizers import build_optimizer, freeze, moving_state, rate_factors, rates
from training.runs.recipe import Recipe
from training.runs.settings import OptimisationSettings


@dataclass(frozen=True)
class TrainState:
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


def make_train_state(model: keras.Model, settings: OptimisationSettings, steps_per_epoch: int) -> TrainState:
    """The model with what the settings freeze frozen, and its optimizer, which has slots for the rest only."""
    freeze(model, settings)
    factors = rate_factors(model, rates(settings, model))
    optimizer = build_optimizer(settings, steps_per_epoch, factors)
    optimizer.build(model.trainable_variables)
    ema = [tf.Variable(weight.value, trainable=False) for weight in model.weights] if settings.ema else []
    return TrainState(model, optimizer, ema)


def make_train_step(
    train_state: TrainState,
    recipe: Recipe,
    strategy: tf.distribute.Strategy,
    class_weights: Sequence[float] | None,
    teacher: Logits | None = None,
) -> Callable[[Any, Any], tuple[tf.Tensor, tf.Tensor]]:
    """(images, labels) of one global batch -> (loss, whether the step was finite and taken).

    `teacher(images)` gives logits to learn from too, as the recipe says; with --unlabeled `images` are a pair, the
    second what mean_teacher.batches gives. UserError when the model does not give what the losses read, or when the
    batch cannot be parted.
    """
    model, optimizer = train_state.model, train_state.optimizer
    replicas = strategy.num_replicas_in_sync
    consistency = (
        make_consistency(model, train_state.ema, recipe, replicas) if recipe.loss.unlabeled else None
    )
    differentiate = make_gradients(model, optimizer, recipe, class_weights, teacher, consistency)
    moving = moving_state(model)
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    check_parts(recipe.optimisation, replicas)
    fuse_norms(model)

    def compute(images: Any, labels: Any) -> tuple[Any, ...]:
        """Loss, gradients and new state. Assigns nothing."""
        loss, gradients, state = differentiate(images, labels)
        norm = tf.linalg.global_norm(gradients)
        if (
            recipe.optimisation.clip_norm
        ):  # here, and not in the optimizer, which would clip before replicas are summed
            scale = tf.cast(optimizer.dynamic_scale, tf.float32) if scaled else 1.0
            gradients, _ = tf.clip_by_global_norm(
                gradients, recipe.optimisation.clip_norm * scale, use_norm=norm
            )
        finite = tf.math.is_finite(loss)
        if not scaled:  # LossScaleOptimizer itself looks at the gradients and halves its scale.
            finite &= tf.math.is_finite(norm)
        return loss, finite, gradients, _shared_state(state, moving)

    def assign(gradients: Sequence[tf.Tensor], state: Sequence[tf.Tensor]) -> None:
        if replicas > 1:  # Keras sums over the replicas, which have summed already.
            gradients = [gradient / replicas for gradient in gradients]
        optimizer.apply(gradients, model.trainable_variables)
        for place, value in zip(moving, state, strict=True):
            variable = model.non_trainable_variables[place]
            variable.value.assign(tf.cast(value, variable.dtype))
        _average(train_state, recipe.optimisation.ema)

    @tf.function(reduce_retracing=True)
    def train_step(images: Any, labels: Any) -> tuple[tf.Tensor, tf.Tensor]:
        loss, finite, gradients, state = strategy.run(compute, args=(images, labels))
        loss = strategy.reduce(tf.distribute.ReduceOp.MEAN, loss, axis=None)
        finite = tf.reduce_all(tf.stack(strategy.experimental_local_results(finite)))
        if finite:  # a tf.cond: outside strategy.run, since replicas may not meet inside a condition
            strategy.run(assign, args=(gradients, state))
        return loss, finite

    return train_step


def _shared_state(state: Sequence[tf.Tensor], moving: Sequence[int]) -> list[tf.Tensor]:
    """What a step may change of the model's state: BatchNorm's statistics are the mean over the replicas, so that all
    keep the same ones; the seeds of dropout, which are integers, are the same already."""
    return [
        over_replicas("MEAN", state[place]) if state[place].dtype.is_floating else state[place]
        for place in moving
    ]


def _average(train_state: TrainState, longest: float) -> None:
    taken = tf.cast(train_state.optimizer.iterations.value, tf.float32)
    # A young average follows the weights closely, as in TF1's ExponentialMovingAverage(num_updates).
    decay = tf.minimum(longest, (1.0 + taken) / (10.0 + taken))
    for weight, shadow in zip(train_state.model.weights, train_state.ema, strict=bool(train_state.ema)):
        # As a difference: the average of a weight that never moves is that weight bit for bit.
        tf.raw_ops.ResourceApplyGradientDescent(
            var=shadow.handle, alpha=1.0 - decay, delta=shadow - weight.value
        )
