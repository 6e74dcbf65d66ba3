"""Loss and gradients of a batch, which may be taken in parts: by replicas, and by each in micro-batches.

Each part's loss counts by its share of what the loss is a mean over (see training.losses), so that the sum of the parts
is the loss of the whole batch, and their gradients' sum its gradient, wherever void lies.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from runtime.errors import UserError
from training import losses
from training.engine.mean_teacher import Consistency
from training.runs.recipe import Recipe
from training.runs.settings import OptimisationSettings

MOST_ELEMENTS = 2**31 - 1  # of a tensor; many kernels count with 32 bits

# images (B, h, w, 3), RGB 0..255 -> logits (B, h, w, C) float32
Logits = Callable[[tf.Tensor], tf.Tensor]


def make_gradients(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    recipe: Recipe,
    class_weights: Sequence[float] | None,
    teacher: Logits | None,
    consistency: Consistency | None = None,
) -> Callable[[Any, Any], tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]]:
    """(images, labels) of one replica -> (loss, gradients, state) of the whole batch; nothing is assigned. With
    `consistency` images are a pair, the second the crops that it takes.

    Gradients are those of `model.trainable_variables`, times the optimizer's scale where it scales the loss; state is
    the new value of each of `model.non_trainable_variables`, after this replica's last micro-batch. UserError when the
    model does not give what the losses read.
    """
    terms = _terms(recipe, model, teacher)
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

    def part(number: Any, batch: Any, weights: list[Any], state: list[Any], totals: Any) -> tuple[Any, ...]:
        """One part's summand of the loss, its gradients, and the state after it."""
        (images, crops), labels = batch if consistency else ((batch[0], None), batch[1])
        seed = _seed(recipe.run.seed, optimizer, number)
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
                auxiliary_weight=recipe.loss.auxiliary_weight,
                seed=seed,
                totals=totals,
            )
            if consistency:
                more, state = consistency(
                    weights, state, crops, tf.random.experimental.stateless_fold_in(seed, -1)
                )
                loss += more
            target = optimizer.scale_loss(loss) if scaled else loss
        gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(target, weights)]
        return loss, gradients, [tf.convert_to_tensor(value) for value in state]

    def gradients(images: Any, labels: Any) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
        weights = [tf.convert_to_tensor(variable.value) for variable in model.trainable_variables]
        state = [tf.convert_to_tensor(variable.value) for variable in model.non_trainable_variables]
        totals = over_replicas("SUM", losses.normalisers(terms, model.output, labels, class_weights))
        loss, found, state = _summed(
            part, recipe.optimisation.accumulate, (images, labels), weights, state, totals
        )
        return over_replicas("SUM", loss), over_replicas("SUM", found), state

    return gradients


def check_parts(settings: OptimisationSettings, replicas: int) -> None:
    """UserError when a batch cannot be parted into micro-batches of one size on every replica."""
    whole = replicas * settings.accumulate
    if settings.batch % whole:
        devices = f"{replicas} devices" if replicas > 1 else "one device"
        raise UserError(
            f"a batch of {settings.batch} cannot be shared by {devices} in {settings.accumulate} parts each, all of "
            f"one size: choose --batch {-(-settings.batch // whole) * whole}"
        )


def check_logits(settings: OptimisationSettings, crop: tuple[int, int], classes: int, replicas: int) -> None:
    """UserError when the logits that a replica computes at once are more than TensorFlow's kernels can count."""
    height, width = crop
    each, at_once = height * width * classes, settings.batch // replicas // settings.accumulate
    if each * at_once <= MOST_ELEMENTS:
        return
    share = settings.batch // replicas
    parts = next(
        (n for n in range(1, share + 1) if share % n == 0 and share // n * each <= MOST_ELEMENTS), None
    )
    way_out = f"take them in parts with --accumulate {parts}" if parts else "choose a smaller --crop"
    raise UserError(
        f"{at_once} crops of {height}x{width} with {classes} classes have {each * at_once:,} logits, and TensorFlow "
        f"takes up to {MOST_ELEMENTS:,} at once: {way_out}"
    )


def _terms(recipe: Recipe, model: keras.Model, teacher: Logits | None) -> list[losses.Term]:
    """What the loss is the sum of: the recipe's own terms, and the teacher's."""
    terms = losses.parse(recipe.loss.terms, recipe.loss.options)
    losses.check(terms, model.output)
    if teacher:
        if "logits" not in model.output:
            raise UserError(
                f"{recipe.model.name} gives no logits to compare with a teacher's: leave --teacher out"
            )
        options = {"temperature": recipe.loss.teacher_temperature}
        terms.append(losses.Term(recipe.loss.teacher_weight, "distillation", options))
    return terms


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


def over_replicas(how: str, values: Any) -> Any:
    """The SUM or MEAN of each tensor over the replicas, on all of them."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return values
    return context.all_reduce(tf.distribute.ReduceOp[how], values)


def _seed(seed: int, optimizer: keras.optimizers.Optimizer, micro_batch: Any) -> tf.Tensor:
    """Two integers for what a loss draws at random, made from what every checkpoint holds: the steps taken."""
    step = tf.stack([tf.constant(seed, tf.int32), tf.cast(optimizer.iterations.value, tf.int32)])
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    for number in (replica, micro_batch):
        step = tf.random.experimental.stateless_fold_in(step, number)
    return step
