"""The ranges that an int8 file has are those of its own tensors, and of no other that took their memory."""

import keras
import numpy as np
import pytest

from export import ranges, surgery, tflite
from tests.exported import colour_examples

SIZE = (16, 24)


def test_an_operand_that_is_overwritten_in_place_keeps_its_own_range():
    """The scaled image goes from 0 to 2 in 255 steps of 2 / 255, the narrow branch from -1 to 1; the sum behind it,
    100 times as wide, has its own."""
    image = keras.Input((*SIZE, 3))
    scaled = image / 127.5
    x = scaled - 1.0
    narrow = keras.layers.Conv2D(3, 3, padding="same", use_bias=False, name="narrow")(x)
    wide = keras.layers.Conv2D(3, 3, padding="same", use_bias=False, name="wide")(x)
    total = keras.layers.Add(name="total")([narrow, wide])
    model = keras.Model(image, {"logits": keras.layers.Conv2D(2, 1, name="last")(total)})
    centre = np.zeros((3, 3, 3, 3))
    centre[1, 1] = np.eye(3)
    model.get_layer("narrow").set_weights([centre])
    model.get_layer("wide").set_weights([99 * centre])
    images = [example.read()[0] for example in colour_examples(SIZE, 3)]
    images[0][0, 0], images[0][0, 1] = 0, 255
    file = surgery.read(tflite.convert(model, SIZE, "int8", "scores", images, correct=False))
    graph, scales = file.subgraphs[0], {}
    for name, op in zip(surgery.op_names(file), graph.operators, strict=True):
        quantised = graph.tensors[op.outputs[0]].quantization
        if quantised and quantised.scale is not None:
            scales.setdefault(name, []).append(float(quantised.scale[0]))
    assert scales["MUL"] == [pytest.approx(2 / 255)]
    assert scales["SUB"] == [pytest.approx(2 / 255)]
    assert sorted(scales["CONV_2D"])[:1] == [pytest.approx(2 / 255, rel=0.01)]
    assert scales["ADD"] == [pytest.approx(200 / 255, rel=0.01)]


def test_ranges_are_the_same_however_many_tensors_are_outputs_at_once(monkeypatch: pytest.MonkeyPatch):
    image = keras.Input((*SIZE, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(image / 255.0)
    model = keras.Model(image, {"logits": keras.layers.Conv2D(2, 1)(x)})
    images = [example.read()[0] for example in colour_examples(SIZE, 3)]
    together = tflite.convert(model, SIZE, "int8", "scores", images)
    monkeypatch.setattr(ranges, "AT_ONCE", 1)
    assert tflite.convert(model, SIZE, "int8", "scores", images) == together


def test_what_is_rare_is_left_out_at_either_end():
    """Of 100,000 values from 0 to 99,999 the ten least and the ten largest."""
    values = np.random.default_rng(1).permutation(100_000).astype(np.float32)
    assert ranges.without_rare(values, np.random.default_rng(0)) == (10, 99_989)
    assert ranges.without_rare(values[:99], np.random.default_rng(0)) == (
        values[:99].min(),
        values[:99].max(),
    )
