"""A small network of each row of the zoo as ONNX and OpenVINO: Keras' logits, and its ids at every pixel.

`pytest tests/export/test_networks_elsewhere.py -m slow -s` prints the table of docs/results/export.md.
"""

import importlib.util

import keras
import numpy as np
import pytest

import export
import zoo
from export import parity
from tests.small import SMALL

# Not importorskip: openvino is to be imported by our own code alone.
if any(importlib.util.find_spec(name) is None for names in export.PACKAGES.values() for name in names):
    pytest.skip("needs pip install -r requirements-extras.txt", allow_module_level=True)

from export import onnx_model, openvino_model  # noqa: E402

SIZE = (64, 96)
RANGES = {"gamma": (0.5, 1.5), "beta": (-0.5, 0.5), "moving_mean": (-0.5, 0.5), "moving_variance": (0.5, 1.5)}
WRITERS = {"onnx": onnx_model, "openvino": openvino_model}


def network(name: str) -> keras.Model:
    """With BatchNorms as training leaves them: none is an identity, and none stops all that comes through."""
    keras.utils.set_random_seed(3)
    model = zoo.build(name, classes=5, image_size=SIZE, **SMALL[name])
    rng = np.random.default_rng(4)
    for variable in model.variables:
        if variable.name in RANGES:
            variable.assign(rng.uniform(*RANGES[variable.name], variable.shape))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("name", SMALL)
def test_it_computes_what_keras_does(name: str, kind: str) -> None:
    model, writer = network(name), WRITERS[kind]
    rgb = np.random.default_rng(5).integers(0, 256, (*SIZE, 3), np.uint8)
    ids, logits = writer.predictor(writer.convert(model, SIZE, "mask"), "mask")(rgb)
    keras_ids, keras_logits = parity.keras_predict(model)(rgb)
    largest = np.abs(keras_logits).max()
    difference = np.abs(logits - keras_logits).max()
    print(f"{name} {kind}: {difference:.1e} of {largest:.2g}, {len(np.unique(keras_ids))} classes")
    assert np.ptp(keras_logits, axis=(0, 1)).max() > 1e-3, "the network gives the same at every pixel"
    assert difference <= 1e-4 * max(1.0, largest)
    np.testing.assert_array_equal(ids, keras_ids)
