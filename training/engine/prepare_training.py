"""From a recipe to a running loop: data, class weights, baseline, model, weights, strategy."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from evaluation import report
from evaluation.metrics import percent
from runtime.errors import UserError
from runtime.image import resize_rgb
from training import tracking
from training.data import is_drawn, unlabeled
from training.data.files.fingerprint import of as known_by
from training.data.labels.class_counts import Occurrence, counted, refuse_unlearnable, remarks, void_remark
from training.data.pipeline import DecodedCache
from training.data.spec import DatasetSpec
from training.distributed import ALONE, Cluster, agree, fingerprint
from training.engine import loop, mean_teacher, quantization, threshold_training
from training.engine.gradients import check_logits
from training.engine.teacher import open_teacher
from training.engine.validation import MODEL_TASKS
from training.losses import CLASS_WEIGHTS, class_weights
from training.progress_bar import counter
from training.runs import initial_weights, learnt_from, run_folders
from training.runs.backbone_weights import has_folded_norms, load_backbone_weights, recalibrate_norms
from training.runs.recipe import Recipe
from training.runs.settings import LossSettings, ModelSettings
from training.runs.trained_run import build_model, keep_classes, keep_data, load_split
from zoo.convert.files import tflite
from zoo.keras_private import flat_layers

DRAWN_COUNTED = 200  # images at most, where each would be drawn for that alone
UNLABELED = "unlabeled"  # in data.json, beside train and val
RECALIBRATED = 48  # train images that BatchNorms which were folded are recalibrated on


def strategy(cluster: Cluster = ALONE) -> tf.distribute.Strategy:
    """All workers of the cluster with all their GPUs; alone, all GPUs of this machine, or the one device there is."""
    if cluster.strategy:
        return cluster.strategy
    gpus = tf.config.list_logical_devices("GPU")
    if len(gpus) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")


def train(
    recipe: Recipe,
    run_folder: Path,
    say: loop.Say = print,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    cluster: Cluster = ALONE,
) -> loop.Progress:
    """Prepare everything that the recipe asks for, then train (or go on training) in the run folder.

    Of several workers each calls this, and the chief alone touches the run folder and `say`s something.
    """
    say = say if cluster.chief else _nothing
    devices = strategy(cluster)
    keras.utils.set_random_seed(recipe.run.seed)
    tf.config.experimental.enable_op_determinism()
    keras.mixed_precision.set_global_policy(recipe.optimisation.precision)
    if recipe.loss.unlabeled:
        mean_teacher.check(recipe, devices.num_replicas_in_sync)
    known = recipe.data.spec()
    check_logits(recipe.optimisation, recipe.data.crop, len(known.classes), devices.num_replicas_in_sync)
    with devices.scope():  # what its options do not allow is said before hours of data are read
        model = build_model(recipe, len(known.classes))
        synchronise(model)
    spec, caches, occurrence = _data(recipe, cluster, say)
    unlabelled = _unlabelled(recipe, cluster, say)
    absent = remarks(spec, occurrence["train"], occurrence["val"])
    for sentence in absent:
        say(sentence)
    if cluster.chief:
        _keep(run_folder, recipe, spec, caches | unlabelled)
        if recipe.model.name not in MODEL_TASKS:
            floor = threshold_training.floor(caches["train"], caches["val"], len(spec.classes))
            say(f"Otsu's threshold, the floor: mIoU {percent(floor)} on val.")
    weights = _class_weights(recipe.loss, spec, occurrence["train"], cluster, say)
    with devices.scope():
        _begin_with(model, recipe, spec.classes, caches["train"], cluster, run_folder, say)
        if recipe.model.quantize:
            _quantize(model, recipe.model.name, caches["train"], cluster)
        teacher = open_teacher(recipe.loss, recipe.data.crop, spec.classes)
    if not model.trainable_variables:
        _check_counted(recipe, cluster)
    prepared = (model, spec, caches["train"], caches["val"], run_folder)
    watching = tracking.opened(run_folder, recipe, say) if cluster.chief else nullcontext(_nothing)
    with watching as track:
        if not model.trainable_variables:
            progress = threshold_training.train(recipe.data.name, *prepared, class_weights=weights, say=say)
            track(progress.history)
            return _beside_the_score(progress, absent, say)
        say(_size(recipe.model, model))
        progress = loop.train(
            recipe, *prepared, strategy=devices, cluster=cluster, class_weights=weights, teacher=teacher,
            unlabelled=unlabelled.get(UNLABELED), callbacks=callbacks, track=track, say=say,
        )  # fmt: skip
        if cluster.chief:
            report.draw_curves(run_folder / "curves.png", progress.history)
    return _beside_the_score(progress, absent, say)


def _size(settings: ModelSettings, model: keras.Model) -> str:
    """A sentence on how large the model is."""
    count = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    name = f"{settings.name} with {settings.backbone}" if settings.backbone else settings.name
    return f"{name}: {count / 1e6:.2f}M parameters."


def _keep(run_folder: Path, recipe: Recipe, spec: DatasetSpec, caches: dict[str, DecodedCache]) -> None:
    """See that classes and data are those that the run began with, and write down what they are and where they lie."""
    keep_classes(run_folder, spec)
    learnt_from.keep(run_folder, recipe)
    keep_data(run_folder, {split: known_by(cache.examples, cache.read) for split, cache in caches.items()})
    run_folders.keep_places(run_folder, recipe)


def _beside_the_score(progress: loop.Progress, absent: Sequence[str], say: loop.Say) -> loop.Progress:
    """Say again which classes the score knows nothing of."""
    for sentence in absent:
        say(sentence)
    return progress


def _check_counted(recipe: Recipe, cluster: Cluster) -> None:
    """UserError where a model that only counts is asked for what it cannot do."""
    if cluster.size > 1:
        raise UserError(
            f"{recipe.model.name} counts in one pass, which workers do not share: leave TF_CONFIG out"
        )
    if recipe.loss.teacher:
        raise UserError(
            f"{recipe.model.name} counts, and has nothing to learn from a teacher: leave --teacher out"
        )
    if recipe.loss.unlabeled:
        raise UserError(
            f"{recipe.model.name} counts, and learns nothing from images without labels: leave --unlabeled out"
        )


def _data(
    recipe: Recipe, cluster: Cluster, say: loop.Say
) -> tuple[DatasetSpec, dict[str, DecodedCache], dict[str, Occurrence]]:
    """The classes and both splits, which every worker has to have alike, with how often each class occurs in them.
    UserError where nothing can be learnt from them."""
    caches, occurrence = {}, {"train": Occurrence(), "val": Occurrence()}
    once = _once(say)
    for split, found in occurrence.items():
        spec, examples = load_split(recipe.data, split, once, found)
        caches[split] = DecodedCache(examples, say=say)
        _count_drawn(recipe.data.name, recipe.loss.class_weights, caches[split], found)
    seen = {split: (found, caches[split].examples) for split, found in occurrence.items()}
    refuse_unlearnable(spec, seen["train"], seen["val"], least=1 if recipe.model.name in MODEL_TASKS else 2)
    if doubt := void_remark(*seen["train"]):
        say(doubt)
    if cluster.size > 1:
        facts = {
            f"{split} {key}": value
            for split, cache in caches.items()
            for key, value in fingerprint(known_by(cache.examples, cache.read)).items()
        }
        agree(cluster, "data set", {"classes": list(spec.classes), **facts})
    return spec, caches, occurrence


def _unlabelled(recipe: Recipe, cluster: Cluster, say: loop.Say) -> dict[str, DecodedCache]:
    """The images of --unlabeled under their name in data.json; nothing where there are none."""
    if not recipe.loss.unlabeled:
        return {}
    told = counter(f"checking {UNLABELED}")
    examples = unlabeled.load(Path(recipe.loss.unlabeled), recipe.data.skip_bad, told)
    say(f"{len(examples)} images without labels.")
    cache = DecodedCache(examples, say=say)
    if cluster.size > 1:
        agree(cluster, "images without labels", fingerprint(known_by(examples, cache.read)))
    return {UNLABELED: cache}


def _count_drawn(name: str, weighed: str, cache: DecodedCache, occurrence: Occurrence) -> None:
    """Count what was not read when files were checked, because it is drawn: all where the cache keeps it for the first
    epoch or the classes are weighed by it, else as much as takes seconds."""
    drawn = [index for index, example in enumerate(cache.examples) if is_drawn(example.part or name)]
    few = not cache.enabled and weighed not in CLASS_WEIGHTS
    step = max(1, len(drawn) // DRAWN_COUNTED) if few else 1
    with ThreadPoolExecutor(2) as pool:
        for pixels in pool.map(lambda index: counted(cache.read(index)[1]), drawn[::step]):
            occurrence.add(pixels)


def _once(say: loop.Say) -> loop.Say:
    """Says nothing twice: how the splits came about is told with each of them."""
    said: set[str] = set()

    def tell(text: str) -> None:
        if text not in said:
            said.add(text)
            say(text)

    return tell


def _class_weights(
    settings: LossSettings, spec: DatasetSpec, training: Occurrence, cluster: Cluster, say: loop.Say
) -> list[float] | None:
    """The weights of the classes, by the chief's count."""
    weights = class_weights(settings.class_weights, settings.options, spec.classes, training)
    weights = cluster.exchange(weights)[0]
    if weights:
        shown = ", ".join(f"{name} {weight:.1f}" for name, weight in zip(spec.classes, weights, strict=True))
        say(f"class weights: {shown}.")
    return weights


def _begin_with(
    model: keras.Model,
    recipe: Recipe,
    classes: Sequence[str],
    training: DecodedCache,
    cluster: Cluster,
    run_folder: Path,
    say: loop.Say,
) -> None:
    """Give the model the weights that it begins with; of several workers the chief has them, and shares them when
    the loop begins. A run that goes on has all of them in its checkpoint."""
    if not cluster.chief or any((run_folder / "checkpoints").glob("step-*")):
        return
    settings = recipe.model
    if settings.init:
        mapping = recipe.data.options.get("mapping")
        initial_weights.load(model, initial_weights.find(Path(settings.init)), classes, mapping, say)
        if has_folded_norms(model):  # of a network that was read from a .tflite
            recalibrate_norms(model, _images(model, training, RECALIBRATED), head=True)
    elif settings.backbone_weights != "none":
        load_backbone_weights(model, settings.backbone_weights, settings.backbone)
        if settings.backbone_weights.endswith(tflite.SUFFIX):
            recalibrate_norms(model, _images(model, training, RECALIBRATED))


def _quantize(model: keras.Model, name: str, training: DecodedCache, cluster: Cluster) -> None:
    """Let the model compute in 8 bits, its ranges those of the weights that it begins with. A run that goes on takes
    them from its checkpoint, the workers from the chief."""
    if name in MODEL_TASKS:
        raise UserError(f"{name} is prompted, and its decoder stays in float: leave --quantize out")
    ranges = quantization.quantize(model)
    if cluster.chief:
        quantization.calibrate(model, ranges, _images(model, training, quantization.IMAGES))


def _images(model: keras.Model, training: DecodedCache, most: int) -> Iterator[np.ndarray]:
    """Train images from all over the split, uint8, in the size that the model takes if it takes but one."""
    size = model.inputs[0].shape[1:3]
    count = len(training.examples)
    for number in range(min(count, most)):
        image = training.read(number * count // min(count, most))[0]
        yield resize_rgb(image, size) if all(size) else image


def synchronise(model: keras.Model) -> None:
    """Under the scope of a strategy of several replicas, let BatchNorm take its statistics over all of them, so that
    a batch counts as one wherever its parts are. Before the model is traced."""
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return
    for layer in flat_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def _nothing(said: object) -> None:
    """What a worker that is not the chief has to say."""
