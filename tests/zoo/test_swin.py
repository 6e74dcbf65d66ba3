"""Swin Transformers against Hugging Face's SwinBackbone, torchvision's counts and the paper's arithmetic."""

import re

import keras
import numpy as np
import pytest

from tests import references
from zoo import backbones, contract
from zoo.backbones.swin import SIZES, Neighbours, Sizes, WindowAttention, swin
from zoo.convert.assign import assign
from zoo.convert.checkpoint import Match
from zoo.layers import IMAGENET_DEVIATION, IMAGENET_MEAN

TINY = Sizes(blocks=(2, 2, 1, 2), heads=(1, 2, 4, 2), channels=16, window=4)
# Of SwinModel, written out: table 7 of the paper rounds them to 28, 50, 88 and 197 million with the classifier.
PARTS = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "mlp1": "mlp.fc1",
    "mlp2": "mlp.fc2",
    "attention/query": "attention.q_proj",
    "attention/key": "attention.k_proj",
    "attention/value": "attention.v_proj",
    "attention/projection": "attention.o_proj",
    "attention/bias": "attention.relative_position_bias",
}


def hugging_face(path: str) -> str:
    """The prefix in SwinBackbone's state dict of one of our layers."""
    stem = {"patches_conv": "embeddings.patch_embeddings.projection", "patches_norm": "embeddings.norm"}
    if path in stem:
        return f"swin.{stem[path]}"
    if found := re.fullmatch(r"stage(\d)_norm", path):
        return f"hidden_states_norms.stage{found[1]}"
    if found := re.fullmatch(r"stage(\d)_merge_(\w+)", path):
        return f"swin.encoder.layers.{int(found[1]) - 2}.downsample.{found[2]}"
    found = re.fullmatch(r"stage(\d)_block(\d+)_(.*)", path)
    return f"swin.encoder.layers.{int(found[1]) - 1}.blocks.{int(found[2]) - 1}.{PARTS[found[3]]}"


def reference(sizes: Sizes):
    """SwinBackbone with random weights large enough for attention, bias and mask to show."""
    transformers, torch = references.transformers(), references.torch()
    config = transformers.SwinConfig(
        embed_dim=sizes.channels,
        depths=list(sizes.blocks),
        num_heads=list(sizes.heads),
        window_size=sizes.window,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    module = references.randomise(transformers.SwinBackbone(config))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:
                deviation = 1.0 if name.endswith("table") else parameter[0].numel() ** -0.5
                parameter.normal_(0, deviation, generator=generator)
    return module


def differences(module, model, size) -> list[float]:
    """For each level, the largest difference over the range of the reference."""
    torch = references.torch()
    images = references.images(*size, count=2)
    normalised = (images / 255 - IMAGENET_MEAN) / IMAGENET_DEVIATION
    with torch.no_grad():
        maps = module(torch.tensor(normalised.transpose(0, 3, 1, 2), dtype=torch.float32)).feature_maps
    found = []
    for level, features in zip(contract.LEVELS, maps, strict=True):
        expected = features.numpy().transpose(0, 2, 3, 1)
        ours = np.asarray(model(images)[level])
        assert ours.shape == expected.shape
        found.append(float(np.abs(ours - expected).max() / np.ptp(expected)))
    return found


@pytest.mark.parametrize("window", [4, 7])
def test_equals_hugging_face_at_every_size(window):
    """7 is odd, so that the shift is not half of it; images smaller than a window are padded to one."""
    sizes = Sizes(TINY.blocks, TINY.heads, TINY.channels, window)
    module, model = reference(sizes), swin(sizes, None, 32, 0.9)
    report = assign(model, Match("test", "swin", {}, hugging_face, references.tensors(module)))
    assert report.left_over == ("swin.layernorm.weight", "swin.layernorm.bias")  # a classifier's
    for size in ((65, 97), (33, 47), (64, 32)):
        assert max(differences(module, model, size)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_tiny", "swin_large"])
def test_full_sizes_equal_hugging_face(name):
    module, model = reference(SIZES[name]), backbones.build(name)
    assign(model, Match("test", name, {}, hugging_face, references.tensors(module)))
    assert max(differences(module, model, (97, 161))) < 1e-4


@pytest.mark.parametrize(
    ("name", "trainable"),
    [
        # torchvision's counts of trainable parameters, less the classifier's 768 * 1000 + 1000 ...
        ("swin_tiny", 28_288_354 - 769_000),
        ("swin_small", 49_606_258 - 769_000),
        pytest.param("swin_base", 87_768_224 - 1_025_000, marks=pytest.mark.slow),
    ],
)
def test_parameters(name, trainable):
    model = swin(SIZES[name], None, 32, 0.9)
    levels = sum(2 * SIZES[name].channels << stage for stage in range(3))  # ... and our norms of P2 to P4
    # torchvision's Base has a window of 7, whose tables have 13^2 rows and not 23^2
    rows = (2 * SIZES[name].window - 1) ** 2 - 13**2
    tables = sum(rows * b * h for b, h in zip(SIZES[name].blocks, SIZES[name].heads, strict=True))
    assert model.count_params() == trainable + levels + tables


def test_a_fixed_size_is_known_in_the_graph_and_changes_nothing():
    free, fixed = swin(TINY, None, 32, 0.9), swin(TINY, (33, 47), 32, 0.9)
    fixed.set_weights(free.get_weights())
    image = references.images(33, 47, count=2)
    for level, side in (("P2", (9, 12)), ("P3", (5, 6)), ("P4", (3, 3)), ("P5", (2, 2))):
        assert fixed.output[level].shape[1:3] == side
        np.testing.assert_allclose(fixed(image)[level], free(image)[level], atol=1e-6)


def test_a_shifted_window_at_the_border_does_not_mix_what_is_no_neighbour():
    """With a window of 4 and a shift of 2, rows 0 and 1 of 8 come to lie in one window with rows 6 and 7."""
    keras.utils.set_random_seed(2)
    attention = WindowAttention(2, 4, 2)
    image = np.random.default_rng(3).normal(size=(1, 8, 8, 8)).astype(np.float32)
    changed = image.copy()
    changed[:, 6:] += 5.0
    moved = np.abs(np.asarray(attention(changed)) - np.asarray(attention(image))).max(axis=(0, 2, 3))
    assert (moved[:2] < 1e-6).all() and (moved[6:] > 1e-3).all()
    # rows 2 to 5 are one window, apart from both
    assert (moved[2:6] < 1e-6).all()


def test_neighbours_take_columns_before_rows():
    """The order of the authors' patch merging: top left, bottom left, top right, bottom right."""
    x = np.arange(8, dtype=np.float32).reshape(1, 2, 4, 1)
    np.testing.assert_array_equal(np.asarray(Neighbours()(x))[0, 0], [[0, 4, 1, 5], [2, 6, 3, 7]])


def test_training_skips_whole_branches_of_a_image_more_often_the_deeper():
    model = swin(TINY, None, 32, 0.9)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    expected = [0.3 * block / 6 for block in range(1, 7) for _ in range(2)]  # block 0 of 7 has none
    np.testing.assert_allclose(rates, expected)


def test_half_precision_computes_in_half():
    full = swin(TINY, None, 32, 0.9)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = swin(TINY, None, 32, 0.9)
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(full.get_weights())
    image = references.images(33, 47)
    assert half.output["P5"].dtype == "bfloat16"
    for level, expected in full(image).items():
        found = np.asarray(keras.ops.cast(half(image)[level], "float32"))
        assert np.abs(found - np.asarray(expected)).max() < 0.05 * np.ptp(expected)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"blocks": (2, 2, 2)}, "four stages"),
        ({"blocks": (2, 2, 0, 2)}, "blocks"),
        ({"heads": (5, 6, 12, 24)}, "5 does not divide 96"),
        ({"window": 1}, "window"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"depth": 3}, "no size 'depth'; it has blocks, heads, channels, window"),
    ],
)
def test_refuses_sizes_that_make_no_sense(sizes, message):
    with pytest.raises(ValueError, match=message):
        backbones.build("swin_tiny", sizes=sizes)


def test_a_size_that_a_backbone_does_not_have_is_told_those_that_it_has():
    with pytest.raises(ValueError, match="mobilenet_edgetpu has no size 'blocks'; it has top, scale, offset"):
        backbones.build("mobilenet_edgetpu", sizes={"blocks": (1,)})
