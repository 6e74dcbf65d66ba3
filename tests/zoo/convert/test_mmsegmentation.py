"""mmsegmentation's networks converted: the package itself, built from its own configs, gives the same logits."""

from typing import Any

import numpy as np
import pytest

import zoo
from tests import references
from tests.reference_networks import (
    MMSEG_SIZES,
    assert_same_as_mmseg,
    mmseg_config,
    mmseg_converted,
    mmseg_logits,
    mmseg_network,
)
from zoo.convert import assign, recognise
from zoo.convert.checkpoint import Checkpoint
from zoo.convert.files import state_dicts
from zoo.convert.layouts import mmsegmentation
from zoo.convert.layouts.mmsegmentation_config import config, part
from zoo.convert.options import Options

CITYSCAPES = "4xb2-80k_cityscapes-512x1024"
BLOCKS = (1, 1, 2, 2)


def small(chosen: Any, **decode_head: Any) -> Any:
    """The same network on a ResNet of six blocks with a narrow head of five classes."""
    references.mmseg()
    from mmseg.models.backbones import ResNet, ResNetV1c
    from mmseg.registry import MODELS

    kind = {"ResNet": ResNet, "ResNetV1c": ResNetV1c}[chosen.model.backbone.type]
    settings = {**kind.arch_settings, 50: (kind.arch_settings[50][0], BLOCKS)}
    few = type(f"Small{kind.__name__}", (kind,), {"arch_settings": settings})
    MODELS.register_module(module=few, force=True)
    chosen.model.backbone.type = few.__name__
    chosen.model.decode_head.update(channels=16, num_classes=5, **decode_head)
    chosen.model.auxiliary_head.update(channels=8, num_classes=5)
    return chosen


TINY = {
    "deeplabv3plus": (f"deeplabv3plus/deeplabv3plus_r50-d8_{CITYSCAPES}", {"c1_channels": 6}),
    "deeplabv3": (f"deeplabv3/deeplabv3_r50-d8_{CITYSCAPES}", {}),
    "fcn": (f"fcn/fcn_r50-d8_{CITYSCAPES}", {}),
    # what only the config tells: output stride 16, other rates, corners aligned, the stem of ResNet
    "fcn_d6": (f"fcn/fcn-d6_r50-d16_{CITYSCAPES}", {}),
    "deeplabv3_769": ("deeplabv3/deeplabv3_r50-d8_4xb2-80k_cityscapes-769x769", {}),
    "deeplabv3_r50b": (f"deeplabv3/deeplabv3_r50b-d8_{CITYSCAPES}", {}),
}


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_network_has_the_same_logits(name):
    path, head = TINY[name]
    chosen = small(mmseg_config(path), **head)
    module = mmseg_network(chosen)
    match, model = mmseg_converted(module, {"cfg": chosen.pretty_text})
    assert match.model == name.split("_")[0] and match.arguments["backbone_sizes"] == {"blocks": BLOCKS}
    assert match.arguments["align_corners"] == (name == "deeplabv3_769")
    assert match.arguments["output_stride"] == (16 if name == "fcn_d6" else 8)
    assert_same_as_mmseg(module, model)


@pytest.mark.parametrize(
    "said", [{"bgr_to_rgb": False}, {"bgr_to_rgb": False, "mean": [100, 110, 120], "std": [50, 60, 70]},
             {"mean": None, "std": None}], ids=["blue first", "blue first, other means", "raw"],
)  # fmt: skip
def test_images_are_prepared_as_the_config_says(said):
    chosen = small(mmseg_config(TINY["fcn"][0]))
    chosen.model.data_preprocessor.update(said)
    module = mmseg_network(chosen)
    match, model = mmseg_converted(module, {"cfg": chosen.pretty_text})
    assert match.flipped == ("bgr_to_rgb" in said) and match.assumed == {}
    assert_same_as_mmseg(module, model, MMSEG_SIZES[:1])


def test_one_class_becomes_two_parted_by_the_threshold():
    """0.3 in this library: argmax says what its own postprocessing says."""
    chosen = small(mmseg_config(TINY["fcn"][0]))
    chosen.model.decode_head.update(num_classes=2, out_channels=1)
    chosen.model.auxiliary_head.update(num_classes=2, out_channels=1)
    module = mmseg_network(chosen)
    match, model = mmseg_converted(module, {"cfg": chosen.pretty_text})
    assert match.arguments["classes"] == 2 and match.assumed == {} and module.decode_head.threshold == 0.3
    image = references.images(64, 96)
    logits, _ = mmseg_logits(module, image)
    middle = np.median(logits)  # so that both classes are there
    module.decode_head.conv_seg.bias.data -= float(middle)
    _, model = mmseg_converted(module, {"cfg": chosen.pretty_text})
    expected = (
        references.torch().sigmoid(references.torch().tensor(mmseg_logits(module, image)[0])).numpy() > 0.3
    )
    found = np.asarray(model(image)["logits"]).argmax(-1)
    assert 0.1 < expected.mean() < 0.9 and (found == expected[..., 0]).mean() >= 0.9999


def test_an_auxiliary_head_of_other_classes_is_left_out(fcn_tensors):
    head = {
        "auxiliary_head.conv_seg.weight": np.zeros((21, 8, 1, 1)),
        "auxiliary_head.conv_seg.bias": np.zeros(21),
    }
    match = mmsegmentation.recognise(Checkpoint({**fcn_tensors, **head}, "x"))
    assert "auxiliary" not in match.arguments
    assert assign.assign(zoo.build(match.model, **match.arguments), match).left_over == ()


def test_what_a_file_without_a_config_does_not_say(fcn_tensors):
    match = recognise(Checkpoint(fcn_tensors, "x", options=Options({"output_stride": 16, "channels": "bgr"})))
    assert match.arguments["output_stride"] == 16 and match.flipped
    assert match.assumed.keys() == {"epsilon", "align_corners", "head_rate", "mean", "std", "factor"}


def test_the_error_names_every_network_that_is_known():
    with pytest.raises(ValueError) as caught:
        recognise(Checkpoint({"who.knows": np.zeros(3)}, "x"))
    for head in mmsegmentation.HEADS:
        assert head.name in str(caught.value)


PREFIXES = (
    "",
    "module.",
    "_orig_mod.module.",
    "model.",
    "model._orig_mod.",
    "module.model.",
    "net.model._orig_mod.",
)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_of_lightning_compile_and_dataparallel(fcn_tensors, prefix):
    """On mmsegmentation's layout; test_prefixed_names.py has the others."""
    named = {f"{prefix}{name}": array for name, array in fcn_tensors.items()}
    named = state_dicts.without_wrapping({**named, "criterion.weight": np.ones(5)})
    match = recognise(Checkpoint(named, "x"))
    report = assign.assign(zoo.build(match.model, **match.arguments), match)
    assert report.left_over == ("criterion.weight",) and not report.fresh


def test_multi_grid_and_whole_stacks_of_one_rate():
    """The D16-MG124 networks, and a backbone without contract_dilation."""
    chosen = mmseg_config(f"deeplabv3/deeplabv3_r101-d16-mg124_{CITYSCAPES}")
    chosen.model.backbone.update(depth=50, multi_grid=(1, 2), contract_dilation=False)
    del chosen.model.decode_head.sampler  # takes part in training alone
    chosen = small(chosen)
    module = mmseg_network(chosen)
    match, model = mmseg_converted(module, {"config": chosen.pretty_text})
    sizes = {"blocks": BLOCKS, "contracted": False, "last_rates": (1, 2)}
    assert match.arguments["backbone_sizes"] == sizes and match.arguments["rates"] == (6, 12, 18)
    assert_same_as_mmseg(module, model)


def test_basic_blocks():
    chosen = mmseg_config(f"deeplabv3plus/deeplabv3plus_r18-d8_{CITYSCAPES}")
    module = mmseg_network(chosen)
    match, model = mmseg_converted(module, {})
    assert match.arguments["backbone"] == "resnet18_v1c" and "backbone_sizes" not in match.arguments
    assert match.arguments["low_level_filters"] == 12
    assert_same_as_mmseg(module, model)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "depth"), [("deeplabv3plus", 50), ("deeplabv3plus", 101), ("deeplabv3", 101), ("fcn", 101)]
)
def test_a_network_of_full_size_has_the_same_logits(model, depth):
    chosen = mmseg_config(f"{model}/{model}_r{depth}-d8_{CITYSCAPES}")
    module = mmseg_network(chosen)
    match, ours = mmseg_converted(module, {})  # D8 is what a file without a config is taken to be
    assert match.model == model and match.arguments["backbone"] == f"resnet{depth}_v1c"
    assert "backbone_sizes" not in match.arguments
    assert_same_as_mmseg(module, ours)


@pytest.fixture(scope="module")
def fcn_tensors():
    return references.tensors(mmseg_network(small(mmseg_config(TINY["fcn"][0]))))


@pytest.mark.parametrize("generation", [0, 1])
def test_classes_and_palette_come_along(fcn_tensors, generation):
    references.mmseg()
    from mmseg.datasets import CityscapesDataset

    said = CityscapesDataset.METAINFO
    old = {"CLASSES": said["classes"], "PALETTE": said["palette"]}
    meta = {"dataset_meta": said} if generation else old
    match = mmsegmentation.recognise(Checkpoint(fcn_tensors, "x", meta=meta))
    assert match.classes[:3] == ("road", "sidewalk", "building") and len(match.classes) == 19
    assert match.palette[0] == (128, 64, 128) and len(match.palette) == 19


def recognised_with(tensors, **changes: dict[str, Any]):
    chosen = mmseg_config(TINY["fcn"][0])
    for key, change in changes.items():
        chosen.model[key].update(change)
    return mmsegmentation.recognise(Checkpoint(tensors, "x", meta={"cfg": chosen.pretty_text}))


def test_what_ours_cannot_do_is_refused(fcn_tensors):
    assert recognised_with(fcn_tensors).arguments["output_stride"] == 8
    with pytest.raises(ValueError, match=r"strides \(1, 2, 1, 1\) and dilations \(1, 1, 4, 8\)"):
        recognised_with(fcn_tensors, backbone={"dilations": (1, 1, 4, 8)})
    with pytest.raises(ValueError, match=r"prepares images by a mean of \(0, 0\), where three numbers"):
        recognised_with(fcn_tensors, data_preprocessor={"mean": [0, 0]})
    pyramid = references.tensors(mmseg_network(small(mmseg_config(TINY["deeplabv3"][0]))))
    chosen = mmseg_config(TINY["deeplabv3"][0])
    chosen.model.decode_head.dilations = (1, 12, 24)
    with pytest.raises(ValueError, match=r"4 branches of pyramid pooling and the dilations \(1, 12, 24\)"):
        mmsegmentation.recognise(Checkpoint(pyramid, "x", meta={"cfg": chosen.pretty_text}))


def test_what_is_another_network_is_left_to_others(fcn_tensors):
    assert mmsegmentation.recognise(Checkpoint({}, "x")) is None
    attention = {**fcn_tensors, "decode_head.cca.gamma": np.zeros(1)}  # CCNet's head is an FCN's and more
    assert mmsegmentation.recognise(Checkpoint(attention, "x")) is None
    high_resolution = {**fcn_tensors, "backbone.stage2.0.branches.0.0.conv1.weight": np.zeros(1)}  # HRNet
    assert mmsegmentation.recognise(Checkpoint(high_resolution, "x")) is None


def test_a_config_is_read_and_never_run():
    text = (
        "a = dict(b=[1, -2.5], c='x', d={'e': None})\nmodel = dict(backbone=a, f=print('ran'))\nimport os\n"
    )
    said = config({"cfg": text})
    assert part(said, "model", "backbone") == {"b": (1, -2.5), "c": "x", "d": {"e": None}}
    assert said["model"]["f"] is None
    assert config({"cfg": "model = dict("}) == config({}) == config({"cfg": 3}) == {}
