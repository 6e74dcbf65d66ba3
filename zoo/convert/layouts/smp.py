"""segmentation_models_pytorch: state dicts of Unet and DeepLabV3Plus with torchvision's encoders.

A checkpoint is a plain state dict, one of a wrapper that calls the network `model` (PyTorch Lightning) or
`module` (DataParallel), or the folder of `save_pretrained`, whose config.json says what tensors cannot: atrous
rates, output stride and the decoder's interpolation. Without it they are taken to be that library's defaults, which
are in UNSAID.

That library leaves it to its user to normalise images, by ImageNet's mean and deviation of 0..1 for these encoders;
ours do it inside. Its own examples, whose images are 0..255, do it without the division: --set factor=1. A network of
one class, its default, gives the logit of a sigmoid (zoo.convert.recognition).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from zoo.backbones.mobilenet import TORCHVISION as MOBILENET
from zoo.convert import inputs
from zoo.convert.checkpoint import Checkpoint, Match, Tensors
from zoo.convert.layouts.torchvision import resnet_arguments, resnet_layout, resnet_name
from zoo.convert.options import Options

SOURCE = "segmentation_models_pytorch"
KNOWN = "segmentation_models_pytorch's Unet and DeepLabV3Plus"
HEAD = "segmentation_head.0"
# What a state dict does not say -> what the library has where nobody chose.
UNSAID: dict[str, dict[str, Any]] = {
    "Unet": {"interpolation": "nearest"},
    "DeepLabV3Plus": {"output_stride": 16, "rates": (12, 24, 36), "epsilon": 1e-5},
}
CONFIG = {
    "interpolation": "decoder_interpolation",
    "output_stride": "encoder_output_stride",
    "rates": "decoder_atrous_rates",
}
ENCODERS = "ResNet, ResNeXt and MobileNetV2 of torchvision"
UNUSED = (r".*\.num_batches_tracked", r"encoder\.(fc|classifier)\..*", r"classification_head\..*")

# Paths of our layers, as regular expressions -> names of theirs.
Names = Mapping[str, Callable[..., str]]
PARTS = {"conv": 0, "bn": 1}  # of a Sequential
FIRST_BLOCK = {"depthwise": "0.0", "depthwise_BN": "0.1", "project": "1", "project_BN": "2"}
BLOCK = {
    "expand": "0.0",
    "expand_BN": "0.1",
    "depthwise": "1.0",
    "depthwise_BN": "1.1",
    "project": "2",
    "project_BN": "3",
}
MOBILENET_V2: Names = {
    r"(Conv1|bn_Conv1)": lambda part: f"encoder.features.0.{int(part == 'bn_Conv1')}",
    r"expanded_conv_(\w+)": lambda part: f"encoder.features.1.conv.{FIRST_BLOCK[part]}",
    r"block_(\d+)_(\w+)": lambda block, part: f"encoder.features.{int(block) + 1}.conv.{BLOCK[part]}",
    r"Conv_1(_bn)?": lambda part: f"encoder.features.18.{int(part is not None)}",
}
UNET: Names = {
    r"up(\d)_([12])_(conv|bn)": lambda level, index, part: (
        f"decoder.blocks.{4 - int(level)}.conv{index}.{PARTS[part]}"
    ),
    r"classifier": lambda: HEAD,
}


def recognise(checkpoint: Checkpoint) -> Match | None:
    """A Unet or DeepLabV3Plus of segmentation_models_pytorch, or None.

    Raises ValueError when it is one whose encoder or options are not known here.
    """
    tensors, config, options = checkpoint.tensors, checkpoint.config, checkpoint.options
    if f"{HEAD}.weight" not in tensors:
        return None
    if "decoder.blocks.0.conv1.0.weight" in tensors and "decoder.blocks.0.hl_conv.0.0.weight" not in tensors:
        return _unet(tensors, config, options)
    if "decoder.aspp.0.convs.0.0.weight" in tensors and "decoder.block2.0.0.weight" in tensors:
        return _deeplabv3plus(tensors, config, options)
    return None


def _told(network: str, name: str, config: Mapping[str, Any], options: Options) -> Any:
    """A fact of UNSAID: as --set says, as config.json says, or assumed."""
    # A config.json that is silent leaves the library's default.
    said = config.get(CONFIG.get(name, name), UNSAID[network][name]) if config else None
    if isinstance(said, list):
        said = tuple(int(one) for one in said)
    return options.take(name, said, UNSAID[network][name])


def _unet(tensors: Tensors, config: Mapping[str, Any], options: Options) -> Match:
    blocks = sum(bool(re.fullmatch(r"decoder\.blocks\.\d+\.conv2\.0\.weight", name)) for name in tensors)
    if blocks != 5:
        raise _unknown("Unet", f"encoder_depth={blocks}", "5")
    if any(".attention" in name for name in tensors):
        raise _unknown("Unet", "scSE attention in its decoder", "none of it")
    if "decoder.center.0.0.weight" in tensors:
        raise _unknown("Unet", "a VGG encoder", ENCODERS)
    interpolation = _told("Unet", "interpolation", config, options)
    if interpolation not in ("nearest", "bilinear"):
        raise _unknown("Unet", f"decoder_interpolation={interpolation!r}", "'nearest' and 'bilinear'")
    filters = tuple(tensors[f"decoder.blocks.{block}.conv2.0.weight"].shape[0] for block in range(5))
    backbone, names = _encoder(tensors, "Unet", {})
    arguments = {**backbone, "decoder_filters": filters}
    if interpolation != "nearest":
        arguments["interpolation"] = interpolation
    return _match("unet", arguments, {**names, **UNET}, tensors, options)


def _deeplabv3plus(tensors: Tensors, config: Mapping[str, Any], options: Options) -> Match:
    separable = "decoder.aspp.0.convs.1.0.0.weight" in tensors
    told = {name: _told("DeepLabV3Plus", name, config, options) for name in UNSAID["DeepLabV3Plus"]}
    rates = told["rates"]
    # A whole stage has the rate that makes up for its stride.
    backbone, names = _encoder(tensors, "DeepLabV3Plus", {"contracted": False}, told["epsilon"])
    arguments = {
        **backbone,
        "output_stride": int(told["output_stride"]),
        "rates": rates,
        "aspp_filters": tensors["decoder.aspp.0.convs.0.0.weight"].shape[0],
        "aspp_separable": separable,
        "low_level_filters": tensors["decoder.block1.0.weight"].shape[0],
        "decoder_filters": tensors["decoder.block2.0.1.weight"].shape[0],
        "decoder_separable": True,
        "variant": SOURCE,
        "norm_epsilon": told["epsilon"],
        "dropout": float(config.get("decoder_aspp_dropout", 0.5)),
    }
    return _match("deeplabv3plus", arguments, {**names, **_deeplabv3plus_names(rates)}, tensors, options)


def _deeplabv3plus_names(rates: tuple[int, ...]) -> Names:
    """Branches of ASPP go by number there and by rate here."""
    branch = {str(rate): index + 1 for index, rate in enumerate(rates)}
    aspp, separated = "decoder.aspp.0", {"depthwise": "0.0", "pointwise_conv": "0.1", "pointwise_bn": "1"}
    return {
        r"aspp_1x1_(conv|bn)": lambda part: f"{aspp}.convs.0.{PARTS[part]}",
        r"aspp_rate(\d+)_(conv|bn)": lambda rate, part: f"{aspp}.convs.{branch[rate]}.{PARTS[part]}",
        r"aspp_rate(\d+)_(depthwise|pointwise_\w+)": lambda rate, part: (
            f"{aspp}.convs.{branch[rate]}.{separated[part]}"
        ),
        r"aspp_pooling_(conv|bn)": lambda part: f"{aspp}.convs.{len(rates) + 1}.{1 + PARTS[part]}",
        r"aspp_projection_(conv|bn)": lambda part: f"{aspp}.project.{PARTS[part]}",
        r"aspp_output_depthwise": lambda: "decoder.aspp.1.0",
        r"aspp_output_pointwise_(conv|bn)": lambda part: "decoder.aspp." + ("1.1" if part == "conv" else "2"),
        r"decoder_low_level_(conv|bn)": lambda part: f"decoder.block1.{PARTS[part]}",
        r"decoder_1_(depthwise|pointwise_\w+)": lambda part: f"decoder.block2.{separated[part]}",
        r"classifier": lambda: HEAD,
    }


def _encoder(
    tensors: Tensors, network: str, sizes: dict[str, Any], epsilon: float = 1e-5
) -> tuple[dict[str, Any], Names]:
    """`backbone` and `backbone_sizes`, whose row has these sizes replaced too, and the names of its layers."""
    if "encoder.layer1.0.conv1.weight" in tensors:
        dilated: dict[str, Any] = {"second_dilated": True} if sizes else {}
        layout = replace(resnet_layout(tensors, "encoder.", epsilon), **sizes, **dilated)
        return resnet_arguments(layout), {r"(conv\d_\w+)": lambda path: resnet_name(path, "encoder.") or path}
    last = tensors.get("encoder.features.18.0.weight")
    if last is not None and last.shape[:2] == (1280, 320):
        chosen: dict[str, Any] = {"backbone": "mobilenet_v2_torchvision"}
        sizes = sizes | ({"epsilon": epsilon} if epsilon != MOBILENET.epsilon else {})
        return chosen | ({"backbone_sizes": sizes} if sizes else {}), MOBILENET_V2
    raise _unknown(network, "an encoder of another family", ENCODERS)


def _match(model: str, arguments: dict[str, Any], names: Names, tensors: Tensors, options: Options) -> Match:
    classes = tensors[f"{HEAD}.weight"].shape[0]
    return Match(
        source=SOURCE,
        model=model,
        arguments={"classes": classes, **arguments},
        names=lambda path: _name(names, path),
        tensors=tensors,
        unused=UNUSED,
        inputs=inputs.settle(None, options),
    )


def _name(names: Names, path: str) -> str:
    for pattern, name in names.items():
        match = re.fullmatch(pattern, path)
        if match:
            return name(*match.groups())
    return path


def _unknown(network: str, there: str, here: str) -> ValueError:
    return ValueError(f"is a {network} of segmentation_models_pytorch with {there}; known here is {here}")
