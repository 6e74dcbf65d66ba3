"""The training loop: steps, validation, the best weights, checkpoints, and a clean stop.

Not `Model.fit`: its BackupAndRestore replays an epoch on later weights and loses dropout seeds, shuffle order and
early-stopping counts, and a NaN spoils BatchNorm before any callback sees it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from runtime.errors import UserError
from runtime.signals import noted_signals
from training import checkpoints, folder, metrics, prompts, report
from training.data.pipeline import (
    DecodedCache,
    evaluation_batches,
    read_errors,
    steps_per_epoch,
    training_batches,
)
from training.data.spec import DatasetSpec
from training.losses import LOSSES, main_outputs
from training.progress import bar
from training.recipe import Recipe
from training.step import Trainee, make_train_step, make_trainee

CHECKPOINT_SECONDS = 300.0
BAD_STEPS_IN_A_ROW = 10
Say = Callable[[str], None]


@dataclass
class Progress:
    """The small numbers of a run. All of it is in each checkpoint, so a resume goes on to the very bit."""

    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    best_miou: float = -1.0
    best_epoch: int = -1
    epochs_without_gain: int = 0
    stopped_early: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


class Stopped(Exception):
    """Ctrl-C or SIGTERM arrived, and the run is saved."""


def train(
    recipe: Recipe,
    model: keras.Model,
    spec: DatasetSpec,
    training: DecodedCache,
    validation: DecodedCache,
    run_folder: Path,
    *,
    strategy: tf.distribute.Strategy,
    class_weights: Sequence[float] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    say: Say = print,
) -> Progress:
    """Train until the recipe's epochs are done or its patience ends. Goes on from the newest good checkpoint.

    `model` must have been built under `strategy.scope()`, in the run folder's recipe, which the caller has
    claimed and holds. Raises Stopped after saving on Ctrl-C or SIGTERM, UserError when ten steps in a row were
    not finite.
    """
    steps = steps_per_epoch(len(training.examples), recipe.batch)
    with strategy.scope():
        trainee = make_trainee(model, recipe, steps)
    progress = _restore(run_folder, trainee, say)
    total = recipe.epochs * steps
    if progress.step >= total or progress.stopped_early:
        say(f"this run is finished: {progress.step} steps, best mIoU {100 * progress.best_miou:.2f}%.")
        return progress
    train_step = make_train_step(trainee, recipe, strategy, class_weights)
    task = task_of(recipe.model)
    evaluator = task.validator(model, spec, validation, LOSSES[recipe.loss])
    hooks = _begin(model, callbacks, recipe.epochs)
    prepare = task.preparation(model) if task.preparation else None
    feed = _Feed(_batches(recipe, training, progress.step, strategy, prepare))
    with (
        noted_signals() as stop,
        _writer(run_folder) as writer,
        read_errors(),
        bar(total, "step", progress.step) as line,
    ):
        saved_at = time.monotonic()
        while progress.step < total and not (progress.stopped_early or model.stop_training or stop):
            epoch, position = divmod(progress.step, steps)
            if position == 0:
                hooks.on_epoch_begin(epoch)
            images, labels = next(feed)
            hooks.on_train_batch_begin(position)
            with feed.working():
                loss = _take(train_step, images, labels, progress, say)
            hooks.on_train_batch_end(position, {"loss": loss})
            _show(line, progress, loss)
            if position == steps - 1:
                row = _end_of_epoch(recipe, trainee, evaluator, progress, epoch, run_folder, writer)
                line.write(_epoch_line(row, recipe.epochs, progress, epoch))
                hooks.on_epoch_end(epoch, row)
            if position == steps - 1 or stop or time.monotonic() - saved_at > CHECKPOINT_SECONDS:
                _save(run_folder, trainee, progress)
                saved_at = time.monotonic()
    if stop:
        raise Stopped(f"stopped after step {progress.step} of {total}; the same command goes on from there")
    hooks.on_train_end()
    _sum_up(progress, feed, say)
    return progress


def _begin(
    model: keras.Model, callbacks: Sequence[keras.callbacks.Callback], epochs: int
) -> keras.callbacks.CallbackList:
    hooks = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs)
    model.stop_training = False
    hooks.on_train_begin()
    return hooks


def _sum_up(progress: Progress, feed: "_Feed", say: Say) -> None:
    if progress.skipped:
        say(f"{progress.skipped} steps were not finite and were skipped.")
    say(f"{100 * feed.share():.1f}% of a training step was waiting for data.")


def _batches(
    recipe: Recipe,
    training: DecodedCache,
    step: int,
    strategy: tf.distribute.Strategy,
    prepare: Callable[..., Any] | None,
) -> Iterator[Any]:
    batches = training_batches(
        training.examples,
        seed=recipe.seed,
        batch=recipe.batch,
        crop=recipe.crop,
        augmentation=recipe.augmentation,
        start_step=step,
        cache=training,
        prepare=prepare,
    )
    if strategy.num_replicas_in_sync > 1:
        batches = strategy.experimental_distribute_dataset(batches)
    return iter(batches)


def _take(step: Callable[..., Any], images: Any, labels: Any, progress: Progress, say: Say) -> float:
    loss_tensor, finite_tensor = step(images, labels)
    loss, finite = float(loss_tensor), bool(finite_tensor)
    progress.step += 1
    if finite:
        progress.loss_sum += loss
        progress.loss_count += 1
        progress.skipped_in_a_row = 0
        return loss
    progress.skipped += 1
    progress.skipped_in_a_row += 1
    say(f"step {progress.step}: loss {loss} or its gradient is not finite; the step is skipped.")
    if progress.skipped_in_a_row >= BAD_STEPS_IN_A_ROW:
        raise UserError(
            f"{BAD_STEPS_IN_A_ROW} steps in a row were not finite (the last loss was {loss}): lower --learning-rate, "
            "or use --precision float32; the last checkpoint is whole"
        )
    return loss


def _end_of_epoch(
    recipe: Recipe,
    trainee: Trainee,
    evaluator: Any,
    progress: Progress,
    epoch: int,
    run_folder: Path,
    writer: tf.summary.SummaryWriter,
) -> dict[str, Any]:
    """Validate on the averaged weights, keep the best, write history, curves and previews."""
    with _averaged(trainee):
        result, loss, previews = evaluator()
        if result["miou"] > progress.best_miou:
            progress.best_miou, progress.best_epoch, progress.epochs_without_gain = result["miou"], epoch, 0
            best = run_folder / "best.weights.h5"
            checkpoints.write_atomically(best, lambda temporary: trainee.model.save_weights(temporary))
        else:
            progress.epochs_without_gain += 1
    if recipe.patience and progress.epochs_without_gain >= recipe.patience:
        progress.stopped_early = True
    row = {
        "epoch": epoch + 1,
        "step": progress.step,
        "learning_rate": float(keras.ops.convert_to_numpy(trainee.optimizer.learning_rate)),
        "loss": progress.loss_sum / max(1, progress.loss_count),
        "val_loss": loss,
        "val_miou": result["miou"],
        "val_pixel_accuracy": result["pixel_accuracy"],
        "skipped": progress.skipped,
    }
    progress.loss_sum, progress.loss_count = 0.0, 0
    progress.history.append(row)
    folder.write_history(run_folder / "history.csv", progress.history)
    with writer.as_default(step=epoch + 1):
        for name in ("learning_rate", "loss", "val_loss", "val_miou", "val_pixel_accuracy"):
            tf.summary.scalar(name, row[name])
    report.preview(run_folder / "previews" / f"epoch-{epoch + 1:04d}.jpg", previews, evaluator.spec)
    return row


class Validator:
    """Runs the validation split through the model at each picture's own size; one confusion matrix.

    The loss is that of the main outputs, without auxiliary heads and earlier layers; what it draws at random is
    the same every time.
    """

    def __init__(
        self,
        model: keras.Model,
        spec: DatasetSpec,
        cache: DecodedCache,
        loss: Callable[..., tf.Tensor],
    ) -> None:
        self.spec, self.cache = spec, cache

        @tf.function(reduce_retracing=True)
        def predict(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            outputs = model(images, training=False)
            ids = tf.argmax(outputs["logits"], axis=-1, output_type=tf.int32)
            return tf.cast(ids, tf.uint8), loss(main_outputs(outputs), labels)

        self.predict = predict

    def __call__(self) -> tuple[dict[str, Any], float, list[tuple[np.ndarray, ...]]]:
        classes = len(self.spec.classes)
        matrix = np.zeros((classes, classes), np.int64)
        losses: list[float] = []
        previews: list[tuple[np.ndarray, ...]] = []
        last = len(self.cache.examples) - 1
        shown = {round(part * last / 3) for part in range(4)}
        for index, image, label in evaluation_batches(self.cache.examples, cache=self.cache):
            ids, loss = self.predict(image, label)
            truth, predicted = label.numpy()[0], ids.numpy()[0]
            matrix += metrics.confusion_matrix(truth, predicted, classes)
            losses.append(float(loss))
            if int(index) in shown:
                previews.append((image.numpy()[0], truth, predicted))
        return metrics.scores(matrix, self.spec.classes), float(np.mean(losses)), previews


@dataclass(frozen=True)
class Task:
    """How a model learns: `preparation(model)` gives what turns an augmented sample, (image, label, seed), into
    inputs and targets, None where they are what they are; `validator(model, spec, cache, loss)`, called, gives
    scores with miou and pixel_accuracy, the mean loss, and previews (rgb, truth ids, predicted ids)."""

    preparation: Callable[[keras.Model], Callable[..., Any]] | None
    validator: Callable[..., Any]


TASKS = {
    "semantic": Task(None, Validator),
    "prompted": Task(prompts.preparation, prompts.Validator),
}
# The task of a model that is not a semantic segmenter.
MODEL_TASKS = {"sam": "prompted"}


def task_of(model: str) -> Task:
    """The task of a row of zoo.MODELS."""
    return TASKS[MODEL_TASKS.get(model, "semantic")]


@contextmanager
def _averaged(trainee: Trainee) -> Iterator[None]:
    """The model with its averaged weights inside the block, with its own again after it."""
    if not trainee.ema:
        yield
        return
    own = [keras.ops.convert_to_numpy(weight) for weight in trainee.model.weights]
    for weight, shadow in zip(trainee.model.weights, trainee.ema, strict=True):
        weight.assign(shadow)
    try:
        yield
    finally:
        for weight, value in zip(trainee.model.weights, own, strict=True):
            weight.assign(value)


def _save(run_folder: Path, trainee: Trainee, progress: Progress) -> None:
    arrays = {name: np.asarray(_value(variable)) for name, variable in trainee.variables().items()}
    checkpoints.save(run_folder / "checkpoints", progress.step, arrays, {"progress": progress.__dict__})


def _restore(run_folder: Path, trainee: Trainee, say: Say) -> Progress:
    found = checkpoints.latest(run_folder / "checkpoints", say)
    if found is None:
        return Progress()
    arrays, meta = found
    variables = trainee.variables()
    if set(arrays) != set(variables):
        raise UserError(
            f"the checkpoints in {run_folder} hold {len(arrays)} variables but this version builds {len(variables)}: "
            "go on with the version that wrote them, or start over with --fresh"
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])
    progress = Progress(**meta["progress"])
    folder.write_history(run_folder / "history.csv", progress.history)
    say(f"going on from step {progress.step}.")
    return progress


def _value(variable: Any) -> Any:
    return keras.ops.convert_to_numpy(variable.value if isinstance(variable, keras.Variable) else variable)


class _Feed:
    """The batches, and which share of the training time was spent waiting for them."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self.batches, self.waited, self.worked, self.started = batches, 0.0, 0.0, False

    def __next__(self) -> Any:
        before = time.monotonic()
        batch = next(self.batches)
        if self.started:
            self.waited += time.monotonic() - before
        return batch

    @contextmanager
    def working(self) -> Iterator[None]:
        before = time.monotonic()
        yield
        if self.started:
            self.worked += time.monotonic() - before
        self.started = True  # the first step pays for starting the pipeline and for tracing

    def share(self) -> float:
        return self.waited / max(1e-9, self.waited + self.worked)


@contextmanager
def _writer(run_folder: Path) -> Iterator[tf.summary.SummaryWriter]:
    writer = tf.summary.create_file_writer(str(run_folder / "tensorboard"))
    try:
        yield writer
    finally:
        writer.close()


def _show(line: Any, progress: Progress, loss: float) -> None:
    text = f"loss {loss:.3f}"
    if progress.history:
        text += f", mIoU {100 * progress.history[-1]['val_miou']:.1f}%"
    line.set_postfix_str(text, refresh=False)
    line.update()


def _epoch_line(row: dict[str, Any], epochs: int, progress: Progress, epoch: int) -> str:
    mark = "  best" if progress.best_epoch == epoch else ""
    return (
        f"epoch {row['epoch']}/{epochs}: loss {row['loss']:.4f}, val loss {row['val_loss']:.4f}, "
        f"mIoU {100 * row['val_miou']:.2f}%, pixel accuracy {100 * row['val_pixel_accuracy']:.2f}%{mark}"
    )
