"""FCN (Long et al. 2015, arXiv:1411.4038) in the form that lives on: a dilated ResNet and a convolutional head.

Deviations from the paper, which are those of torchvision (`fcn_resnet*`) and mmsegmentation (`fcn_r*-d8`):

- The backbone is a dilated ResNet of output stride 8 and not a VGG of stride 32, so there are no skips from finer
  levels (FCN-16s, FCN-8s, section 4.2): the scores are resized to the picture at once.
- The head is one 3x3 convolution with batch norm, ReLU and dropout before the 1x1 classifier, where the paper has
  VGG's two fully connected layers as convolutions. `head_convolutions=2` and `concat_input=True` give
  mmsegmentation's head, and `head_rate=6` that of its D6 networks.
- Resizing is bilinear with half-pixel centres, or with aligned corners (`align_corners`); the paper learns a
  transposed convolution.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

from zoo import backbones, contract
from zoo.layers import NORM_EPSILON, ResizeCornersLike, ResizeLike, conv_norm_relu, cut, padded


def fcn(
    *,
    classes: int = 19,
    image_size: contract.ImageSize = None,
    backbone: str = "resnet101",
    backbone_sizes: Mapping[str, Any] | None = None,
    output_stride: int = 8,
    head_filters: int = 512,
    head_convolutions: int = 1,
    head_rate: int = 1,
    concat_input: bool = False,
    dropout: float = 0.1,
    auxiliary: bool = False,
    auxiliary_filters: int = 256,
    auxiliary_rate: int = 1,
    batch_norm_momentum: float = 0.99,
    norm_epsilon: float = NORM_EPSILON,
    align_corners: bool = False,
    multiple: int = 1,
) -> keras.Model:
    """FCN on any backbone: image (B, H, W, 3), RGB 0..255 -> {"logits": (B, H, W, classes) float32}.

    image_size is (H, W), or None for any size; `backbone_sizes` are the `sizes` of backbones.build;
    `output_stride` (8, 16 or 32) is the backbone's stride where the head reads it; `head_rate` is the atrous rate
    of the `head_convolutions`; `concat_input` joins what they make to what they read, with one convolution more;
    `auxiliary` adds "aux_logits", as large as the logits, for the loss alone, from a head of one convolution on the
    backbone's P4; `multiple` is what the sides are filled up to, with grey, before the logits are cut again.
    Raises ValueError on a value that makes no sense.
    """
    contract.check_classes(classes)
    contract.check_counts(
        head_filters=head_filters, head_convolutions=head_convolutions, head_rate=head_rate, multiple=multiple
    )
    contract.check_fraction("dropout", dropout)
    momentum = contract.check_fraction("batch_norm_momentum", batch_norm_momentum)
    epsilon = contract.check_fraction("norm_epsilon", norm_epsilon)
    image_size = contract.check_image_size(image_size)

    resize = ResizeCornersLike if align_corners else ResizeLike
    image = contract.image_input(image_size)
    seen, size = padded(image, multiple)
    pyramid = backbones.build(backbone, size, output_stride, momentum, backbone_sizes)(seen)
    x = pyramid["P5"]
    for index in range(head_convolutions):
        x = conv_norm_relu(
            x,
            head_filters,
            3,
            dilation=head_rate,
            momentum=momentum,
            epsilon=epsilon,
            name=f"head_{index + 1}",
        )
    if concat_input:
        x = layers.Concatenate(name="head_concat")([pyramid["P5"], x])  # (B, h, w, C + head_filters)
        x = conv_norm_relu(x, head_filters, 3, momentum=momentum, epsilon=epsilon, name="head_join")
    x = layers.Dropout(dropout, name="head_dropout")(x)
    x = layers.Conv2D(classes, 1, name="classifier")(x)  # (B, H/output_stride, W/output_stride, classes)
    # In float32 under any dtype policy: what follows are softmax, loss and argmax.
    outputs = {contract.LOGITS: resize(dtype="float32", name=contract.LOGITS)([x, seen])}
    if auxiliary:
        outputs[contract.AUX_LOGITS] = auxiliary_head(
            pyramid["P4"],
            seen,
            classes,
            auxiliary_filters,
            rate=auxiliary_rate,
            dropout=dropout,
            momentum=momentum,
            epsilon=epsilon,
            resize=resize,
        )
    return keras.Model(image, cut(outputs, image, multiple), name="fcn")


def auxiliary_head(
    x: Any,
    image: Any,
    classes: int,
    filters: int,
    *,
    rate: int = 1,
    dropout: float,
    momentum: float,
    epsilon: float,
    resize: type[ResizeLike] = ResizeLike,
) -> Any:
    """Deep supervision (PSPNet, arXiv:1612.01105, section 3.3): (B, h, w, C) -> "aux_logits" at the image's size.

    Its loss is usually added with a weight of 0.4 to 0.5.
    """
    contract.check_counts(auxiliary_filters=filters, auxiliary_rate=rate)
    x = conv_norm_relu(x, filters, 3, dilation=rate, momentum=momentum, epsilon=epsilon, name="auxiliary")
    x = layers.Dropout(dropout, name="auxiliary_dropout")(x)
    x = layers.Conv2D(classes, 1, name="auxiliary_classifier")(x)
    return resize(dtype="float32", name=contract.AUX_LOGITS)([x, image])
