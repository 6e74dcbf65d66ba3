"""One training step as one tf.function under a tf.distribute strategy.

The step computes everything first (loss, gradients, new BatchNorm statistics), looks whether loss and gradients are
finite, and only then assigns. A bad step thus changes nothing, not even a moving mean.

A batch is taken in parts: by replicas, and by each in micro-batches. Each part's loss counts by its share of what the
loss is a mean over (see training.losses), so that loss and gradients are those of the whole batch, wherever void lies.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from runtime.errors import UserError
from training import losses
from training.optimisation import build_optimizer, freeze, moving_state, rate_factors, rates
from training.recipe import Recipe

Logits = Callable[[tf.Tensor], tf.Tensor]


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
    """The model with what the recipe freezes frozen, and its optimizer, which has slots for the rest only."""
    freeze(model, recipe)
    optimizer = build_optimizer(recipe, steps_per_epoch)
    optimizer.build(model.trainable_variables)
    ema = [tf.Variable(weight.value, trainable=False) for weight in model.weights] if recipe.ema else []
    return Trainee(model, optimizer, ema)


def make_train_step(
    trainee: Trainee,
    recipe: Recipe,
    strategy: tf.distribute.Strategy,
    class_weights: Sequence[float] | None,
    teacher: Logits | None = None,
) -> Callable[[Any, Any], tuple[tf.Tensor, tf.Tensor]]:
    """(images, labels) of one global batch -> (loss, whether the step was finite and taken).

    `teacher(images)` gives logits to learn from too, as the recipe says. UserError when the model does not give what
    the losses read, or when the batch cannot be parted.
    """
    model, optimizer = trainee.model, trainee.optimizer
    terms = _terms(recipe, model, teacher)
    moving = moving_state(model)
    factors = rate_factors(model, rates(recipe, model))
    replicas = strategy.num_replicas_in_sync
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    check_parts(recipe, replicas)

    def part(number: Any, batch: Any, weights: list[Any], state: list[Any], totals: Any) -> tuple[Any, ...]:
        """One part's summand of the loss, its gradients, and the state after it."""
        images, labels = batch
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            outputs, state = model.stateless_call(weights, state, images, training=True)
            if teacher:
                outputs = {**outputs, "teacher_logits": teacher(images)}
            loss = losses.training_loss(
                terms,
                outputs,
                labels,
                class_weights,
                auxiliary_weight=recipe.auxiliary_weight,
                seed=_seed(recipe, optimizer, number),
                totals=totals,
            )
            target = optimizer.scale_loss(loss) if scaled else loss
        gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(target, weights)]
        return loss, gradients, [tf.convert_to_tensor(value) for value in state]

    def compute(images: Any, labels: Any) -> tuple[Any, ...]:
        """Loss, gradients and new state of one replica's part of the batch. Assigns nothing."""
        weights = [tf.convert_to_tensor(variable.value) for variable in model.trainable_variables]
        state = [tf.convert_to_tensor(variable.value) for variable in model.non_trainable_variables]
        totals = _over_replicas("SUM", losses.shares(terms, model.output, labels, class_weights))
        loss, gradients, state = _summed(part, recipe.accumulate, (images, labels), weights, state, totals)
        loss, gradients = _over_replicas("SUM", loss), _over_replicas("SUM", gradients)
        if recipe.clip_norm:  # here, and not in the optimizer, which would clip before replicas are summed
            scale = tf.cast(optimizer.dynamic_scale, tf.float32) if scaled else 1.0
            gradients, _ = tf.clip_by_global_norm(gradients, recipe.clip_norm * scale)
        finite = tf.math.is_finite(loss)
        if not scaled:  # LossScaleOptimizer itself looks at the gradients and halves its scale.
            finite &= tf.math.is_finite(tf.linalg.global_norm(gradients))
        return loss, finite, gradients, _shared_state(state, moving)

    def assign(gradients: Sequence[tf.Tensor], state: Sequence[tf.Tensor]) -> None:
        pairs = zip(model.trainable_variables, factors, strict=True)
        slowed = [
            (variable, tf.identity(variable.value), factor) for variable, factor in pairs if factor != 1.0
        ]
        # Keras sums over the replicas, which have summed already.
        optimizer.apply([gradient / replicas for gradient in gradients], model.trainable_variables)
        for variable, old, factor in slowed:
            # AdamW's and SGD's updates are proportional to the rate, so a lower rate is a shorter way.
            variable.value.assign(old + factor * (variable.value - old))
        for place, value in zip(moving, state, strict=True):
            variable = model.non_trainable_variables[place]
            variable.value.assign(tf.cast(value, variable.dtype))
        _average(trainee, recipe.ema)

    @tf.function(reduce_retracing=True)
    def train_step(images: Any, labels: Any) -> tuple[tf.Tensor, tf.Tensor]:
        loss, finite, gradients, state = strategy.run(compute, args=(images, labels))
        loss = strategy.reduce(tf.distribute.ReduceOp.MEAN, loss, axis=None)
        finite = tf.reduce_all(tf.stack(strategy.experimental_local_results(finite)))
        if finite:  # a tf.cond: outside strategy.run, since replicas may not meet inside a condition
            strategy.run(assign, args=(gradients, state))
        return loss, finite

    return train_step


def _terms(recipe: Recipe, model: keras.Model, teacher: Logits | None) -> list[losses.Term]:
    """What the loss is the sum of: the recipe's own terms, and the teacher's."""
    terms = losses.parse(recipe.loss, recipe.loss_options)
    losses.check(terms, model.output)
    if teacher:
        if "logits" not in model.output:
            raise UserError(
                f"{recipe.model} gives no logits to compare with a teacher's: leave --teacher out"
            )
        options = {"temperature": recipe.teacher_temperature}
        terms.append(losses.Term(recipe.teacher_weight, "distillation", options))
    return terms


def check_parts(recipe: Recipe, replicas: int) -> None:
    if recipe.batch % (replicas * recipe.accumulate):
        devices = f"{replicas} devices" if replicas > 1 else "one device"
        raise UserError(
            f"a batch of {recipe.batch} cannot be shared by {devices} in {recipe.accumulate} parts each, all of one "
            f"size: choose --batch {-(-recipe.batch // (replicas * recipe.accumulate)) * replicas * recipe.accumulate}"
        )


def _summed(part: Callable[..., Any], count: int, batch: Any, weights: Any, state: Any, totals: Any) -> Any:
    """Loss and gradients summed over `count` micro-batches of the batch, and the state after the last.

    One after another, so that only one's activations are in memory at a time.
    """
    if count == 1:
        return part(0, batch, weights, state, totals)

    def one_more(number: Any, loss: tf.Tensor, gradients: Any, state: Any) -> tuple[Any, ...]:
        some = tf.nest.map_structure(lambda tensor: _slice(tensor, number, count), batch)
        more, steeper, state = part(number, some, weights, state, totals)
        return number + 1, loss + more, [a + b for a, b in zip(gradients, steeper, strict=True)], state

    so_far: Any = (0, tf.zeros(()), [tf.zeros_like(weight) for weight in weights], state)
    if tf.distribute.get_replica_context().num_replicas_in_sync == 1:
        return tf.while_loop(lambda number, *_: number < count, one_more, so_far, parallel_iterations=1)[1:]
    for _ in range(count):  # written out: replicas may not meet inside a loop, and synchronised BatchNorms do
        with tf.control_dependencies(so_far[2]):
            so_far = one_more(*so_far)
    return so_far[1:]


def _slice(tensor: tf.Tensor, number: tf.Tensor, count: int) -> tf.Tensor:
    size = tf.shape(tensor)[0] // count
    return tensor[number * size : (number + 1) * size]


def _shared_state(state: Sequence[tf.Tensor], moving: Sequence[int]) -> list[tf.Tensor]:
    """What a step may change of the model's state: BatchNorm's statistics are the mean over the replicas, so that all
    keep the same ones; the seeds of dropout, which are integers, are the same already."""
    return [
        _over_replicas("MEAN", state[place]) if state[place].dtype.is_floating else state[place]
        for place in moving
    ]


def _over_replicas(how: str, values: Any) -> Any:
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return values
    return context.all_reduce(tf.distribute.ReduceOp[how], values)


def _average(trainee: Trainee, longest: float) -> None:
    taken = tf.cast(trainee.optimizer.iterations.value, tf.float32)
    # A young average follows the weights closely, as in TF1's ExponentialMovingAverage(num_updates).
    decay = tf.minimum(longest, (1.0 + taken) / (10.0 + taken))
    for weight, shadow in zip(trainee.model.weights, trainee.ema, strict=bool(trainee.ema)):
        # As a difference: the average of a weight that never moves is that weight to the bit.
        shadow.assign_add((1.0 - decay) * (weight.value - shadow))


def _seed(recipe: Recipe, optimizer: keras.optimizers.Optimizer, micro_batch: int) -> tf.Tensor:
    """Two integers for what a loss draws at random, made from what every checkpoint holds: the steps taken."""
    step = tf.stack([tf.constant(recipe.seed, tf.int32), tf.cast(optimizer.iterations.value, tf.int32)])
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    for number in (replica, micro_batch):
        step = tf.random.experimental.stateless_fold_in(step, number)
    return step
