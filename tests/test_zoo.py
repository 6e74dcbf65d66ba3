"""One contract over every model of the zoo, and DeepLabV3+'s own arithmetic."""

import inspect
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo import contract
from zoo.layers import ResizeLike

CLASSES = 5
# What makes a model small enough for a test; a model without a row is tested as it is.
SMALL = {
    "deeplabv3plus": {"rates": (1, 2), "aspp_filters": 8, "decoder_filters": 8, "low_level_filters": 4},
}
BACKBONES = ("mobilenet_v2", "mobilenet_v3_large", "kerascv_csp_darknet_s")
EVERY = [(name, backbone) for name in zoo.MODELS for backbone in BACKBONES]
EVERY_MODEL = [(name, BACKBONES[0]) for name in zoo.MODELS]


def build(name: str, backbone: str, image_size=None, **arguments) -> keras.Model:
    arguments = {"output_stride": 32, **SMALL.get(name, {}), **arguments}
    known = inspect.signature(zoo.MODELS[name]).parameters
    return zoo.build(
        name,
        classes=CLASSES,
        image_size=image_size,
        backbone=backbone,
        **{key: value for key, value in arguments.items() if key in known},
    )


@cache
def built(name: str, backbone: str) -> keras.Model:
    """A model of free size whose norms' statistics are not those of any batch."""
    keras.utils.set_random_seed(3)
    model = build(name, backbone)
    rng = np.random.default_rng(3)
    for variable in model.non_trainable_variables:
        if variable.path.endswith("moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.path.endswith("moving_mean"):
            variable.assign(rng.uniform(-0.3, 0.3, variable.shape))
    return model


def batch(height: int = 33, width: int = 47, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of noise over flat colours, their class being the colour; a stripe is ignored."""
    rng = np.random.default_rng(4)
    labels = np.zeros((count, height, width), np.uint8)
    labels[:, height // 2 :] = 1
    labels[:, :, width // 2 :] += 2
    colours = np.array([(200, 30, 30), (30, 200, 30), (30, 30, 200), (220, 220, 40)])
    noise = rng.integers(-25, 26, (count, height, width, 3))
    images = np.clip(colours[labels] + noise, 0, 255).astype(np.uint8)
    labels[:, :, :4] = 255
    return images, labels


@pytest.mark.parametrize(("name", "backbone"), EVERY)
def test_any_size_gives_float32_logits_at_input_size(name, backbone):
    model = built(name, backbone)
    assert model.input.name == contract.IMAGE
    assert model.output[contract.LOGITS].shape == (None, None, None, CLASSES)
    for height, width in ((65, 97), (33, 47), (64, 32)):
        images, _ = batch(height, width, count=1)
        logits = np.asarray(model(images)[contract.LOGITS])
        assert logits.shape == (1, height, width, CLASSES) and logits.dtype == np.float32
        assert np.isfinite(logits).all() and logits.std() > 0


@pytest.mark.parametrize(("name", "backbone"), EVERY_MODEL)
def test_a_fixed_size_is_known_in_the_graph_and_changes_nothing(name, backbone):
    free, fixed = built(name, backbone), build(name, backbone, image_size=(33, 47))
    assert fixed.output[contract.LOGITS].shape == (None, 33, 47, CLASSES)
    fixed.set_weights(free.get_weights())
    images, _ = batch()
    np.testing.assert_allclose(fixed(images)["logits"], free(images)["logits"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "backbone"), EVERY)
def test_inference_is_inference_however_it_is_called(name, backbone):
    model = built(name, backbone)
    before = [variable.numpy().copy() for variable in model.variables]
    images, _ = batch()
    logits = np.asarray(model(images, training=False)["logits"])
    np.testing.assert_array_equal(model(images)["logits"], logits)
    scale = np.abs(logits).max()
    np.testing.assert_allclose(model.predict(images, verbose=0)["logits"], logits, atol=1e-5 * scale)
    # uint8 and float pictures are the same pictures
    np.testing.assert_array_equal(model(images.astype(np.float32))["logits"], logits)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)
    # and the statistics of the batch would have given something else
    assert np.abs(np.asarray(model(images, training=True)["logits"]) - logits).max() > 1e-2 * scale


@pytest.mark.parametrize(("name", "backbone"), EVERY)
def test_gradients_reach_every_trainable_variable(name, backbone):
    model = build(name, backbone)
    images, labels = batch(65, 97)
    with tf.GradientTape() as tape:
        logits = model(images, training=True)["logits"]
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels % 5, logits, True))
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path
        if variable.path.endswith("kernel"):
            assert np.abs(gradient).max() > 0, variable.path


@pytest.mark.parametrize(("name", "backbone"), EVERY_MODEL)
def test_the_ten_lines_of_the_docstring(name, backbone, tmp_path):
    """compile, fit on (image, integer label), predict and save_weights, with the loss as arithmetic has it."""
    keras.utils.set_random_seed(5)
    images, labels = batch()
    model = build(name, backbone, batch_norm_momentum=0.8)
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255),
        metrics=[keras.metrics.MeanIoU(CLASSES, sparse_y_pred=False, ignore_class=255, name="miou")],
    )
    losses = model.fit(images, labels, batch_size=2, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    scored = model.evaluate(images, labels, verbose=0, return_dict=True)
    logits = model.predict(images, verbose=0)["logits"]

    counted = labels != 255
    chosen = np.take_along_axis(logits, (labels * counted)[..., None], axis=-1)[..., 0]
    cross_entropy = np.log(np.exp(logits).sum(-1)) - chosen
    assert scored["loss"] == pytest.approx(cross_entropy[counted].mean(), rel=1e-4)
    truth, guess = labels[counted], logits.argmax(-1)[counted]
    present = [c for c in range(CLASSES) if (truth == c).any() or (guess == c).any()]
    union = [((truth == c) | (guess == c)).sum() for c in present]
    ious = [((truth == c) & (guess == c)).sum() / u for c, u in zip(present, union, strict=True)]
    assert scored["miou"] == pytest.approx(np.mean(ious), rel=1e-5)

    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    again = build(name, backbone)
    again.load_weights(path)
    for ours, expected in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize(("name", "backbone"), EVERY_MODEL)
def test_mixed_precision_computes_in_half_and_answers_in_float32(name, backbone, policy):
    full = built(name, backbone)
    keras.config.set_dtype_policy(policy)
    try:
        half = build(name, backbone)
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(full.get_weights())
    images, _ = batch()
    expected, found = np.asarray(full(images)["logits"]), half(images)["logits"]
    assert found.dtype == tf.float32 and half.output["logits"].dtype == "float32"
    convolutions = [layer for layer in half.layers if isinstance(layer, keras.layers.Conv2D)]
    assert {layer.compute_dtype for layer in convolutions} == {policy.removeprefix("mixed_")}
    assert {variable.dtype for variable in half.trainable_variables} == {"float32"}
    assert np.abs(np.asarray(found) - expected).max() < 0.05 * np.abs(expected).max()


def test_an_unknown_name_or_argument_is_answered_with_the_valid_ones():
    with pytest.raises(ValueError, match="unknown model 'deeplab'; choose one of deeplabv3plus"):
        zoo.build("deeplab")
    with pytest.raises(
        ValueError, match="no argument 'ouput_stride'; it takes classes, image_size, backbone"
    ):
        zoo.build("deeplabv3plus", ouput_stride=8)
    assert zoo.names() == tuple(zoo.MODELS)


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
        ("rates", ()),
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


def test_deeplabv3plus_reads_stride_4_and_the_output_stride():
    for output_stride in (8, 16):
        model = build("deeplabv3plus", "mobilenet_v2", image_size=(65, 97), output_stride=output_stride)
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
