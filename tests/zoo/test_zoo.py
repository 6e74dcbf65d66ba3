"""One contract over every model of the zoo: what is fed, what comes out, what training and export rely on."""

from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from export import run_tflite, tflite
from tests.small import ALIKE, COUNTED, MORE_BACKBONES, PROMPTED, SMALL
from zoo import contract
from zoo.keras_private import flat_layers

CLASSES = 5
DENSE = [name for name in zoo.MODELS if name not in PROMPTED]
TRAINED = [name for name in DENSE if name not in COUNTED]
REAL_TIME = ("ddrnet", "pidnet", "bisenetv2", "stdc")  # many small layers, which take long to trace
LONG = ("mask2former", *REAL_TIME)


def every(names: list[str], slow: tuple[str, ...] = ()) -> list[Any]:
    """(model, backbone), "" that of its small configuration; other backbones are slow, and so are the models `slow`."""
    return [
        pytest.param(name, backbone, marks=[pytest.mark.slow] if backbone or name in slow else [])
        for name in names
        for backbone in ("", *MORE_BACKBONES.get(name, ()))
    ]


def unlike(names: list[str], also: tuple[str, ...] = ()) -> list[Any]:
    return [pytest.param(name, marks=[pytest.mark.slow] if name in ALIKE + also else []) for name in names]


def build(name: str, backbone: str = "", image_size: Any = None, **arguments: Any) -> keras.Model:
    chosen = {"backbone": backbone} if backbone else {}
    return zoo.build(name, classes=CLASSES, image_size=image_size, **{**SMALL[name], **chosen, **arguments})


@cache
def built(name: str, backbone: str = "") -> keras.Model:
    """A model of free size whose norms' statistics are not those of any batch."""
    keras.utils.set_random_seed(3)
    model = build(name, backbone)
    rng = np.random.default_rng(3)
    for variable in model.non_trainable_variables:
        if variable.path.endswith("moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.path.endswith("moving_mean"):
            variable.assign(rng.uniform(-0.3, 0.3, variable.shape))
        elif name in COUNTED:  # what a class each region is, learnt by counting
            variable.assign(rng.normal(size=variable.shape))
    return model


def batch(height: int = 33, width: int = 47, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Images of noise over flat colours, their class being the colour; a stripe is ignored."""
    rng = np.random.default_rng(4)
    labels = np.zeros((count, height, width), np.uint8)
    labels[:, height // 2 :] = 1
    labels[:, :, width // 2 :] += 2
    colours = np.array([(200, 30, 30), (30, 200, 30), (30, 30, 200), (220, 220, 40)])
    noise = rng.integers(-25, 26, (count, height, width, 3))
    images = np.clip(colours[labels] + noise, 0, 255).astype(np.uint8)
    labels[:, :, :4] = 255
    return images, labels


def test_every_model_has_a_small_configuration():
    assert set(SMALL) | set(PROMPTED) >= set(zoo.MODELS)


@pytest.mark.parametrize(("name", "backbone"), every(DENSE))
def test_any_size_gives_float32_logits_at_input_size(name, backbone):
    model = built(name, backbone)
    assert model.input.name == contract.IMAGE
    assert model.output[contract.LOGITS].shape == (None, None, None, CLASSES)
    for height, width in ((65, 97), (33, 47), (64, 32)):
        images, _ = batch(height, width, count=1)
        logits = np.asarray(model(images)[contract.LOGITS])
        assert logits.shape == (1, height, width, CLASSES) and logits.dtype == np.float32
        assert np.isfinite(logits).all() and logits.std() > 0


@pytest.mark.parametrize("name", unlike(DENSE, also=LONG))
def test_a_fixed_size_is_known_in_the_graph_and_changes_nothing(name):
    free, fixed = built(name), build(name, image_size=(33, 47))
    assert fixed.output[contract.LOGITS].shape == (None, 33, 47, CLASSES)
    fixed.set_weights(free.get_weights())
    images, _ = batch()
    np.testing.assert_allclose(fixed(images)["logits"], free(images)["logits"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "backbone"), every(DENSE, ALIKE + LONG))
def test_inference_is_inference_however_it_is_called(name, backbone):
    model = built(name, backbone)
    before = [variable.numpy().copy() for variable in model.variables]
    images, _ = batch()
    logits = np.asarray(model(images, training=False)["logits"])
    np.testing.assert_array_equal(model(images)["logits"], logits)
    scale = np.abs(logits).max()
    np.testing.assert_allclose(model.predict(images, verbose=0)["logits"], logits, atol=1e-5 * scale)
    # uint8 and float images are the same images
    np.testing.assert_array_equal(model(images.astype(np.float32))["logits"], logits)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)
    # and the statistics of the batch would have given something else
    if any(isinstance(layer, keras.layers.BatchNormalization) for layer in flat_layers(model)):
        assert np.abs(np.asarray(model(images, training=True)["logits"]) - logits).max() > 1e-2 * scale


@pytest.mark.parametrize("name", unlike(DENSE, also=("unet", *LONG)))
def test_saved_model_and_tflite_say_the_same(name, tmp_path):
    free, model = built(name), build(name, image_size=(33, 47))
    model.set_weights(free.get_weights())
    images, _ = batch(count=1)
    logits = np.asarray(model(images, training=False)["logits"])
    scale = np.abs(logits).max()

    model.export(tmp_path / "saved", verbose=False)
    saved = tf.saved_model.load(tmp_path / "saved")
    served = saved.serve(images.astype(np.float32))["logits"]
    np.testing.assert_allclose(served, logits, atol=1e-4 * scale)

    flatbuffer = tflite.convert(model, (33, 47), "fp32", "scores")  # refuses all but built-in ops
    found = run_tflite.runner(flatbuffer)(images[0])
    np.testing.assert_allclose(found, logits[0], atol=1e-3 * scale)


@pytest.mark.parametrize(("name", "backbone"), every(TRAINED))
def test_gradients_reach_every_trainable_variable(name, backbone):
    model = build(name, backbone)
    images, labels = batch(65, 97)
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        # every output counts: an auxiliary head has variables of its own
        loss = tf.reduce_mean(
            keras.losses.sparse_categorical_crossentropy(labels % CLASSES, outputs["logits"], True)
        )
        for key in sorted(set(outputs) - {"logits"}):
            loss += tf.reduce_mean(tf.square(outputs[key]))
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        gradient = tf.convert_to_tensor(gradient)
        assert np.isfinite(gradient).all(), variable.path
        if variable.path.endswith("kernel"):
            assert np.abs(gradient).max() > 0, variable.path


# The README's own ten lines, which tests/test_readme.py runs, are of deeplabv3plus.
@pytest.mark.parametrize("name", unlike(TRAINED, also=("deeplabv3plus", "unet", *LONG)))
def test_the_ten_lines_of_the_docstring(name, tmp_path):
    """compile, fit on (image, integer label), predict and save_weights, with the loss as arithmetic has it."""
    keras.utils.set_random_seed(5)
    images, labels = batch()
    model = build(name)
    for layer in flat_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.8  # ten steps are few
    model = keras.Model(model.input, {"logits": model.output["logits"]})
    model.compile(
        keras.optimizers.AdamW(3e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255),
        metrics=[keras.metrics.MeanIoU(CLASSES, sparse_y_pred=False, ignore_class=255, name="miou")],
        jit_compile=False,
    )
    losses = model.fit(images, labels, batch_size=2, epochs=12, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    scored = model.evaluate(images, labels, verbose=0, return_dict=True)
    logits = model.predict(images, verbose=0)["logits"]

    counted = labels != 255
    chosen = np.take_along_axis(logits, (labels * counted)[..., None], axis=-1)[..., 0]
    cross_entropy = np.log(np.exp(logits).sum(-1)) - chosen
    assert scored["loss"] == pytest.approx(cross_entropy[counted].mean(), rel=1e-3)
    truth, guess = labels[counted], logits.argmax(-1)[counted]
    present = [c for c in range(CLASSES) if (truth == c).any() or (guess == c).any()]
    union = [((truth == c) | (guess == c)).sum() for c in present]
    ious = [((truth == c) & (guess == c)).sum() / u for c, u in zip(present, union, strict=True)]
    assert scored["miou"] == pytest.approx(np.mean(ious), rel=1e-5)


@pytest.mark.parametrize("name", DENSE)
def test_weights_and_configuration_go_round(name, tmp_path):
    model = built(name)
    images, _ = batch()
    logits = np.asarray(model(images)["logits"])
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    for again in (build(name), keras.Model.from_config(model.get_config())):
        again.load_weights(path)
        for ours, expected in zip(again.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, expected)
        np.testing.assert_allclose(again(images)["logits"], logits, atol=1e-6 * np.abs(logits).max())


@pytest.mark.parametrize("name", DENSE)
def test_layers_with_weights_have_a_path_of_their_own(name):
    """Public checkpoints are placed by these paths, and ones that Keras numbers would shift."""
    model = build(name)
    paths = [variable.path for variable in model.weights]
    assert len(set(paths)) == len(paths)
    assert not [path for path in paths if any(part.startswith(AUTOMATIC) for part in path.split("/"))]


AUTOMATIC = (
    "conv2d",
    "dense",
    "batch_normalization",
    "layer_normalization",
    "depthwise_conv2d",
    "functional",
)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", TRAINED)
def test_mixed_precision_computes_in_half_and_answers_in_float32(name, policy):
    full = built(name)
    keras.config.set_dtype_policy(policy)
    try:
        half = build(name)
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(full.get_weights())
    images, _ = batch()
    expected, found = np.asarray(full(images)["logits"]), half(images)["logits"]
    assert found.dtype == tf.float32 and half.output["logits"].dtype == "float32"
    convolutions = [layer for layer in flat_layers(half) if isinstance(layer, keras.layers.Conv2D)]
    assert policy.removeprefix("mixed_") in {layer.compute_dtype for layer in convolutions}
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
