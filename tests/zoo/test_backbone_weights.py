"""Weights from keras.applications and from files: what fits is loaded whole, what does not is refused."""

from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import zoo
from runtime.errors import UserError
from tests.shared import WEIGHTS, needs
from training.runs.backbone_weights import load_backbone_weights
from zoo import backbones

PUBLISHED = WEIGHTS / "mobilenet_v2_1.0_imagenet_notop.weights.h5"
NAME = "mobilenet_v2"


@pytest.fixture(scope="module")
def application() -> keras.Model:
    keras.utils.set_random_seed(6)
    return keras.applications.MobileNetV2(input_shape=(64, 64, 3), include_top=False, weights=None)


@pytest.fixture
def file(application, tmp_path) -> Path:
    path = tmp_path / "application.weights.h5"
    application.save_weights(path)
    return path


def assert_holds(model: keras.Model, application: keras.Model) -> None:
    layers = [layer for layer in model.layers if layer.weights]
    assert len(layers) == 102  # 51 convolutions, each with its norm
    for layer in layers:
        theirs = application.get_layer(layer.name).get_weights()
        for ours, expected in zip(layer.get_weights(), theirs, strict=True):
            np.testing.assert_array_equal(ours, expected, err_msg=layer.name)


def refused(model: keras.Model, source: str, name: str = NAME) -> str:
    """The sentence of the refusal; the model must be untouched."""
    before = model.get_weights()
    with pytest.raises(UserError) as caught:
        load_backbone_weights(model, source, name)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_a_file_of_keras_applications(application, file):
    model = zoo.build("deeplabv3plus", classes=3, backbone=NAME, aspp_filters=8, decoder_filters=8)
    load_backbone_weights(model, str(file), NAME)
    assert_holds(model.get_layer("backbone"), application)


def test_files_of_our_backbone_and_of_a_whole_model(application, file, tmp_path):
    model = zoo.build("deeplabv3plus", classes=3, backbone=NAME, aspp_filters=8, decoder_filters=8)
    load_backbone_weights(model, str(file), NAME)
    saved = {"backbone.weights.h5": model.get_layer("backbone"), "model.weights.h5": model}
    for filename, source in saved.items():
        source.save_weights(tmp_path / filename)
        backbone = backbones.build(NAME, output_stride=8)
        load_backbone_weights(backbone, str(tmp_path / filename), NAME)
        assert_holds(backbone, application)


def test_a_file_of_the_older_layout(application, tmp_path):
    """keras.applications publishes one group a layer, with the variables' names in an attribute."""
    path = tmp_path / "application.h5"
    with h5py.File(path, "w") as file:
        for layer in application.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{variable.name}:0" for variable in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name, data=value)
    backbone = backbones.build(NAME)
    load_backbone_weights(backbone, str(path), NAME)
    assert_holds(backbone, application)


def test_a_backbone_of_kerascv_reads_its_own_file(tmp_path):
    first, second = (backbones.build("kerascv_mobilenet_v3_large") for _ in range(2))
    first.save_weights(tmp_path / "own.weights.h5")
    load_backbone_weights(second, str(tmp_path / "own.weights.h5"), "kerascv_mobilenet_v3_large")
    for ours, expected in zip(second.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, expected)


@needs(PUBLISHED)
def test_the_published_weights():
    reference = keras.applications.MobileNetV2(input_shape=(64, 64, 3), include_top=False, weights=None)
    reference.load_weights(PUBLISHED)
    backbone = backbones.build(NAME)
    load_backbone_weights(backbone, str(PUBLISHED), NAME)
    assert_holds(backbone, reference)


def test_none_leaves_the_model_as_it_is():
    backbone = backbones.build(NAME)
    before = backbone.get_weights()
    load_backbone_weights(backbone, "none", NAME)
    for now, then in zip(backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_imagenet_is_what_keras_applications_gives(application, monkeypatch):
    asked = {}

    def stand_in(**arguments):
        asked.update(arguments)
        return application

    monkeypatch.setattr(keras.applications, "MobileNetV2", stand_in)
    backbone = backbones.build(NAME)
    load_backbone_weights(backbone, "imagenet", NAME)
    assert asked == {"include_top": False, "weights": "imagenet", "input_shape": (224, 224, 3)}
    assert_holds(backbone, application)


def test_imagenet_without_a_network_says_to_give_a_file(monkeypatch):
    def fails(*_, **__):
        raise Exception("URL fetch failure on https://example.org/x.h5: None --\n no route")  # as Keras does

    monkeypatch.setattr(keras.src.applications.mobilenet_v2.file_utils, "get_file", fails)
    sentence = refused(backbones.build(NAME), "imagenet")
    assert "could not be downloaded" in sentence and "no route" in sentence and "FILE" in sentence


def test_imagenet_for_a_backbone_without_published_weights_lists_those_with():
    model = backbones.build("kerascv_resnet18_v2")
    sentence = refused(model, "imagenet", "kerascv_resnet18_v2")
    assert "resnet50, resnet101, mobilenet_v2, mobilenet_v3_large" in sentence


def test_the_first_layer_that_differs_is_named_with_both_shapes(application, file):
    with h5py.File(file, "r+") as damaged:
        for counter, layer in enumerate(
            layer for layer in application.layers if isinstance(layer, keras.layers.DepthwiseConv2D)
        ):
            if layer.name in ("block_5_depthwise", "block_9_depthwise"):
                variables = damaged[f"layers/depthwise_conv2d_{counter}/vars"]
                del variables["0"]
                variables["0"] = np.zeros((5, 5, 7, 1), np.float32)
    sentence = refused(backbones.build(NAME), str(file))
    assert str(file) in sentence and "block_9" not in sentence
    assert "block_5_depthwise: (5, 5, 7, 1) in the file, (3, 3, 192, 1) in the backbone" in sentence


def test_weights_of_another_backbone_are_refused_with_the_layers_that_lack(file):
    sentence = refused(backbones.build("mobilenet_v3_large"), str(file), "mobilenet_v3_large")
    assert "has no weights for" in sentence and "expanded_conv_depthwise_bn" in sentence


def test_files_that_cannot_be_trusted(file, tmp_path):
    backbone = backbones.build(NAME)
    missing = tmp_path / "missing.weights.h5"
    assert f"{missing}: there is no such file" in refused(backbone, str(missing))
    text = tmp_path / "text.weights.h5"
    text.write_text("not HDF5", encoding="utf-8")
    assert str(text) in refused(backbone, str(text))
    truncated = tmp_path / "truncated.weights.h5"
    whole = file.read_bytes()
    for length in (0, 100, len(whole) // 2, len(whole) - 1000):
        truncated.write_bytes(whole[:length])
        assert "truncated" in refused(backbone, str(truncated))
    empty = tmp_path / "empty.weights.h5"
    h5py.File(empty, "w").close()
    assert "without Keras layers" in refused(backbone, str(empty))
    assert "no such file" in refused(backbone, str(tmp_path))
