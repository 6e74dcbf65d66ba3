"""The training step: what it assigns, what it refuses to assign, and that two devices do what one does."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tiny import REPOSITORY, environment
from training.optimisation import rate_factors
from training.recipe import Recipe
from training.step import make_train_step, make_trainee


def small_model(norm: bool = True) -> keras.Model:
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3), name="image")
    inner = keras.Input((None, None, 3))
    y = keras.layers.Conv2D(4, 3, padding="same")(inner)
    backbone = keras.Model(inner, keras.layers.BatchNormalization()(y) if norm else y, name="backbone")
    x = keras.layers.ReLU()(backbone(keras.layers.Rescaling(1 / 255)(image)))
    x = keras.layers.Dropout(0.2)(x) if norm else x
    return keras.Model(image, {"logits": keras.layers.Conv2D(3, 1, name="head")(x)})


def recipe(**changes) -> Recipe:
    values = {"model": "deeplabv3plus", "data": "camvid", "data_dir": "d", "warmup_epochs": 0.0, "epochs": 10}
    return Recipe(**{**values, **changes})


def batch() -> tuple[tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, (4, 8, 8)).astype(np.uint8)
    images = labels[..., None] * 80.0 + rng.normal(0, 5, (4, 8, 8, 3))
    return tf.constant(images, tf.float32), tf.constant(labels)


def snapshot(trainee) -> dict[str, np.ndarray]:
    return {name: np.array(keras.ops.convert_to_numpy(value)) for name, value in trainee.variables().items()}


@pytest.fixture
def strategy() -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy("/cpu:0")


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_steps_lower_the_loss_and_move_everything(strategy, optimizer, precision) -> None:
    made = recipe(optimizer=optimizer, precision=precision, learning_rate=0.02)
    keras.mixed_precision.set_global_policy(precision)
    try:
        trainee = make_trainee(small_model(), made, 10)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    step = make_train_step(trainee, made, strategy, None)
    before = snapshot(trainee)
    losses = [float(step(*batch())[0]) for _ in range(20)]
    assert np.mean(losses[-3:]) < 0.7 * losses[0]
    after = snapshot(trainee)
    moved = [name for name in before if not np.array_equal(before[name], after[name])]
    for weight in range(len(trainee.model.weights)):
        assert f"ema/{weight:04d}" in moved


def test_a_step_that_is_not_finite_assigns_nothing(strategy) -> None:
    made = recipe()
    trainee = make_trainee(small_model(), made, 10)
    step = make_train_step(trainee, made, strategy, None)
    images, labels = batch()
    step(images, labels)
    before = snapshot(trainee)
    loss, finite = step(images + tf.constant(np.nan, tf.float32), labels)
    assert not bool(finite) and not np.isfinite(float(loss))
    after = snapshot(trainee)
    for name, value in before.items():  # weights, BatchNorm statistics, dropout seeds, optimizer, average
        np.testing.assert_array_equal(value, after[name], err_msg=name)
    assert bool(step(images, labels)[1])


def test_the_backbone_learns_at_its_own_rate(strategy) -> None:
    """Plain SGD without momentum effects on the first step: an update at a third of the rate is a third."""
    moves = {}
    for factor in (1.0, 0.25):
        made = recipe(optimizer="sgd", learning_rate=0.1, backbone_rate=factor, ema=0.0, weight_decay=1e-2)
        trainee = make_trainee(small_model(), made, 10)
        before = snapshot(trainee)
        make_train_step(trainee, made, strategy, None)(*batch())
        after = snapshot(trainee)
        moves[factor] = [after[name] - before[name] for name in before if name.startswith("model/")]
        factors = rate_factors(trainee.model, {"backbone": factor})
        assert factors.count(factor) == (4 if factor != 1.0 else len(factors))
    kernel, head = 0, -2
    names = [variable.path for variable in small_model().variables]
    assert "head" not in names[kernel]
    np.testing.assert_allclose(moves[0.25][kernel], 0.25 * moves[1.0][kernel], rtol=1e-3, atol=1e-7)
    same = [np.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(moves[0.25], moves[1.0], strict=True)]
    assert any(same) and not all(same), head


def test_the_average_is_the_exponential_one(strategy) -> None:
    made = recipe(ema=0.5, optimizer="sgd", learning_rate=0.1)
    trainee = make_trainee(small_model(), made, 10)
    step = make_train_step(trainee, made, strategy, None)
    expected = [np.array(weight) for weight in trainee.model.get_weights()]
    for taken in (1, 2, 3):
        step(*batch())
        decay = min(0.5, (1 + taken) / (10 + taken))
        weights = trainee.model.get_weights()
        expected = [decay * e + (1 - decay) * w for e, w in zip(expected, weights, strict=True)]
    for shadow, value in zip(trainee.ema, expected, strict=True):
        np.testing.assert_allclose(shadow.numpy(), value, rtol=1e-5, atol=1e-6)


TWO_DEVICES = """
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from tests.test_step import batch, recipe, small_model
from training.step import make_train_step, make_trainee
results = []
for strategy in (tf.distribute.OneDeviceStrategy("/cpu:0"), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    made = recipe(optimizer="sgd", learning_rate=0.1)
    with strategy.scope():
        model = small_model(norm=False)
        trainee = make_trainee(model, made, 10)
    step = make_train_step(trainee, made, strategy, None)
    data = tf.data.Dataset.from_tensors(batch()).repeat().unbatch().batch(4)
    feed = iter(strategy.experimental_distribute_dataset(data))
    losses = [float(step(*next(feed))[0]) for _ in range(4)]
    results.append((losses, [np.array(w) for w in model.get_weights()], [e.numpy() for e in trainee.ema]))
(one_losses, one, one_ema), (two_losses, two, two_ema) = results
np.testing.assert_allclose(one_losses, two_losses, rtol=1e-5)
for a, b in zip(one + one_ema, two + two_ema):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
print("the same on", len(results), "strategies")
"""


def test_two_mirrored_devices_do_what_one_does() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES], cwd=REPOSITORY, env=environment(), capture_output=True, text=True
    )
    assert "the same on 2 strategies" in done.stdout, done.stderr[-3000:]
