"""PIDNet (XuJiacong/PIDNet) and DDRNet (ydhongHIT/DDRNet) as their authors save them: mmsegmentation's networks, under
other names.

Their training code wraps the network ("model.") and keeps the weights of its losses beside it. Their stem's two
convolutions have a bias, which the norm behind them takes up: norm(x + b) is the norm of x with its mean less b.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zoo.convert import inputs
from zoo.convert.checkpoint import Checkpoint, Match, Tensors
from zoo.convert.layouts.mmsegmentation_realtime import BLOCKS, count, renamed, variant
from zoo.ddrnet import SIZES as DDRNETS
from zoo.ddrnet import Sizes as DDRNetSizes
from zoo.pidnet import SIZES as PIDNETS
from zoo.pidnet import Sizes as PIDNetSizes

KNOWN = "PIDNet and DDRNet of their authors"
WRAPPER = "model."
UNUSED = (r".*\.num_batches_tracked", r"(loss|sem_loss|bd_loss)\..*", r"conv1\.[03]\.bias")
STEM = {"conv1.0.bias": "conv1.1.running_mean", "conv1.3.bias": "conv1.4.running_mean"}
CLASSIFIER = "final_layer.conv2.weight"


@dataclass(frozen=True)
class Network:
    """A network of ours and how its authors write it: it is the one whose tensor `tell` is there. `arguments` are
    those of zoo.build; `rules` turn the path of a layer, a regular expression, into the prefix of its tensors."""

    model: str
    tell: str
    arguments: Callable[[Tensors], dict[str, Any]]
    rules: Mapping[str, str]


def recognise(checkpoint: Checkpoint) -> Match | None:
    """A network of NETWORKS with a segmentation head, or None."""
    tensors = {name.removeprefix(WRAPPER): array for name, array in checkpoint.tensors.items()}
    network = next((row for row in NETWORKS if row.tell in tensors), None)
    if network is None or CLASSIFIER not in tensors:
        return None
    return Match(
        source="its authors",
        model=network.model,
        arguments={"classes": tensors[CLASSIFIER].shape[0], **network.arguments(tensors)},
        names=lambda path: renamed(network.rules, path),
        tensors=_boundary_blocks(_without_bias(tensors)),
        unused=UNUSED,
        inputs=inputs.settle(inputs.IMAGENET, checkpoint.options),  # as both authors' code prepares images
    )


def _without_bias(tensors: Tensors) -> Tensors:
    moved = {mean: tensors[mean] - tensors[bias] for bias, mean in STEM.items() if bias in tensors}
    return {**tensors, **moved}


def _ddrnet(tensors: Tensors) -> dict[str, Any]:
    found = DDRNetSizes(
        channels=tensors["conv1.0.weight"].shape[0],
        pyramid_filters=tensors["spp.scale0.2.weight"].shape[0],
        head_filters=tensors[CLASSIFIER].shape[1],
    )
    return {**variant(DDRNETS, found), "auxiliary": "seghead_extra.conv2.weight" in tensors}


def _stage(ours: str, theirs: str) -> dict[str, str]:
    """The blocks of a stage, which go from 1 here and from 0 there."""
    rules = {}
    for block in BLOCKS:
        here, there = f"{ours}_block{block}", f"{theirs}.{block - 1}"
        rules[f"{here}_([1-3])_(conv|bn)"] = rf"{there}.\2\1"
        rules |= _pair(f"{here}_0", f"{there}.downsample")
    return rules


def _pair(ours: str, theirs: str, conv: int = 0, norm: int = 1) -> dict[str, str]:
    """A convolution and its norm, by their numbers in a torch.nn.Sequential."""
    return {f"{ours}_conv": rf"{theirs}.{conv}", f"{ours}_bn": rf"{theirs}.{norm}"}


def _head(ours: str, theirs: str) -> dict[str, str]:
    return {
        f"{ours}head_(conv|bn)": rf"{theirs}.\g<1>1",
        f"{ours}head_out_bn": f"{theirs}.bn2",
        f"{ours}classifier": f"{theirs}.conv2",
    }


STEM_AND_PYRAMID = {
    **_pair("stem_1", "conv1"),
    **_pair("stem_2", "conv1", 3, 4),
    **_stage("layer1", "layer1"),
    **_stage("layer2", "layer2"),
    **_pair("compression([34])", r"compression\1"),
    **_pair("pyramid_scale_0", "spp.scale0", 2, 0),
    **_pair("pyramid_scale_([1-4])", r"spp.scale\1", 3, 1),
    **_pair("pyramid_process_([1-4])", r"spp.process\1", 2, 0),
    **_pair("pyramid_(compression|shortcut)", r"spp.\1", 2, 0),
    **_head("", "final_layer"),
}
DDRNET = {
    **STEM_AND_PYRAMID,
    **{
        pattern: prefix
        for layer in (3, 4, 5)
        for ours, theirs in ((f"layer{layer}_low", f"layer{layer}"), (f"layer{layer}_high", f"layer{layer}_"))
        for pattern, prefix in _stage(ours, theirs).items()
    },
    **_pair("down3_1", "down3"),
    **_pair("down4_1", "down4"),
    **_pair("down4_2", "down4", 3, 4),
    **_head("auxiliary_", "seghead_extra"),
}
PIDNET = {
    **STEM_AND_PYRAMID,
    **{
        pattern: prefix
        for layer in (3, 4, 5)
        for branch, theirs in (("i", ""), ("p", "_"), ("d", "_d"))
        for pattern, prefix in _stage(f"layer{layer}_{branch}", f"layer{layer}{theirs}").items()
    },
    **_pair("pag([34])_p", r"pag\1.f_x"),
    **_pair("pag([34])_i", r"pag\1.f_y"),
    **_pair("diff([34])", r"diff\1"),
    **_pair("pyramid_process", "spp.scale_process", 2, 0),
    **_pair("fusion_([ip])", r"dfm.conv_\1"),
    **_pair("fusion", "dfm.conv", 2, 0),
    **_head("auxiliary_", "seghead_p"),
    **_head("boundary_", "seghead_d"),
}


def _pidnet(tensors: Tensors) -> dict[str, Any]:
    found = PIDNetSizes(
        channels=tensors["conv1.0.weight"].shape[0],
        pyramid_filters=tensors["spp.scale0.2.weight"].shape[0],
        head_filters=tensors[CLASSIFIER].shape[1],
        stem_blocks=count(tensors, r"layer1\.(\d+)\..*"),
        branch_blocks=count(tensors, r"layer3\.(\d+)\..*"),
        light="dfm.conv_p.0.weight" in tensors,
    )
    heads = "seghead_d.conv2.weight" in tensors
    # Their in-place ReLUs change what both heads for the loss have read, before they read it.
    return {**variant(PIDNETS, found), "auxiliary": heads, "after_relu": heads, "align_corners": True}


def _boundary_blocks(tensors: Tensors) -> Tensors:
    """D's first stages are no sequence where they have one basic block: named here as if they were."""
    single = r"(layer[34]_d)\.(conv\d|bn\d|downsample)\."
    return {re.sub(single, r"\1.0.\2.", name): array for name, array in tensors.items()}


NETWORKS = (
    Network("pidnet", "pag3.f_x.0.weight", _pidnet, PIDNET),
    Network("ddrnet", "layer3_.0.conv1.weight", _ddrnet, DDRNET),
)
