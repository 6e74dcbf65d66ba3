"""What the networks of other libraries have otherwise: rows of a table, which configs and recipes of before it still
say keyword by keyword."""

import hashlib
import json
from typing import Any

import keras
import numpy as np
import pytest

import zoo
from runtime.errors import UserError
from tests import references
from training.runs.recipe import Recipe, default_recipe, from_json
from training.runs.trained_run import build_model
from zoo.convert import model_config
from zoo.keras_private import flat_layers

TINY: dict[str, Any] = {"classes": 5, "backbone": "resnet18_v1b", "backbone_sizes": {"blocks": (1, 1, 1, 1)},
                        "output_stride": 16}  # fmt: skip
PLUS = {**TINY, "rates": (2, 3), "aspp_filters": 6, "low_level_filters": 4, "decoder_filters": 7}
V3 = {**TINY, "rates": (2, 3), "aspp_filters": 6}
SEPARABLE = {"aspp_separable": True, "decoder_separable": True}
AUXILIARY = {"auxiliary": True, "auxiliary_filters": 3}
# Of a config as version 0.2.0 wrote it: model, what it shares with today's config, what it says keyword by keyword, the
# variant that says so today, and a digest of `layers` by that version.
BEFORE = {
    "segmentation_models_pytorch": (
        "deeplabv3plus", {**PLUS, **SEPARABLE, "dropout": 0.5},
        {"aspp_output": True, "decoder_convolutions": 1, "norm_between": False, "norm_epsilon": 1e-5,
         "align_corners": True}, {}, "1f191eb8943790ee",
    ),
    "mmsegmentation": (
        "deeplabv3plus", {**PLUS, **SEPARABLE, **AUXILIARY},
        {"projection_kernel": 3, "norm_epsilon": 1e-5, "align_corners": False}, {}, "d4ac6b503ece8a45",
    ),
    "keras_hub": (
        "deeplabv3plus", {**PLUS, "dropout": 0.0}, {"decoder_convolutions": 1, "decoder_kernel": 1}, {},
        "8d01e706167711b3",
    ),
    "torchvision's DeepLabV3": (
        "deeplabv3", {**V3, **AUXILIARY, "dropout": 0.5}, {"head_convolution": True, "norm_epsilon": 1e-5},
        {"variant": "torchvision"}, "abd2b003e4924516",
    ),
    "mmsegmentation's DeepLabV3 at 769": (
        "deeplabv3", {**V3, **AUXILIARY},
        {"projection_kernel": 3, "norm_epsilon": 1e-5, "align_corners": True},
        {"variant": "mmsegmentation", "sizes": {"align_corners": True}}, "87630517c5320bcc",
    ),
    "torchvision's FCN": (
        "fcn", {**TINY, "head_filters": 6}, {"norm_epsilon": 1e-5}, {"variant": "torchvision"}, "9d86f46a6d0077bb",
    ),
    "mmsegmentation's FCN D6": (
        "fcn", {**TINY, "head_filters": 6, **AUXILIARY},
        {"head_convolutions": 2, "head_rate": 6, "concat_input": True, "auxiliary_rate": 6, "norm_epsilon": 1e-5,
         "align_corners": False},
        {"variant": "mmsegmentation", "sizes": {"head_rate": 6, "auxiliary_rate": 6}}, "0166c2ec30b6af1a",
    ),
}  # fmt: skip


def layers(model: keras.Model) -> list[list[Any]]:
    """Class and name of every layer, in order, what decides its numbers, and the shapes of its weights."""
    asked = ("epsilon", "kernel_size", "dilation_rate", "strides", "rate", "momentum")
    return [
        [type(layer).__name__, layer.name, *(repr(getattr(layer, name, None)) for name in asked),
         [list(weight.shape) for weight in layer.weights]]
        for layer in flat_layers(model)
    ]  # fmt: skip


def digest(model: keras.Model) -> str:
    return hashlib.sha256(json.dumps(layers(model)).encode()).hexdigest()[:16]


def logits(model: keras.Model) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(references.images(33, 47), training=False)["logits"])


@pytest.mark.parametrize("name", BEFORE)
def test_a_card_of_before_opens_and_is_the_network_of_its_variant(name, tmp_path):
    model, shared, said, today, expected = BEFORE[name]
    keras.utils.set_random_seed(1)
    named = zoo.build(model, **shared, **(today or {"variant": name}))
    assert digest(named) == expected
    weights = tmp_path / "old.weights.h5"
    facts = {"format": 1, "model": model, "arguments": {**shared, **said}, "classes": None, "palette": None,
             "source": {"kind": name, "name": "x", "sha256": ""}}  # fmt: skip
    model_config.write(weights, named, facts)
    opened = model_config.rebuild(weights)
    assert layers(opened) == layers(named)
    np.testing.assert_array_equal(logits(opened), logits(named))


def test_a_recipe_of_before_opens_and_says_the_same(tmp_path):
    said = {
        "rates": [1, 2],
        "aspp_filters": 6,
        "aspp_separable": True,
        "norm_between": False,
        "decoder_kernel": 1,
    }
    old = Recipe.of(
        model="deeplabv3plus", data="scenes", backbone="mobilenet_v2", model_options=said
    ).as_dict()
    assert old["model_options"] == said
    (tmp_path / "recipe.json").write_text(json.dumps(old), encoding="utf-8")
    opened = from_json(tmp_path / "recipe.json")
    assert opened.as_dict() == old
    model = build_model(opened, 5)
    names = {layer.name for layer in model.layers}
    assert "aspp_rate1_depthwise" in names and "aspp_rate1_depthwise_bn" not in names
    assert model.get_layer("decoder_2_conv").kernel_size == (1, 1)


@pytest.mark.parametrize("model", ["deeplabv3plus", "segformer", "ddrnet"])
def test_a_keyword_by_its_former_name_builds_the_same(model):
    sizes = {"classes": 3} if model in ("segformer", "ddrnet") else TINY
    former = zoo.build(model, **sizes, multiple=64)
    assert layers(former) == layers(zoo.build(model, **sizes, size_divisor=64))
    assert former.get_layer("pad").size_divisor == 64
    made = Recipe.of(model=model, data="scenes", model_options={"multiple": 32})
    assert not made.differences(Recipe.of(model=model, data="scenes", model_options={"size_divisor": 32}))


def test_the_rows_of_mmsegmentations_schedules_are_the_heads_of_its_networks():
    """Those rows leave the norms' epsilon as it is elsewhere here; a run of before must go on by them."""
    for model in ("fcn", "deeplabv3"):
        options = default_recipe(model, "cityscapes")["model_options"]
        options = {**options, **TINY, **{key: 4 for key in options if key.endswith("filters")}}
        theirs = {
            key: value for key, value in options.items() if key not in zoo.VARIANTS[model].__annotations__
        }
        named = zoo.build(model, **theirs, variant="mmsegmentation", norm_epsilon=1e-3)
        assert digest(zoo.build(model, **options)) == digest(named)


def test_deeplab_s_sides_are_one_more_than_a_multiple():
    """An image that is one short of 16 n + 1 is padded with grey, and gives what the padded one does; another is
    seen as it is."""
    keras.utils.set_random_seed(1)
    model = zoo.build("deeplabv3", **{**V3, "rates": ()}, variant="deeplab", size_divisor=16)
    assert model.get_layer("pad").remainder == 1
    assert model.get_layer("pad").compute_output_spec(keras.KerasTensor((1, 80, 113, 3))).shape[1:3] == (
        81,
        113,
    )
    image = np.random.default_rng(0).integers(0, 256, (1, 80, 112, 3)).astype("float32")
    whole = np.full((1, 81, 113, 3), 116.0, "float32")
    whole[:, :80, :112] = image
    seen, expected = (np.asarray(model(x, training=False)["logits"]) for x in (image, whole))
    assert seen.shape == (1, 80, 112, 5) and expected.shape == (1, 81, 113, 5) and np.ptp(seen) > 1e-3
    np.testing.assert_allclose(seen, expected[:, :80, :112], atol=1e-5)
    plain = zoo.build("deeplabv3", **{**V3, "rates": ()}, size_divisor=16)
    assert plain.get_layer("pad").remainder == 0


def test_a_field_wins_over_the_row_and_over_sizes():
    chosen = {**TINY, "head_filters": 4, "variant": "mmsegmentation"}
    model = zoo.build(
        "fcn", **chosen, sizes={"head_convolutions": 3, "concat_input": False}, head_convolutions=1
    )
    names = {layer.name for layer in model.layers}
    assert "head_1_conv" in names and not names & {"head_2_conv", "head_join_conv"}
    assert model.get_layer("head_1_bn").epsilon == 1e-5  # the row's


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"variant": "smp"}, ["unknown variant 'smp'", "paper, segmentation_models_pytorch, mmsegmentation"]),
        ({"norm_between": "no"}, ["norm_between must be True or False, not 'no'"]),
        ({"sizes": {"decoder_kernel": 0}}, ["decoder_kernel must be a whole number of at least 1, not 0"]),
        ({"norm_epsilon": 1.5}, ["norm_epsilon must be at least 0 and below 1"]),
        ({"sizes": {"head_rate": 6}}, ["no size 'head_rate'", "projection_kernel"]),
        ({"head_rate": 6}, ["deeplabv3plus has no argument 'head_rate'", "variant, sizes", "norm_between"]),
    ],
)  # fmt: skip
def test_what_a_variant_cannot_have(given, words):
    with pytest.raises(ValueError) as caught:
        zoo.build("deeplabv3plus", **{**PLUS, **given})
    assert all(word in str(caught.value) for word in words)


def test_a_field_of_another_kind_is_refused_before_anything_is_built():
    with pytest.raises(
        UserError, match="--set norm_between is 'no': for deeplabv3plus it has to be true or false"
    ):
        Recipe.of(model="deeplabv3plus", data="scenes", model_options={"norm_between": "no"})
