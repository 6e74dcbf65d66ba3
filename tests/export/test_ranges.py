"""The ranges that an int8 file has are those of its own tensors, and of no other that took their memory."""

import keras
import numpy as np
import pytest

from export import surgery, tflite
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
