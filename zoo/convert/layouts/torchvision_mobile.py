"""torchvision's lraspp_mobilenet_v3_large and deeplabv3_mobilenet_v3_large.

What tensors do not tell is in UNSAID, the library's own in both. Of 21 classes, they are those of Pascal VOC, on which
its weights are trained. The auxiliary classifier of DeepLabV3 reads the first block of stride 8 there.
"""

import re
from functools import partial
from typing import Any

from zoo.backbones.mobilenet import V3_LARGE_BLOCKS, V3_TORCHVISION
from zoo.convert import inputs
from zoo.convert.checkpoint import Checkpoint, Match, Tensors
from zoo.convert.layouts import torchvision
from zoo.convert.options import Options

KNOWN = "torchvision's LR-ASPP and DeepLabV3 on MobileNetV3"
BACKBONE = "mobilenet_v3_large_torchvision"
UNSAID = {**torchvision.UNSAID, "output_stride": 16}
LAST = len(V3_LARGE_BLOCKS) + 1  # the number of the last 1x1 convolution there
AUXILIARY_LEVEL = "P3"
LRASPP: torchvision.Names = {
    r"head_(conv|bn)": ("classifier.cbr.{}", 0),
    r"gate_conv": ("classifier.scale.1", 0),
    r"classifier": ("classifier.high_classifier", 0),
    r"low_level_classifier": ("classifier.low_classifier", 0),
}
BLOCK = re.compile(r"expanded_conv_(?:(\d+)_)?(expand|depthwise|project|squeeze_excite_conv)(_bn|_1)?")


def recognise(checkpoint: Checkpoint) -> Match | None:
    """An LR-ASPP or a DeepLabV3 of torchvision on MobileNetV3-Large, or None. Raises ValueError on another backbone and
    on another number of rates."""
    tensors, options = checkpoint.tensors, checkpoint.options
    is_lraspp = "classifier.low_classifier.weight" in tensors and "classifier.cbr.0.weight" in tensors
    is_deeplab = "classifier.0.convs.0.0.weight" in tensors and "classifier.4.weight" in tensors
    if "backbone.1.block.0.0.weight" not in tensors or not (is_lraspp or is_deeplab):
        return None
    if f"backbone.{LAST}.0.weight" not in tensors or f"backbone.{LAST + 1}.0.weight" in tensors:
        raise ValueError(
            "is on another backbone than torchvision's MobileNetV3-Large, which is the one known here"
        )
    head = _lraspp(tensors) if is_lraspp else _deeplabv3(tensors, options)
    names = partial(torchvision.renamed, LRASPP if is_lraspp else torchvision.deeplabv3_names(head["rates"]))
    epsilon = options.take("epsilon", None, UNSAID["epsilon"])
    is_voc = head["classes"] == len(torchvision.VOC)
    return Match(
        source=torchvision.SOURCE,
        model="lraspp" if is_lraspp else "deeplabv3",
        arguments={
            **head,
            **_backbone(tensors),
            "output_stride": options.take("output_stride", None, UNSAID["output_stride"]),
            "variant": torchvision.SOURCE,
            "norm_epsilon": epsilon,
        },
        names=lambda path: backbone_name(path) or names(path),
        tensors=tensors,
        unused=torchvision.UNUSED if "auxiliary" in head else (*torchvision.UNUSED, r"aux_classifier\..*"),
        inputs=inputs.settle(None, options),
        classes=tuple(torchvision.VOC) if is_voc else None,
        palette=tuple(torchvision.VOC.values()) if is_voc else None,
    )


def _backbone(tensors: Tensors) -> dict[str, Any]:
    """`backbone` and, of another width than 1, `backbone_sizes`."""
    width = tensors[f"backbone.{LAST}.0.weight"].shape[0] / V3_TORCHVISION.top
    return {"backbone": BACKBONE, **({"backbone_sizes": {"width": width}} if width != 1 else {})}


def _lraspp(tensors: Tensors) -> dict[str, Any]:
    classes, filters = tensors["classifier.high_classifier.weight"].shape[:2]
    return {"classes": classes, "filters": filters}


def _deeplabv3(tensors: Tensors, options: Options) -> dict[str, Any]:
    classes = tensors["classifier.4.weight"].shape[0]
    auxiliary = torchvision.auxiliary_arguments(tensors, classes)
    return {
        "classes": classes,
        **torchvision.deeplabv3(tensors, options),
        **auxiliary,
        **({"auxiliary_level": AUXILIARY_LEVEL} if auxiliary else {}),
    }


def backbone_name(path: str) -> str | None:
    """The prefix of the tensors of a layer of our MobileNetV3, or None where the layer is not one of it."""
    if match := re.fullmatch(r"conv(_1)?(_bn)?", path):
        return f"backbone.{LAST if match[1] else 0}.{1 if match[2] else 0}"
    match = BLOCK.fullmatch(path)
    if match is None:
        return None
    index, part, suffix = int(match[1] or 0), match[2], match[3]
    squeeze = V3_LARGE_BLOCKS[index][3]
    parts = ["expand"] if index else []  # only the first block does not expand
    parts += ["depthwise", *(["squeeze_excite_conv"] if squeeze else []), "project"]
    place = f"backbone.{index + 1}.block.{parts.index(part)}"
    if part == "squeeze_excite_conv":
        return f"{place}.fc{2 if suffix else 1}"
    return f"{place}.{1 if suffix else 0}"
