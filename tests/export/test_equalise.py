"""Equalised, a network computes what it did, and its channels share the 256 steps of int8."""

import keras
import numpy as np
import pytest

from export import equalise, surgery, tflite
from tests.exported import colour_examples

SIZE = (16, 24)


def network(activation: str = "relu", second_reader: bool = False) -> keras.Model:
    """Convolution, depthwise convolution of stride 2, convolution; channels of the first go from 0.01 to 1."""
    image = keras.Input((*SIZE, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", name="first")(image / 255.0)
    x = first = keras.layers.Activation(activation)(x)
    x = keras.layers.ZeroPadding2D(1)(x)
    x = keras.layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2, name="depthwise")(x)
    x = keras.layers.Activation(activation)(x)
    x = keras.layers.Conv2D(6, 1, name="second")(x)
    if second_reader:
        first = keras.layers.AveragePooling2D(2)(first)
        x = keras.layers.Concatenate()([x, first])
    model = keras.Model(image, {"logits": keras.layers.Conv2D(4, 1, name="last")(x)})
    rng = np.random.default_rng(3)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape))
    kernel, bias = model.get_layer("first").get_weights()
    by = np.logspace(-2, 0, 8)
    model.get_layer("first").set_weights([kernel * by, bias * by])
    kernel, bias = model.get_layer("depthwise").get_weights()
    model.get_layer("depthwise").set_weights([kernel / by[:, None], bias])  # the narrow ones matter as much
    return model


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [example.read()[0] for example in colour_examples(SIZE, 3)]


def scores(file: bytes, image: np.ndarray) -> np.ndarray:
    return tflite.run_tflite.runner(file)(image)


def test_the_float_network_computes_what_it_did_through_padding_and_depth_multipliers(images):
    before = tflite.convert(network(), SIZE, "fp32", "scores")
    after = equalise.equalised(before, images)
    assert len(equalise.pairs(surgery.read(before))) == 3 and before != after
    for image in images:
        first, second = scores(before, image), scores(after, image)
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-5 * np.abs(first).max())


@pytest.mark.parametrize(
    ("activation", "second_reader", "expected"), [("relu6", False, 1), ("relu", True, 1)]
)
def test_what_is_not_exact_is_left_as_it_is(activation: str, second_reader: bool, expected: int):
    """ReLU6 cuts at 6 whatever the scale: only second to last is linear. A map that two read is theirs: only depthwise
    to second has one reader."""
    file = surgery.read(tflite.convert(network(activation, second_reader), SIZE, "fp32", "scores"))
    assert len(equalise.pairs(file)) == expected


def test_the_factors_are_those_of_arithmetic():
    reached, none = np.array([1.0, 4.0, 0.0]), None
    np.testing.assert_allclose(equalise.factors(reached, none), [4, 1, 1])  # all reach 4, the dead one stays
    np.testing.assert_allclose(equalise.factors(reached, np.array([1.0, 1.0, 1.0])), [2, 1, 1])  # sqrt(4 / 1)
    np.testing.assert_allclose(equalise.factors(reached, np.array([1.0, 0.0, 1.0])), [1, 1, 1])  # one alone
    assert equalise.factors(np.array([1e-9, 1.0]), none)[0] == equalise.MOST
    np.testing.assert_array_equal(equalise.factors(np.zeros(2), none), [1, 1])


def test_int8_comes_nearer_to_float(images, monkeypatch):
    model = network()
    reference = [scores(tflite.convert(model, SIZE, "fp32", "scores"), image) for image in images]

    def error() -> float:
        file = tflite.convert(model, SIZE, "int8", "scores", images)
        pairs = zip(images, reference, strict=True)
        return float(np.sqrt(np.mean([np.square(scores(file, image) - wanted) for image, wanted in pairs])))

    with_it = error()
    monkeypatch.setattr(equalise, "equalised", lambda calibrated, images, threads=2: calibrated)
    assert with_it < 0.5 * error()
