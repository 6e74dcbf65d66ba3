"""The training loop: steps, validation, the best weights, checkpoints, and a clean stop.

Not `Model.fit`: its BackupAndRestore replays an epoch on later weights and loses dropout seeds, shuffle order and
early-stopping counts, and a NaN spoils BatchNorm before any callback sees it.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from evaluation import report
from evaluation.metrics import percent
from runtime.errors import UserError
from runtime.signals import noted_signals
from training.data.pipeline import DecodedCache, read_errors, samples, steps_per_epoch, training_batches
from training.data.spec import DatasetSpec
from training.distributed import ALONE, Cluster
from training.engine import mean_teacher, run_state
from training.engine.gradients import Logits
from training.engine.run_state import Progress
from training.engine.train_step import TrainState, make_train_state, make_train_step
from training.engine.validation import Task, task_of
from training.losses import parse, validation_loss
from training.progress_bar import bar
from training.runs import best_weights, checkpoints, run_folders
from training.runs.recipe import Recipe
from training.runs.settings import LossSettings, OptimisationSettings

CHECKPOINT_SECONDS = 300.0
BAD_STEPS_IN_A_ROW = 10
Say = Callable[[str], None]
Track = Callable[[Sequence[dict[str, Any]]], None]


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
    cluster: Cluster = ALONE,
    class_weights: Sequence[float] | None = None,
    teacher: Logits | None = None,
    unlabelled: DecodedCache | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    track: Track = lambda history: None,
    say: Say = print,
) -> Progress:
    """Train until the recipe's epochs are done or its patience ends. Goes on from the newest good checkpoint.

    `model` must have been built under `strategy.scope()`, in the run folder's recipe, which the caller has
    claimed and holds; `track` gets the history after each epoch. Of several workers the chief alone reads and writes
    the folder and calls `track` and `callbacks`. Raises Stopped after saving on Ctrl-C or SIGTERM (that any worker
    gets), UserError when ten steps in a row were not finite.
    """
    epochs = recipe.optimisation.epochs
    total = epochs * (steps := steps_per_epoch(samples(training.examples), recipe.optimisation.batch))
    with strategy.scope():
        train_state = make_train_state(model, recipe.optimisation, steps)
    progress = run_state.begin(run_folder, train_state, cluster, say)
    if progress.step >= total or progress.stopped_early:
        say(f"this run is finished: {progress.step} steps, best mIoU {percent(progress.best_miou)}.")
        return progress
    step = make_train_step(train_state, recipe, strategy, class_weights, teacher)
    task = task_of(recipe.model.name)
    loss, scale = _validation_loss(recipe.loss), recipe.run.validation_scale
    evaluator = task.validator(model, spec, validation, loss, cluster, scale)
    feed = _Feed(_batches(recipe, model, task, training, unlabelled, progress.step, strategy, cluster))
    hooks = _begin(model, callbacks if cluster.chief else (), epochs)
    saving = _Saving(run_folder, train_state, progress, cluster.chief)
    stopping = ended = False
    line = bar(total, "step", progress.step, hidden=not cluster.chief)
    with noted_signals() as stop, read_errors(), _enough_memory(recipe.optimisation, recipe.data.crop), line:
        while progress.step < total and not (stopping or ended):
            epoch, position = divmod(progress.step, steps)
            _show(line, progress, _one_step(step, feed, hooks, epoch, position, progress, say))
            last = position == steps - 1
            if last:
                row = _end_of_epoch(
                    recipe.run.patience, train_state, evaluator, progress, epoch, run_folder, cluster
                )
                _tell(line, row, epochs, progress, track, cluster)
                hooks.on_epoch_end(epoch, row)
                _refuse_lost_epoch(row)
            stopping, ended = cluster.any(stop, progress.stopped_early or model.stop_training)
            saving.perhaps(last or stopping)
        cluster.exchange("done")  # nobody leaves while the chief may still find the disk full
    if stopping:
        raise Stopped(f"stopped after step {progress.step} of {total}; the same command goes on from there")
    _end(hooks, progress, feed, say)
    return progress


def _validation_loss(settings: LossSettings) -> Callable[..., tf.Tensor]:
    return partial(validation_loss, parse(settings.terms, settings.options))


@contextmanager
def _enough_memory(settings: OptimisationSettings, crop: tuple[int, int]) -> Iterator[None]:
    """What TensorFlow raises when memory ends, or the disk for tensorboard/, as one sentence."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" in error.message:
            raise UserError(
                "the disk is full; the last checkpoint is whole: free some space, then run the same command again"
            ) from error
        height, width = crop
        parts = f" in {settings.accumulate} parts" if settings.accumulate > 1 else ""
        raise UserError(
            f"a batch of {settings.batch} crops of {height}x{width}{parts} does not fit into memory: take it in more "
            "parts with --accumulate, or choose a smaller --batch or --crop"
        ) from error


def _begin(
    model: keras.Model, callbacks: Sequence[keras.callbacks.Callback], epochs: int
) -> keras.callbacks.CallbackList:
    hooks = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs)
    model.stop_training = False
    hooks.on_train_begin()
    return hooks


def _end(hooks: keras.callbacks.CallbackList, progress: Progress, feed: "_Feed", say: Say) -> None:
    hooks.on_train_end()
    if progress.skipped:
        say(f"{progress.skipped} steps were not finite and were skipped.")
    say(f"{100 * feed.share():.1f}% of a training step was waiting for data.")


def _batches(
    recipe: Recipe,
    model: keras.Model,
    task: Task,
    training: DecodedCache,
    unlabelled: DecodedCache | None,
    step: int,
    strategy: tf.distribute.Strategy,
    cluster: Cluster,
) -> Iterator[Any]:
    here, total = len(strategy.extended.worker_devices), strategy.num_replicas_in_sync
    replicas = (cluster.index * here, here, total)
    batches = training_batches(
        training.examples,
        seed=recipe.run.seed,
        batch=recipe.optimisation.batch,
        crop=recipe.data.crop,
        augmentation=recipe.data.augmentation,
        start_step=step,
        replicas=replicas,
        cache=training,
        prepare=task.preparation(model) if task.preparation else None,
    )
    if unlabelled:
        batches = mean_teacher.together(batches, mean_teacher.batches(recipe, unlabelled, step, replicas))
    if here == 1:
        return iter(batches)
    return iter(strategy.distribute_datasets_from_function(lambda context: batches))


def _one_step(
    step: Callable[..., Any],
    feed: "_Feed",
    hooks: keras.callbacks.CallbackList,
    epoch: int,
    position: int,
    progress: Progress,
    say: Say,
) -> float:
    """Take the next batch; its loss."""
    if position == 0:
        hooks.on_epoch_begin(epoch)
    images, labels = next(feed)
    hooks.on_train_batch_begin(position)
    with feed.working():
        loss = _take(step, images, labels, progress, say)
    hooks.on_train_batch_end(position, {"loss": loss})
    return loss


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


def _refuse_lost_epoch(row: dict[str, Any]) -> None:
    """UserError after an epoch in which no step could be taken: the next one would not fare better."""
    if math.isnan(row["loss"]):
        raise UserError(
            f"epoch {row['epoch']} had no finite step, so that nothing was learnt in it: lower --learning-rate, use "
            "--precision float32, or see whether --class-weights makes sense"
        )


def _end_of_epoch(
    patience: int,
    train_state: TrainState,
    evaluator: Any,
    progress: Progress,
    epoch: int,
    run_folder: Path,
    cluster: Cluster,
) -> dict[str, Any]:
    """Validate on the averaged weights, keep the best, write history, curves and previews."""
    with run_state.averaged(train_state):
        result, loss, previews = evaluator()
        if progress.loss_count and result["miou"] > progress.best_miou:
            progress.best_miou, progress.best_epoch, progress.epochs_without_gain = result["miou"], epoch, 0
            if cluster.chief:
                best_weights.write(run_folder, train_state.model)
        else:
            progress.epochs_without_gain += 1
    if patience and progress.epochs_without_gain >= patience:
        progress.stopped_early = True
    row = {
        "epoch": epoch + 1,
        "step": progress.step,
        "learning_rate": float(keras.ops.convert_to_numpy(train_state.optimizer.learning_rate)),
        "loss": progress.loss_sum / progress.loss_count if progress.loss_count else math.nan,
        "val_loss": loss,
        "val_miou": result["miou"],
        "val_pixel_accuracy": result["pixel_accuracy"],
        "skipped": progress.skipped,
    }
    progress.loss_sum, progress.loss_count = 0.0, 0
    progress.history.append(row)
    if cluster.chief:
        run_folders.write_history(run_folder / "history.csv", progress.history)
        report.preview(report.preview_path(run_folder, epoch + 1), previews, evaluator.spec)
    return row


@dataclass
class _Saving:
    """The chief's checkpoints: where asked for, and whenever CHECKPOINT_SECONDS have passed since the last."""

    run_folder: Path
    train_state: TrainState
    progress: Progress
    chief: bool
    saved_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.chief:
            checkpoints.begin(self.run_folder / "checkpoints")

    def perhaps(self, now: bool) -> None:
        if self.chief and (now or time.monotonic() - self.saved_at > CHECKPOINT_SECONDS):
            run_state.save(self.run_folder, self.train_state, self.progress)
            self.saved_at = time.monotonic()


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


def _show(line: Any, progress: Progress, loss: float) -> None:
    text = f"loss {loss:.3f}"
    if progress.history:
        text += f", mIoU {percent(progress.history[-1]['val_miou'], 1)}"
    line.set_postfix_str(text, refresh=False)
    line.update()


def _tell(
    line: Any, row: dict[str, Any], epochs: int, progress: Progress, track: Track, cluster: Cluster
) -> None:
    """The end of an epoch, on the terminal and to whoever tracks the run."""
    if cluster.chief:
        line.write(_epoch_line(row, epochs, progress, row["epoch"] - 1))
        track(progress.history)


def _epoch_line(row: dict[str, Any], epochs: int, progress: Progress, epoch: int) -> str:
    mark = "  best" if progress.best_epoch == epoch else ""
    return (
        f"epoch {row['epoch']}/{epochs}: loss {row['loss']:.4f}, val loss {row['val_loss']:.4f}, "
        f"mIoU {percent(row['val_miou'])}, pixel accuracy {percent(row['val_pixel_accuracy'])}{mark}"
    )
