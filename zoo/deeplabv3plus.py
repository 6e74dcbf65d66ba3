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

segmentation_models_pytorch's network, whose weights convert, has options of its own: no norm and ReLU within
separable convolutions (`norm_between`), one more convolution after ASPP (`aspp_output`), one in the decoder
(`decoder_convolutions`), corners aligned, and PyTorch's `norm_epsilon`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
from keras import layers

from zoo import backbones, contract
from zoo.layers import (
    NORM_EPSILON,
    ResizeCornersLike,
    ResizeLike,
    conv_norm_relu,
    image_pooling,
    separable_conv_norm_relu,
)

# What knows its norm already: (x, filters, kernel, dilation=, name=) -> x
Convolution = Callable[..., Any]


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
    aspp_output: bool = False,
    low_level_filters: int = 48,
    decoder_filters: int = 256,
    decoder_convolutions: int = 2,
    decoder_separable: bool = False,
    norm_between: bool = True,
    norm_epsilon: float = NORM_EPSILON,
    align_corners: bool = False,
    dropout: float = 0.1,
    batch_norm_momentum: float = 0.99,
) -> keras.Model:
    """DeepLabV3+ on any backbone: image (B, H, W, 3), RGB 0..255 -> {"logits": (B, H, W, classes) float32}.

    image_size is (H, W), or None for any size; `backbone_sizes` are the `sizes` of backbones.build;
    `output_stride` (8, 16 or 32) is the backbone's stride where ASPP reads it; `rates` are ASPP's atrous rates,
    one branch each; `dropout` follows ASPP; `aspp_output` is one more convolution after it, of the decoder's kind.
    Raises ValueError on a value that makes no sense.
    """
    contract.check_count("classes", classes, at_least=2)
    contract.check_count("aspp_filters", aspp_filters)
    contract.check_count("low_level_filters", low_level_filters)
    contract.check_count("decoder_filters", decoder_filters)
    contract.check_count("decoder_convolutions", decoder_convolutions)
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

    features = backbones.build(backbone, image_size, output_stride, momentum, backbone_sizes)
    image = contract.image_input(contract.check_image_size(image_size))
    pyramid = features(image)
    x = _aspp(pyramid["P5"], rates, aspp_filters, plain, atrous, momentum, epsilon)
    x = layers.Dropout(dropout, name="aspp_dropout")(x)
    if aspp_output:
        x = convolution(x, aspp_filters, 3, name="aspp_output")
    low_level = plain(pyramid["P2"], low_level_filters, name="decoder_low_level")
    x = resize(name="decoder_upsample")([x, low_level])
    x = layers.Concatenate(name="decoder_concat")([x, low_level])
    for index in range(decoder_convolutions):
        x = convolution(x, decoder_filters, 3, name=f"decoder_{index + 1}")
    x = layers.Conv2D(classes, 1, name="classifier")(x)  # (B, H/4, W/4, classes)
    # In float32 under any dtype policy: what follows are softmax, loss and argmax.
    logits = resize(dtype="float32", name=contract.LOGITS)([x, image])
    return keras.Model(image, {contract.LOGITS: logits}, name="deeplabv3plus")


def _aspp(
    x: Any,
    rates: tuple[int, ...],
    filters: int,
    plain: Convolution,
    atrous: Convolution,
    momentum: float,
    epsilon: float,
) -> Any:
    """Atrous spatial pyramid pooling (figure 2, encoder): (B, h, w, C) -> (B, h, w, filters)."""
    branches = [plain(x, filters, name="aspp_1x1")]
    for rate in rates:
        branches.append(atrous(x, filters, 3, dilation=rate, name=f"aspp_rate{rate}"))
    branches.append(image_pooling(x, filters, momentum=momentum, epsilon=epsilon, name="aspp_pooling"))
    x = layers.Concatenate(name="aspp_concat")(branches)  # (B, h, w, filters * (len(rates) + 2))
    return plain(x, filters, name="aspp_projection")
