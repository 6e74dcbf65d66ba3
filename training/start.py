"""From a recipe to a running loop: data, class weights, baseline, model, weights, strategy."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from training import counting, loop, report, tracking
from training.backbone_weights import load_backbone_weights
from training.data.pipeline import DecodedCache
from training.losses import CLASS_WEIGHTS, class_frequencies
from training.recipe import Recipe
from training.run import build_model, keep_classes, load_split
from training.teacher import open_teacher
from training.validation import MODEL_TASKS
from training.weights import load_weights


def strategy() -> tf.distribute.Strategy:
    """All GPUs of this machine, or the one device there is."""
    gpus = tf.config.list_logical_devices("GPU")
    if len(gpus) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")


def train(
    recipe: Recipe,
    run_folder: Path,
    say: loop.Say = print,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> loop.Progress:
    """Prepare everything that the recipe asks for, then train (or go on training) in the run folder."""
    keras.utils.set_random_seed(recipe.seed)
    tf.config.experimental.enable_op_determinism()
    keras.mixed_precision.set_global_policy(recipe.precision)
    caches = {}
    for split in ("train", "val"):
        spec, examples = load_split(recipe, split, say)
        caches[split] = DecodedCache(examples, say=say)
    keep_classes(run_folder, spec)
    classes = len(spec.classes)
    if recipe.model not in MODEL_TASKS:
        floor = counting.floor(caches["train"], caches["val"], classes)
        say(f"Otsu's threshold, the floor: mIoU {100 * floor:.2f}% on val.")
    weights = None
    if recipe.class_weights != "none":
        labels = (caches["train"].read(index)[1] for index in range(len(caches["train"].examples)))
        weights = CLASS_WEIGHTS[recipe.class_weights](class_frequencies(labels, classes)).tolist()
        shown = ", ".join(f"{name} {weight:.1f}" for name, weight in zip(spec.classes, weights, strict=True))
        say(f"class weights: {shown}.")
    devices = strategy()
    with devices.scope():
        model = build_model(recipe, classes)
        if recipe.init:
            path = Path(recipe.init)
            load_weights(model, path / "best.weights.h5" if path.is_dir() else path)
        elif recipe.backbone_weights != "none":
            load_backbone_weights(model, recipe.backbone_weights, recipe.backbone)
        teacher = open_teacher(recipe, spec.classes)
    with tracking.opened(run_folder, recipe, say) as track:
        if not model.trainable_variables:
            prepared = (recipe, model, spec, caches["train"], caches["val"], run_folder)
            progress = counting.train(*prepared, class_weights=weights, say=say)
            track(progress.history)
            return progress
        count = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
        name = f"{recipe.model} with {recipe.backbone}" if recipe.backbone else recipe.model
        say(f"{name}: {count / 1e6:.2f}M parameters.")
        progress = loop.train(
            recipe,
            model,
            spec,
            caches["train"],
            caches["val"],
            run_folder,
            strategy=devices,
            class_weights=weights,
            teacher=teacher,
            callbacks=callbacks,
            track=track,
            say=say,
        )
        report.draw_curves(run_folder / "curves.png", progress.history)
    return progress
