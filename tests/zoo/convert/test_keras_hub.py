"""KerasHub's DeepLabV3+ presets become ours: same logits, on the real library."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import zoo
from tests import references
from zoo.convert import model_config, recognise
from zoo.convert.assign import assign
from zoo.convert.files import readers
from zoo.convert.layouts import keras_hub
from zoo.convert.options import Options

IMAGENET = {
    "scale": [1 / (255 * deviation) for deviation in (0.229, 0.224, 0.225)],
    "offset": [-mean / dev for mean, dev in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)],
}
V1 = {"input_conv_filters": [64], "input_conv_kernel_sizes": [7], "block_type": "bottleneck_block"}
VD = {
    "input_conv_filters": [32, 32, 64],
    "input_conv_kernel_sizes": [3, 3, 3],
    "block_type": "bottleneck_block_vd",
}
BASIC = {**V1, "block_type": "basic_block"}


def segmenter(
    blocks: list[int], layout: dict[str, Any], classes: int, converter: dict[str, Any] | None
) -> Any:
    hub = references.keras_hub()
    encoder = hub.models.ResNetBackbone(
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=blocks,
        stackwise_num_strides=[1, 2, 2, 2],
        **layout,
    )
    backbone = hub.models.DeepLabV3Backbone(
        image_encoder=encoder,
        projection_filters=48,
        low_level_feature_key="P2",
        spatial_pyramid_pooling_key="P5",
        upsampling_size=8,
        dilation_rates=[6, 12, 18],
    )
    preprocessor = None
    if converter is not None:
        image_converter = hub.layers.DeepLabV3ImageConverter(**converter)
        preprocessor = hub.models.DeepLabV3ImageSegmenterPreprocessor(image_converter)
    made = hub.models.DeepLabV3ImageSegmenter(
        backbone=backbone, num_classes=classes, preprocessor=preprocessor
    )
    rng = np.random.default_rng(1)
    ranges = {
        "gamma": (0.6, 1.4),
        "beta": (-0.3, 0.3),
        "moving_mean": (-0.3, 0.3),
        "moving_variance": (0.5, 1.5),
    }
    for variable in made.variables:
        if variable.name in ranges:
            variable.assign(rng.uniform(*ranges[variable.name], variable.shape))
    return made


def assert_converts(theirs: Any, folder: Path, tmp_path: Path, sizes: list[tuple[int, int]]) -> None:
    source = readers.read(folder)
    match = recognise(source.checkpoint)
    assert match.assumed.keys() == (set() if theirs.preprocessor else {"mean", "std", "factor", "channels"})
    model = zoo.build(match.model, **match.arguments)
    report = assign(model, match)
    assert not report.left_over and not report.fresh
    model_config.write(
        tmp_path / "made.weights.h5",
        model,
        model_config.of(match, match.arguments, folder.name, source.sha256),
    )
    rebuilt = model_config.rebuild(tmp_path / "made.json")
    for height, width in sizes:
        images = references.images(height, width)
        seen = images.astype(np.float32)
        if theirs.preprocessor is not None:
            seen = np.asarray(theirs.preprocessor(images))
        expected = np.asarray(theirs(seen, training=False))
        references.assert_parity(np.asarray(rebuilt(images, training=False)["logits"]), expected)


def assert_numbers_are_names(folder: Path) -> None:
    """New files also name their layers: the numbers, all that old files have, must mean the same ones."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))["config"]["image_encoder"][
        "config"
    ]
    with h5py.File(folder / "model.weights.h5") as file:
        for ours, place in keras_hub._encoder_places(config):
            name = file[place.removeprefix("model/")]["vars"].attrs["name"]
            stack, _, rest = ours.removeprefix("conv").partition("_")
            if stack == "1":  # conv1_2_bn is conv2_bn, conv1_bn itself
                assert name in (f"conv{rest}", ours)
            else:  # conv3_block1_0_conv is stack1_block0_0_conv
                block, _, rest = rest.removeprefix("block").partition("_")
                assert name == f"stack{int(stack) - 2}_block{int(block) - 1}_{rest}"


@pytest.mark.parametrize(
    ("blocks", "layout", "converter"),
    [
        ([1, 2, 1, 1], V1, IMAGENET),
        ([1, 1, 1, 1], VD, {"scale": 1 / 127.5, "offset": -1.0}),
        ([2, 1, 1, 1], BASIC, None),
    ],
    ids=["bottleneck", "vd", "basic"],
)
def test_a_preset_gives_the_same_logits(tmp_path, blocks, layout, converter):
    theirs = segmenter(blocks, layout, 5, converter)
    theirs.save_to_preset(str(tmp_path / "preset"))
    assert_numbers_are_names(tmp_path / "preset")
    assert_converts(theirs, tmp_path / "preset", tmp_path, [(64, 96), (96, 32)])


@pytest.mark.slow
def test_the_public_preset_s_layout_at_full_size(tmp_path):
    theirs = segmenter([3, 4, 6, 3], V1, 21, IMAGENET)
    # What KerasHub's own table of presets says of deeplab_v3_plus_resnet50_pascalvoc.
    assert theirs.backbone.count_params() == 39_190_656
    theirs.save_to_preset(str(tmp_path / "preset"))
    assert_converts(theirs, tmp_path / "preset", tmp_path, [(128, 256), (96, 160)])


def test_mean_and_variance_of_an_old_preset_are_read_as_keras_hub_reads_them():
    said = {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "variance": [0.05, 0.06, 0.07]}
    converter = references.keras_hub().layers.DeepLabV3ImageConverter(**said)
    found = keras_hub._inputs({"config": said}, Options())
    np.testing.assert_allclose(found.scale, converter.scale)
    np.testing.assert_allclose(found.offset, converter.offset)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spatial_pyramid_pooling_key": "P4"}, "joins P2 and P4"),
        ({"low_level_feature_key": None}, "joins None and P5"),
        ({"upsampling_size": 4}, "upsampling of 4"),
        ({"image_encoder": {"class_name": "DenseNetBackbone", "config": {}}}, "encoder DenseNetBackbone"),
    ],
)
def test_what_is_not_known_is_said(change, words):
    encoder = {
        "class_name": "ResNetBackbone",
        "config": {
            **V1,
            "stackwise_num_filters": [64, 128, 256, 512],
            "stackwise_num_blocks": [1, 1, 1, 1],
            "stackwise_num_strides": [1, 2, 2, 2],
        },
    }
    network = {
        "image_encoder": encoder,
        "low_level_feature_key": "P2",
        "spatial_pyramid_pooling_key": "P5",
        "upsampling_size": 8,
        **change,
    }
    task = {"class_name": "DeepLabV3ImageSegmenter", "config": {"num_classes": 2}}
    config = {"class_name": "DeepLabV3Backbone", "config": network, "task": task}
    with pytest.raises(ValueError, match=words):
        keras_hub.recognise(readers.Checkpoint({}, "a preset", config))
    with pytest.raises(ValueError, match="no segmentation head"):
        keras_hub.recognise(readers.Checkpoint({}, "a preset", {**config, "task": None}))


def test_other_presets_are_not_ours():
    assert keras_hub.recognise(readers.Checkpoint({}, "a preset", {"class_name": "ResNetBackbone"})) is None
