"""Train what has nothing to optimise: one pass counts which classes each region of grey holds.

So learn zoo's `threshold` and `otsu`, and the floor that every other model must clear: Otsu's threshold, learnt and
measured on up to 100 images.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import zoo
from evaluation import metrics, report
from runtime.signals import noted_signals
from training.data.pipeline import DecodedCache
from training.data.spec import VOID_ID, DatasetSpec
from training.engine import loop
from training.engine.run_state import Progress
from training.progress_bar import bar
from training.runs import best_weights, checkpoints, run_folders
from zoo import contract

FLOOR_IMAGES = 100
PREVIEWS = 4


def floor(training: DecodedCache, validation: DecodedCache, classes: int) -> float:
    """The mIoU, 0..1, of Otsu's threshold on up to 100 validation images, learnt on up to 100 of training."""
    model = zoo.build("otsu", classes=classes)
    counter = Counter(model)
    table = votes(counter(training, FLOOR_IMAGES))
    seen = counter(validation, FLOOR_IMAGES)
    return metrics.scores(confusion_matrix(seen, table), [str(index) for index in range(classes)])["miou"]


def train(
    data: str,
    model: keras.Model,
    spec: DatasetSpec,
    training: DecodedCache,
    validation: DecodedCache,
    run_folder: Path,
    *,
    class_weights: list[float] | None = None,
    say: loop.Say = print,
) -> Progress:
    """Count, set the votes, measure, and write what a training run writes, in one epoch; a finished run stays.

    The model is one without trainable variables. A pass takes minutes at most and changes nothing before its end, so
    one that Ctrl-C or SIGTERM stops (it raises loop.Stopped) starts over.
    """
    found = checkpoints.latest(run_folder / "checkpoints", say)
    if found is not None:
        progress = Progress(**found[1]["progress"])
        best_weights.check_present(run_folder)
        say(f"this run is finished: {progress.step} images, mIoU {metrics.percent(progress.best_miou)}.")
        return progress
    counter = Counter(model)
    counts = counter(training)
    table = votes(counts, class_weights)
    model.get_layer(contract.LOGITS).table.assign(table)
    seen = counter(validation)
    matrix = confusion_matrix(seen, table)
    result = metrics.scores(matrix, spec.classes)
    row = {
        "epoch": 1,
        "step": len(training.examples),
        "learning_rate": 0.0,
        "loss": cross_entropy(counts, table),
        "val_loss": cross_entropy(seen, table),
        "val_miou": result["miou"],
        "val_pixel_accuracy": result["pixel_accuracy"],
        "skipped": 0,
    }
    progress = Progress(step=row["step"], best_miou=result["miou"], best_epoch=0, history=[row])
    _write(model, run_folder, progress)
    title = f"{run_folder.name} on {data} val"
    report.write_scores(run_folder / "evaluation" / f"{data}-val", result, matrix, title)
    report.preview(report.preview_path(run_folder, 1), _samples(model, validation), spec)
    for region, shares in enumerate(np.exp(table)):
        most = int(shares.argmax())
        say(f"region {region} is {spec.classes[most]}: {100 * shares[most]:.1f}% of its pixels.")
    say(metrics.table(result))
    return progress


class Counter:
    """Counts how many pixels of each class every region of a counted model holds."""

    def __init__(self, model: keras.Model) -> None:
        votes_layer = model.get_layer(contract.LOGITS)
        self.shape = (votes_layer.regions, votes_layer.classes)
        regions = keras.Model(model.input, votes_layer.input)

        @tf.function(reduce_retracing=True)
        def find(image: Any) -> Any:
            return tf.cast(regions(image, training=False)[0], tf.int64)

        self._find = find

    def __call__(self, cache: DecodedCache, limit: int | None = None) -> np.ndarray:
        """int64 (regions, classes) over the images, or the first `limit` of them; void does not count.

        Raises loop.Stopped on Ctrl-C or SIGTERM.
        """
        total = min(len(cache.examples), limit or len(cache.examples))
        regions, classes = self.shape
        counts = np.zeros((regions, VOID_ID + 1), np.int64)
        with noted_signals() as stop, bar(total, "image") as line:
            for index in range(total):
                if stop:
                    raise loop.Stopped(
                        f"stopped after image {index} of {total}; the same command counts them again"
                    )
                rgb, labels = cache.read(index)
                pairs = self._find(tf.constant(rgb[None])).numpy() * (VOID_ID + 1) + labels
                counts += np.bincount(pairs.ravel(), minlength=counts.size).reshape(counts.shape)
                line.update()
        return counts[:, :classes]


def votes(counts: np.ndarray, class_weights: list[float] | None = None) -> np.ndarray:
    """The logarithm of each class's share of a region, float32 (regions, classes).

    Every class counts one pixel more than it has, so that all logarithms are finite; `class_weights` multiply.
    """
    weighed = (counts + 1.0) * (1.0 if class_weights is None else np.asarray(class_weights))
    return np.log(weighed / weighed.sum(axis=1, keepdims=True)).astype(np.float32)


def confusion_matrix(counts: np.ndarray, table: np.ndarray) -> np.ndarray:
    """(C, C) int64, as metrics.confusion_matrix counts it: all of a region's pixels are predicted alike."""
    matrix = np.zeros((counts.shape[1], counts.shape[1]), np.int64)
    for region, predicted in enumerate(table.argmax(axis=1)):
        matrix[:, predicted] += counts[region]
    return matrix


def cross_entropy(counts: np.ndarray, table: np.ndarray) -> float:
    """The mean over all pixels that count, in nats."""
    return float(-(counts * table).sum() / max(1, counts.sum()))


def _write(model: keras.Model, run_folder: Path, progress: Progress) -> None:
    """best.weights.h5, history.csv, and last the checkpoint, which says that the run is finished."""
    checkpoints.begin(run_folder / "checkpoints")
    best_weights.write(run_folder, model)
    run_folders.write_history(run_folder / "history.csv", progress.history)
    arrays = {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.variables}
    checkpoints.save(run_folder / "checkpoints", progress.step, arrays, {"progress": progress.__dict__})


def _samples(model: keras.Model, cache: DecodedCache) -> list[tuple[np.ndarray, ...]]:
    """(rgb, truth, prediction) of four images, spread over the split."""
    last = len(cache.examples) - 1
    shown = sorted({round(part * last / (PREVIEWS - 1)) for part in range(PREVIEWS)})
    pairs = [cache.read(index) for index in shown]
    return [
        (rgb, truth, np.argmax(model(tf.constant(rgb[None]))[contract.LOGITS][0], axis=-1))
        for rgb, truth in pairs
    ]
