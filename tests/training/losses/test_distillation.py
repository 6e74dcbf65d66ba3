"""Distillation: the divergence beside torch's, a teacher in the step, and teachers of every kind opened."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from runtime.errors import UserError
from tests import references, tiny_tflite
from tests.tiny_training import SPEC, Recorder, batch, examples, recipe, small_model, uneven, wise
from training.data.augmentation import NONE
from training.data.pipeline import DecodedCache
from training.engine import loop, teacher
from training.engine.train_step import make_train_state, make_train_step
from training.losses.distillation import distillation
from training.runs import checkpoints
from training.runs.recipe import Recipe

CLASSES = tiny_tflite.LABELS


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_value_and_gradient_are_torchs(temperature: float) -> None:
    torch = references.torch()
    rng = np.random.default_rng(0)
    student, wise = rng.normal(0, 3, (2, 2, 5, 7, 4)).astype(np.float32)
    labels = rng.choice([0, 3, 255], (2, 5, 7)).astype(np.uint8)

    logits = tf.constant(student)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = distillation(
            {"logits": logits, "teacher_logits": tf.constant(wise)}, labels, temperature=temperature
        )
    theirs = torch.tensor(student, requires_grad=True)
    counted = torch.tensor(labels != 255)
    log_softmax = torch.nn.functional.log_softmax
    expected = (
        torch.nn.KLDivLoss(reduction="sum", log_target=True)(
            log_softmax(theirs / temperature, -1)[counted],
            log_softmax(torch.tensor(wise) / temperature, -1)[counted],
        )
        / counted.sum()
        * temperature**2
    )
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(value, logits), theirs.grad.numpy(), rtol=1e-4, atol=1e-7)


def test_without_a_pixel_that_counts_it_is_nothing_and_bfloat16_is_finite() -> None:
    logits = tf.cast(tf.random.stateless_normal((1, 4, 4, 3), [1, 2]) * 50, tf.bfloat16)
    outputs = {"logits": logits, "teacher_logits": -logits}
    assert float(distillation(outputs, tf.fill((1, 4, 4), tf.constant(255)))) == 0.0
    assert np.isfinite(float(distillation(outputs, tf.zeros((1, 4, 4), tf.int32))))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_step_adds_what_the_teacher_says(accumulate: int) -> None:
    """The first step's loss, by torch from the student's logits before it; void lies unevenly in the parts."""
    torch = references.torch()
    made = recipe(teacher_weight=0.7, teacher_temperature=2.0, accumulate=accumulate, batch=4)
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    images, labels = uneven()
    train_state = make_train_state(small_model(norm=False), made.optimisation, 10)
    before = train_state.model(images, training=False)["logits"].numpy()
    loss, finite = make_train_step(train_state, made, strategy, None, wise)(images, labels)

    counted = labels.numpy() != 255
    student = torch.tensor(before[counted])
    cross_entropy = torch.nn.functional.cross_entropy(student, torch.tensor(labels.numpy()[counted]).long())
    divergence = torch.nn.functional.kl_div(
        torch.log_softmax(student / 2.0, -1),
        torch.softmax(torch.tensor(wise(images).numpy()[counted]) / 2.0, -1),
        reduction="batchmean",
    )
    assert bool(finite)
    np.testing.assert_allclose(loss, (cross_entropy + 0.7 * 4.0 * divergence).item(), rtol=1e-5)


def test_a_student_learns_from_its_teacher_alone() -> None:
    """Labels that are noise weigh little: what the student ends up with is the teacher's classes."""
    made = recipe(learning_rate=0.05, teacher_weight=100.0, schedule="constant", optimizer="adamw", ema=0.0)
    images, truth = batch()
    noise = tf.constant(np.random.default_rng(5).integers(0, 3, truth.shape).astype(np.uint8))
    train_state = make_train_state(small_model(norm=False), made.optimisation, 10)
    step = make_train_step(train_state, made, tf.distribute.OneDeviceStrategy("/cpu:0"), None, wise)
    for _ in range(60):
        step(images, noise)
    found = np.argmax(train_state.model(images, training=False)["logits"], -1)
    assert (found == np.argmax(wise(images), -1)).mean() > 0.9


def write(folder: Path, content: bytes | None = None, **changes) -> Path:
    path = folder / "teacher.tflite"
    return tiny_tflite.write_bundle(
        path, content or tiny_tflite.scores_model(), **{"output": "scores", **changes}
    )


def opened(made: Recipe, classes):
    return teacher.open_teacher(made.loss, made.data.crop, classes)


def taught(path: Path, **changes):
    return recipe(teacher=str(path), teacher_sha256=teacher.fingerprint(path), **changes)


def test_a_tflite_teacher_gives_its_scores_at_the_size_of_the_crop(tmp_path: Path) -> None:
    path = write(tmp_path)  # of 8 x 12 pixels: half of each colour is that class's score
    ask = opened(taught(path), CLASSES)
    assert ask is not None
    rgb, _ = tiny_tflite.colours()
    whole = ask(tf.constant(rgb[None].repeat(2, 0)))
    np.testing.assert_allclose(whole, rgb[None].repeat(2, 0) * 0.5, atol=1e-5)
    # The same classes in another order are the same classes.
    turned = opened(taught(path), ("Blue", "red", "green"))
    assert turned is not None
    np.testing.assert_allclose(turned(tf.constant(rgb[None])), rgb[None, ..., [2, 0, 1]] * 0.5, atol=1e-5)
    # Inside a graph, from images of another size, which are brought to the file's and their scores back.
    large = tf.fill((3, 32, 48, 3), 0.0) + tf.constant([10.0, 20.0, 30.0])
    found = tf.function(ask)(large)
    assert found.shape == (3, 32, 48, 3)
    np.testing.assert_allclose(found, np.broadcast_to([5.0, 10.0, 15.0], found.shape), atol=1e-4)


def test_a_file_that_ends_in_a_softmax_is_taken_back_to_logits(tmp_path: Path) -> None:
    def probabilities(rgb: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(tf.cast(rgb, tf.float32) / 64.0)

    path = write(tmp_path, tiny_tflite.convert(probabilities, (1, 8, 12, 3)))
    ask = opened(taught(path), CLASSES)
    assert ask is not None
    rgb, _ = tiny_tflite.colours()
    expected = tf.nn.softmax(rgb[None].astype(np.float32) / 64.0)
    np.testing.assert_allclose(tf.nn.softmax(ask(tf.constant(rgb[None]))), expected, atol=1e-5)


def run_folder(folder: Path) -> Path:
    """A run of a model as small as it gets, with random weights."""
    from training.runs.trained_run import build_model

    made = Recipe.of(
        model="fcn",
        data="camvid",
        data_dir="d",
        backbone="mobilenet_v2",
        output_stride=32,
        model_options={"head_filters": 4},
        crop=(32, 32),
    )
    folder.mkdir()
    (folder / "recipe.json").write_text(made.to_json())
    build_model(made, 11).save_weights(folder / "best.weights.h5")
    return folder


def test_a_run_teaches_in_inference_mode_and_in_float32(tmp_path: Path) -> None:
    from training.data import spec
    from training.runs import trained_run

    folder = run_folder(tmp_path / "wise")
    made = taught(folder, crop=(32, 32))
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        ask = opened(made, spec("camvid").classes)
        assert keras.mixed_precision.dtype_policy().name == "mixed_float16"
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert ask is not None
    images = tf.random.stateless_uniform((2, 32, 32, 3), [1, 2], 0, 255)
    expected = trained_run.load(folder).model((32, 32))(images, training=False)["logits"]
    turned = opened(made, spec("camvid").classes[::-1])
    assert turned is not None
    np.testing.assert_allclose(turned(images), np.asarray(expected)[..., ::-1], rtol=1e-4, atol=1e-5)
    for _ in range(2):  # nothing of it moves
        np.testing.assert_allclose(ask(images), expected, rtol=1e-4, atol=1e-5)

    with pytest.raises(UserError, match="the teacher .*wise has the classes .* but the data has red, green"):
        opened(made, CLASSES)
    with (folder / "best.weights.h5").open("ab") as file:
        file.write(b"later")
    with pytest.raises(UserError, match="the teacher .*wise has changed since this run began"):
        opened(made, spec("camvid").classes)


def test_a_teacher_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the teacher .*none.tflite is not there"):
        teacher.fingerprint(tmp_path / "none.tflite")
    with pytest.raises(UserError, match="nowhere is not a run folder"):
        teacher.fingerprint(tmp_path / "nowhere")
    path = write(tmp_path, tiny_tflite.mask_model(), output="mask")
    with pytest.raises(UserError, match="gives class ids, not scores: export it with --output scores"):
        opened(taught(path), CLASSES)
    path = write(tmp_path)
    with pytest.raises(UserError, match="has the classes red, green, blue, but the data has road, sky, car"):
        opened(taught(path), ("road", "sky", "car"))
    (tmp_path / "plain.tflite").write_bytes(
        tiny_tflite.scores_model()
    )  # without labels only the number counts
    assert opened(taught(tmp_path / "plain.tflite"), ("road", "sky", "car")) is not None
    with pytest.raises(UserError, match="plain.tflite has the classes class 0"):
        opened(taught(tmp_path / "plain.tflite"), ("road", "sky"))


def test_a_model_without_logits_has_no_teacher_and_a_run_is_not_its_own() -> None:
    image = keras.Input((None, None, 3))
    keys = ("masks", "iou", "single_mask", "single_iou")
    model = keras.Model(image, {key: keras.layers.Conv2D(1, 1)(image) for key in keys})
    made = recipe(model="sam", data="scenes", teacher="runs/wise/best.tflite")
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with pytest.raises(
        UserError, match="sam gives no logits to compare with a teacher's: leave --teacher out"
    ):
        make_train_step(make_train_state(model, made.optimisation, 10), made, strategy, None, wise)
    teacher.refuse_own_folder(made.loss.teacher, Path("runs/other"))
    with pytest.raises(UserError, match="runs/wise/best.tflite lies in the run's own folder"):
        teacher.refuse_own_folder(made.loss.teacher, Path("runs/wise"))


def test_a_changed_teacher_is_another_recipe_and_a_moved_one_is_not(tmp_path: Path) -> None:
    from training.runs import run_folders

    path = write(tmp_path)
    first, run = taught(path), tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "recipe.json").write_text(first.to_json())
    (run / "checkpoints" / "step-00000001.checkpoint").touch()
    moved = path.rename(tmp_path / "moved.tflite")
    run_folders.claim(run, taught(moved), fresh=False)
    assert json.loads((run / "recipe.json").read_text())["teacher_sha256"] == first.loss.teacher_sha256
    write(tmp_path, tiny_tflite.scores_model(stride=2))
    with pytest.raises(UserError, match="differs in teacher_sha256"):
        run_folders.claim(run, taught(path), fresh=False)


def test_a_run_with_a_teacher_in_parts_and_frozen_norms_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """Stopped after its first epoch and started again, beside one that nothing stopped."""

    def train(name: str, *callbacks: keras.callbacks.Callback) -> None:
        made = recipe(
            crop=(32, 32), batch=4, accumulate=2, epochs=2, ema=0.5, freeze_bn="all", teacher_temperature=2.0,
            teacher_weight=0.5, schedule="one_cycle", augmentation=NONE,
        )  # fmt: skip
        strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
        with strategy.scope():
            model = small_model()
        loop.train(
            made, model, SPEC, DecodedCache(examples(8, 0)), DecodedCache(examples(2, 1)), tmp_path / name,
            strategy=strategy, teacher=wise, callbacks=callbacks, say=lambda line: None,
        )  # fmt: skip

    for name in ("straight", "stopped"):
        (tmp_path / name).mkdir()
    train("straight")
    train("stopped", Recorder(stop_after=0))
    train("stopped")
    one, other = (
        checkpoints.latest(tmp_path / name / "checkpoints", print) for name in ("straight", "stopped")
    )
    assert one is not None and other is not None
    assert one[1]["progress"] == other[1]["progress"] and one[1]["step"] == 4
    for name, array in one[0].items():
        assert array.tobytes() == other[0][name].tobytes(), name
