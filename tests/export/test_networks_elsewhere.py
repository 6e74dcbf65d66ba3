"""Small configurations of the real-time networks as ONNX and OpenVINO: Keras' logits, and its ids at every pixel."""

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
NETWORKS = ("pidnet", "ddrnet", "bisenetv2", "stdc", "lraspp")
WRITERS = {"onnx": onnx_model, "openvino": openvino_model}


def network(name: str) -> keras.Model:
    """With BatchNorms whose statistics are none that a new one has, so that none is an identity."""
    keras.utils.set_random_seed(3)
    model = zoo.build(name, classes=5, image_size=SIZE, **SMALL[name])
    rng = np.random.default_rng(4)
    for variable in model.non_trainable_variables:
        if variable.name in ("moving_mean", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_what_keras_does(name: str, kind: str) -> None:
    model, writer = network(name), WRITERS[kind]
    rgb = np.random.default_rng(5).integers(0, 256, (*SIZE, 3), np.uint8)
    ids, logits = writer.predictor(writer.convert(model, SIZE, "mask"), "mask")(rgb)
    keras_ids, keras_logits = parity.keras_predict(model)(rgb)
    largest = np.abs(keras_logits).max()
    difference = np.abs(logits - keras_logits).max()
    print(f"{name} {kind}: {difference:.1e} of {largest:.2g}, {len(np.unique(keras_ids))} classes")
    assert difference <= 1e-4 * max(1.0, largest)
    np.testing.assert_array_equal(ids, keras_ids)
