"""DeepLabV3+ (Chen et al. 2018, arXiv:1802.02611): atrous spatial pyramid pooling and a small decoder.

Deviations from the paper:

- Four atrous rates by default (6, 12, 18, 24); the paper has three at output stride 16 (6, 12, 18) and
  doubles them at output stride 8. Give `rates` to have either.
- Plain convolutions by default, as in the paper's ResNet-101 experiments (tables 1 to 4). `aspp_separable`
  and `decoder_separable` give the paper's Xception configuration (table 5), which is the reference code's
  default and right for small backbones.
- The low-level features are the backbone's P2, at stride 4.
- Resizing is bilinear with half-pixel centres; the reference code aligns corners. `sizes={"align_corners": True}`
  does that from gathers and a weighted mean, as Keras has no such resizing.
- `size_divisor=16` pads the image within the network (docs/explanation/padding.md). The reference code has sides of
  16 n + 1 to the same end.
- `auxiliary` adds mmsegmentation's second head; the paper has none.

What the networks of other libraries, whose weights convert, have otherwise is a row of VARIANTS, such as
`variant="mmsegmentation"`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import layers

from zoo import backbones, contract, heads
from zoo.deeplabv3 import aspp
from zoo.layers import TORCH_EPSILON, conv_norm_relu, cut, padded, separable_conv_norm_relu


@dataclass(frozen=True)
class Variant(heads.Variant):
    """The head of a library: `projection_kernel` is the side of the convolution that joins the branches of ASPP;
    `aspp_output` adds a convolution after it, of the decoder's kind; the decoder has `decoder_convolutions` of side
    `decoder_kernel`; `norm_between` is the norm and ReLU between the halves of separable convolutions."""

    projection_kernel: int = 1
    aspp_output: bool = False
    decoder_convolutions: int = 2
    decoder_kernel: int = 3
    norm_between: bool = True


VARIANTS = {
    "paper": Variant(),
    "segmentation_models_pytorch": Variant(norm_epsilon=TORCH_EPSILON, align_corners=True, aspp_output=True,
                                           decoder_convolutions=1, norm_between=False),
    "mmsegmentation": Variant(norm_epsilon=TORCH_EPSILON, projection_kernel=3),
    "keras_hub": Variant(decoder_convolutions=1, decoder_kernel=1),
}  # fmt: skip


def deeplabv3plus(
    *,
    classes: int = 19,
    image_size: contract.ImageSize = None,
    backbone: str = "resnet101",
    backbone_sizes: Mapping[str, Any] | None = None,
    output_stride: int = 16,
    rates: tuple[int, ...] = (6, 12, 18, 24),
    aspp_filters: int = 256,
    aspp_separable: bool = False,
    low_level_filters: int = 48,
    decoder_filters: int = 256,
    decoder_separable: bool = False,
    dropout: float = 0.1,
    size_divisor: int = 1,
    auxiliary: bool = False,
    auxiliary_filters: int = 256,
    variant: str = "paper",
    sizes: Mapping[str, Any] | None = None,
    batch_norm_momentum: float = 0.99,
) -> keras.Model:
    """DeepLabV3+ on any backbone: image (B, H, W, 3), RGB 0..255 -> {"logits": (B, H, W, classes) float32}.

    image_size is (H, W), or None for any size; `backbone_sizes` are the `sizes` of backbones.build;
    `output_stride` (8, 16 or 32) is the backbone's stride where ASPP reads it; `rates` are ASPP's atrous rates,
    one branch each (none at all: the 1x1 and the image's mean alone, as the reference code has it on MobileNetV2);
    `dropout` follows ASPP; `size_divisor` see above; `auxiliary` adds "aux_logits", as large as the logits, for the
    loss alone, from the backbone's P4; `variant` is a row of VARIANTS and `sizes` replaces fields of it.
    Raises ValueError.
    """
    contract.check_classes(classes)
    contract.check_counts(aspp_filters=aspp_filters, size_divisor=size_divisor)
    contract.check_counts(low_level_filters=low_level_filters, decoder_filters=decoder_filters)
    contract.check_fraction("dropout", dropout)
    momentum = contract.check_fraction("batch_norm_momentum", batch_norm_momentum)
    rates = contract.check_rates(rates)
    row = contract.variant(VARIANTS, variant, sizes)
    norm: dict[str, Any] = {"momentum": momentum, "epsilon": row.norm_epsilon}
    plain: Callable[..., Any] = partial(conv_norm_relu, **norm)
    separable: Callable[..., Any] = partial(separable_conv_norm_relu, **norm, norm_between=row.norm_between)
    atrous, convolution = (separable if wanted else plain for wanted in (aspp_separable, decoder_separable))

    image = contract.image_input(contract.check_image_size(image_size))
    seen, size = padded(image, size_divisor)
    pyramid = backbones.build(backbone, size, output_stride, momentum, backbone_sizes)(seen)
    x = aspp(pyramid["P5"], rates, aspp_filters, row.projection_kernel, atrous=atrous, **norm)
    x = layers.Dropout(dropout, name="aspp_dropout")(x)
    if row.aspp_output:
        x = convolution(x, aspp_filters, 3, name="aspp_output")
    low_level = plain(pyramid["P2"], low_level_filters, name="decoder_low_level")
    x = row.resize(name="decoder_upsample")([x, low_level])
    x = layers.Concatenate(name="decoder_concat")([x, low_level])  # (B, H/4, W/4, aspp + low_level_filters)
    for index in range(1, row.decoder_convolutions + 1):
        x = convolution(x, decoder_filters, row.decoder_kernel, name=f"decoder_{index}")
    outputs = heads.with_auxiliary(
        x, pyramid, seen, classes, row, filters=auxiliary_filters if auxiliary else None,
        dropout=dropout, momentum=momentum,
    )  # fmt: skip
    return keras.Model(image, cut(outputs, image, size_divisor), name="deeplabv3plus")
