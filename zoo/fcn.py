"""FCN (Long et al. 2015, arXiv:1411.4038) in the form that lives on: a dilated ResNet and a convolutional head.

Deviations from the paper, which are those of torchvision (`fcn_resnet*`) and mmsegmentation (`fcn_r*-d8`):

- The backbone is a dilated ResNet of output stride 8 and not a VGG of stride 32, so there are no skips from finer
  levels (FCN-16s, FCN-8s, section 4.2): the scores are resized to the image at once.
- The head is one 3x3 convolution with batch norm, ReLU and dropout before the 1x1 classifier, where the paper has
  VGG's two fully connected layers as convolutions. What each library has otherwise is in VARIANTS.
- Resizing is bilinear; the paper learns a transposed convolution.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from zoo import backbones, contract, heads
from zoo.layers import TORCH_EPSILON, conv_norm_relu, cut, padded


@dataclass(frozen=True)
class Variant(heads.Variant):
    """The head of a library: `head_convolutions` of 3x3 at the atrous rate `head_rate`; `concat_input` joins what they
    make to what they read, with one convolution more; `auxiliary_rate` is that of the auxiliary head."""

    head_convolutions: int = 1
    head_rate: int = 1
    concat_input: bool = False
    auxiliary_rate: int = 1


VARIANTS = {
    "paper": Variant(),
    "torchvision": Variant(norm_epsilon=TORCH_EPSILON),
    "mmsegmentation": Variant(
        norm_epsilon=TORCH_EPSILON, head_convolutions=2, concat_input=True
    ),  # D6 networks: head_rate 6
}


def fcn(
    *,
    classes: int = 19,
    image_size: contract.ImageSize = None,
    backbone: str = "resnet101",
    backbone_sizes: Mapping[str, Any] | None = None,
    output_stride: int = 8,
    head_filters: int = 512,
    dropout: float = 0.1,
    size_divisor: int = 1,
    auxiliary: bool = False,
    auxiliary_filters: int = 256,
    variant: str = "paper",
    sizes: Mapping[str, Any] | None = None,
    batch_norm_momentum: float = 0.99,
) -> keras.Model:
    """FCN on any backbone: image (B, H, W, 3), RGB 0..255 -> {"logits": (B, H, W, classes) float32}.

    image_size is (H, W), or None for any size; `backbone_sizes` are the `sizes` of backbones.build;
    `output_stride` (8, 16 or 32) is the backbone's stride where the head reads it; `size_divisor` is what the sides are
    padded to, with grey, before the logits are cut again; `auxiliary` adds "aux_logits", as large as the logits, for
    the loss alone, from a head of one convolution on the backbone's P4; `variant` is a row of VARIANTS and `sizes`
    replaces fields of it. Raises ValueError on a value that makes no sense.
    """
    contract.check_classes(classes)
    contract.check_counts(head_filters=head_filters, size_divisor=size_divisor)
    contract.check_fraction("dropout", dropout)
    momentum = contract.check_fraction("batch_norm_momentum", batch_norm_momentum)
    row = contract.variant(VARIANTS, variant, sizes)
    norm: dict[str, Any] = {"momentum": momentum, "epsilon": row.norm_epsilon}

    image = contract.image_input(contract.check_image_size(image_size))
    seen, size = padded(image, size_divisor)
    pyramid = backbones.build(backbone, size, output_stride, momentum, backbone_sizes)(seen)
    x = pyramid["P5"]
    for index in range(1, row.head_convolutions + 1):
        x = conv_norm_relu(x, head_filters, 3, dilation=row.head_rate, **norm, name=f"head_{index}")
    if row.concat_input:
        x = layers.Concatenate(name="head_concat")([pyramid["P5"], x])  # (B, h, w, C + head_filters)
        x = conv_norm_relu(x, head_filters, 3, **norm, name="head_join")
    x = layers.Dropout(dropout, name="head_dropout")(x)  # (B, H/output_stride, W/output_stride, head_filters)
    outputs = heads.with_auxiliary(
        x, pyramid, seen, classes, row, filters=auxiliary_filters if auxiliary else None, rate=row.auxiliary_rate,
        dropout=dropout, momentum=momentum,
    )  # fmt: skip
    return keras.Model(image, cut(outputs, image, size_divisor), name="fcn")
