"""Every dense model of the zoo goes through the gate, in every precision.

A network is trained once, and so is its float file, beside which mixed and int8 have their biases corrected.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import keras
import numpy as np
import pytest

import zoo
from export import DEFAULT_PRECISION, PRECISIONS, parity, tflite
from tests.exported import COLOURS, colour_examples, colour_spec
from tests.small import COUNTED, PROMPTED, SMALL
from zoo.keras_private import flat_layers

SIZE = (64, 96)
LEARNT, JUDGED = 64, 32  # images; with few, a network learns the images and not the colours
EPOCHS = 48
BLOCK = 32  # the coarsest of the networks decides at stride 32
DENSE = [name for name in zoo.MODELS if name not in PROMPTED]
CONVERT = tflite.convert


class Learnt(NamedTuple):
    name: str
    predict: parity.Predict
    convert: Callable[[str], bytes]  # precision -> its mask file


@pytest.fixture(scope="module")
def examples() -> list:
    return colour_examples(SIZE, LEARNT + JUDGED, BLOCK)


@pytest.fixture(scope="module", params=DENSE)
def learnt(request: pytest.FixtureRequest, examples: list) -> Learnt:
    """The small model after some steps on coloured blocks: its logits have something to say."""
    name = request.param
    keras.utils.set_random_seed(1)
    model = zoo.build(name, classes=len(COLOURS), image_size=SIZE, **SMALL[name])
    pairs = [example.read() for example in examples]
    images, labels = (np.stack(part) for part in zip(*pairs, strict=True))
    if name in COUNTED:
        table = next(variable for variable in model.weights if variable.shape[-1] == len(COLOURS))
        table.assign(np.random.default_rng(0).normal(size=table.shape))
    else:
        teach(model, images[:LEARNT], labels[:LEARNT])
    predict = parity.keras_predict(model)
    known = cache(lambda data: predict(np.frombuffer(data, np.uint8).reshape(*SIZE, 3)))
    convert = cache(lambda precision: CONVERT(model, SIZE, precision, "mask", list(images[:32])))
    return Learnt(name, lambda rgb: known(rgb.tobytes()), convert)


def teach(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> None:
    for layer in flat_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.8
    trained = keras.Model(model.input, {"logits": model.output["logits"]})
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    trained.compile(keras.optimizers.AdamW(3e-3), loss, jit_compile=False)
    trained.fit(images, labels, batch_size=8, epochs=EPOCHS, verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_passes_the_gate(learnt: Learnt, precision: str, examples: list, monkeypatch) -> None:
    def once_in_float(model, size, wanted, *args):
        """Beside a calibrated file `convert` asks for the float one of the same model."""
        return learnt.convert("fp32") if wanted == "fp32" else CONVERT(model, size, wanted, *args)

    monkeypatch.setattr(tflite, "convert", once_in_float)
    found = parity.measure(
        learnt.predict,
        tflite.predictor(learnt.convert(precision), "mask"),
        examples[LEARNT:],
        colour_spec(),
        SIZE,
    )
    name = learnt.name
    print(name, precision, f"{100 * found.keras['miou']:.1f} -> {100 * found.file['miou']:.1f}")
    assert found.keras["miou"] > 0.6 or name in COUNTED  # else the file could be worse without our noticing
    # Attention in int8 may lose more, which is why such models have another default (docs/explanation/quantisation.md).
    if precision != "int8" or DEFAULT_PRECISION.get(name, "int8") == "int8":
        assert not parity.failures(found, precision)
