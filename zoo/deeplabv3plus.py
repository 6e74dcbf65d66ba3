"""DeepLabV3+ (Chen et al. 2018, arXiv:1802.02611): atrous spatial pyramid pooling and a small decoder.

Deviations from the paper:

- Four atrous rates by default (6, 12, 18, 24); the paper has three at output stride 16 (6, 12, 18) and
  doubles them at output stride 8. Give `rates` to have either.
- Plain convolutions by default, as in the paper's ResNet-101 experiments (tables 1 to 4). `aspp_separable`
  and `decoder_separable` give the paper's Xception configuration (table 5), which is the reference code's
  default and right for small backbones.
- The low-level features are the backbone's P2, at stride 4.
- Resizing is bilinear with half-pixel centres; the reference code aligns corners, which TFLite cannot do.
"""

from typing import Any

import keras
from keras import layers

from zoo import backbones, contract
from zoo.layers import ResizeLike, conv_norm_relu, image_pooling, separable_conv_norm_relu


def deeplabv3plus(
    *,
    classes: int = 19,
    image_size: contract.ImageSize = None,
    backbone: str = "resnet101",
    output_stride: int = 16,
    rates: tuple[int, ...] = (6, 12, 18, 24),
    aspp_filters: int = 256,
    aspp_separable: bool = False,
    low_level_filters: int = 48,
    decoder_filters: int = 256,
    decoder_separable: bool = False,
    dropout: float = 0.1,
    batch_norm_momentum: float = 0.99,
) -> keras.Model:
    """DeepLabV3+ on any backbone: image (B, H, W, 3), RGB 0..255 -> {"logits": (B, H, W, classes) float32}.

    image_size is (H, W), or None for any size; `output_stride` (8, 16 or 32) is the backbone's stride where
    ASPP reads it; `rates` are ASPP's atrous rates, one branch each; `dropout` follows ASPP. Raises
    ValueError on a value that makes no sense.
    """
    contract.check_count("classes", classes, at_least=2)
    contract.check_count("aspp_filters", aspp_filters)
    contract.check_count("low_level_filters", low_level_filters)
    contract.check_count("decoder_filters", decoder_filters)
    contract.check_fraction("dropout", dropout)
    momentum = contract.check_fraction("batch_norm_momentum", batch_norm_momentum)
    rates = contract.check_rates(rates)

    features = backbones.build(backbone, image_size, output_stride, momentum)
    image = contract.image_input(contract.check_image_size(image_size))
    pyramid = features(image)
    x = _aspp(pyramid["P5"], rates, aspp_filters, aspp_separable, momentum)
    x = layers.Dropout(dropout, name="aspp_dropout")(x)
    x = _decoder(x, pyramid["P2"], low_level_filters, decoder_filters, decoder_separable, momentum)
    x = layers.Conv2D(classes, 1, name="classifier")(x)  # (B, H/4, W/4, classes)
    # In float32 under any dtype policy: what follows are softmax, loss and argmax.
    logits = ResizeLike(dtype="float32", name=contract.LOGITS)([x, image])
    return keras.Model(image, {contract.LOGITS: logits}, name="deeplabv3plus")


def _aspp(x: Any, rates: tuple[int, ...], filters: int, separable: bool, momentum: float) -> Any:
    """Atrous spatial pyramid pooling (figure 2, encoder): (B, h, w, C) -> (B, h, w, filters)."""
    atrous = separable_conv_norm_relu if separable else conv_norm_relu
    branches = [conv_norm_relu(x, filters, momentum=momentum, name="aspp_1x1")]
    for rate in rates:
        branches.append(atrous(x, filters, 3, dilation=rate, momentum=momentum, name=f"aspp_rate{rate}"))
    branches.append(image_pooling(x, filters, momentum=momentum, name="aspp_pooling"))
    x = layers.Concatenate(name="aspp_concat")(branches)  # (B, h, w, filters * (len(rates) + 2))
    return conv_norm_relu(x, filters, momentum=momentum, name="aspp_projection")


def _decoder(
    x: Any, low_level: Any, low_level_filters: int, filters: int, separable: bool, momentum: float
) -> Any:
    """The decoder (figure 2; tables 1, 2): ASPP (B, h, w, C), P2 (B, h2, w2, D) -> (B, h2, w2, filters)."""
    convolution = separable_conv_norm_relu if separable else conv_norm_relu
    low_level = conv_norm_relu(low_level, low_level_filters, momentum=momentum, name="decoder_low_level")
    x = ResizeLike(name="decoder_upsample")([x, low_level])
    x = layers.Concatenate(name="decoder_concat")([x, low_level])
    x = convolution(x, filters, 3, momentum=momentum, name="decoder_1")
    return convolution(x, filters, 3, momentum=momentum, name="decoder_2")
