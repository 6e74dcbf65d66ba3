"""DeepLabV3+'s own arithmetic, and the resizing that every model ends with."""

import cv2
import keras
import numpy as np
import pytest

import zoo
from runtime import Segmenter
from runtime.image import resize_rgb
from tests.small import SMALL
from tests.tiny import REPOSITORY
from training.runs.load_weights import load_weights
from training.runs.recipe import Recipe, default_recipe
from training.runs.trained_run import build_model
from zoo.layers import Conv2D, ResizeLike


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("classes", 1),
        ("classes", 2.5),
        ("classes", True),
        ("image_size", (0, 64)),
        ("image_size", 64),
        ("image_size", (64, 64, 3)),
        ("image_size", "64"),
        ("output_stride", 12),
        ("rates", (-6,)),
        ("rates", (6, 0)),
        ("rates", (6, 1.5)),
        ("rates", 6),
        ("backbone", "vgg"),
        ("dropout", 1.0),
        ("dropout", "0.1"),
        ("aspp_filters", 0),
        ("decoder_filters", -1),
        ("low_level_filters", None),
        ("batch_norm_momentum", 1.5),
    ],
)
def test_deeplabv3plus_refuses_what_makes_no_sense(argument, value):
    with pytest.raises(ValueError, match=argument):
        zoo.build("deeplabv3plus", **{"backbone": "mobilenet_v2", argument: value})


def head_parameters(separable: bool) -> int:
    """DeepLabV3+'s head on MobileNetV2 (P5 320, P2 144 channels) as the paper draws it, 4 values a norm."""

    def conv(kernel: int, inputs: int, outputs: int) -> int:
        return kernel * kernel * inputs * outputs + 4 * outputs

    def conv3(inputs: int, outputs: int) -> int:
        if not separable:
            return conv(3, inputs, outputs)
        return 9 * inputs + 4 * inputs + conv(1, inputs, outputs)

    aspp = conv(1, 320, 256) + 4 * conv3(320, 256) + conv(1, 320, 256) + conv(1, 6 * 256, 256)
    decoder = conv(1, 144, 48) + conv3(256 + 48, 256) + conv3(256, 256)
    return aspp + decoder + 256 * 19 + 19


@pytest.mark.parametrize("separable", [False, True])
def test_deeplabv3plus_has_the_papers_parameters(separable):
    model = zoo.build(
        "deeplabv3plus", backbone="mobilenet_v2", aspp_separable=separable, decoder_separable=separable
    )
    backbone = model.get_layer("backbone").count_params()
    assert model.count_params() - backbone == head_parameters(separable)
    kind = "depthwise" if separable else "conv"
    for rate in (6, 12, 18, 24):
        assert model.get_layer(f"aspp_rate{rate}_{kind}").dilation_rate == (rate, rate)


def test_an_atrous_rate_is_a_branch_and_none_is_needed():
    none, one = (
        zoo.build("deeplabv3plus", classes=11, backbone="mobilenet_v2", rates=rates) for rates in ((), (6,))
    )
    branch = 3 * 3 * 320 * 256 + 4 * 256
    assert one.count_params() - none.count_params() == branch + 256 * 256  # and its share of the projection


def test_deeplabv3plus_reads_stride_4_and_the_output_stride():
    for output_stride in (8, 16):
        small = {**SMALL["deeplabv3plus"], "output_stride": output_stride}
        model = zoo.build("deeplabv3plus", image_size=(65, 97), **small)
        deep = model.get_layer("aspp_concat").output.shape[1:3]
        assert deep == (-(-65 // output_stride), -(-97 // output_stride))
        assert model.get_layer("decoder_concat").output.shape[1:3] == (17, 25)


def test_resize_like_has_half_pixel_centres():
    """From 2 to 4 positions, the new centres lie at -0.25, 0.25, 0.75 and 1.25 of the old ones."""
    x = np.array([0.0, 1.0], np.float32).reshape(1, 1, 2, 1)
    resized = ResizeLike()([x, np.zeros((1, 1, 4, 3), np.float32)])
    np.testing.assert_allclose(np.asarray(resized).ravel(), [0.0, 0.25, 0.75, 1.0], atol=1e-7)
    # shrinking takes the value at the centre and smooths nothing: from 6 to 2, centres at 1 and 4
    x = np.array([0, 9, 0, 0, 5, 0], np.float32).reshape(1, 1, 6, 1)
    resized = ResizeLike()([x, np.zeros((1, 1, 2, 3), np.float32)])
    np.testing.assert_allclose(np.asarray(resized).ravel(), [9, 5], atol=1e-6)


def test_resize_like_keeps_what_is_known_of_the_size():
    x, reference = keras.Input((3, 4, 7)), keras.Input((None, 9, 2))
    assert ResizeLike()([x, reference]).shape == (None, None, 9, 7)


@pytest.mark.parametrize(
    ("size", "rate", "taps"),
    [((8, 8), 6, 9), ((8, 8), 8, 1), ((7, 30), 24, 3), ((30, 7), 24, 3), ((1, 1), 6, 1), ((5, 9), 7, 3)],
)
def test_atrous_convolution_leaves_out_only_taps_that_meet_padding(size, rate, taps):
    image = np.random.default_rng(0).normal(size=(2, *size, 5)).astype(np.float32)
    plain = keras.layers.Conv2D(4, 3, padding="same", dilation_rate=rate, activation="relu")
    ours = Conv2D(4, 3, padding="same", dilation_rate=rate, activation="relu")
    for layer in (plain, ours):
        layer.build(image.shape)
    weights = [np.random.default_rng(1).normal(size=weight.shape) for weight in plain.get_weights()]
    plain.set_weights(weights)
    ours.set_weights(weights)
    np.testing.assert_allclose(ours(image), plain(image), atol=1e-5)
    # Weights that are left out may be anything.
    kernel = weights[0].copy()
    rows = slice(1, 2) if rate >= size[0] else slice(None)
    columns = slice(1, 2) if rate >= size[1] else slice(None)
    spoilt = np.full_like(kernel, np.nan)
    spoilt[rows, columns] = kernel[rows, columns]
    assert np.isfinite(spoilt).sum() == taps * 5 * 4
    ours.set_weights([spoilt, weights[1]])
    np.testing.assert_allclose(ours(image), plain(image), atol=1e-5)


def test_the_shipped_weights_still_fit_and_say_what_the_shipped_file_says():
    """Keras' weights files go by the order and class of layers: a change of the model's code can orphan them."""
    models, examples = REPOSITORY / "models", REPOSITORY / "examples"
    row = {**default_recipe("deeplabv3plus", "camvid"), "backbone": "mobilenet_edgetpu"}
    recipe = Recipe.of(model="deeplabv3plus", data="camvid", data_dir="DIR", **row)
    model = build_model(recipe, 11, (360, 480))
    load_weights(model, models / "deeplabv3plus_mobilenet_edgetpu_camvid.weights.h5")
    segmenter = Segmenter(models / "deeplabv3plus_mobilenet_edgetpu_camvid_int8.tflite")
    rgb = resize_rgb(cv2.imread(str(examples / "crossing.jpg"), cv2.IMREAD_COLOR_RGB), (360, 480))
    logits = keras.ops.convert_to_numpy(model(rgb[None].astype(np.float32), training=False)["logits"])
    # int8 against float: 99.43% on CamVid
    assert (logits[0].argmax(-1) == segmenter.segment(rgb).ids).mean() > 0.97


def test_weights_written_with_plain_convolutions_are_read_by_ours(tmp_path):
    def model(*kinds):
        image = x = keras.Input((8, 8, 3))
        for kind in kinds:
            x = kind(3, 3, padding="same")(x)
        return keras.Model(image, x)

    plain = keras.layers.Conv2D
    written = model(plain, plain, plain)
    written.save_weights(tmp_path / "old.weights.h5")
    read = model(plain, Conv2D, plain)
    read.load_weights(tmp_path / "old.weights.h5")
    for ours, theirs in zip(read.get_weights(), written.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
