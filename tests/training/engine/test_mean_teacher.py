"""A mean teacher on images without labels: what it says, what the student learns of it, and an exact resume."""

from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from runtime.errors import UserError, exit_on_user_error
from tests.tiny_training import SPEC, Recorder, batch, examples, recipe, small_model, snapshot
from training import train
from training.data import unlabeled
from training.data.augmentation import NONE, Augmentation
from training.data.pipeline import DecodedCache
from training.engine import loop, mean_teacher
from training.engine.train_step import make_train_state, make_train_step
from training.runs import learnt_from


def strategy() -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy("/cpu:0")


def crops() -> tuple[tf.Tensor, tf.Tensor]:
    images, _ = batch()
    return tf.cast(tf.clip_by_value(images, 0.0, 255.0), tf.uint8), tf.zeros((4, 8, 8), tf.uint8)


def semi(**changes):
    return recipe(unlabeled="somewhere", unlabeled_images=8, augmentation=NONE, batch=4, **changes)


def sure_model() -> keras.Model:
    """Without norm and dropout, and with logits so large that nearly all of them are sure."""
    model = small_model(norm=False)
    model.get_layer("head").set_weights([40 * w for w in model.get_layer("head").get_weights()])
    return model


def test_the_average_is_tarvainens():
    """theta' = a theta' + (1 - a) theta after each step, with a = min(ema, (1 + t) / (10 + t)) after t steps."""
    made = semi(ema=0.25, learning_rate=0.05)
    state = make_train_state(small_model(), made.optimisation, 10)
    step, expected = make_train_step(state, made, strategy(), None), None
    for taken in range(1, 4):
        before = snapshot(state)
        step((batch()[0], crops()), batch()[1])
        decay = min(0.25, (1 + taken) / (10 + taken))
        after = snapshot(state)
        weights = [keras.ops.convert_to_numpy(weight) for weight in state.model.weights]
        for number, weight in enumerate(weights):
            expected = decay * before[f"ema/{number:04d}"] + (1 - decay) * weight
            np.testing.assert_allclose(after[f"ema/{number:04d}"], expected, rtol=1e-4, atol=1e-6)


def test_the_teacher_is_the_average_and_not_the_student():
    made = semi(ema=0.9)
    model = sure_model()
    state = make_train_state(model, made.optimisation, 10)
    told = mean_teacher.make_consistency(model, state.ema, made, 1)
    weights = [tf.convert_to_tensor(one.value) for one in model.trainable_variables]
    rest = [tf.convert_to_tensor(one.value) for one in model.non_trainable_variables]
    seed = tf.constant([0, 1])
    first = float(told(weights, rest, crops(), seed)[0])
    for shadow in state.ema:
        shadow.assign(-shadow)  # another teacher says something else of the same student
    assert float(told(weights, rest, crops(), seed)[0]) != pytest.approx(first, rel=0.05)


def test_nothing_that_the_teacher_says_is_differentiated_and_its_weight_is_linear():
    losses = []
    for weight in (0.0, 1.0, 3.0):
        made = semi(ema=0.9, unlabeled_weight=weight)
        state = make_train_state(sure_model(), made.optimisation, 10)
        losses.append(
            float(make_train_step(state, made, strategy(), None)((batch()[0], crops()), batch()[1])[0])
        )
    plain = recipe(augmentation=NONE, batch=4, ema=0.9)
    state = make_train_state(sure_model(), plain.optimisation, 10)
    alone = float(make_train_step(state, plain, strategy(), None)(*batch())[0])
    assert losses[0] == pytest.approx(alone, rel=1e-6)
    assert losses[1] > losses[0]
    assert losses[2] - losses[0] == pytest.approx(3 * (losses[1] - losses[0]), rel=1e-4)


def test_colours_change_the_student_s_images_and_a_seed_gives_the_same_again():
    images = crops()[0]
    strong = Augmentation(brightness=0.5, blur=1.0)
    first, again, other = (
        mean_teacher.strong(images, tf.constant([seed, 0]), strong).numpy() for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and (first != images.numpy()).any()
    np.testing.assert_array_equal(mean_teacher.strong(images, tf.constant([1, 0]), NONE), images)
    assert mean_teacher.geometry_of(strong) == Augmentation(
        brightness=0, contrast=0, saturation=0, hue=0, blur=0
    )


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path, accumulate: int):
    def run(name: str, *callbacks: keras.callbacks.Callback) -> None:
        made = recipe(
            unlabeled="somewhere", unlabeled_images=6, crop=(32, 32), batch=4, accumulate=accumulate, epochs=2,
            ema=0.5, augmentation=Augmentation(scale=(0.8, 1.2)),
        )  # fmt: skip
        device = strategy()
        with device.scope():
            model = small_model()
        loop.train(
            made, model, SPEC, DecodedCache(examples(8, 0)), DecodedCache(examples(2, 1)), tmp_path / name,
            strategy=device, unlabelled=DecodedCache(examples(6, 2)), callbacks=callbacks,
            say=lambda line: None,
        )  # fmt: skip

    for name in ("straight", "stopped"):
        (tmp_path / name).mkdir()
    run("straight")
    run("stopped", Recorder(stop_after=0))
    run("stopped")
    first, second = (
        (tmp_path / name / "checkpoints" / "step-00000004.checkpoint").read_bytes()
        for name in ("straight", "stopped")
    )
    assert first == second


def write(folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    for number in range(count):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((40, 40, 3), 80 * number, np.uint8))
    return folder


def test_the_images_of_a_folder_and_what_is_wrong_with_one(tmp_path: Path):
    folder = write(tmp_path / "more")
    (folder / "inner").mkdir()
    cv2.imwrite(str(folder / "inner" / "0.png"), np.zeros((40, 40, 3), np.uint8))
    found = unlabeled.load(folder)
    assert [one.name for one in found] == ["0.png", "1.png", "2.png", "inner/0.png"]
    rgb, labels = found[1].read()
    assert rgb.shape == (40, 40, 3) and not labels.any() and labels.shape == (40, 40)
    (folder / "3.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"(?s)--unlabeled .*more has 1 problem beside 4 good images.*3\.png"):
        unlabeled.load(folder)
    assert len(unlabeled.load(folder, skip_bad=True)) == 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["unet", "--unlabeled", "nowhere"],
            "--unlabeled nowhere is not a folder: name one that holds images",
        ),
        (["unet", "--unlabeled", "empty"], "--unlabeled empty holds no images"),
        (
            ["otsu", "--unlabeled", "more"],
            "otsu counts, and learns nothing from images without labels: leave",
        ),
        (["unet", "--unlabeled", "more", "--ema", "0"], "choose an --ema above 0, such as 0.99"),
        (["unet", "--unlabeled", "more", "--batch", "2", "--accumulate", "2"], "choose --batch 4 or more"),
        (
            ["sam", "--unlabeled", "more"],
            "sam is prompted, and learns from labels alone: leave --unlabeled out",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path: Path, monkeypatch, capfd, words, told):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "more")
    (tmp_path / "empty").mkdir()
    small = ["--data-option", "size=32x48", "count=2", "--crop", "32x32", "--epochs", "1"]
    assert exit_on_user_error(train.main, [*words, *small]) == 2
    shown = capfd.readouterr().err.strip().splitlines()
    assert told in shown[-1] and not any("Traceback" in line for line in shown)


def test_a_run_with_them_is_another_run_and_says_what_it_has_learnt_from():
    made, moved, more = (
        recipe(unlabeled=place, unlabeled_images=count) for place, count in (("a", 3), ("b", 3), ("a", 4))
    )
    assert not made.differences(moved)
    assert made.differences(more) and made.differences(recipe())
    assert [one["how"] for one in learnt_from.of(made)] == ["data", "unlabeled"]
