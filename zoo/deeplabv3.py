"""DeepLabV3 (Chen et al. 2017, arXiv:1706.05587): atrous spatial pyramid pooling on a dilated backbone.

Deviations from the paper:

- No Multi-Grid in the last stack of the backbone unless `backbone_sizes={"last_rates": (2, 4, 8)}` asks a ResNet
  for it: the paper's (1, 2, 4) times the rate of 2 at output stride 16 (sections 3.2 and 4.2).
- The auxiliary head is torchvision's and mmsegmentation's; the paper has none. What else these libraries, whose
  weights convert, have otherwise is in VARIANTS.
- Resizing is bilinear with half-pixel centres; the reference code aligns corners (`sizes={"align_corners": True}`).
- `size_divisor=16` pads the image within the network (docs/explanation/padding.md). The reference code has sides of
  16 n + 1, where a cell of a map lies on a pixel: `variant="deeplab"` pads to those and aligns corners.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import layers

from zoo import backbones, contract, heads
from zoo.layers import (
    TORCH_EPSILON,
    Concatenate,
    conv_norm_relu,
    cut,
    image_pooling,
    padded,
    separable_conv_norm_relu,
)


@dataclass(frozen=True)
class Variant(heads.Variant):
    """The head of a library: `projection_kernel` is the side of the convolution that joins the branches of ASPP;
    `head_convolution` puts a 3x3 one after the dropout that follows it; `auxiliary_level` is the level of the backbone
    that the auxiliary head reads, P3 in torchvision's network on MobileNetV3; `size_remainder` is what the sides of an
    image are padded to beyond a multiple of `size_divisor`."""

    projection_kernel: int = 1
    head_convolution: bool = False
    auxiliary_level: str = "P4"
    size_remainder: int = 0


VARIANTS = {
    "paper": Variant(),
    "torchvision": Variant(norm_epsilon=TORCH_EPSILON, head_convolution=True),
    "mmsegmentation": Variant(norm_epsilon=TORCH_EPSILON, projection_kernel=3),
    "deeplab": Variant(align_corners=True, size_remainder=1),
}


def deeplabv3(
    *,
    classes: int = 19,
    image_size: contract.ImageSize = None,
    backbone: str = "resnet101",
    backbone_sizes: Mapping[str, Any] | None = None,
    output_stride: int = 16,
    rates: tuple[int, ...] = (6, 12, 18),
    aspp_filters: int = 256,
    aspp_separable: bool = False,
    dropout: float = 0.1,
    size_divisor: int = 1,
    auxiliary: bool = False,
    auxiliary_filters: int = 256,
    variant: str = "paper",
    sizes: Mapping[str, Any] | None = None,
    batch_norm_momentum: float = 0.99,
) -> keras.Model:
    """DeepLabV3 on any backbone: image (B, H, W, 3), RGB 0..255 -> {"logits": (B, H, W, classes) float32}.

    image_size is (H, W), or None for any size; `backbone_sizes` are the `sizes` of backbones.build;
    `output_stride` (8, 16 or 32) is the backbone's stride where ASPP reads it; `rates` are ASPP's atrous rates,
    one branch each (none at all: the 1x1 and the image's mean alone, as the reference code has it on small
    backbones), which the paper doubles at output stride 8 (section 3.3); `aspp_separable` makes those branches
    depthwise separable, for small backbones; `size_divisor` see above; `auxiliary` adds "aux_logits", as large
    as the logits, for the loss alone, from the backbone's P4; `variant` is a row of VARIANTS and `sizes`
    replaces fields of it. Raises ValueError on a value that makes no sense.
    """
    contract.check_classes(classes)
    contract.check_counts(aspp_filters=aspp_filters, size_divisor=size_divisor)
    contract.check_fraction("dropout", dropout)
    momentum = contract.check_fraction("batch_norm_momentum", batch_norm_momentum)
    rates = contract.check_rates(rates)
    row = contract.variant(VARIANTS, variant, sizes)
    norm: dict[str, Any] = {"momentum": momentum, "epsilon": row.norm_epsilon}
    atrous = partial(separable_conv_norm_relu if aspp_separable else conv_norm_relu, **norm)

    image = contract.image_input(contract.check_image_size(image_size))
    seen, size = padded(image, size_divisor, row.size_remainder)
    pyramid = backbones.build(backbone, size, output_stride, momentum, backbone_sizes)(seen)
    x = aspp(pyramid["P5"], rates, aspp_filters, row.projection_kernel, atrous=atrous, **norm)
    x = layers.Dropout(dropout, name="aspp_dropout")(x)  # (B, H/output_stride, W/output_stride, aspp_filters)
    if row.head_convolution:
        x = conv_norm_relu(x, aspp_filters, 3, **norm, name="head")
    outputs = heads.with_auxiliary(
        x, pyramid, seen, classes, row, filters=auxiliary_filters if auxiliary else None,
        level=row.auxiliary_level,
        dropout=dropout, momentum=momentum,
    )  # fmt: skip
    return keras.Model(image, cut(outputs, image, size_divisor), name="deeplabv3")


def aspp(
    x: Any,
    rates: Sequence[int],
    filters: int,
    projection_kernel: int,
    *,
    atrous: Callable[..., Any],
    momentum: float,
    epsilon: float,
) -> Any:
    """Atrous spatial pyramid pooling (figure 5): (B, h, w, C) -> (B, h, w, filters).

    In parallel a 1x1 convolution, a 3x3 one of each atrous rate and the mean of the whole image, then one
    convolution that projects them all. `atrous` makes the 3x3 ones from (x, filters, kernel, dilation=, name=): plain,
    or separable as in DeepLabV3+ (arXiv:1802.02611).
    """
    plain = partial(conv_norm_relu, momentum=momentum, epsilon=epsilon)
    branches = [plain(x, filters, name="aspp_1x1")]
    for rate in rates:
        branches.append(atrous(x, filters, 3, dilation=rate, name=f"aspp_rate{rate}"))
    branches.append(image_pooling(x, filters, momentum=momentum, epsilon=epsilon, name="aspp_pooling"))
    x = Concatenate(name="aspp_concat")(branches)  # (B, h, w, filters * (len(rates) + 2))
    return plain(x, filters, projection_kernel, name="aspp_projection")
