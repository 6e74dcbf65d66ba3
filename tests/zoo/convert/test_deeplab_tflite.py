"""Coral's DeepLab slim out of its .tflite: the whole network, to the class id."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import zoo
from benchmarks import coral_ids
from runtime.errors import UserError
from runtime.image import read_rgb, resize_rgb
from tests.shared import CAMVID, PEERS, present
from training.data.labels import taxonomies
from zoo.backbones import edgetpu
from zoo.convert import __main__ as command
from zoo.convert import rebuild, recognise
from zoo.convert.assign import assign
from zoo.convert.checkpoint import Checkpoint
from zoo.convert.files import tflite
from zoo.keras_private import flat_layers

CORAL = "deeplab_mobilenet_edgetpu_slim_cityscapes_quant.tflite"
MLPERF = "mlperf_mobile_deeplabv3plus_mnv2_ade32_512_ptq.tflite"
SIZE = (65, 97)


def lively(classes: int) -> keras.Model:
    """The network with a different number in every weight, its norms as a folded file has them."""
    keras.utils.set_random_seed(1)
    sizes = {"top": edgetpu.TOP, "scale": (1 / 128,) * 3, "offset": (-1.0,) * 3}
    model = zoo.build(
        "deeplabv3", classes=classes, backbone="mobilenet_edgetpu", backbone_sizes=sizes, output_stride=16, rates=(),
        aspp_filters=8, size_divisor=16, variant="deeplab",
    )  # fmt: skip
    rng = np.random.default_rng(2)
    for layer in flat_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma, rng.normal(0, 0.1, beta.shape), mean, np.full_like(variance, 1 - 1e-3)])
    return model


def network_of(model: keras.Model, pooling_first: bool = True) -> tflite.Network:
    """What a .tflite of that model says, as `tflite.read` gives it."""
    names = [*edgetpu.convolution_names(), "top"]
    body = {layer.name: layer for layer in flat_layers(model)}
    order = [*names, "aspp_1x1_conv", "aspp_pooling_conv", "aspp_projection_conv", "classifier"]
    found = []
    for number, name in enumerate(order):
        layer = body[name]
        kernel = np.asarray(layer.kernel)
        norm = body.get(f"{name}_BN") or body.get(name.replace("_conv", "_bn"))
        bias = np.asarray(layer.bias if name == "classifier" else norm.beta)
        if name == "aspp_projection_conv" and pooling_first:
            kernel = np.concatenate([kernel[:, :, 8:], kernel[:, :, :8]], axis=2)
        size = (1, 1) if "pooling" in name else (5, 7)
        found.append(tflite.Convolution(kernel, bias, layer.strides[0], layer.dilation_rate[0], size, number))
    first, second = order.index("aspp_1x1_conv"), order.index("aspp_pooling_conv")
    joined = (second, first) if pooling_first else (first, second)
    return tflite.Network(tuple(found), (joined,), True, 1 / 128, 128)


def checkpoint(network: tflite.Network) -> Checkpoint:
    return Checkpoint({"0/kernel": np.zeros(1)}, "x.tflite", meta={"tflite": network})


@pytest.mark.parametrize("pooling_first", [True, False])
def test_every_weight_comes_to_its_layer(pooling_first):
    model = lively(19)
    match = recognise(checkpoint(network_of(model, pooling_first)))
    keras.utils.set_random_seed(7)
    read = zoo.build(match.model, **match.arguments)
    report = assign(read, match)
    assert not report.left_over
    images = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3)).astype("float32")
    expected = model(images, training=False)["logits"]
    np.testing.assert_allclose(read(images, training=False)["logits"], expected, atol=1e-5)
    assert np.ptp(expected) > 0.1  # something to tell apart
    table = {name: row.colour for name, row in taxonomies.SETS["cityscapes19"].items()}
    assert dict(zip(match.classes, match.palette, strict=True)) == table
    assert match.classes == taxonomies.classes("cityscapes19")


@pytest.fixture(scope="module")
def network() -> tflite.Network:
    return network_of(lively(19))


def test_other_classes_have_no_names(network):
    kernel, bias = network.convolutions[-1].kernel, network.convolutions[-1].bias
    five = changed(network, -1, kernel=kernel[..., :5], bias=bias[:5])
    match = recognise(checkpoint(five))
    assert match.arguments["classes"] == 5 and match.classes is None


def changed(network: tflite.Network, place: int, **fields: object) -> tflite.Network:
    found = list(network.convolutions)
    found[place] = replace(found[place], **fields)
    return replace(network, convolutions=tuple(found))


@pytest.mark.parametrize(
    "other",
    [
        lambda network: replace(network, convolutions=network.convolutions[:-1]),
        lambda network: replace(network, align_corners=False),
        lambda network: replace(network, joined=()),
        lambda network: changed(network, 0, stride=1),
        lambda network: changed(network, 0, rate=2),
    ],
)
def test_a_graph_of_another_kind_is_refused(network, other):
    with pytest.raises(ValueError, match="is a .tflite of another network .* read whole is Coral's"):
        recognise(checkpoint(other(network)))


def test_maps_that_are_joined_otherwise_are_refused(network):
    with pytest.raises(ValueError, match="joins other maps than those of ASPP"):
        recognise(checkpoint(replace(network, joined=((0, 1),))))


def test_a_file_that_is_none_is_one_sentence(tmp_path):
    path = tmp_path / "x.tflite"
    path.write_bytes(b"not a model")
    with pytest.raises(UserError, match="x.tflite is no whole .tflite with constant weights"):
        command.main([str(path), "--out", str(tmp_path / "y.weights.h5")])
    assert not list(tmp_path.glob("y*"))


def test_another_published_network_says_what_it_can_be(tmp_path):
    with pytest.raises(UserError, match="of another network .* can be a backbone"):
        command.main([str(present(PEERS / MLPERF)), "--out", str(tmp_path / "y.weights.h5")])


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("coral") / "coral.weights.h5"
    assert command.main([str(present(PEERS / CORAL)), "--out", str(out)]) == 0
    return out


@pytest.mark.slow  # 20 s: LiteRT's reference kernels take seconds an image
def test_coral_s_own_file_gives_the_same_class_ids(converted):
    """Its graph in float is what we compute; its 8 bits agree with that as far as with themselves by other kernels."""
    path = present(PEERS / CORAL)
    folder = present(CAMVID / "train")
    images = [resize_rgb(read_rgb(found), (513, 513)) for found in sorted(folder.iterdir())[30::120]]
    shares = coral_ids.compared(path, converted, images)
    assert len(images) == 3
    assert shares["ours = its graph in float"] > 0.9999
    itself = min(value for key, value in shares.items() if key.startswith("the file = itself"))
    assert shares["ours = the file"] > itself - 0.03
    assert shares["ours = the file, where agreed"] > 0.96


def test_at_sizes_of_another_shape_the_map_lies_on_the_pixels(converted):
    """An image that is one pixel short of 16 n + 1 is padded, and gives what the padded one does."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (5, 7, 3)).astype("float32")
    image = np.kron(coarse, np.ones((16, 16, 1), "float32"))[None]  # 80x112
    whole = np.full((1, 81, 113, 3), 116.0, "float32")
    whole[:, :80, :112] = image
    model = rebuild(converted)
    seen, expected = (model(x, training=False)["logits"] for x in (image, whole))
    assert seen.shape == (1, 80, 112, 19)
    np.testing.assert_allclose(seen, expected[:, :80, :112], atol=1e-3)
