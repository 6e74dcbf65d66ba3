"""Resizing that aligns corners is one op of a file, and the same numbers."""

import keras
import numpy as np
import pytest

import zoo
from export import corners, run_tflite, surgery, tflite
from zoo.keras_private import flat_layers
from zoo.layers import ResizeCornersLike

SIZE = (33, 49)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(1)
    return zoo.build(
        "fcn", classes=3, image_size=SIZE, backbone="resnet18_v1b", backbone_sizes={"blocks": (1, 1, 1, 1)},
        output_stride=16, head_filters=4, sizes={"align_corners": True},
    )  # fmt: skip


def test_a_file_has_the_op_and_the_numbers(model):
    flatbuffer = tflite.convert(model, SIZE, "fp32", "scores")
    graph = surgery.read(flatbuffer)
    names = surgery.op_names(graph)
    assert names.count("RESIZE_BILINEAR") == 1 and "GATHER" not in names
    (resize,) = [
        op for op, name in zip(graph.subgraphs[0].operators, names, strict=True) if name == "RESIZE_BILINEAR"
    ]
    assert resize.builtinOptions.alignCorners and not resize.builtinOptions.halfPixelCenters
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    expected = np.asarray(model(image[None].astype("float32"), training=False)["logits"])[0]
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(run_tflite.runner(flatbuffer, 1)(image), expected, atol=1e-3)


def test_afterwards_the_model_is_as_before(model):
    (layer,) = [layer for layer in flat_layers(model) if isinstance(layer, ResizeCornersLike)]
    with pytest.raises(RuntimeError), corners.native_resize(model):
        assert "call" in vars(layer)
        raise RuntimeError
    assert "call" not in vars(layer)
