"""ResNet with bottleneck blocks (He et al. 2016, arXiv:1512.03385, table 1) as a pyramid.

Layers and their names are those of keras.applications, whose weights load by name: a bias in every
convolution, epsilon 1.001e-5, the stride of a block on its first 1x1 convolution, BGR input less the ImageNet
means. A row of another layout (torchvision's, ResNeXt) differs in the fields of `Layout`. Deviations:

- The stride of a stack can be given up for dilation (DeepLab, arXiv:1606.00915, section 3.1).
- `momentum` of the batch norms is an argument.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from zoo import contract
from zoo.backbones.dilation import Dilation
from zoo.layers import batch_norm

STACK_FILTERS = (64, 128, 256, 512)  # of conv2 to conv5; a block puts out four times as many
CAFFE_MEANS = (103.939, 116.779, 123.68)  # of blue, green, red over ImageNet


def caffe_normalisation(image: Any) -> Any:
    """RGB 0..255 -> BGR less the means of ImageNet, not scaled."""
    return ops.flip(image, axis=-1) - ops.array(CAFFE_MEANS)


@dataclass(frozen=True)
class Layout:
    """A ResNet: `blocks` in each of the four stacks, and how keras.applications and others differ.

    `stride_on_3x3` puts a block's stride on its 3x3 convolution (torchvision) and not on the first 1x1;
    `groups` and `group_width` make it a ResNeXt (arXiv:1611.05431): the 3x3 has groups * group_width channels
    in conv2; `normalise` is applied to the image first.
    """

    blocks: tuple[int, int, int, int]
    bias: bool = True
    epsilon: float = 1.001e-5
    stride_on_3x3: bool = False
    groups: int = 1
    group_width: int = 64
    normalise: Callable[[Any], Any] = caffe_normalisation


LAYOUTS = {
    "resnet50": Layout(blocks=(3, 4, 6, 3)),
    "resnet101": Layout(blocks=(3, 4, 23, 3)),
}


def resnet(
    layout: Layout, image_size: contract.ImageSize, output_stride: int, momentum: float
) -> keras.Model:
    """A ResNet: RGB 0..255 -> P2 (256), P3 (512), P4 (1024), P5 (2048 channels), the ends of conv2 to conv5."""
    image = contract.image_input(image_size)
    dilation = Dilation(output_stride)
    x = layout.normalise(image)
    x = _stem(x, layout, dilation, momentum)
    pyramid = {}
    for stack, (level, blocks) in enumerate(zip(contract.LEVELS, layout.blocks, strict=True)):
        for block in range(blocks):
            stride = 2 if stack and not block else 1
            prefix = f"conv{stack + 2}_block{block + 1}_"
            x = _block(x, STACK_FILTERS[stack], stride, not block, layout, dilation, momentum, prefix)
        pyramid[level] = x
    return keras.Model(image, pyramid, name=contract.BACKBONE)


def _stem(x: Any, layout: Layout, dilation: Dilation, momentum: float) -> Any:
    """7x7 convolution and max-pooling, each of stride 2: (B, H, W, 3) -> (B, H/4, W/4, 64)."""
    # Padded by hand on all sides, as the weights were trained; "same" pads even sizes more at the far side.
    x = layers.ZeroPadding2D(3, name="conv1_pad")(x)
    x = layers.Conv2D(64, 7, strides=dilation.stride(2), use_bias=layout.bias, name="conv1_conv")(x)
    x = batch_norm(x, momentum=momentum, epsilon=layout.epsilon, name="conv1_bn")
    x = layers.ReLU(name="conv1_relu")(x)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    return layers.MaxPooling2D(3, strides=dilation.stride(2), name="pool1_pool")(x)


def _block(
    x: Any,
    filters: int,
    stride: int,
    project: bool,
    layout: Layout,
    dilation: Dilation,
    momentum: float,
    prefix: str,
) -> Any:
    """1x1, 3x3, 1x1 with a shortcut around: (B, H, W, C) -> (B, H/stride, W/stride, 4 * filters)."""

    def norm(x: Any, name: str) -> Any:
        return batch_norm(x, momentum=momentum, epsilon=layout.epsilon, name=f"{prefix}{name}_bn")

    def pointwise(x: Any, channels: int, stride: int, name: str) -> Any:
        conv = layers.Conv2D(channels, 1, strides=stride, use_bias=layout.bias, name=f"{prefix}{name}_conv")
        return norm(conv(x), name)

    before = dilation.rate
    stride = dilation.stride(stride)
    # The rate that counts is the one at the layer that has the stride, which keeps it, or after that layer.
    rate = before if layout.stride_on_3x3 else dilation.rate
    width = filters * layout.groups * layout.group_width // 64

    shortcut = pointwise(x, 4 * filters, stride, "0") if project else x
    x = pointwise(x, width, 1 if layout.stride_on_3x3 else stride, "1")
    x = layers.ReLU(name=f"{prefix}1_relu")(x)
    stride_3x3 = stride if layout.stride_on_3x3 else 1
    if stride_3x3 > 1:
        x = layers.ZeroPadding2D(1, name=f"{prefix}2_pad")(x)
    x = layers.Conv2D(
        width,
        3,
        strides=stride_3x3,
        dilation_rate=rate if stride_3x3 == 1 else 1,
        padding="valid" if stride_3x3 > 1 else "same",
        groups=layout.groups,
        use_bias=layout.bias,
        name=f"{prefix}2_conv",
    )(x)
    x = layers.ReLU(name=f"{prefix}2_relu")(norm(x, "2"))
    x = pointwise(x, 4 * filters, 1, "3")
    x = layers.Add(name=f"{prefix}add")([shortcut, x])
    return layers.ReLU(name=f"{prefix}out")(x)
