"""A MobileNet out of somebody's .tflite: the same function, with BatchNorms to train."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from runtime.errors import UserError
from tests.shared import PEERS, present
from training.runs.backbone_weights import has_folded_norms, load_backbone_weights, recalibrate_norms
from zoo import backbones
from zoo.convert.layouts import mobilenet_tflite
from zoo.keras_private import flat_layers

NAME, SIZE = "mobilenet_v2", (64, 96)
both = pytest.mark.parametrize("name", mobilenet_tflite.NAMES)
# Backbone -> a published file, its side, the name and shape of what its last block puts out, and how alike ours is.
MLPERF = "mlperf_mobile_deeplabv3plus_mnv2_ade32_512_ptq.tflite"
CORAL = "deeplab_mobilenet_edgetpu_slim_cityscapes_quant.tflite"
PUBLISHED = {
    "mobilenet_v2": (MLPERF, 512, "expanded_conv_16/project", [1, 32, 32, 320], 0.98),
    # less alike: it has one scale for all filters of a layer
    "mobilenet_edgetpu": (CORAL, 513, "expanded_conv_21/project", [1, 33, 33, 144], 0.94),
}


def images(count: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)


def lively(name: str = NAME) -> keras.Model:
    """A backbone whose BatchNorms all do something."""
    keras.utils.set_random_seed(1)
    backbone = backbones.build(name, image_size=SIZE)
    rng = np.random.default_rng(2)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights(
                [rng.uniform(0.8, 1.2, gamma.shape), rng.normal(0, 0.1, beta.shape),
                 rng.normal(0, 0.1, mean.shape), rng.uniform(0.5, 1.5, variance.shape)]
            )  # fmt: skip
    return backbone


def write_tflite(backbone: keras.Model, path: Path) -> Path:
    """A float file, as TensorFlow's converter folds it."""
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(backbone.inputs, backbone.output["P5"]))
    path.write_bytes(converter.convert())
    return path


@both
def test_the_weights_come_back_from_a_folded_file(tmp_path, name):
    first, second = lively(name), backbones.build(name, image_size=SIZE)
    load_backbone_weights(second, str(write_tflite(first, tmp_path / "x.tflite")), name)
    batch = images(2).astype("float32")
    for level, expected in first(batch, training=False).items():
        np.testing.assert_allclose(second(batch, training=False)[level], expected, atol=2e-4, err_msg=level)


def test_recalibrated_norms_compute_the_same_and_hold_what_they_see():
    backbone, seen = lively(), images(3)
    batch = seen.astype("float32")
    before = {level: np.asarray(values) for level, values in backbone(batch, training=False).items()}
    recalibrate_norms(backbone, iter(seen))
    for level, values in backbone(batch, training=False).items():
        np.testing.assert_allclose(values, before[level], atol=2e-3, err_msg=level)
    # In training the norms take the batch's own mean and variance, which are now those that they hold.
    for level, values in backbone(batch, training=True).items():
        np.testing.assert_allclose(values, before[level], atol=2e-3, err_msg=level)


def test_a_whole_network_trains_from_folded_norms_once_they_are_recalibrated():
    keras.utils.set_random_seed(1)
    sizes = {"output_stride": 16, "rates": (), "aspp_filters": 8, "variant": "deeplab"}
    model = zoo.build("deeplabv3", classes=3, backbone=NAME, **sizes)
    assert not has_folded_norms(model)
    rng = np.random.default_rng(2)
    for layer in flat_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            bias = rng.normal(0, 0.1, layer.beta.shape).astype("float32")
            layer.set_weights([array.astype("float16") for array in mobilenet_tflite.norm(bias).values()])
    assert has_folded_norms(model)
    seen = images(3)
    batch = seen.astype("float32")
    before = np.asarray(model(batch, training=False)["logits"])
    recalibrate_norms(model, iter(seen), head=True)
    assert not has_folded_norms(model)
    np.testing.assert_allclose(model(batch, training=False)["logits"], before, atol=2e-3)
    for layer in flat_layers(model):  # dropout apart, training sees what prediction does
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    np.testing.assert_allclose(model(batch, training=True)["logits"], before, atol=1e-2)


@both
def test_the_published_file_sees_what_our_backbone_sees(name):
    """The output of its last block, read from the quantised file itself, against ours in float."""
    file, side, block, shape, least = PUBLISHED[name]
    path = present(PEERS / file)
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    litert = Interpreter(
        model_path=str(path),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    litert.allocate_tensors()
    (image,) = images(1, (32, 32))
    blocks = np.ones((17, 17, 1), np.uint8)  # of colour: something to see
    image = np.kron(image, blocks)[:side, :side]
    litert.set_tensor(litert.get_input_details()[0]["index"], image[None])
    litert.invoke()
    (last,) = [
        tensor for tensor in litert.get_tensor_details()
        if list(tensor["shape"]) == shape and block in tensor["name"]
    ]  # fmt: skip
    scale, zero = last["quantization"]
    theirs = (litert.get_tensor(last["index"]).astype(np.float64) - zero) * scale
    backbone = backbones.build(name, image_size=(side, side), output_stride=16)
    load_backbone_weights(backbone, str(path), name)
    ours = np.asarray(backbone(image[None].astype("float32"), training=False)["P5"])
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > least


@pytest.mark.parametrize(
    ("content", "told"), [(b"not a model", "no whole .tflite"), (b"", "no whole .tflite")]
)
def test_a_file_that_is_none(tmp_path, content, told):
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    with pytest.raises(UserError, match=told):
        load_backbone_weights(backbones.build(NAME), str(path), NAME)


def test_a_file_of_another_network(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    path = tmp_path / "x.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    with pytest.raises(UserError, match="1 convolutions; mobilenet_v2 has 51"):
        load_backbone_weights(backbones.build(NAME), str(path), NAME)


def test_a_backbone_that_no_tflite_is_read_for(tmp_path):
    path = tmp_path / "x.tflite"
    path.write_bytes(b"whatever")
    with pytest.raises(UserError, match="read for mobilenet_v2 and mobilenet_edgetpu, not for resnet18_v1b"):
        load_backbone_weights(backbones.build("resnet18_v1b"), str(path), "resnet18_v1b")
