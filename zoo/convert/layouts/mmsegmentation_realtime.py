"""mmsegmentation's real-time networks: PIDNet, DDRNet, BiSeNetV2 and STDC.

Shapes tell the variant; how logits are resized is the config's to say, without which it is that of the library's own
configs. One row of NETWORKS a network.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from zoo.convert import inputs
from zoo.convert.checkpoint import Checkpoint, Match, Tensors
from zoo.convert.layouts.mmsegmentation_config import config, described, part, prepared
from zoo.ddrnet import SIZES as DDRNETS
from zoo.ddrnet import Sizes as DDRNetSizes
from zoo.pidnet import SIZES as PIDNETS
from zoo.pidnet import Sizes as PIDNetSizes
from zoo.stdc import SIZES as STDCS
from zoo.stdc import Sizes as STDCSizes

KNOWN = "mmsegmentation's PIDNet, DDRNet, BiSeNetV2 and STDC"
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
    `tensors` puts them as ours are; `aligned`: whether the library's configs align corners in the head; `unused` are
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

IN_MODULE = ("conv", "bn")  # in a ConvModule
PIDNET = {
    **STEM_AND_PYRAMID,
    **_stage("layer1", "backbone.stem.2", IN_MODULE),
    **_stage("layer2", "backbone.stem.4", IN_MODULE),
    **{
        pattern: prefix
        for layer in (3, 4, 5)
        for branch in "ipd"
        for pattern, prefix in _stage(
            f"layer{layer}_{branch}", f"backbone.{branch}_branch_layers.{layer - 3}", IN_MODULE
        ).items()
    },
    r"pag3_([ip])_(conv|bn)": r"backbone.pag_1.f_\1.\2",
    r"pag4_([ip])_(conv|bn)": r"backbone.pag_2.f_\1.\2",
    r"diff3_(conv|bn)": r"backbone.diff_1.\1",
    r"diff4_(conv|bn)": r"backbone.diff_2.\1",
    r"pyramid_process_(conv|bn)": r"backbone.spp.processes.\1",
    r"fusion_([ip])_(conv|bn)": r"backbone.dfm.f_\1.\2",
    r"fusion_(conv|bn)": r"backbone.dfm.conv.\1",
    r"head_(conv|bn)": r"decode_head.i_head.conv.\1",
    r"head_out_bn": r"decode_head.i_head.norm",
    r"auxiliary_head_(conv|bn)": r"decode_head.p_head.conv.\1",
    r"auxiliary_head_out_bn": r"decode_head.p_head.norm",
    r"auxiliary_classifier": r"decode_head.p_cls_seg",
    r"boundary_head_(conv|bn)": r"decode_head.d_head.conv.\1",
    r"boundary_head_out_bn": r"decode_head.d_head.norm",
    r"boundary_classifier": r"decode_head.d_cls_seg",
}


def _pidnet(tensors: Tensors) -> dict[str, Any]:
    found = PIDNetSizes(
        channels=tensors["backbone.stem.0.conv.weight"].shape[0],
        pyramid_filters=tensors["backbone.spp.scales.0.conv.weight"].shape[0],
        head_filters=tensors[CLASSIFIER].shape[1],
        stem_blocks=count(tensors, r"backbone\.stem\.2\.(\d+)\..*"),
        branch_blocks=count(tensors, r"backbone\.i_branch_layers\.0\.(\d+)\..*"),
        light="backbone.dfm.f_p.conv.weight" in tensors,
    )
    return {**variant(PIDNETS, found), "auxiliary": "decode_head.d_cls_seg.weight" in tensors}


def _boundary_blocks(tensors: Tensors) -> Tensors:
    """D's first stages are no sequence where they have one basic block: named here as if they were."""
    single = r"(backbone\.d_branch_layers\.[01])\.(conv\d|downsample)\."
    return {re.sub(single, r"\1.0.\2.", name): array for name, array in tensors.items()}


def count(tensors: Tensors, pattern: str) -> int:
    """How many numbers stand at a place of the tensors' names."""
    return len({match[1] for name in tensors if (match := re.fullmatch(pattern, name))})


def _width(tensors: Tensors, name: str) -> int:
    return tensors[f"{name}.weight"].shape[0]


def _alike(tensors: Tensors) -> bool:
    """Whether the first head for the loss has the classes of the main one, and both have several."""
    first = tensors.get("auxiliary_head.0.conv_seg.weight", np.zeros(0))
    return 1 < tensors[CLASSIFIER].shape[0] == first.shape[0]


def _bisenetv2(tensors: Tensors) -> dict[str, Any]:
    semantic = "backbone.semantic.stage"
    expanded = _width(tensors, f"{semantic}2.0.dwconv.0.conv")
    stem = _width(tensors, f"{semantic}1.conv_first.conv")
    booster = [f"auxiliary_head.{number}.convs.0.conv" for number in range(4)]
    found: dict[str, Any] = {
        "detail_filters": tuple(
            _width(tensors, f"backbone.detail.detail_branch.{stage}.0.conv") for stage in range(3)
        ),
        "semantic_filters": (
            stem,
            *(_width(tensors, f"{semantic}{stage}.0.conv2.0.conv") for stage in (2, 3, 4)),
        ),
        "expansion": expanded // stem,
        "head_filters": _width(tensors, "decode_head.convs.0.conv"),
        "auxiliary": all(f"{name}.weight" in tensors for name in booster) and _alike(tensors),
    }
    if found["auxiliary"]:
        found["auxiliary_filters"] = tuple(_width(tensors, name) for name in booster)
    return found


def _expanding(tensors: Tensors) -> Tensors:
    """A depthwise kernel that makes several channels of one, (C * m, 1, 3, 3), is (C, m, 3, 3) to `assign`."""
    changed = {}
    for name, kernel in tensors.items():
        gathered = re.sub(r"dwconv\.0\.conv\.weight$", "conv1.conv.weight", name)
        if gathered != name:
            channels = tensors[gathered].shape[0]
            changed[name] = np.reshape(kernel, (channels, -1, *kernel.shape[2:]))
    return {**tensors, **changed}


def _expand(stage: int, block: int) -> dict[str, str]:
    """A gather-and-expansion layer."""
    ours, theirs = f"semantic{stage}_block{block}", f"backbone.semantic.stage{stage}.{block - 1}"
    return {
        rf"{ours}_gather_(conv|bn)": rf"{theirs}.conv1.\1",
        rf"{ours}_expand_1_(conv|bn)": rf"{theirs}.dwconv.0.\1",
        rf"{ours}_expand_2_(conv|bn)": rf"{theirs}.dwconv.1.\1",
        rf"{ours}_project_(conv|bn)": rf"{theirs}.conv2.0.\1",
        rf"{ours}_shortcut_(depthwise|pointwise)_(conv|bn)": rf"{theirs}.shortcut.0.\1_conv.\2",
    }


FCN_HEADS = {
    r"head_1_(conv|bn)": r"decode_head.convs.0.\1",
    r"classifier": "decode_head.conv_seg",
    **{
        pattern: prefix
        for number in range(1, 5)
        for index in (1, 2)
        for pattern, prefix in {
            rf"auxiliary_{number}_head_{index}_(conv|bn)": rf"auxiliary_head.{number - 1}.convs.{index - 1}.\1",
            rf"auxiliary_{number}_classifier": f"auxiliary_head.{number - 1}.conv_seg",
        }.items()
    },
}
BISENETV2 = {
    **{
        rf"detail{stage}_{index}_(conv|bn)": rf"backbone.detail.detail_branch.{stage - 1}.{index - 1}.\1"
        for stage in (1, 2, 3)
        for index in (1, 2, 3)
    },
    r"stem_first_(conv|bn)": r"backbone.semantic.stage1.conv_first.\1",
    r"stem_left_1_(conv|bn)": r"backbone.semantic.stage1.convs.0.\1",
    r"stem_left_2_(conv|bn)": r"backbone.semantic.stage1.convs.1.\1",
    r"stem_last_(conv|bn)": r"backbone.semantic.stage1.fuse_last.\1",
    **{
        pattern: prefix
        for stage in (2, 3, 4)
        for block in (1, 2, 3, 4)
        for pattern, prefix in _expand(stage, block).items()
    },
    r"context_mean_bn": r"backbone.semantic.stage4_CEBlock.gap.1",
    r"context_gap_(conv|bn)": r"backbone.semantic.stage4_CEBlock.conv_gap.\1",
    r"context_(conv|bn)": r"backbone.semantic.stage4_CEBlock.conv_last.\1",
    r"fine_detail_(depthwise|pointwise)_(conv|bn)": r"backbone.bga.detail_dwconv.0.\1_conv.\2",
    r"fine_context_(conv|bn)": r"backbone.bga.semantic_conv.0.\1",
    r"coarse_detail_(conv|bn)": r"backbone.bga.detail_down.0.\1",
    r"coarse_context_(depthwise|pointwise)_(conv|bn)": r"backbone.bga.semantic_dwconv.0.\1_conv.\2",
    r"aggregation_(conv|bn)": r"backbone.bga.conv.\1",
    **FCN_HEADS,
}


def _stdc(tensors: Tensors) -> dict[str, Any]:
    stages = "backbone.backbone.stages"
    late = [sum(_width(tensors, f"{stages}.{n}.0.layers.{k}.conv") for k in range(4)) for n in (2, 3, 4)]
    found = STDCSizes(
        blocks=_three(count(tensors, rf"{re.escape(stages)}\.{n}\.(\d+)\..*") for n in (2, 3, 4)),
        channels=(_width(tensors, f"{stages}.0.conv"), _width(tensors, f"{stages}.1.conv"), *_three(late)),
        context_filters=_width(tensors, "backbone.conv_avg.conv"),
        fusion_filters=_width(tensors, "backbone.ffm.conv0.conv"),
        auxiliary_filters=tensors.get("auxiliary_head.0.convs.0.conv.weight", np.zeros(64)).shape[0],
    )
    return {
        **variant(STDCS, found),
        "auxiliary": "auxiliary_head.2.conv_seg.weight" in tensors and _alike(tensors),
    }


def _three(values: Iterable[int]) -> tuple[int, int, int]:
    first, second, third = values
    return first, second, third


def _one_detail(tensors: Tensors) -> Tensors:
    """Of the detail head's two channels, each with a sigmoid of its own, the second is what is detail."""
    head = "auxiliary_head.2.conv_seg"
    rows = {name: tensors[name][1:2] for name in (f"{head}.weight", f"{head}.bias") if name in tensors}
    return {**tensors, **rows}


def _dense(stage: int, block: int) -> dict[str, str]:
    """A module of short-term dense concatenation; its convolutions go from 1 here and from 0 there."""
    ours, theirs = f"stage{stage}_block{block}", f"backbone.backbone.stages.{stage - 1}.{block - 1}"
    rules = {rf"{ours}_{index}_(conv|bn)": rf"{theirs}.layers.{index - 1}.\1" for index in range(1, 5)}
    return {**rules, rf"{ours}_down_(conv|bn)": rf"{theirs}.downsample.\1"}


STDC = {
    **{rf"stage{stage}_(conv|bn)": rf"backbone.backbone.stages.{stage - 1}.\1" for stage in (1, 2)},
    **{
        pattern: prefix
        for stage in (3, 4, 5)
        for block in BLOCKS
        for pattern, prefix in _dense(stage, block).items()
    },
    r"context_mean_(conv|bn)": r"backbone.conv_avg.\1",
    r"refine5_(conv|bn)": r"backbone.arms.0.conv_layer.\1",
    r"refine4_(conv|bn)": r"backbone.arms.1.conv_layer.\1",
    r"refine5_attention_(conv|bn)": r"backbone.arms.0.atten_conv_layer.1.\1",
    r"refine4_attention_(conv|bn)": r"backbone.arms.1.atten_conv_layer.1.\1",
    r"context5_(conv|bn)": r"backbone.convs.0.\1",
    r"context4_(conv|bn)": r"backbone.convs.1.\1",
    r"fusion_(conv|bn)": r"backbone.ffm.conv0.\1",
    r"fusion_attention_([12])_conv": r"backbone.ffm.attention.\1.conv",
    **FCN_HEADS,
    r"detail_head_1_(conv|bn)": r"auxiliary_head.2.convs.0.\1",
    r"detail_classifier": r"auxiliary_head.2.conv_seg",
}

NETWORKS = (
    Network("ddrnet", "backbone.context_branch_layers.0.0.conv1.conv.weight", _ddrnet, DDRNET),
    Network(
        "pidnet",
        "backbone.i_branch_layers.0.0.conv1.conv.weight",
        _pidnet,
        PIDNET,
        tensors=_boundary_blocks,
        aligned=True,
    ),
    Network(
        "bisenetv2",
        "backbone.semantic.stage1.conv_first.conv.weight",
        _bisenetv2,
        BISENETV2,
        tensors=_expanding,
        image_readers=2,
    ),
    Network(
        "stdc",
        "backbone.backbone.stages.2.0.layers.0.conv.weight",
        _stdc,
        STDC,
        tensors=_one_detail,
        aligned=True,
        unused=(r"auxiliary_head\.2\.(laplacian_kernel|fusion_kernel)",),
    ),
)
