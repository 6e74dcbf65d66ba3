"""U-Net's own arithmetic: the paper's channels, the way up at any size, and what an exported file is made of."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from export import run_tflite, surgery, tflite
from tests import references
from zoo.layers import GREY, CropLike, PadToMultiple, ResizeCornersLike
from zoo.unet import DoubleLike

# As small as a ResNet gets.
ENCODER = {"backbone": "resnet18_v1b", "backbone_sizes": {"blocks": (1, 1, 1, 1)}}
NARROW = {"decoder_filters": (16, 12, 8, 8, 4)}


def convolution(kernel: int, inputs: int, outputs: int) -> int:
    """Weights without a bias, and the four values a channel of a batch norm."""
    return kernel * kernel * inputs * outputs + 4 * outputs


def test_plain_has_the_papers_channels():
    """Figure 1: 64 to 1024 channels down, back to 64 by two convolutions a level, joined to as many again."""
    down = [64, 128, 256, 512, 1024]
    expected = 0
    for inputs, outputs in zip([3, *down[:-1]], down, strict=True):
        expected += convolution(3, inputs, outputs) + convolution(3, outputs, outputs)
    for coarse, fine in zip(down[:0:-1], down[-2::-1], strict=True):
        expected += convolution(1, coarse, fine) + convolution(3, 2 * fine, fine) + convolution(3, fine, fine)
    model = zoo.build("unet", classes=2)
    assert model.count_params() == expected + 64 * 2 + 2
    for level, channels in enumerate(down[:-1]):
        assert model.get_layer(f"up{level}_concat").output.shape[-1] == 2 * channels


def test_decoder_has_the_channels_of_what_it_joins():
    model = zoo.build("unet", image_size=(64, 96), backbone="mobilenet_v2", classes=3)
    joined = {"P5": 320, "P4": 576, "P3": 192, "P2": 144, "P1": 96}
    inputs, expected = joined["P5"], 0
    for skip, outputs in zip([*list(joined.values())[1:], 0], (256, 128, 64, 32, 16), strict=True):
        expected += convolution(3, inputs + skip, outputs) + convolution(3, outputs, outputs)
        inputs = outputs
    head = 9 * 16 * 3 + 3
    assert model.count_params() - model.get_layer("backbone").count_params() == expected + head


@pytest.mark.parametrize("backbone", ["kerascv_csp_darknet_s", "mit_b0"])
def test_a_pyramid_that_begins_at_stride_4_is_doubled_past_it(backbone):
    model = zoo.build("unet", image_size=(45, 70), backbone=backbone, classes=3, **NARROW)
    assert "P1" not in model.get_layer("backbone").output
    assert model.get_layer("up1_double").output.shape[1:3] == (23, 35)
    assert model.get_layer("up0_double").output.shape[1:3] == (45, 70)
    assert np.isfinite(np.asarray(model(references.images(45, 70))["logits"])).all()


@pytest.mark.parametrize(("old", "new"), [(3, 6), (3, 5), (1, 1), (1, 2)])
def test_doubling_takes_what_stands_at_half_the_position(old, new):
    x = np.arange(old, dtype=np.float32).reshape(1, 1, old, 1)
    doubled = DoubleLike()([x, np.zeros((1, 2, new, 3), np.float32)])
    expected = np.broadcast_to(np.arange(new) // 2, (2, new))
    np.testing.assert_array_equal(np.asarray(doubled)[0, ..., 0], expected)
    halved = DoubleLike(stride=2)([x, np.zeros((1, 4, 2 * new - 1, 3), np.float32)])
    np.testing.assert_array_equal(halved, doubled)


@pytest.mark.parametrize(
    "model",
    [
        {"name": "unet", "backbone": "mobilenet_v2", "size_divisor": 32, **NARROW},
        {"name": "deeplabv3plus", "backbone": "mobilenet_v2", "size_divisor": 16, "rates": (1, 2), "aspp_filters": 8,
         "auxiliary": True},
        {"name": "deeplabv3", "backbone": "mobilenet_v2", "size_divisor": 16, "rates": (1, 2), "aspp_filters": 8,
         "auxiliary": True},
        {"name": "fcn", "backbone": "mobilenet_v2", "output_stride": 16, "size_divisor": 16, "head_filters": 8},
        {"name": "lraspp", "backbone": "mobilenet_v2", "size_divisor": 16, "filters": 8},
        {"name": "segformer", "size_divisor": 32, "decoder_filters": 8},
    ],
    ids=["unet", "deeplabv3plus", "deeplabv3", "fcn", "lraspp", "segformer"],
)  # fmt: skip
def test_a_image_that_the_stride_does_not_divide_is_filled_up_with_grey(model):
    """The image with the grey drawn by hand, and the logits cut by hand: 45x70 is 64x96, or 48x80."""
    keras.utils.set_random_seed(0)
    net = zoo.build(**model, classes=3)
    whole = references.images(48, 80) if model.get("size_divisor") == 16 else references.images(64, 96)
    whole[:, 45:], whole[:, :, 70:] = 116, 116
    found, expected = net(whole[:, :45, :70], training=False), net(whole, training=False)
    again = keras.Model.from_config(net.get_config())
    again.set_weights(net.get_weights())
    np.testing.assert_allclose(again(whole[:, :45, :70])["logits"], found["logits"], atol=1e-5)
    for key in found:
        assert found[key].shape == (1, 45, 70, 3)
        np.testing.assert_allclose(found[key], np.asarray(expected[key])[:, :45, :70], atol=1e-5)


@pytest.mark.parametrize("side", [31, 32, 33])
def test_as_little_as_possible_is_filled_up(side):
    x = np.full((1, side, 2, 1), 7, np.float32)
    padded = np.asarray(PadToMultiple(32, GREY)(x))
    assert padded.shape == (1, 64 if side == 33 else 32, 32, 1)
    assert (padded == 116).sum() == padded.size - x.size
    np.testing.assert_array_equal(CropLike()([padded, x]), x)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (3, 7), (2, 2), (9, 9)])
def test_aligned_corners(size):
    """The corners stay, and between them a plane stays a plane: from 3 to 5, positions are 0, 0.5, ... 2."""
    rows, columns = np.arange(3.0)[:, None], np.arange(4.0)
    plane = (10 * rows + columns).astype(np.float32)[None, ..., None]
    found = ResizeCornersLike()([plane, np.zeros((1, *size, 1), np.float32)])
    expected = 10 * np.linspace(0, 2, size[0])[:, None] + np.linspace(0, 3, size[1])
    np.testing.assert_allclose(np.asarray(found)[0, ..., 0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [{"base_filters": 4, "depth": 3, "auxiliary": True}, {**ENCODER, **NARROW, "auxiliary": True}],
    ids=["plain", "resnet"],
)
def test_one_graph_for_every_size(arguments):
    """The sizes of an image may be known only when the graph runs."""
    model = zoo.build("unet", classes=3, **arguments)
    graph = tf.function(
        lambda image: model(image, training=False), input_signature=[tf.TensorSpec((1, None, None, 3))]
    )
    for height, width in ((64, 96), (33, 47)):
        images = references.images(height, width)
        expected, found = model(images), graph(images.astype(np.float32))
        assert set(found) == {"logits", "aux_logits"}
        for key in found:
            assert found[key].shape == (1, height, width, 3)
            np.testing.assert_allclose(found[key], expected[key], atol=1e-5 * np.abs(expected[key]).max())


def test_the_auxiliary_head_reads_half_the_size_and_learns():
    model = zoo.build("unet", image_size=(33, 47), base_filters=4, depth=3, auxiliary=True, classes=3)
    assert model.get_layer("auxiliary_conv").output.shape[1:3] == (17, 24)
    own = [variable for variable in model.trainable_variables if variable.path.startswith("auxiliary")]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(references.images(33, 47), training=True)["aux_logits"]))
    assert len(own) == 5
    for gradient in tape.gradient(loss, [variable.value for variable in own]):
        assert np.abs(gradient).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "resizing"),
    [
        ({"base_filters": 4, "depth": 3}, "RESIZE_BILINEAR"),
        ({**ENCODER, **NARROW}, "RESIZE_NEAREST_NEIGHBOR"),
    ],
    ids=["plain", "resnet"],
)
def test_exported_files_resize_by_one_op_a_level_and_cut_nothing(arguments, resizing):
    model = zoo.build("unet", image_size=(64, 96), classes=3, **arguments)
    images = list(references.images(64, 96, count=2))
    levels = 2 if resizing == "RESIZE_BILINEAR" else 5
    expected = np.asarray(model(images[0][None])["logits"])[0]
    for precision, bound in (("fp32", 1e-5), ("int8", 0.1)):
        flatbuffer = tflite.convert(model, (64, 96), precision, "scores", images)
        ops = surgery.op_names(surgery.read(flatbuffer))
        assert ops.count(resizing) == levels and not {"STRIDED_SLICE", "TILE"} & set(ops)
        difference = np.abs(run_tflite.runner(flatbuffer)(images[0]) - expected).max()
        assert difference < bound * np.ptp(expected)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("base_filters", 0),
        ("depth", 1),
        ("head_filters", -1),
        ("auxiliary_filters", 0),
        ("dropout", 1.0),
        ("backbone", "vgg"),
        ("image_size", (0, 64)),
        ("decoder_filters", (16, 8)),
        ("decoder_filters", (16, 8, 8, 8, 0)),
        ("decoder_filters", "five"),
    ],
)
def test_unet_refuses_what_makes_no_sense(argument, value):
    chosen = {"backbone": "mobilenet_v2"} if argument == "decoder_filters" else {}
    with pytest.raises(ValueError, match=argument):
        zoo.build("unet", **{**chosen, argument: value})
