"""STDC-Seg (Fan et al. 2021, arXiv:2104.13188): BiSeNet with a backbone of short-term dense concatenations, whose
early maps learn details from a loss in place of a branch of their own.

Deviations from the paper, which are those of the authors' code and of mmsegmentation (`stdc*`):

- The mean pooling of a halving module is 3x3 and counts the zeros around the map.
- The backbone ends at its last module; the classifier's 1x1 convolution is left out.
- Logits are resized bilinearly with half-pixel centres, or with aligned corners (`align_corners`), as in both.
- mmsegmentation's detail head has a second channel for what is no detail; here it has the paper's one.
- `size_divisor=32` pads the image within the network (docs/explanation/padding.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from zoo import contract
from zoo.bisenetv2 import conv, depthwise_norm, fcn_head
from zoo.layers import (
    TORCH_EPSILON,
    MeanPool,
    ResizeCornersLike,
    ResizeLike,
    conv_norm,
    cut,
    imagenet_normalisation,
    padded,
)
from zoo.unet import DoubleLike

SQUEEZE = 4  # of the fusion's attention


@dataclass(frozen=True)
class Sizes:
    """Channels of the five stages of the backbone, of the context path, of the fusion with its head, and of the heads
    for the loss; modules in each of the last three stages."""

    blocks: tuple[int, int, int]
    channels: tuple[int, int, int, int, int] = (32, 64, 256, 512, 1024)
    context_filters: int = 128
    fusion_filters: int = 256
    auxiliary_filters: int = 64


# Table 2 and section 3.3.
SIZES = {
    "stdc1": Sizes(blocks=(2, 2, 2)),
    "stdc2": Sizes(blocks=(4, 5, 3)),
}


def stdc(
    *,
    classes: int = 19,
    image_size: contract.ImageSize = None,
    variant: str = "stdc1",
    sizes: Mapping[str, Any] | None = None,
    auxiliary: bool = True,
    dropout: float = 0.1,
    align_corners: bool = False,
    size_divisor: int = 1,
    batch_norm_momentum: float = 0.99,
) -> keras.Model:
    """STDC-Seg: image (B, H, W, 3), RGB 0..255 -> {"logits": (B, H, W, classes) float32}.

    image_size is (H, W), or None for any size; `variant` is a row of SIZES and `sizes` replaces fields of it;
    `auxiliary` adds what the losses "ohem" and "detail" read (figure 5): "aux_logits_1" and "aux_logits_2" of the
    context path at stride 8 and 16, as large as the logits, and "detail_logits" (B, H, W, 1) of the backbone at
    stride 8; `align_corners` and `size_divisor` see above. Raises ValueError on a value that makes no sense.
    """
    contract.check_classes(classes)
    contract.check_count("size_divisor", size_divisor)
    contract.check_fraction("dropout", dropout)
    row = contract.variant(SIZES, variant, sizes)
    _check_sizes(row)
    momentum = contract.check_fraction("batch_norm_momentum", batch_norm_momentum)
    image = contract.image_input(contract.check_image_size(image_size))
    seen, _ = padded(image, size_divisor)

    early, middle, late = _backbone(imagenet_normalisation(seen), row, momentum)
    fine, coarse = _context_path(early, middle, late, row.context_filters, momentum)
    x = _fusion(early, fine, row.fusion_filters, momentum)
    resize = ResizeCornersLike if align_corners else ResizeLike
    shared: dict[str, Any] = {"dropout": dropout, "momentum": momentum}
    outputs = {contract.LOGITS: fcn_head(x, seen, classes, row.fusion_filters, resize=resize, **shared)}
    # name, features, channels, resizing
    heads = (
        ("aux_logits_1", fine, classes, ResizeLike),
        ("aux_logits_2", coarse, classes, ResizeLike),
        (contract.DETAIL_LOGITS, early, 1, resize),
    )
    for (key, features, channels, how), prefix in zip(
        heads, ("auxiliary_1_", "auxiliary_2_", "detail_"), strict=True
    ):
        if auxiliary:
            outputs[key] = fcn_head(
                features,
                seen,
                channels,
                row.auxiliary_filters,
                resize=how,
                prefix=prefix,
                output=key,
                **shared,
            )
    return keras.Model(image, cut(outputs, image, size_divisor), name="stdc")


def _check_sizes(row: Sizes) -> None:
    """Raise ValueError on a size that is no whole number, or no list of as many as there are stages."""
    for name, value in vars(row).items():
        values = value if isinstance(value, tuple | list) else (value,)
        count = {"blocks": 3, "channels": 5}.get(name, 1)
        if len(values) != count:
            raise ValueError(f"{name} must be {count} whole numbers, not {value!r}")
        for one in values:
            contract.check_count(name, one)


def _backbone(x: Any, row: Sizes, momentum: float) -> list[Any]:
    """STDC network (table 2): (B, H, W, 3) -> its last three stages, at stride 8, 16 and 32."""
    for stage in (1, 2):
        x = conv(x, row.channels[stage - 1], 3, momentum, f"stage{stage}", stride=2)
    stages = []
    for stage, blocks in enumerate(row.blocks, 3):
        for block in range(1, blocks + 1):
            x = dense_concatenation(
                x, row.channels[stage - 1], momentum, f"stage{stage}_block{block}", halve=block == 1
            )
        stages.append(x)
    return stages


def dense_concatenation(x: Any, filters: int, momentum: float, name: str, *, halve: bool = False) -> Any:
    """STDC module (figure 3b; 3c to halve): four convolutions in a row of ever fewer channels, a half, a quarter and
    two eighths of `filters`, side by side: (B, H, W, C) -> (B, H/stride, W/stride, filters)."""
    first = x = conv(x, filters // 2, 1, momentum, f"{name}_1")
    if halve:
        x = depthwise_norm(x, momentum, f"{name}_down", stride=2)
        first = MeanPool(3, 2, name=f"{name}_mean")(first)
    joined = [first]
    for index, share in ((2, 4), (3, 8), (4, 8)):
        x = conv(x, filters // share, 3, momentum, f"{name}_{index}")
        joined.append(x)
    return layers.Concatenate(name=f"{name}_concat")(joined)


def _context_path(early: Any, middle: Any, late: Any, filters: int, momentum: float) -> tuple[Any, Any]:
    """From the mean of the whole map up again, each stage's map refined (figure 4): (B, h, w, filters) at stride 8, and
    at stride 16."""
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="context_mean")(late)
    above = conv(mean, filters, 1, momentum, "context_mean")  # (B, 1, 1, filters), which the sum spreads
    found = []
    for level, x, finer in ((5, late, middle), (4, middle, early)):
        x = refined(x, filters, momentum, f"refine{level}")
        x = layers.Add(name=f"context{level}_add")([x, above])
        x = DoubleLike(name=f"context{level}_double")([x, finer])
        above = conv(x, filters, 3, momentum, f"context{level}")
        found.append(above)
    coarse, fine = found
    return fine, coarse


def refined(x: Any, filters: int, momentum: float, name: str) -> Any:
    """Attention refinement (BiSeNet, arXiv:1808.00897, figure 2b): (B, h, w, C) -> (B, h, w, filters), each channel
    weighed by what the whole map's mean says of it."""
    x = conv(x, filters, 3, momentum, name)
    weight = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    weight = conv_norm(weight, filters, momentum=momentum, epsilon=TORCH_EPSILON, name=f"{name}_attention")
    weight = layers.Activation("sigmoid", name=f"{name}_sigma")(weight)
    return layers.Multiply(name=f"{name}_out")([x, weight])


def _fusion(details: Any, context: Any, filters: int, momentum: float) -> Any:
    """Feature fusion (BiSeNet, figure 2c): details and context joined, and channels that matter added once more."""
    x = layers.Concatenate(name="fusion_concat")([details, context])
    x = conv(x, filters, 1, momentum, "fusion")
    weight = layers.GlobalAveragePooling2D(keepdims=True, name="fusion_mean")(x)
    weight = layers.Conv2D(filters // SQUEEZE, 1, use_bias=False, name="fusion_attention_1_conv")(weight)
    weight = layers.ReLU(name="fusion_attention_relu")(weight)
    weight = layers.Conv2D(filters, 1, use_bias=False, name="fusion_attention_2_conv")(weight)
    weight = layers.Activation("sigmoid", name="fusion_sigma")(weight)
    weighed = layers.Multiply(name="fusion_weighed")([x, weight])
    return layers.Add(name="fusion_add")([x, weighed])
