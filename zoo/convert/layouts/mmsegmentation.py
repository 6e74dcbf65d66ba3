"""mmsegmentation's networks, the .pth of 0.x and of 1.x: DeepLabV3+, DeepLabV3 and FCN on ResNets, and U-Net.

Shapes tell the backbone, the widths and the head. Atrous rates, strides, the alignment of corners and how images are
prepared they do not: the config in the meta does; without one they are UNSAID, which is what the networks called D8
for 512x1024 have. One row of HEADS a network.

A network of one class gives the logit of a sigmoid, whose threshold is 0.3 in this library unless it is stated. An
auxiliary head of other classes than the decode head's serves nothing here and is left out.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zoo.backbones.dilation import Dilation
from zoo.backbones.resnet import STACK_FILTERS, Layout
from zoo.convert import inputs
from zoo.convert.checkpoint import Checkpoint, Match, Tensors
from zoo.convert.layouts.mmsegmentation_config import Config, config, described, part, prepared
from zoo.convert.layouts.torchvision import resnet_arguments, resnet_layout, resnet_name
from zoo.convert.options import Options

SOURCE = "mmsegmentation"
EPSILON = 1e-5
UNUSED = (r".*\.num_batches_tracked",)
# What a file without a config does not say -> what a network called D8 has.
UNSAID: dict[str, Any] = {
    "output_stride": 8,
    "rates": (12, 24, 36),
    "align_corners": False,
    "head_rate": 1,
    "epsilon": EPSILON,
    "threshold": 0.3,
}
# What the library takes where its config is silent.
DEFAULTS: dict[str, dict[str, Any]] = {
    "backbone": {
        "strides": (1, 2, 2, 2), "dilations": (1, 1, 1, 1), "contract_dilation": False, "style": "pytorch",
    },
    "decode_head": {"dilations": (1, 6, 12, 18), "align_corners": False, "dilation": 1, "threshold": 0.3},
}  # fmt: skip
# Of UNet-S5-D16: each of a list, whatever its length, must be this.
ONLY_UNET = {"strides": 1, "enc_dilations": 1, "dec_dilations": 1, "downsamples": True, "enc_num_convs": 2,
             "dec_num_convs": 2}  # fmt: skip
RESNET = r"backbone\.(conv1|bn1|stem\.\d|layer[1-4]\.\d+\.(conv\d|bn\d|downsample\.\d))\.\w+"
UNET = (
    r"backbone\.(encoder\.(0\.0|[1-9]\.1)\.convs\.[01]"
    r"|decoder\.\d\.(upsample\.interp_upsample\.1|conv_block\.convs\.[01]))\.(conv|bn)\.\w+"
)
CONV = r"(conv|bn)\.\w+"
SEPARABLE = rf"(depthwise|pointwise)_conv\.{CONV}"
ASPP = rf"(aspp_modules\.\d\.({CONV}|{SEPARABLE})|(image_pool\.1|bottleneck)\.{CONV}|conv_seg\.\w+)"

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Head:
    """A network of ours and how mmsegmentation calls and writes it.

    All of a checkpoint's backbone and decode_head tensors must match `backbone` and `covers`, and `tell` be among
    them. `arguments` are those of zoo.build; `rules` turn the path of a layer, a regular expression, into the
    prefix of its tensors; `tensors` puts them as ours are.
    """

    name: str
    model: str
    backbone: str
    covers: str
    tell: str
    arguments: Callable[[Tensors, Config, Options], dict[str, Any]]
    rules: Callable[[Arguments], dict[str, str]]
    tensors: Callable[[Tensors], Tensors] = lambda tensors: tensors


def recognise(checkpoint: Checkpoint) -> Match | None:
    """A network of HEADS, or None. Raises ValueError where its config asks for what ours cannot do."""
    tensors = checkpoint.tensors
    head = next((head for head in HEADS if _is(head, tensors)), None)
    if head is None:
        return None
    said, options = config(checkpoint.meta), checkpoint.options
    _check_activations(said)
    arguments = head.arguments(tensors, said, options)
    rules = head.rules(arguments)
    classes, palette = described(checkpoint.meta)
    return Match(
        source=SOURCE,
        model=head.model,
        arguments=arguments,
        names=lambda path: _name(rules, path),
        tensors=head.tensors(tensors),
        unused=UNUSED if arguments.get("auxiliary") else (*UNUSED, r"auxiliary_head\..*"),
        classes=classes,
        palette=palette,
        inputs=inputs.settle(prepared(said), options),
        threshold=_told("threshold", said, options) if arguments["classes"] == 1 else None,
    )


def _is(head: Head, tensors: Tensors) -> bool:
    covered = {"backbone": head.backbone, "decode_head": rf"decode_head\.{head.covers}"}
    return head.tell in tensors and all(
        re.fullmatch(covered[name.split(".")[0]], name)
        for name in tensors
        if name.split(".")[0] in covered and not name.endswith("num_batches_tracked")
    )


def _name(rules: Mapping[str, str], path: str) -> str:
    for pattern, prefix in rules.items():
        if match := re.fullmatch(pattern, path):
            return match.expand(prefix)
    return resnet_name(path, "backbone.") or path


def _setting(said: Config, where: str) -> dict[str, Any]:
    """What a config says of a part of the model; {} where there is no config."""
    if not part(said, "model"):
        return {}
    return {**DEFAULTS.get(where, {}), **part(said, "model", where)}


# Facts of UNSAID that the config's decode_head says -> its key.
OF_HEAD = {"align_corners": "align_corners", "head_rate": "dilation", "threshold": "threshold"}


def _told(name: str, said: Config, options: Options) -> Any:
    """A fact of OF_HEAD: as --set says, as the config says, or assumed."""
    return options.take(name, _setting(said, "decode_head").get(OF_HEAD[name]), UNSAID[name])


def _epsilon(said: Config, where: str, options: Options) -> float:
    norm = part(said, "model", where, "norm_cfg")
    return float(options.take("epsilon", norm.get("eps", EPSILON) if said else None, UNSAID["epsilon"]))


def _check_activations(said: Config) -> None:
    for where in ("backbone", "decode_head"):
        kind = part(said, "model", where, "act_cfg").get("type", "ReLU")
        if kind != "ReLU":
            raise ValueError(f"has the activation {kind!s:.40} in its {where}; known here is ReLU")


def _common(tensors: Tensors, said: Config, options: Options) -> dict[str, Any]:
    """Arguments that all networks on a ResNet have."""
    layout, output_stride = _backbone(tensors, said, options)
    classes = tensors["decode_head.conv_seg.weight"].shape[0]
    arguments = {
        "classes": classes,
        **resnet_arguments(layout),
        "output_stride": output_stride,
        "variant": SOURCE,
        "norm_epsilon": _epsilon(said, "decode_head", options),
        "align_corners": bool(_told("align_corners", said, options)),
    }
    kernel = tensors.get("auxiliary_head.convs.0.conv.weight")
    p4 = STACK_FILTERS[2] * (1 if layout.basic else 4)
    is_single = "auxiliary_head.convs.1.conv.weight" not in tensors
    if kernel is not None and kernel.shape[1] == p4 and is_single and _serves(tensors, classes):
        arguments |= {"auxiliary": True, "auxiliary_filters": kernel.shape[0]}
    return arguments


def _serves(tensors: Tensors, classes: int) -> bool:
    """Whether the auxiliary head has the classes of the decode head."""
    last = tensors.get("auxiliary_head.conv_seg.weight")
    return last is not None and last.shape[0] == classes


def _backbone(tensors: Tensors, said: Config, options: Options) -> tuple[Layout, int]:
    """The ResNet and its output stride, which the config says or --set."""
    backbone = _setting(said, "backbone")
    stated = _output_stride(backbone) if backbone else None
    output_stride = options.take("output_stride", stated, UNSAID["output_stride"])
    layout = resnet_layout(tensors, "backbone.", _epsilon(said, "backbone", options))
    return (
        replace(
            layout,
            stride_on_3x3=backbone.get("style", "pytorch") != "caffe",
            contracted=bool(backbone.get("contract_dilation", True)) or output_stride == 32,
            last_rates=backbone.get("multi_grid"),
        ),
        output_stride,
    )


def _output_stride(backbone: Mapping[str, Any]) -> int:
    """Raises ValueError on rates that do not make up for the strides."""
    strides, dilations = tuple(backbone["strides"]), tuple(backbone["dilations"])
    output_stride = 4 * int(np.prod(strides))
    dilation = Dilation(output_stride, reached=4)
    kept, rates = [], []
    for wanted in (1, 2, 2, 2):
        kept.append(dilation.stride(wanted))
        rates.append(dilation.rate)
    if (tuple(kept), tuple(rates)) != (strides, dilations) or output_stride < 8:
        raise ValueError(
            f"has a ResNet with strides {strides} and dilations {dilations}; known here are those of output "
            "strides 8, 16 and 32 whose dilations make up for the strides"
        )
    return output_stride


def _aspp(tensors: Tensors, said: Config, options: Options) -> dict[str, Any]:
    """Rates and widths of an ASPPHead or a DepthwiseSeparableASPPHead."""
    stated = tuple(_setting(said, "decode_head").get("dilations") or ())
    if stated and stated[0] != 1:
        raise ValueError(f"has the dilations {stated}; known here is a first one of 1")
    rates = options.take("rates", stated[1:] or None, UNSAID["rates"])
    dilations = (1, *rates)
    branches = len({name.split(".")[2] for name in tensors if name.startswith("decode_head.aspp_modules.")})
    if dilations[:1] != (1,) or 1 in dilations[1:] or len(dilations) != branches:
        raise ValueError(
            f"has {branches} branches of pyramid pooling and the dilations {dilations}; known here is a first "
            "one of 1 and one larger than 1 for each other branch"
        )
    return {
        "rates": rates,
        "aspp_filters": tensors["decode_head.bottleneck.conv.weight"].shape[0],
        "projection_kernel": tensors["decode_head.bottleneck.conv.weight"].shape[2],
    }


def _deeplabv3(tensors: Tensors, said: Config, options: Options) -> dict[str, Any]:
    return {**_common(tensors, said, options), **_aspp(tensors, said, options)}


def _deeplabv3plus(tensors: Tensors, said: Config, options: Options) -> dict[str, Any]:
    return {
        **_common(tensors, said, options),
        **_aspp(tensors, said, options),
        "aspp_separable": True,
        "low_level_filters": tensors["decode_head.c1_bottleneck.conv.weight"].shape[0],
        "decoder_filters": tensors["decode_head.sep_bottleneck.0.pointwise_conv.conv.weight"].shape[0],
        "decoder_separable": True,
    }


def _fcn(tensors: Tensors, said: Config, options: Options) -> dict[str, Any]:
    kernels = [
        array
        for name, array in tensors.items()
        if re.fullmatch(r"decode_head\.convs\.\d\.conv\.weight", name)
    ]
    if kernels[0].shape[2:] != (3, 3):
        raise ValueError(f"has an FCN head with convolutions of {kernels[0].shape[2:]}; known here is 3x3")
    common = _common(tensors, said, options)
    return {
        **common,
        "head_filters": kernels[0].shape[0],
        "head_convolutions": len(kernels),
        "head_rate": _told("head_rate", said, options),
        "concat_input": "decode_head.conv_cat.conv.weight" in tensors,
        **(
            {"auxiliary_rate": _setting(said, "auxiliary_head").get("dilation", 1)}
            if common.get("auxiliary")
            else {}
        ),
    }


def _unet(tensors: Tensors, said: Config, options: Options) -> dict[str, Any]:
    """UNet-S5-D16 of any width and depth, whose FCN heads have one convolution each."""
    for key, only in ONLY_UNET.items():
        values = part(said, "model", "backbone").get(key)
        if values is not None and any(value != only for value in values):
            raise ValueError(f"is a U-Net with the {key} {values!s:.60}; known here are those of UNet-S5-D16")
    classes = tensors["decode_head.conv_seg.weight"].shape[0]
    arguments = {
        "classes": classes,
        "base_filters": tensors["backbone.encoder.0.0.convs.0.conv.weight"].shape[0],
        "depth": len({name.split(".")[2] for name in tensors if name.startswith("backbone.encoder.")}),
        "head_filters": tensors["decode_head.convs.0.conv.weight"].shape[0],
        "dropout": _setting(said, "decode_head").get("dropout_ratio", 0.1),
    }
    kernel = tensors.get("auxiliary_head.convs.0.conv.weight")
    # The auxiliary head that ours has reads the features at half the image's size.
    if kernel is not None and kernel.shape[1] == 2 * arguments["base_filters"] and _serves(tensors, classes):
        arguments |= {"auxiliary": True, "auxiliary_filters": kernel.shape[0]}
    return arguments


def _pooling_last(tensors: Tensors) -> Tensors:
    """The projection's kernel reads the image's mean first there, and after the other branches here."""
    projection = "decode_head.bottleneck.conv.weight"
    width = tensors["decode_head.image_pool.1.conv.weight"].shape[0]
    return {**tensors, projection: np.roll(tensors[projection], -width, axis=1)}


AUXILIARY_RULES = {
    r"auxiliary_(conv|bn)": r"auxiliary_head.convs.0.\1",
    r"auxiliary_classifier": r"auxiliary_head.conv_seg",
    r"classifier": r"decode_head.conv_seg",
}
ASPP_RULES = {
    r"aspp_1x1_(conv|bn)": r"decode_head.aspp_modules.0.\1",
    r"aspp_pooling_(conv|bn)": r"decode_head.image_pool.1.\1",
    r"aspp_projection_(conv|bn)": r"decode_head.bottleneck.\1",
    **AUXILIARY_RULES,
}


def _separable_rules(ours: str, prefix: str) -> dict[str, str]:
    return {
        rf"{ours}_depthwise": rf"{prefix}.depthwise_conv.conv",
        rf"{ours}_depthwise_bn": rf"{prefix}.depthwise_conv.bn",
        rf"{ours}_pointwise_(conv|bn)": rf"{prefix}.pointwise_conv.\1",
    }


def _deeplabv3_rules(arguments: Arguments) -> dict[str, str]:
    """Branches of the pyramid pooling go by number there and by rate here."""
    rules = dict(ASPP_RULES)
    for branch, rate in enumerate(arguments["rates"], 1):
        rules[rf"aspp_rate{rate}_(conv|bn)"] = rf"decode_head.aspp_modules.{branch}.\1"
    return rules


def _deeplabv3plus_rules(arguments: Arguments) -> dict[str, str]:
    rules = {**ASPP_RULES, r"decoder_low_level_(conv|bn)": r"decode_head.c1_bottleneck.\1"}
    for branch, rate in enumerate(arguments["rates"], 1):
        rules |= _separable_rules(f"aspp_rate{rate}", f"decode_head.aspp_modules.{branch}")
    for index in (1, 2):
        rules |= _separable_rules(f"decoder_{index}", f"decode_head.sep_bottleneck.{index - 1}")
    return rules


def _fcn_rules(arguments: Arguments) -> dict[str, str]:
    rules = {r"head_join_(conv|bn)": r"decode_head.conv_cat.\1", **AUXILIARY_RULES}
    for index in range(arguments["head_convolutions"]):
        rules[rf"head_{index + 1}_(conv|bn)"] = rf"decode_head.convs.{index}.\1"
    return rules


def _unet_rules(arguments: Arguments) -> dict[str, str]:
    rules = {r"head_(conv|bn)": r"decode_head.convs.0.\1", **AUXILIARY_RULES}
    for level in range(arguments["depth"]):
        # From the second level on, a max-pooling comes first in a stage.
        stage, up = f"backbone.encoder.{level}.{min(level, 1)}", f"backbone.decoder.{level}"
        rules[rf"up{level}_halve_(conv|bn)"] = rf"{up}.upsample.interp_upsample.1.\1"
        for index in (1, 2):
            rules[rf"level{level}_{index}_(conv|bn)"] = rf"{stage}.convs.{index - 1}.\1"
            rules[rf"up{level}_{index}_(conv|bn)"] = rf"{up}.conv_block.convs.{index - 1}.\1"
    return rules


HEADS = (
    Head(
        name="DeepLabV3+",
        model="deeplabv3plus",
        backbone=RESNET,
        covers=rf"({ASPP}|c1_bottleneck\.{CONV}|sep_bottleneck\.[01]\.{SEPARABLE})",
        tell="decode_head.c1_bottleneck.conv.weight",
        arguments=_deeplabv3plus,
        rules=_deeplabv3plus_rules,
        tensors=_pooling_last,
    ),
    Head(
        name="DeepLabV3",
        model="deeplabv3",
        backbone=RESNET,
        covers=ASPP,
        tell="decode_head.aspp_modules.1.conv.weight",
        arguments=_deeplabv3,
        rules=_deeplabv3_rules,
        tensors=_pooling_last,
    ),
    Head(
        name="FCN",
        model="fcn",
        backbone=RESNET,
        covers=rf"(convs\.\d\.{CONV}|conv_cat\.{CONV}|conv_seg\.\w+)",
        tell="decode_head.convs.0.conv.weight",
        arguments=_fcn,
        rules=_fcn_rules,
    ),
    Head(
        name="U-Net",
        model="unet",
        backbone=UNET,
        covers=rf"(convs\.0\.{CONV}|conv_seg\.\w+)",
        tell="backbone.encoder.0.0.convs.0.conv.weight",
        arguments=_unet,
        rules=_unet_rules,
    ),
)
KNOWN = f"mmsegmentation's {', '.join(head.name for head in HEADS[:-1])} and {HEADS[-1].name}"
