"""SegFormer's own arithmetic: sizes, attention, stochastic depth, the decoder's shortcut, and its exported GELU."""

import keras
import numpy as np
import pytest
from keras import ops

import zoo
from tests.small import SMALL
from zoo.backbones.mix_transformer import LAYOUTS, Layout, SpatialAttention
from zoo.layers import LayerNorm, gelu

# Table 1 of the paper: parameters, in millions, of the encoder, and of the whole with 150 classes (ADE20K).
PARAMETERS = {
    "mit_b0": (3.4, 3.8),
    "mit_b1": (13.1, 13.7),
    "mit_b2": (24.2, 27.5),
    "mit_b3": (44.0, 47.3),
    "mit_b4": (60.8, 64.1),
    "mit_b5": (81.4, 84.7),
}


def build(**arguments) -> keras.Model:
    return zoo.build("segformer", classes=4, **{**SMALL["segformer"], **arguments})


@pytest.mark.parametrize(
    "name", ["mit_b0", "mit_b1", *(pytest.param(f"mit_b{n}", marks=pytest.mark.slow) for n in range(2, 6))]
)
def test_each_size_has_the_papers_parameters(name):
    encoder, whole = PARAMETERS[name]
    model = zoo.build("segformer", backbone=name, classes=150)
    # The paper rounds, and counts the ImageNet classifier neither here nor there.
    assert model.get_layer("backbone").count_params() / 1e6 == pytest.approx(encoder, abs=0.16)
    assert model.count_params() / 1e6 == pytest.approx(whole, abs=0.16)


@pytest.mark.parametrize("size", [(29, 29), (33, 47), (64, 160), (512, 1024), (1024, 2048)])
def test_the_pyramid_has_its_strides_at_any_shape(size):
    """Without computing anything: 1024x2048 is a shape that a square root of the number of tokens would lose."""
    model = build(image_size=size)
    height, width = size
    for level, stride, channels in zip(
        ("P2", "P3", "P4", "P5"), (4, 8, 16, 32), (8, 16, 20, 32), strict=True
    ):
        shape = model.get_layer("backbone").output[level].shape
        assert shape == (None, -(-height // stride), -(-width // stride), channels)
    assert model.output["logits"].shape == (None, height, width, 4)


def test_height_and_width_are_not_mixed():
    """With symmetric kernels, what a turned image gives is what the image gives, turned."""
    model = build(backbone_sizes={**SMALL["segformer"]["backbone_sizes"], "reductions": (4, 2, 1, 1)})
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 160, 3)).astype(np.float32)
    for variable in model.weights:
        if variable.path.endswith("kernel") and variable.shape[0] > 1:
            kernel = variable.numpy()
            swapped = kernel.transpose(1, 0, 2, 3)
            variable.assign((kernel + swapped) / 2)
    upright = np.asarray(model(image)["logits"])
    turned = np.asarray(model(image.transpose(0, 2, 1, 3))["logits"]).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(turned, upright, atol=1e-4 * np.abs(upright).max())


def test_attention_is_the_softmax_of_scaled_products():
    """Equation 1, head by head, in NumPy."""
    rng = np.random.default_rng(1)
    query, key, value = (
        rng.normal(size=(2, *size, 6)).astype(np.float32) for size in ((3, 5), (2, 2), (2, 2))
    )
    found = np.asarray(SpatialAttention(heads=3)([query, key, value]))
    for head in range(3):
        part = slice(2 * head, 2 * head + 2)
        q, k, v = (array[..., part].reshape(2, -1, 2) for array in (query, key, value))
        scores = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(2))
        expected = scores / scores.sum(-1, keepdims=True) @ v
        np.testing.assert_allclose(found[..., part].reshape(2, 15, 2), expected, rtol=1e-4, atol=1e-5)


def test_attentions_softmax_is_float32_in_half_precision():
    """Scores of some 3000: their exponentials, and even they themselves squared, are no numbers of float16."""
    maps = np.full((1, 4, 4, 2), 48.0, np.float32)
    found = np.asarray(SpatialAttention(heads=1, dtype="mixed_float16")([maps, maps, maps]))
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, 48.0, rtol=1e-2)


def test_drop_path_drops_whole_samples_and_only_in_training():
    sizes = {**SMALL["segformer"]["backbone_sizes"], "blocks": (1, 1, 1, 2), "drop_path": 0.5}
    model = build(backbone_sizes=sizes, dropout=0.0)
    rates = [layer.rate for layer in model.get_layer("backbone").layers if layer.name.endswith("drop_path")]
    # five blocks: 0, 1/4, 1/2, 3/4 and all of 0.5, each on both branches; 0 has no layer
    np.testing.assert_allclose(rates, np.repeat([0.125, 0.25, 0.375, 0.5], 2))
    layer = model.get_layer("backbone").get_layer("stage4_block2_ffn_norm_drop_path")
    branch = np.ones((64, 2, 3, 4), np.float32)
    np.testing.assert_array_equal(layer(branch, training=False), branch)
    dropped = np.asarray(layer(branch, training=True)).reshape(64, -1)
    assert (dropped == dropped[:, :1]).all()  # a sample at a time
    assert set(np.unique(dropped)) == {0.0, 2.0}  # what stays makes up for what goes
    image = np.random.default_rng(2).integers(0, 256, (1, 33, 47, 3))
    np.testing.assert_array_equal(model(image)["logits"], model(image)["logits"])


@pytest.mark.parametrize("norm", [False, True])
def test_the_fusion_by_level_is_the_papers_on_the_joined_maps(norm):
    """Equation 4 as it stands: upsample each level to P2, join, one linear layer."""
    keras.utils.set_random_seed(3)
    model = build(decoder_norm=norm, image_size=(61, 95))
    image = np.random.default_rng(3).integers(0, 256, (1, 61, 95, 3))
    levels = ("P2", "P3", "P4", "P5")
    last = "relu" if norm else "linear"
    outputs = {level: model.get_layer(f"decoder_{level}_{last}").output for level in levels}
    inner = keras.Model(model.input, {**outputs, "sum": model.get_layer("decoder_sum").output})(image)
    size = inner["P2"].shape[1:3]
    joined = ops.concatenate([ops.image.resize(inner[level], size, "bilinear") for level in levels], axis=-1)
    kernel = np.concatenate(
        [model.get_layer(f"decoder_{level}_fusion").get_weights()[0] for level in levels], 2
    )
    expected = np.asarray(joined) @ kernel[0, 0]
    np.testing.assert_allclose(inner["sum"], expected, rtol=1e-3, atol=1e-5)


def test_gelu_is_the_exact_one():
    """x times the share of the normal distribution below x, at points of a table of that distribution."""
    x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0], np.float32)
    shares = np.array([0.022750, 0.158655, 0.5, 0.841345, 0.977250])
    np.testing.assert_allclose(np.asarray(gelu(x)), x * shares, atol=2e-6)


def test_layer_norm_is_keras_own_function():
    x = np.random.default_rng(5).normal(3, 2, (2, 3, 5, 7)).astype(np.float32)
    ours, keras_own = LayerNorm(epsilon=0.1), keras.layers.LayerNormalization(epsilon=0.1)
    ours.build(x.shape), keras_own.build(x.shape)
    weights = [np.linspace(0.5, 2, 7), np.linspace(-1, 1, 7)]
    ours.set_weights(weights), keras_own.set_weights(weights)
    np.testing.assert_allclose(ours(x), keras_own(x), atol=2e-6)
    # 300 squared is no number of float16
    half = LayerNorm(dtype="mixed_float16")(np.array([[-300.0, 300.0]], np.float16))
    np.testing.assert_allclose(half, [[-1, 1]], rtol=1e-3)


def test_other_backbones_fit_the_decoder():
    model = zoo.build("segformer", backbone="mobilenet_v2", decoder_filters=8, classes=3, image_size=(33, 47))
    assert model.output["logits"].shape == (None, 33, 47, 3)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"image_size": (28, 64)}, "at least 29"),
        ({"backbone_sizes": {"widths": (8, 16)}}, "widths must be four"),
        ({"backbone_sizes": {"heads": (3, 2, 5, 8)}}, "widths 32 cannot be shared out to 3 heads"),
        ({"backbone_sizes": {"strides": (2, 2, 2, 2)}}, "strides must be"),
        ({"backbone_sizes": {"drop_path": 1.0}}, "drop_path"),
        ({"backbone_sizes": {"epsilon": 0}}, "epsilon"),
        ({"backbone_sizes": {"depth": 3}}, "no size 'depth'"),
        ({"decoder_filters": 0}, "decoder_filters"),
        ({"dropout": 1.0}, "dropout"),
        ({"classes": 1}, "classes"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, told):
    with pytest.raises(ValueError, match=told):
        zoo.build("segformer", **arguments)


def test_the_layouts_are_rows_of_the_papers_table():
    """Table 6: channels and blocks; all sizes share heads 1, 2, 5, 8 and reductions 8, 4, 2, 1."""
    assert LAYOUTS["mit_b0"].widths == (32, 64, 160, 256)
    assert {LAYOUTS[name].widths for name in LAYOUTS if name != "mit_b0"} == {(64, 128, 320, 512)}
    blocks = {name: sum(layout.blocks) for name, layout in LAYOUTS.items()}
    assert blocks == {"mit_b0": 8, "mit_b1": 8, "mit_b2": 16, "mit_b3": 28, "mit_b4": 41, "mit_b5": 52}
    assert Layout(widths=(8, 16, 40, 64), blocks=(1, 1, 1, 1)).heads == (1, 2, 5, 8)
