"""Backbones: an image becomes a pyramid of features. One row of BACKBONES a backbone, one family a file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any

import keras

from zoo import contract
from zoo.backbones import mobilenet
from zoo.backbones.edgetpu import LAYOUT as EDGETPU
from zoo.backbones.edgetpu import mobilenet_edgetpu
from zoo.backbones.efficientnet_lite import LAYOUTS as LITE_LAYOUTS
from zoo.backbones.efficientnet_lite import efficientnet_lite, lite_normalisation
from zoo.backbones.keras_cv import BASES, keras_cv_backbone
from zoo.backbones.mix_transformer import LAYOUTS as MIT_LAYOUTS
from zoo.backbones.mix_transformer import mix_transformer
from zoo.backbones.mobilenet import mobilenet_v2, mobilenet_v3_large
from zoo.backbones.resnet import LAYOUTS, caffe_normalisation, resnet
from zoo.backbones.swin import SIZES as SWIN
from zoo.backbones.swin import swin


@dataclass(frozen=True)
class Row:
    """A backbone: `builder(image_size, output_stride, momentum)` gives its model.

    `normalisation` tells in words what its graph does to the image first; `keras_application` names the
    class in keras.applications whose weights fit by layer name, if there is one.
    """

    builder: Callable[[contract.ImageSize, int, float], keras.Model]
    normalisation: str
    keras_application: str | None = None
    output_strides: tuple[int, ...] = (8, 16, 32)


BACKBONES = {
    "resnet50": Row(partial(resnet, LAYOUTS["resnet50"]), "BGR less the ImageNet means", "ResNet50"),
    "resnet101": Row(partial(resnet, LAYOUTS["resnet101"]), "BGR less the ImageNet means", "ResNet101"),
    **{
        name: Row(partial(resnet, layout), "ImageNet's mean and deviation")
        for name, layout in LAYOUTS.items()
        if layout.normalise is not caffe_normalisation  # keras.applications' stand above
    },
    "mobilenet_v2": Row(partial(mobilenet_v2, mobilenet.KERAS), "RGB to -1..1", "MobileNetV2"),
    "mobilenet_v2_torchvision": Row(
        partial(mobilenet_v2, mobilenet.TORCHVISION), "ImageNet's mean and deviation"
    ),
    "mobilenet_v3_large": Row(
        partial(mobilenet_v3_large, mobilenet.V3_KERAS), "RGB to -1..1", "MobileNetV3Large"
    ),
    "mobilenet_v3_large_torchvision": Row(
        partial(mobilenet_v3_large, mobilenet.V3_TORCHVISION), "ImageNet's mean and deviation"
    ),
    "mobilenet_edgetpu": Row(partial(mobilenet_edgetpu, EDGETPU), "RGB to -1..1"),
    **{
        name: Row(
            partial(efficientnet_lite, layout),
            "RGB less 127, over 128"
            if layout.normalise is lite_normalisation
            else "ImageNet's mean and deviation",
        )
        for name, layout in LITE_LAYOUTS.items()
    },
    **{
        f"kerascv_{name}": Row(
            partial(keras_cv_backbone, base),
            "RGB to 0..1",
            output_strides=(8, 16, 32) if name.startswith("resnet") else (32,),
        )
        for name, base in BASES.items()
    },
    **{
        name: Row(partial(swin, layout), "ImageNet's mean and deviation", output_strides=(32,))
        for name, layout in SWIN.items()
    },
    **{
        name: Row(partial(mix_transformer, layout), "ImageNet's mean and deviation", output_strides=(32,))
        for name, layout in MIT_LAYOUTS.items()
    },
}


def build(
    name: str,
    image_size: contract.ImageSize = None,
    output_stride: int = 32,
    batch_norm_momentum: float = 0.99,
    sizes: Mapping[str, Any] | None = None,
) -> keras.Model:
    """A backbone as a functional keras.Model named "backbone".

    Input `image`: RGB, (B, H, W, 3), uint8 or float, 0..255; any H and W where image_size is None.
    Output: {"P2", "P3", "P4", "P5"}, each (B, ceil(H / s), ceil(W / s), channels) with s from `strides`
    (KerasCV's may be one smaller, see keras_cv.py); ResNets, MobileNets and EfficientNet-Lites give "P1" as well.
    `sizes` replaces fields of the backbone's own row, as {"blocks": (1, 1, 1, 1)} in its family's file.
    Raises ValueError on an unknown name or size and on an output stride that the backbone cannot do.
    """
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}; choose one of {', '.join(BACKBONES)}")
    row = BACKBONES[name]
    if output_stride not in row.output_strides:
        choices = ", ".join(str(stride) for stride in row.output_strides)
        raise ValueError(f"backbone {name} has no output_stride {output_stride!r}; it can do {choices}")
    momentum = contract.check_fraction("batch_norm_momentum", batch_norm_momentum)
    builder = _resized(name, row.builder, sizes) if sizes else row.builder
    return builder(contract.check_image_size(image_size), output_stride, momentum)


def _resized(name: str, builder: Any, sizes: Mapping[str, Any]) -> Any:
    """The builder of the same family with fields of its row, a dataclass, replaced."""
    row: Any = builder.args[0] if isinstance(builder, partial) else None
    valid = [field.name for field in fields(row)] if row is not None and is_dataclass(row) else []
    for size in sizes:
        if size not in valid:
            raise ValueError(
                f"backbone {name} has no size {size!r}; it has {', '.join(valid) or 'none to choose'}"
            )
    return partial(builder.func, replace(row, **sizes))


def strides(output_stride: int) -> dict[str, int]:
    """The true stride of each level of a pyramid: {"P1": 2, "P2": 4, ...}, none above output_stride.

    Not every backbone gives P1.
    """
    return {level: min(2 ** int(level[1]), output_stride) for level in ("P1", *contract.LEVELS)}
