"""Quantisation-aware training: its arithmetic, its gradients, what the int8 file gives, and what it can mend."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from export import run_tflite, tflite
from runtime.errors import UserError
from tests.tiny_training import recipe, snapshot
from training.engine import quantization
from training.engine.train_step import make_train_state, make_train_step

SIZE = (16, 24)


def in_numpy(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Jacob et al. 2018, eq. 1 and section 3.1: r = S (q - Z), Z a whole number, so that 0 is kept exactly."""
    scale = (high - low) / 255
    zero = np.round(-low / scale)
    return (np.clip(np.round(values / scale) + zero, 0, 255) - zero) * scale


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.0, 1.1), (-0.3, 7.1), (-20.0, 0.0)])
def test_a_tensor_is_rounded_as_numpy_rounds_it(low, high):
    values = np.random.default_rng(0).uniform(low - 1, high + 1, 5000).astype(np.float32)
    found = quantization.rounded(tf.constant(values), tf.constant(low), tf.constant(high)).numpy()
    step = (high - low) / 255
    off = np.abs(found - in_numpy(values.astype(np.float64), low, high))
    assert (off > 0.01 * step).mean() < 0.002  # halves may go either way
    assert off.max() < 1.01 * step
    assert len(np.unique(found)) == 256
    assert quantization.rounded(tf.zeros(1), tf.constant(low), tf.constant(high)).numpy() == 0.0


@pytest.mark.parametrize("depthwise", [False, True])
def test_a_kernel_has_255_steps_for_each_output_channel(depthwise):
    kernel = np.random.default_rng(1).normal(size=(3, 3, 4, 2)).astype(np.float32)
    kernel *= 10.0 ** np.arange(8).reshape(4, 2) if depthwise else 10.0 ** np.arange(2)
    found = quantization.rounded_kernel(tf.constant(kernel), depthwise).numpy()
    largest = np.abs(kernel).max(axis=(0, 1) if depthwise else (0, 1, 2), keepdims=True)
    wanted = np.round(kernel.astype(np.float64) / largest * 127) / 127 * largest
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_channel_s_factor_goes_through_the_rounding():
    """Why norms need not be folded: rounding gamma / sigma times a kernel is gamma / sigma times the rounded one."""
    kernel = tf.random.stateless_normal((3, 3, 4, 5), seed=(0, 1))
    factor = tf.constant([0.01, 3.0, -2.0, 700.0, 1e-5])
    folded = quantization.rounded_kernel(kernel * factor)
    np.testing.assert_allclose(folded, quantization.rounded_kernel(kernel) * factor, rtol=1e-4, atol=1e-9)


def test_gradients_go_straight_through_what_is_not_clipped():
    x = tf.constant([-3.0, -0.9, 0.004, 0.7, 1.4, 9.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = quantization.rounded(x, tf.constant(-1.0), tf.constant(1.5)) * [1.0, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(tape.gradient(y, x), [0, 2, 3, 4, 5, 0])
    kernel = tf.random.stateless_normal((3, 3, 2, 4), seed=(0, 2))
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        y = quantization.rounded_kernel(kernel) * 7.0
    np.testing.assert_array_equal(tape.gradient(y, kernel), np.full(kernel.shape, 7.0))


def test_ranges_stand_where_the_file_holds_a_tensor():
    """Normalisation's two, the fused first layer, the linear bottleneck, the sum with its ReLU, the scores; none behind
    a convolution that a norm follows, nor behind dropout."""
    model = network()
    found = [one.name.removesuffix("_range") for one in quantization.quantize(model)]
    names = [type(layer).__name__ for layer in model.operations if layer.name in found]
    assert names == ["TrueDivide", "Subtract", "ReLU", "BatchNormalization", "ReLU", "ReLU", "ReLU", "Conv2D"]
    assert set(found) > {"first_relu", "bottleneck_norm", "sum_relu", "read"}


def network(seed: int = 0) -> keras.Model:
    """(16, 24, 3) -> four classes: a fused convolution, a linear bottleneck, a sum with a ReLU."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((*SIZE, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, name="first")(image / 127.5 - 1.0)
    x = keras.layers.BatchNormalization(momentum=0.9, name="first_norm")(x)
    short = x = keras.layers.ReLU(6.0, name="first_relu")(x)
    x = keras.layers.Dropout(0.1, name="dropout")(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name="bottleneck_norm")(x)
    x = keras.layers.ReLU(name="sum_relu")(keras.layers.Add(name="sum")([x, short]))
    x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="wide")(x)
    x = keras.layers.ReLU(name="wide_relu")(
        keras.layers.BatchNormalization(momentum=0.9, name="norm_of_wide")(x)
    )
    x = keras.layers.Conv2D(8, 1, use_bias=False, name="narrow")(x)
    x = keras.layers.ReLU(6.0, name="narrow_relu")(keras.layers.BatchNormalization(name="norm_of_narrow")(x))
    model = keras.Model(image, {"logits": keras.layers.Conv2D(4, 1, name="read")(x)})
    return model


def spread_channels(model: keras.Model, wide: float) -> None:
    """The same function, with channels of up to `wide` times one another's range behind a depthwise convolution."""
    factors = wide ** np.linspace(0, 1, 8)
    norm, after = model.get_layer("norm_of_wide"), model.get_layer("narrow")
    gamma, beta, *moving = norm.get_weights()
    norm.set_weights([gamma * factors, beta * factors, *moving])
    (kernel,) = after.get_weights()
    after.set_weights([kernel / factors[:, None]])


def scenes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images whose class is which of four colours a pixel is nearest to, in blocks, with noise."""
    rng = np.random.default_rng(3)
    colours = np.array([(128, 64, 128), (70, 130, 180), (107, 142, 35), (220, 20, 60)])
    ids = rng.integers(0, 4, (count, SIZE[0] // 4, SIZE[1] // 4)).repeat(4, axis=1).repeat(4, axis=2)
    pixels = colours[ids] + rng.normal(0, 20, (*ids.shape, 3))
    pixels[0, 0, 0], pixels[0, 0, 1] = 0, 255
    return pixels.clip(0, 255).astype(np.uint8), ids.astype(np.uint8)


def logits(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    return model(tf.cast(pixels, tf.float32), training=False)["logits"].numpy()


@pytest.fixture(scope="module")
def files() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of a model in float, with 8 bits simulated, and of its int8 file, whose ranges are of the same images;
    the file's biases are as the converter makes them."""
    pixels, _ = scenes(8)
    model = network()
    spread_channels(model, 30.0)
    plain = logits(model, pixels)
    file = tflite.convert(model, SIZE, "int8", "scores", list(pixels), correct=False)
    quantization.calibrate(model, quantization.quantize(model), pixels)
    run = run_tflite.runner(file)
    return plain, logits(model, pixels), np.stack([run(image) for image in pixels])


def test_the_simulation_is_what_the_int8_file_gives(files):
    plain, simulated, file = files
    far, near = (np.sqrt(np.mean((some - file) ** 2)) for some in (plain, simulated))
    assert near < 0.01 * far, (near, far)


def test_weights_load_into_a_model_that_is_not_quantised(tmp_path):
    pixels, _ = scenes(2)
    model = network()
    before = logits(model, pixels)
    quantization.calibrate(model, quantization.quantize(model), pixels)
    model.save_weights(tmp_path / "best.weights.h5")
    plain = network(seed=5)
    plain.load_weights(tmp_path / "best.weights.h5")
    np.testing.assert_array_equal(logits(plain, pixels), before)


def steps(model: keras.Model, count: int, pixels: np.ndarray, labels: np.ndarray, **changes) -> list[float]:
    chosen = recipe(ema=0.0, schedule="constant", clip_norm=0.0, **changes)
    step = make_train_step(
        make_train_state(model, chosen.optimisation, 10), chosen, tf.distribute.get_strategy(), None
    )
    images = tf.cast(pixels, tf.float32)
    return [float(step(images, tf.constant(labels))[0]) for _ in range(count)]


def correct(model: keras.Model, pixels: np.ndarray, labels: np.ndarray) -> float:
    return float((logits(model, pixels).argmax(-1) == labels).mean())


def error(model: keras.Model, pixels: np.ndarray, labels: np.ndarray) -> float:
    return float((logits(model, pixels).argmax(-1) != labels).mean())


def test_what_8_bits_break_a_few_steps_mend():
    """Channels of a depthwise convolution whose ranges are up to 800 times one another's share the one scale of the
    tensor behind them: the narrow ones are lost. The float model, which scales them back, loses nothing."""
    pixels, labels = scenes(8)
    model = network()
    steps(model, 150, pixels, labels, learning_rate=0.01)
    in_float = error(model, pixels, labels)
    spread_channels(model, 800.0)
    assert error(model, pixels, labels) == pytest.approx(in_float, abs=0.002)
    quantization.calibrate(model, quantization.quantize(model), pixels)
    broken = error(model, pixels, labels)
    assert broken > in_float + 0.1, (in_float, broken)
    steps(model, 150, pixels, labels, learning_rate=0.01)
    mended = error(model, pixels, labels)
    assert mended < in_float + 0.1 * (broken - in_float), (in_float, broken, mended)


def test_a_resumed_step_is_the_same_to_the_bit():
    def begun() -> tuple:
        model = network()
        quantization.calibrate(model, quantization.quantize(model), scenes(2)[0])
        chosen = recipe(ema=0.9, learning_rate=0.01)
        train_state = make_train_state(model, chosen.optimisation, 10)
        return train_state, make_train_step(train_state, chosen, tf.distribute.get_strategy(), None)

    tf.config.experimental.enable_op_determinism()
    images, labels = tf.cast(scenes(4)[0], tf.float32), tf.constant(scenes(4)[1])
    train_state, step = begun()
    first = snapshot(train_state)
    for _ in range(2):
        step(images, labels)
    middle = snapshot(train_state)
    step(images, labels)
    last = snapshot(train_state)
    names = {name for name in first if not np.array_equal(first[name], middle[name])}
    other, again = begun()
    for name, variable in other.variables().items():
        variable.assign(middle[name])
    again(images, labels)
    for name, value in snapshot(other).items():
        assert value.tobytes() == last[name].tobytes(), name
    moved = [
        variable.path
        for variable in train_state.model.non_trainable_variables
        if variable.path.endswith("high")
    ]
    assert len(moved) == len(train_state.model.ranges) and len(names) > len(moved)


def test_a_step_that_is_not_finite_leaves_the_ranges():
    model = network()
    quantization.calibrate(model, quantization.quantize(model), scenes(2)[0])
    chosen = recipe(ema=0.0)
    train_state = make_train_state(model, chosen.optimisation, 10)
    step = make_train_step(train_state, chosen, tf.distribute.get_strategy(), None)
    before = snapshot(train_state)
    images, labels = scenes(4)
    _, finite = step(tf.cast(images, tf.float32) * np.nan, tf.constant(labels))
    assert not finite
    for name, value in snapshot(train_state).items():
        if not name.startswith("optimizer"):
            np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_what_cannot_be_quantised_is_refused():
    image = keras.Input((8, 8, 3))
    with pytest.raises(UserError, match="no kernel"):
        quantization.quantize(keras.Model(image, {"logits": keras.layers.ReLU()(image)}))
    model = network()
    with pytest.raises(UserError, match="no image"):
        quantization.calibrate(model, quantization.quantize(model), [])
    with pytest.raises(UserError, match="already"):
        quantization.quantize(model)
    with pytest.raises(UserError, match="--init"):
        recipe(quantize=True)
