"""torchvision's deeplabv3_resnet* and fcn_resnet*: state dicts with and without an auxiliary classifier.

What tensors do not tell is in UNSAID, the library's own in every one of its networks; images are normalised by
ImageNet's mean and deviation there. Of 21 classes, they are those of Pascal VOC, on which its weights are trained.

An auxiliary classifier of other classes than the classifier's, left over from the weights that a new head was put on,
serves nothing here and is left out. A network of one class gives the logit of a sigmoid (zoo.convert.recognition).
"""

import re
from typing import Any

from zoo.backbones.resnet import LAYOUTS, Layout
from zoo.convert import inputs
from zoo.convert.checkpoint import Checkpoint, Match, Tensors
from zoo.convert.options import Options

SOURCE = "torchvision"
KNOWN = "torchvision's DeepLabV3 and FCN"
EPSILON = 1e-5
# What a state dict does not say -> what every network of the library has.
UNSAID = {"output_stride": 8, "rates": (12, 24, 36), "epsilon": EPSILON}
UNUSED = (r".*\.num_batches_tracked",)
STACKS = (1, 2, 3, 4)
# What follows convI_blockJ_ in our layers -> what follows layerI.J in theirs.
SHORTCUT = {"0_conv": "downsample.0", "0_bn": "downsample.1"}
PART = {"conv": 0, "bn": 1}  # of a convolution with its norm, by number in torch.nn.Sequential

# Pascal VOC's classes with the background first, and its colours.
VOC = {
    "background": (0, 0, 0),
    "aeroplane": (128, 0, 0),
    "bicycle": (0, 128, 0),
    "bird": (128, 128, 0),
    "boat": (0, 0, 128),
    "bottle": (128, 0, 128),
    "bus": (0, 128, 128),
    "car": (128, 128, 128),
    "cat": (64, 0, 0),
    "chair": (192, 0, 0),
    "cow": (64, 128, 0),
    "diningtable": (192, 128, 0),
    "dog": (64, 0, 128),
    "horse": (192, 0, 128),
    "motorbike": (64, 128, 128),
    "person": (192, 128, 128),
    "pottedplant": (0, 64, 0),
    "sheep": (128, 64, 0),
    "sofa": (0, 192, 0),
    "train": (128, 192, 0),
    "tvmonitor": (0, 64, 128),
}


def recognise(checkpoint: Checkpoint) -> Match | None:
    """A DeepLabV3 or FCN of torchvision on any ResNet, or None. Raises ValueError on another number of rates."""
    tensors, options = checkpoint.tensors, checkpoint.options
    if "backbone.conv1.weight" not in tensors or "classifier.4.weight" not in tensors:
        return None
    is_deeplab = "classifier.0.convs.0.0.weight" in tensors
    if not is_deeplab and getattr(tensors.get("classifier.0.weight"), "ndim", 0) != 4:
        return None
    classes = tensors["classifier.4.weight"].shape[0]
    head = (
        deeplabv3(tensors, options)
        if is_deeplab
        else {"head_filters": tensors["classifier.0.weight"].shape[0]}
    )
    names = deeplabv3_names(head["rates"]) if is_deeplab else FCN
    auxiliary = auxiliary_arguments(tensors, classes)
    epsilon = options.take("epsilon", None, UNSAID["epsilon"])
    is_voc = classes == len(VOC)
    return Match(
        source=SOURCE,
        model="deeplabv3" if is_deeplab else "fcn",
        arguments={
            "classes": classes,
            **resnet_arguments(resnet_layout(tensors, "backbone.", epsilon)),
            "output_stride": options.take("output_stride", None, UNSAID["output_stride"]),
            **head,
            **auxiliary,
            "variant": SOURCE,
            "norm_epsilon": epsilon,
        },
        names=lambda path: resnet_name(path, "backbone.") or renamed(names, path),
        tensors=tensors,
        unused=UNUSED if auxiliary else (*UNUSED, r"aux_classifier\..*"),
        inputs=inputs.settle(None, options),
        classes=tuple(VOC) if is_voc else None,
        palette=tuple(VOC.values()) if is_voc else None,
    )


def deeplabv3(tensors: Tensors, options: Options) -> dict[str, Any]:
    branches = {name.split(".")[3] for name in tensors if name.startswith("classifier.0.convs.")}
    rates = options.take("rates", None, UNSAID["rates"])
    if len(branches) != len(rates) + 2:
        raise ValueError(
            f"is a DeepLabV3 of torchvision with {len(branches) - 2} atrous rates, which it does not tell; "
            f"say them with --set rates=..., as they are not {', '.join(map(str, rates))}"
        )
    return {
        "rates": rates,
        "aspp_filters": tensors["classifier.4.weight"].shape[1],
        "dropout": 0.5,
    }


def auxiliary_arguments(tensors: Tensors, classes: int) -> dict[str, Any]:
    """Of an auxiliary classifier of the same classes; another serves nothing."""
    last = tensors.get("aux_classifier.4.weight")
    if "aux_classifier.0.weight" not in tensors or last is None or last.shape[0] != classes:
        return {}
    return {"auxiliary": True, "auxiliary_filters": tensors["aux_classifier.0.weight"].shape[0]}


# Regular expression of our layer's path -> prefix of its tensors; `{}` is the number of conv or bn in PART, plus
# what stands with it.
Names = dict[str, tuple[str, int]]
AUXILIARY: Names = {
    r"auxiliary_(conv|bn)": ("aux_classifier.{}", 0),
    r"auxiliary_classifier": ("aux_classifier.4", 0),
}
FCN: Names = {
    r"head_1_(conv|bn)": ("classifier.{}", 0),
    r"classifier": ("classifier.4", 0),
    **AUXILIARY,
}
DEEPLABV3: Names = {
    r"aspp_1x1_(conv|bn)": ("classifier.0.convs.0.{}", 0),
    r"aspp_projection_(conv|bn)": ("classifier.0.project.{}", 0),
    r"head_(conv|bn)": ("classifier.{}", 1),
    r"classifier": ("classifier.4", 0),
    **AUXILIARY,
}


def deeplabv3_names(rates: tuple[int, ...]) -> Names:
    """Branches of the pyramid pooling go by number there and by rate here."""
    branches: Names = {
        rf"aspp_rate{rate}_(conv|bn)": (f"classifier.0.convs.{branch}.{{}}", 0)
        for branch, rate in enumerate(rates, 1)
    }
    pooling = {r"aspp_pooling_(conv|bn)": (f"classifier.0.convs.{len(rates) + 1}.{{}}", 1)}
    return {**branches, **pooling, **DEEPLABV3}


def renamed(names: Names, path: str) -> str:
    for pattern, (prefix, first) in names.items():
        if match := re.fullmatch(pattern, path):
            return prefix.format(*(first + PART[part] for part in match.groups()))
    return path


def resnet_layout(tensors: Tensors, prefix: str, epsilon: float = EPSILON) -> Layout:
    """The ResNet of torchvision's names that stands under a prefix, as far as shapes tell."""
    found = [re.match(rf"{re.escape(prefix)}layer(\d)\.(\d+)\.conv1\.weight", name) for name in tensors]
    blocks = [(int(match[1]), int(match[2])) for match in found if match]
    width, per_group = tensors[f"{prefix}layer1.0.conv2.weight"].shape[:2]
    basic = f"{prefix}layer1.0.conv3.weight" not in tensors
    return Layout(
        blocks=tuple(sum(stack == wanted for stack, _ in blocks) for wanted in STACKS),  # type: ignore[arg-type]
        basic=basic,
        deep_stem=f"{prefix}stem.0.weight" in tensors,
        bias=False,
        epsilon=epsilon,
        stride_on_3x3=True,
        groups=1 if basic else width // per_group,
        group_width=64 if basic else per_group,
        normalise=LAYOUTS["resnet50_v1b"].normalise,
        second_dilated=not basic,
    )


def resnet_arguments(layout: Layout) -> dict[str, Any]:
    """`backbone` and `backbone_sizes` for a layout: the row that has most of it, and what differs from that row."""

    def differing(name: str) -> dict[str, Any]:
        return {
            field: value for field, value in vars(layout).items() if value != getattr(LAYOUTS[name], field)
        }

    best = min(LAYOUTS, key=lambda name: len(differing(name)))
    sizes = differing(best)
    return {"backbone": best, **({"backbone_sizes": sizes} if sizes else {})}


def resnet_name(path: str, prefix: str) -> str | None:
    """The prefix of the tensors of a layer of our ResNets, or None where the layer is not one of them."""
    if match := re.fullmatch(r"conv(\d)_block(\d+)_(([0-3])_(conv|bn))", path):
        part = SHORTCUT.get(match[3]) or f"{match[5]}{match[4]}"
        return f"{prefix}layer{int(match[1]) - 1}.{int(match[2]) - 1}.{part}"
    if match := re.fullmatch(r"conv1_(conv|bn)", path):
        return f"{prefix}{match[1]}1"
    if match := re.fullmatch(r"conv1_(\d)_(conv|bn)", path):  # the deep stem: convolution, norm, ReLU
        return f"{prefix}stem.{3 * (int(match[1]) - 1) + PART[match[2]]}"
    return None
