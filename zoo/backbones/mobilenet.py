"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381, table 2) as a pyramid.

Layers and their names are those of keras.applications, whose weights load by name. Deviations:

- The last 1x1 convolution (1280 channels), which serves the classifier, is left out.
- P2, P3 and P4 are the expanded features just before the stride that ends their level (144, 192 and 576
  channels), as DeepLab's reference code takes its low-level features; P5 is the last block's 320 channels.
- The stride of a layer can be given up for dilation: that layer keeps the rate so far, and the ones after
  it double it (DeepLab, arXiv:1606.00915, section 3.1).
- keras.applications' momentum of 0.999 keeps the moving statistics behind the weights on a small data set,
  so `momentum` is an argument.
"""

from typing import Any

import keras
from keras import layers

from zoo import contract
from zoo.backbones.dilation import Dilation
from zoo.layers import batch_norm

# One row a block, from table 2 of the paper: expansion, output channels, stride.
V2_BLOCKS = (
    (1, 16, 1),
    (6, 24, 2),
    (6, 24, 1),
    (6, 32, 2),
    (6, 32, 1),
    (6, 32, 1),
    (6, 64, 2),
    (6, 64, 1),
    (6, 64, 1),
    (6, 64, 1),
    (6, 96, 1),
    (6, 96, 1),
    (6, 96, 1),
    (6, 160, 2),
    (6, 160, 1),
    (6, 160, 1),
    (6, 320, 1),
)
V2_LEVELS = {"P2": "block_3_expand_relu", "P3": "block_6_expand_relu", "P4": "block_13_expand_relu"}


def mobilenet_v2(image_size: contract.ImageSize, output_stride: int, momentum: float) -> keras.Model:
    """MobileNetV2 of width 1.0: RGB 0..255 -> P2 (144), P3 (192), P4 (576), P5 (320 channels)."""
    image = contract.image_input(image_size)
    dilation = Dilation(output_stride)
    x = image / 127.5 - 1.0
    x = layers.Conv2D(32, 3, strides=dilation.stride(2), padding="same", use_bias=False, name="Conv1")(x)
    x = batch_norm(x, momentum=momentum, name="bn_Conv1")
    x = layers.ReLU(6.0, name="Conv1_relu")(x)
    for index, (expansion, filters, stride) in enumerate(V2_BLOCKS):
        prefix = f"block_{index}_" if index else "expanded_conv_"
        x = _v2_block(x, expansion, filters, stride, dilation, momentum, prefix)
    named = keras.Model(image, x)
    pyramid = {level: named.get_layer(name).output for level, name in V2_LEVELS.items()}
    return keras.Model(image, {**pyramid, "P5": x}, name=contract.BACKBONE)


def _v2_block(
    x: Any, expansion: int, filters: int, stride: int, dilation: Dilation, momentum: float, prefix: str
) -> Any:
    """Expand, filter by depth, project; a shortcut where shapes agree. (B, H, W, C) -> (B, H, W, filters)."""
    shortcut = x
    channels = x.shape[-1]
    if expansion > 1:
        x = layers.Conv2D(channels * expansion, 1, use_bias=False, name=f"{prefix}expand")(x)
        x = batch_norm(x, momentum=momentum, name=f"{prefix}expand_BN")
        x = layers.ReLU(6.0, name=f"{prefix}expand_relu")(x)
    rate = dilation.rate
    # "same" is what keras.applications pads by hand before a stride: (0, 1) at even and (1, 1) at odd sizes.
    x = layers.DepthwiseConv2D(
        3,
        strides=dilation.stride(stride),
        dilation_rate=rate,
        padding="same",
        use_bias=False,
        name=f"{prefix}depthwise",
    )(x)
    x = batch_norm(x, momentum=momentum, name=f"{prefix}depthwise_BN")
    x = layers.ReLU(6.0, name=f"{prefix}depthwise_relu")(x)
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{prefix}project")(x)
    x = batch_norm(x, momentum=momentum, name=f"{prefix}project_BN")
    if stride == 1 and channels == filters:
        x = layers.Add(name=f"{prefix}add")([shortcut, x])
    return x
