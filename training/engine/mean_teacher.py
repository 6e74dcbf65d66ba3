"""Learning from images without labels (--unlabeled): a mean teacher says what is on them, ClassMix mixes them.

The teacher is the average of the student's own weights (A. Tarvainen, H. Valpola, "Mean teachers are better role
models", NeurIPS 2017, arXiv:1703.01780, section 2), the same that is validated and kept (`ema` of the recipe), so every
checkpoint has it already and a resume is exact. It sees crops of the images whose geometry alone is augmented; the
student sees them mixed (training/losses/classmix.py), with the recipe's colours and blur, and learns the teacher's
classes.

Deviations from ClassMix's reference code (WilhelmT/ClassMix, trainSSL.py):

- The teacher runs in inference mode, on averaged BatchNorm statistics; there it has the statistics of its batch.
- Its average is as long as the recipe's (0.999 if not said otherwise, 0.99 there), and shorter in the first steps.
- Crops are scaled, turned and mirrored as labelled ones are; there they are not, on Cityscapes.
- Colours and blur are as strong as those of labelled crops.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from runtime.errors import UserError
from training.data import augment
from training.data.augmentation import Augmentation
from training.data.pipeline import DecodedCache, training_batches
from training.data.spec import VOID_ID
from training.engine.validation import MODEL_TASKS
from training.losses import classmix
from training.runs.recipe import Recipe

ANOTHER_ORDER = 1_000_003  # added to the seed: labelled and unlabelled crops are drawn by different ones

# (trainable weights, state, (images, labels that say what is inside), seed) -> (loss, state after it)
Consistency = Callable[[Any, Any, Any, tf.Tensor], tuple[tf.Tensor, Any]]


def check(recipe: Recipe, replicas: int = 1) -> None:
    """UserError where a recipe cannot learn from images without labels."""
    name, part = recipe.model.name, recipe.optimisation.batch // (replicas * recipe.optimisation.accumulate)
    if name in MODEL_TASKS:
        raise UserError(f"{name} is prompted, and learns from labels alone: leave --unlabeled out")
    if not recipe.optimisation.ema:
        raise UserError(
            "--unlabeled learns from the average of the weights: choose an --ema above 0, such as 0.99"
        )
    if part < 2:
        raise UserError(
            f"--unlabeled mixes one image with another, and {recipe.optimisation.batch} crops in parts of {part} leave "
            f"none: choose --batch {2 * replicas * recipe.optimisation.accumulate} or more"
        )


def batches(
    recipe: Recipe, cache: DecodedCache, step: int, replicas: tuple[int, int, int]
) -> tf.data.Dataset:
    """(images, labels) without end from that step on, as many a step as labelled ones; 255 in the label map is what
    lies outside the image."""
    return training_batches(
        cache.examples,
        seed=(recipe.run.seed + ANOTHER_ORDER) % 2**31,
        batch=recipe.optimisation.batch,
        crop=recipe.data.crop,
        augmentation=geometry_of(recipe.data.augmentation),
        start_step=step,
        replicas=replicas,
        cache=cache,
    )


def together(labelled: tf.data.Dataset, unlabelled: tf.data.Dataset) -> tf.data.Dataset:
    """((images, unlabelled), labels): what a step takes."""
    both = tf.data.Dataset.zip((labelled, unlabelled))
    return both.map(lambda known, unknown: ((known[0], unknown), known[1]))


def geometry_of(augmentation: Augmentation) -> Augmentation:
    return dataclasses.replace(augmentation, brightness=0, contrast=0, saturation=0, hue=0, blur=0)


def make_consistency(model: Any, ema: Sequence[tf.Variable], recipe: Recipe, replicas: int) -> Consistency:
    """The loss of one part of a batch of unlabelled crops, such that the parts' losses sum to the whole batch's.

    UserError where the model gives no logits.
    """
    if not isinstance(model.output, dict) or "logits" not in model.output:
        raise UserError(f"{recipe.model.name} gives no logits to learn from: leave --unlabeled out")
    classes = model.output["logits"].shape[-1]
    shadows = {id(weight): shadow for weight, shadow in zip(model.weights, ema, strict=True)}
    factor = recipe.loss.unlabeled_weight / (replicas * recipe.optimisation.accumulate)

    def averaged(variables: Sequence[Any]) -> list[tf.Tensor]:
        return [tf.convert_to_tensor(shadows.get(id(one), one.value)) for one in variables]

    def consistency(weights: Any, state: Any, crops: Any, seed: tf.Tensor) -> tuple[tf.Tensor, Any]:
        images, inside = crops[0], crops[1] != VOID_ID
        told, _ = model.stateless_call(
            averaged(model.trainable_variables),
            averaged(model.non_trainable_variables),
            images,
            training=False,
        )
        probabilities = tf.stop_gradient(tf.nn.softmax(tf.cast(told["logits"], tf.float32)))
        ids = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        mask = classmix.class_mask(ids, inside, seed, classes)
        sure = tf.reduce_max(probabilities, axis=-1) >= classmix.SURE
        mixed = strong(classmix.mix(images, mask), seed, recipe.data.augmentation)
        outputs, state = model.stateless_call(weights, state, mixed, training=True)
        parts = [classmix.mix(one, mask) for one in (ids, sure, inside)]
        return factor * classmix.consistency(outputs["logits"], *parts), state

    return consistency


def strong(images: tf.Tensor, seed: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    """The recipe's colours and blur, drawn anew for each of images uint8 (B, H, W, 3); as uint8."""
    size = (images.shape[1], images.shape[2])
    colours = dataclasses.replace(augmentation, scale=(1.0, 1.0), rotation=0, flip=0)
    ids = tf.zeros(size, tf.uint8)

    def one(number: tf.Tensor) -> tf.Tensor:
        own = tf.random.experimental.stateless_fold_in(seed, number)
        return augment.apply(images[number], ids, own, size, colours)[0]

    kind = tf.TensorSpec((*size, 3), tf.uint8)
    return tf.map_fn(one, tf.range(tf.shape(images)[0]), fn_output_signature=kind)
