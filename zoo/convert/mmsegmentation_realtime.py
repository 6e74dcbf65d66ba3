"""mmsegmentation's real-time networks: DDRNet.

Shapes tell the variant; how logits are resized is the config's to say, without which it is that of the library's own
configs. One row of NETWORKS a network.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from zoo.convert import inputs
from zoo.convert.checkpoint import Checkpoint, Match, Tensors
from zoo.convert.mmsegmentation_config import config, described, part, prepared
from zoo.ddrnet import SIZES as DDRNETS
from zoo.ddrnet import Sizes as DDRNetSizes

KNOWN = "mmsegmentation's DDRNet"
UNUSED = (r".*\.num_batches_tracked",)
FOR_THE_LOSS = (r"auxiliary_head\..*", r"decode_head\.(aux|p|d)_.*")
THRESHOLD = 0.3  # of a network of one class, where no config says another
BLOCKS = range(1, 6)  # the numbers that a residual block of a stage may have
CLASSIFIER = "decode_head.conv_seg.weight"

Rules = Mapping[str, str]


@dataclass(frozen=True)
class Network:
    """A network of ours and how mmsegmentation writes it: it is the one whose tensor `tell` is there. `arguments` are
    those of zoo.build; `rules` turn the path of a layer, a regular expression, into the prefix of its tensors;
    `tensors` puts them as ours are;
    `aligned`: whether the library's configs align corners in the head; `unused` are
    regular expressions of names that serve nothing here; `image_readers`: how many kernels read the image itself."""

    model: str
    tell: str
    arguments: Callable[[Tensors], dict[str, Any]]
    rules: Rules
    tensors: Callable[[Tensors], Tensors] = lambda tensors: tensors
    aligned: bool = False
    unused: tuple[str, ...] = ()
    image_readers: int = 1


def recognise(checkpoint: Checkpoint) -> Match | None:
    """A network of NETWORKS, or None. Raises ValueError where its config asks for what ours cannot do."""
    tensors = checkpoint.tensors
    network = next((row for row in NETWORKS if row.tell in tensors), None)
    if network is None or CLASSIFIER not in tensors:
        return None
    said, options = config(checkpoint.meta), checkpoint.options
    head, is_said = part(said, "model", "decode_head"), bool(part(said, "model"))
    classes, palette = described(checkpoint.meta)
    aligned = head.get("align_corners", False if is_said else None)
    arguments = {
        "classes": tensors[CLASSIFIER].shape[0],
        **network.arguments(tensors),
        "align_corners": options.take("align_corners", aligned, network.aligned),
    }
    one_class = arguments["classes"] == 1
    threshold = head.get("threshold", THRESHOLD if is_said else None)
    seen = inputs.settle(prepared(said), options)
    if seen.bgr and network.image_readers > 1:
        raise ValueError(f"reads blue first, which a {network.model} here cannot, being read by two kernels")
    return Match(
        source="mmsegmentation",
        model=network.model,
        arguments=arguments,
        names=lambda path: renamed(network.rules, path),
        tensors=network.tensors(tensors),
        unused=UNUSED + network.unused + (() if arguments["auxiliary"] else FOR_THE_LOSS),
        classes=classes,
        palette=palette,
        inputs=seen,
        threshold=float(options.take("threshold", threshold, THRESHOLD)) if one_class else None,
    )


def renamed(rules: Rules, path: str) -> str:
    """The prefix of a layer's tensors by the first rule that fits its path; the path itself where none does."""
    for pattern, prefix in rules.items():
        if match := re.fullmatch(pattern, path):
            return match.expand(prefix)
    return path


def variant(table: Mapping[str, Any], sizes: Any) -> dict[str, Any]:
    """The row of a model's table that these sizes are, or the fields of the nearest one that differ."""

    def changed(name: str) -> dict[str, Any]:
        names = [field.name for field in fields(sizes)]
        return {key: getattr(sizes, key) for key in names if getattr(sizes, key) != getattr(table[name], key)}

    nearest = min(table, key=lambda name: len(changed(name)))
    return {"variant": nearest, **({"sizes": changed(nearest)} if changed(nearest) else {})}


def _ddrnet(tensors: Tensors) -> dict[str, Any]:
    found = DDRNetSizes(
        channels=tensors["backbone.stem.0.conv.weight"].shape[0],
        pyramid_filters=tensors["backbone.spp.scales.0.conv.weight"].shape[0],
        head_filters=tensors[CLASSIFIER].shape[1],
    )
    return {
        **variant(DDRNETS, found),
        "auxiliary": "decode_head.aux_cls_seg.weight" in tensors,
    }


def _stage(ours: str, theirs: str, shortcut: tuple[str, str]) -> dict[str, str]:
    """The blocks of a stage, which go from 1 here and from 0 there; `shortcut` are its convolution and its norm."""
    rules = {}
    for block in BLOCKS:
        here, there = f"{ours}_block{block}", rf"{theirs}.{block - 1}"
        rules[f"{here}_([1-3])_(conv|bn)"] = rf"{there}.conv\1.\2"
        rules[f"{here}_0_conv"] = f"{there}.downsample.{shortcut[0]}"
        rules[f"{here}_0_bn"] = f"{there}.downsample.{shortcut[1]}"
    return rules


STEM_AND_PYRAMID = {
    r"stem_1_(conv|bn)": r"backbone.stem.0.\1",
    r"stem_2_(conv|bn)": r"backbone.stem.1.\1",
    r"compression3_(conv|bn)": r"backbone.compression_1.\1",
    r"compression4_(conv|bn)": r"backbone.compression_2.\1",
    r"pyramid_scale_0_(conv|bn)": r"backbone.spp.scales.0.\1",
    r"pyramid_scale_([1-4])_(conv|bn)": r"backbone.spp.scales.\1.1.\2",
    **{
        rf"pyramid_process_{index}_(conv|bn)": rf"backbone.spp.processes.{index - 1}.\1"
        for index in range(1, 5)
    },
    r"pyramid_(compression|shortcut)_(conv|bn)": r"backbone.spp.\1.\2",
    r"classifier": "decode_head.conv_seg",
}
IN_SEQUENCE = ("0", "1")  # of a convolution and its norm in a torch.nn.Sequential
DDRNET = {
    **STEM_AND_PYRAMID,
    **_stage("layer1", "backbone.stem.2", IN_SEQUENCE),
    **_stage("layer2", "backbone.stem.4", IN_SEQUENCE),
    **_stage("layer3_low", "backbone.context_branch_layers.0", IN_SEQUENCE),
    **_stage("layer4_low", "backbone.context_branch_layers.1", IN_SEQUENCE),
    **_stage("layer5_low", "backbone.context_branch_layers.2", IN_SEQUENCE),
    **_stage("layer3_high", "backbone.spatial_branch_layers.0", IN_SEQUENCE),
    **_stage("layer4_high", "backbone.spatial_branch_layers.1", IN_SEQUENCE),
    **_stage("layer5_high", "backbone.spatial_branch_layers.2", IN_SEQUENCE),
    r"down3_1_(conv|bn)": r"backbone.down_1.\1",
    r"down4_1_(conv|bn)": r"backbone.down_2.0.\1",
    r"down4_2_(conv|bn)": r"backbone.down_2.1.\1",
    r"head_(conv|bn)": r"decode_head.head.0.\1",
    r"head_out_bn": r"decode_head.head.1",
    r"auxiliary_head_(conv|bn)": r"decode_head.aux_head.0.\1",
    r"auxiliary_head_out_bn": r"decode_head.aux_head.1",
    r"auxiliary_classifier": r"decode_head.aux_cls_seg",
}

NETWORKS = (Network("ddrnet", "backbone.context_branch_layers.0.0.conv1.conv.weight", _ddrnet, DDRNET),)
