"""The loop with a small model in this process: callbacks, early stopping, bad steps, images that vanish."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from evaluation import report
from runtime.errors import UserError
from tests.tiny_training import SPEC, Recorder, examples, small_model
from training.data.augmentation import NONE
from training.data.pipeline import DecodedCache
from training.data.spec import Example
from training.engine import loop, validation
from training.runs import checkpoints
from training.runs.recipe import Recipe


def train(
    tmp_path: Path, *, callbacks=(), training=None, said=None, weights=None, **changes
) -> loop.Progress:
    values = {"model": "deeplabv3plus", "data": "camvid", "data_dir": "d", "crop": (32, 32), "batch": 4,
              "epochs": 4, "learning_rate": 0.05, "warmup_epochs": 0.0, "ema": 0.5,
              "augmentation": NONE, **changes}  # fmt: skip
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        model = small_model()
    return loop.train(
        Recipe.of(**values),
        model,
        SPEC,
        DecodedCache(training or examples(16, 0)),
        DecodedCache(examples(4, 1)),
        tmp_path,
        strategy=strategy,
        callbacks=callbacks,
        class_weights=weights,
        say=(said if said is not None else []).append,
    )


def test_it_learns_and_keras_callbacks_see_it(tmp_path: Path) -> None:
    recorder = Recorder()
    progress = train(tmp_path, callbacks=[recorder])
    batches = ["batch 0", "batch 1", "batch 2", "batch 3"]
    assert recorder.calls == [
        "train begin", *(call for epoch in range(4) for call in [*batches, f"epoch {epoch}"]), "train end",
    ]  # fmt: skip
    assert progress.best_miou > 0.9
    assert recorder.rows[-1]["val_miou"] == progress.history[-1]["val_miou"]
    assert (tmp_path / "best.weights.h5").exists()


def test_the_best_weights_are_those_of_the_best_score(tmp_path: Path) -> None:
    progress = train(tmp_path)
    model = small_model()
    model.load_weights(tmp_path / "best.weights.h5")
    validator = validation.Validator(
        model, SPEC, DecodedCache(examples(4, 1)), lambda outputs, labels: tf.constant(0.0)
    )
    assert validator()[0]["miou"] == progress.best_miou == max(row["val_miou"] for row in progress.history)


def test_validation_scales_the_images_and_scores_at_their_own_size() -> None:
    """The stand-in model says what stands in each pixel's red; of the scores in between, the nearer one's is larger."""
    ids = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.uint8)
    rgb = np.repeat(ids[..., None] * 200, 3, axis=2).astype(np.uint8)
    cache = DecodedCache([Example("a", lambda: (rgb, ids))])

    def model(images: tf.Tensor, training: bool) -> dict[str, tf.Tensor]:
        assert images.shape == (1, 4, 8, 3) and not training
        return {"logits": tf.stack([100 - images[..., 0], images[..., 0] - 100], axis=-1)}

    def loss(outputs: dict[str, tf.Tensor], labels: tf.Tensor) -> tf.Tensor:
        tf.debugging.assert_equal(labels, np.kron(ids, np.ones((2, 2), np.uint8))[None])
        return tf.constant(0.5)

    scores, mean, ((_, _, predicted),) = validation.Validator(model, SPEC, cache, loss, scale=2.0)()
    np.testing.assert_array_equal(predicted, ids)
    assert scores["miou"] == 1 and mean == 0.5


def test_a_callback_can_stop_the_run(tmp_path: Path) -> None:
    assert train(tmp_path, callbacks=[Recorder(stop_after=1)]).step == 8


def test_patience_ends_a_run_that_no_longer_gains_and_it_stays_ended(tmp_path: Path) -> None:
    # A rate of next to nothing: the score of the first epoch is never beaten.
    quiet = {"learning_rate": 1e-9, "ema": 0.0, "patience": 2, "weight_decay": 0.0, "bn_momentum": 0.0}
    progress = train(tmp_path, **quiet, epochs=50)
    assert progress.stopped_early and len(progress.history) < 50
    assert progress.epochs_without_gain == 2
    said: list[str] = []
    assert train(tmp_path, **quiet, epochs=50, said=said).step == progress.step
    assert "finished" in said[-1]


def test_ten_bad_steps_in_a_row_end_the_run_with_the_reason(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(UserError, match="10 steps in a row .* --learning-rate"):
        train(
            tmp_path,
            learning_rate=100.0,
            clip_norm=0.0,
            optimizer="sgd",
            weight_decay=1.0,
            epochs=300,
            batch=1,  # an epoch of 16 steps
            said=said,
        )
    assert "not finite" in said[-1]


def test_an_epoch_without_one_finite_step_is_no_perfect_curve(tmp_path: Path) -> None:
    """The row says nan, nothing is the best, the run ends with the reason, and may begin anew with another recipe."""
    with pytest.raises(UserError, match="epoch 1 had no finite step, .* --learning-rate"):
        train(tmp_path, weights=[float("nan")] * 3)
    row = report.read_history(tmp_path)[0]
    assert np.isnan(row["loss"]) and row["skipped"] == 4 and 0 <= row["val_miou"] <= 1
    assert not (tmp_path / "best.weights.h5").exists()
    assert checkpoints.has_begun(tmp_path / "checkpoints")
    report.draw_curves(tmp_path / "curves.png", [row])


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "OOM when allocating tensor with shape[4,32]",
            "a batch of 4 crops of 32x32 does not fit .* --accumulate",
        ),
        ("tensorboard/events.v2; No space left on device", "the disk is full; the last checkpoint is whole"),
    ],
)
def test_when_memory_or_disk_ends_there_is_a_sentence(tmp_path: Path, message: str, said: str) -> None:
    class Exhausted(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None) -> None:
            raise tf.errors.ResourceExhaustedError(None, None, message)

    with pytest.raises(UserError, match=said):
        train(tmp_path, callbacks=[Exhausted()])


def test_a_image_that_vanishes_during_training_is_named(tmp_path: Path) -> None:
    def gone() -> tuple[np.ndarray, np.ndarray]:
        raise UserError("street_7.png does not exist.")

    with pytest.raises(UserError, match="^street_7.png does not exist.$"):
        train(tmp_path, training=[*examples(15, 0), Example("7", gone)])
