"""DeepLabV3+ (Chen et al. 2018, arXiv:1802.02611): atrous spatial pyramid pooling and a small decoder.

Deviations from the paper:

- Four atrous rates by default (6, 12, 18, 24); the paper has three at output stride 16 (6, 12, 18) and
  doubles them at output stride 8. Give `rates` to have either.
- Plain convolutions by default, as in the paper's ResNet-101 experiments (tables 1 to 4). `aspp_separable`
  and `decoder_separable` give the paper's Xception configuration (table 5), which is the reference code's
  default and right for small backbones.
- The low-level features are the backbone's P2, at stride 4.
- Resizing is bilinear with half-pixel centres; the reference code aligns corners. `align_corners` does that from
  gathers and a weighted mean, as Keras has no such resizing.
- `multiple=16` fills a picture up with grey below and on the right to multiples of 16 and cuts the logits, so that
  maps lie at every size as at sizes that 16 divides. The reference code has sides of 16 n + 1 to the same end.

segmentation_models_pytorch's network, whose weights convert, has options of its own: no norm and ReLU within
separable convolutions (`norm_between`), one more convolution after ASPP (`aspp_output`), one in the decoder
(`decoder_convolutions`), corners aligned, and PyTorch's `norm_epsilon`. mmsegmentation's, whose weights convert as
well, has separable convolutions on ResNets too, a 3x3 projection (`projection_kernel`) and an `auxiliary` head.
KerasHub's has one 1x1 convolution in its decoder (`decoder_kernel`) and ASPP at stride 32.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
from keras import layers

from zoo import backbones, contract
from zoo.deeplabv3 import aspp
from zoo.fcn import auxiliary_head
from zoo.layers import (
    NORM_EPSILON,
    ResizeCornersLike,
    ResizeLike,
    conv_norm_relu,
    cut,
    padded,
    separable_conv_norm_relu,
)


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
    projection_kernel: int = 1,
    aspp_output: bool = False,
    low_level_filters: int = 48,
    decoder_filters: int = 256,
    decoder_convolutions: int = 2,
    decoder_kernel: int = 3,
    decoder_separable: bool = False,
    norm_between: bool = True,
    norm_epsilon: float = NORM_EPSILON,
    align_corners: bool = False,
    multiple: int = 1,
    dropout: float = 0.1,
    auxiliary: bool = False,
    auxiliary_filters: int = 256,
    batch_norm_momentum: float = 0.99,
) -> keras.Model:
    """DeepLabV3+ on any backbone: image (B, H, W, 3), RGB 0..255 -> {"logits": (B, H, W, classes) float32}.

    image_size is (H, W), or None for any size; `backbone_sizes` are the `sizes` of backbones.build;
    `output_stride` (8, 16 or 32) is the backbone's stride where ASPP reads it; `rates` are ASPP's atrous rates,
    one branch each (none at all: the 1x1 and the picture's mean alone, as the reference code has it on MobileNetV2);
    `projection_kernel` is the side of the convolution that joins them; `dropout` follows ASPP; `aspp_output` is one
    more convolution after it, of the decoder's kind; `multiple` see above; `auxiliary` adds "aux_logits", as large as
    the logits, for the loss alone, from the backbone's P4.
    Raises ValueError on a value that makes no sense.
    """
    contract.check_classes(classes)
    contract.check_counts(
        aspp_filters=aspp_filters, low_level_filters=low_level_filters, decoder_filters=decoder_filters,
        decoder_convolutions=decoder_convolutions, decoder_kernel=decoder_kernel,
        projection_kernel=projection_kernel, multiple=multiple,
    )  # fmt: skip
    contract.check_fraction("dropout", dropout)
    momentum = contract.check_fraction("batch_norm_momentum", batch_norm_momentum)
    epsilon = contract.check_fraction("norm_epsilon", norm_epsilon)
    rates = contract.check_rates(rates)
    plain = partial(conv_norm_relu, momentum=momentum, epsilon=epsilon)
    separable = partial(
        separable_conv_norm_relu, momentum=momentum, epsilon=epsilon, norm_between=norm_between
    )
    resize = ResizeCornersLike if align_corners else ResizeLike
    atrous = separable if aspp_separable else plain
    convolution = separable if decoder_separable else plain

    image = contract.image_input(contract.check_image_size(image_size))
    seen, size = padded(image, multiple)
    pyramid = backbones.build(backbone, size, output_stride, momentum, backbone_sizes)(seen)
    x = aspp(
        pyramid["P5"],
        rates,
        aspp_filters,
        atrous=atrous,
        projection_kernel=projection_kernel,
        momentum=momentum,
        epsilon=epsilon,
    )
    x = layers.Dropout(dropout, name="aspp_dropout")(x)
    if aspp_output:
        x = convolution(x, aspp_filters, 3, name="aspp_output")
    low_level = plain(pyramid["P2"], low_level_filters, name="decoder_low_level")
    x = resize(name="decoder_upsample")([x, low_level])
    x = layers.Concatenate(name="decoder_concat")([x, low_level])
    for index in range(decoder_convolutions):
        x = convolution(x, decoder_filters, decoder_kernel, name=f"decoder_{index + 1}")
    x = layers.Conv2D(classes, 1, name="classifier")(x)  # (B, H/4, W/4, classes)
    # In float32 under any dtype policy: what follows are softmax, loss and argmax.
    outputs = {contract.LOGITS: resize(dtype="float32", name=contract.LOGITS)([x, seen])}
    if auxiliary:
        outputs[contract.AUX_LOGITS] = auxiliary_head(
            pyramid["P4"],
            seen,
            classes,
            auxiliary_filters,
            dropout=dropout,
            momentum=momentum,
            epsilon=epsilon,
            resize=resize,
        )
    return keras.Model(image, cut(outputs, image, multiple), name="deeplabv3plus")
