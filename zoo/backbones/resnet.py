"""ResNet (He et al. 2016, arXiv:1512.03385, table 1) and its relatives as pyramids: one row of LAYOUTS each.

- "resnet50" and "resnet101" are those of keras.applications, whose weights load by layer name: a bias in every
  convolution, epsilon 1.001e-5, the stride of a block on its first 1x1 convolution, BGR less ImageNet's means.
- "_v1b" are torchvision's: no bias, epsilon 1e-5, the stride on the 3x3, RGB normalised by ImageNet's mean and
  deviation; the ResNeXts (Xie et al. 2017, arXiv:1611.05431, table 1) are the same with a grouped 3x3.
- "_v1c" are mmsegmentation's: as v1b with three 3x3 convolutions in place of the 7x7 of the stem (He et al. 2019,
  arXiv:1812.01187, section 4.1, ResNet-C).

Deviations:

- The stride of a stack can be given up for dilation (DeepLab, arXiv:1606.00915, section 3.1).
- `momentum` of the batch norms is an argument.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import layers, ops

from zoo import contract
from zoo.backbones.dilation import Dilation
from zoo.layers import batch_norm, imagenet_normalisation, normalised

STACK_FILTERS = (64, 128, 256, 512)  # of conv2 to conv5; a bottleneck block puts out four times as many
CAFFE_MEANS = (103.939, 116.779, 123.68)  # of blue, green, red over ImageNet


def caffe_normalisation(image: Any) -> Any:
    """RGB 0..255 -> BGR less the means of ImageNet, not scaled."""
    return ops.flip(image, axis=-1) - ops.array(CAFFE_MEANS)


@dataclass(frozen=True)
class Layout:
    """A ResNet: `blocks` in each of the four stacks, and how keras.applications and others differ.

    `basic` makes a block of two 3x3 convolutions, the first with the stride, and not of a bottleneck;
    `deep_stem` has three 3x3 convolutions in place of the 7x7. `stride_on_3x3` puts a bottleneck's stride on its
    3x3 convolution (torchvision) and not on the first 1x1; `groups` and `group_width` make it a ResNeXt: the 3x3
    has groups * group_width channels in conv2. `normalise` is applied to the image first.

    Where a stack gives up its stride for dilation, `contracted` leaves the layer that had the stride at the rate
    so far, which gives the values of the strided network at its positions (DeepLab, torchvision,
    mmsegmentation's contract_dilation); without, that block has the new rate too (segmentation_models_pytorch).
    `second_dilated` dilates the second 3x3 of a basic block as well, which mmsegmentation, the only one to
    publish such networks with `contracted`, does not. `last_rates` are those of the 3x3 convolutions of conv5's
    blocks, whatever the stride, if not None (Multi-Grid of DeepLabV3, arXiv:1706.05587, section 3.2).

    `average_shortcut` averages 2x2 pixels before a bottleneck's shortcut, which then needs no stride (ResNet-D of
    arXiv:1812.01187). Where `scale` is given, image * scale + offset, by channel, stands in place of `normalise`.
    """

    blocks: tuple[int, int, int, int]
    basic: bool = False
    deep_stem: bool = False
    bias: bool = True
    epsilon: float = 1.001e-5
    stride_on_3x3: bool = False
    groups: int = 1
    group_width: int = 64
    normalise: Callable[[Any], Any] = caffe_normalisation
    contracted: bool = True
    second_dilated: bool = True
    last_rates: tuple[int, ...] | None = None
    average_shortcut: bool = False
    scale: tuple[float, float, float] | None = None
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)


_v1b = partial(Layout, bias=False, epsilon=1e-5, stride_on_3x3=True, normalise=imagenet_normalisation)
_v1c = partial(_v1b, deep_stem=True)
_basic: dict[str, Any] = {"basic": True, "second_dilated": False}

LAYOUTS = {
    "resnet50": Layout(blocks=(3, 4, 6, 3)),
    "resnet101": Layout(blocks=(3, 4, 23, 3)),
    "resnet18_v1b": _v1b(blocks=(2, 2, 2, 2), **_basic),
    "resnet34_v1b": _v1b(blocks=(3, 4, 6, 3), **_basic),
    "resnet50_v1b": _v1b(blocks=(3, 4, 6, 3)),
    "resnet101_v1b": _v1b(blocks=(3, 4, 23, 3)),
    "resnext50_32x4d": _v1b(blocks=(3, 4, 6, 3), groups=32, group_width=4),
    "resnext101_32x8d": _v1b(blocks=(3, 4, 23, 3), groups=32, group_width=8),
    "resnet18_v1c": _v1c(blocks=(2, 2, 2, 2), **_basic),
    "resnet50_v1c": _v1c(blocks=(3, 4, 6, 3)),
    "resnet101_v1c": _v1c(blocks=(3, 4, 23, 3)),
}


def resnet(
    layout: Layout, image_size: contract.ImageSize, output_stride: int, momentum: float
) -> keras.Model:
    """A ResNet: RGB 0..255 -> P1 (64, before the max-pooling), P2 to P5, the ends of conv2 to conv5.

    P2 to P5 have 256, 512, 1024 and 2048 channels, a quarter of that with basic blocks.
    """
    image = contract.image_input(image_size)
    dilation = Dilation(output_stride)
    seen = normalised(image, layout.normalise, layout.scale, layout.offset)
    x = _stem(seen, layout, dilation, momentum)
    pyramid = {"P1": x}
    # Padded by hand on all sides, as the weights were trained; "same" pads even sizes more at the far side. After
    # a ReLU, zeros are no larger than what they stand beside.
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=dilation.stride(2), name="pool1_pool")(x)
    if layout.last_rates is not None and len(layout.last_rates) != layout.blocks[-1]:
        raise ValueError(
            f"last_rates must be {layout.blocks[-1]} rates, one a block, not {layout.last_rates!r}"
        )
    block_of = _basic_block if layout.basic else _bottleneck
    for stack, (level, blocks) in enumerate(zip(contract.LEVELS, layout.blocks, strict=True)):
        for block in range(blocks):
            stride = 2 if stack and not block else 1
            rate = layout.last_rates[block] if layout.last_rates and stack == 3 else None
            prefix = f"conv{stack + 2}_block{block + 1}_"
            x = block_of(x, STACK_FILTERS[stack], stride, rate, not block, layout, dilation, momentum, prefix)
        pyramid[level] = x
    return keras.Model(image, pyramid, name=contract.BACKBONE)


def _stem(x: Any, layout: Layout, dilation: Dilation, momentum: float) -> Any:
    """One 7x7 convolution, or three of 3x3, the first of stride 2: (B, H, W, 3) -> (B, H/2, W/2, 64)."""
    # prefix, channels, kernel, stride
    rows = [("conv1_", 64, 7, 2)]
    if layout.deep_stem:
        rows = [("conv1_1_", 32, 3, 2), ("conv1_2_", 32, 3, 1), ("conv1_3_", 64, 3, 1)]
    for prefix, channels, kernel, stride in rows:
        x = _conv_norm(x, channels, kernel, dilation.stride(stride), 1, layout, momentum, prefix)
        x = layers.ReLU(name=f"{prefix}relu")(x)
    return x


def _basic_block(
    x: Any,
    filters: int,
    stride: int,
    rate: int | None,
    first: bool,
    layout: Layout,
    dilation: Dilation,
    momentum: float,
    prefix: str,
) -> Any:
    """3x3, 3x3 with a shortcut around: (B, H, W, C) -> (B, H/stride, W/stride, filters)."""
    before = dilation.rate
    stride = dilation.stride(stride)
    rate = rate or (before if layout.contracted else dilation.rate)
    second = dilation.rate if layout.second_dilated else 1

    shortcut = x
    if first and x.shape[-1] != filters:
        shortcut = _conv_norm(x, filters, 1, stride, 1, layout, momentum, f"{prefix}0_")
    x = _conv_norm(x, filters, 3, stride, rate, layout, momentum, f"{prefix}1_")
    x = layers.ReLU(name=f"{prefix}1_relu")(x)
    x = _conv_norm(x, filters, 3, 1, second, layout, momentum, f"{prefix}2_")
    x = layers.Add(name=f"{prefix}add")([shortcut, x])
    return layers.ReLU(name=f"{prefix}out")(x)


def _bottleneck(
    x: Any,
    filters: int,
    stride: int,
    rate: int | None,
    first: bool,
    layout: Layout,
    dilation: Dilation,
    momentum: float,
    prefix: str,
) -> Any:
    """1x1, 3x3, 1x1 with a shortcut around: (B, H, W, C) -> (B, H/stride, W/stride, 4 * filters)."""
    before = dilation.rate
    stride = dilation.stride(stride)
    # The layer that has the stride keeps the rate so far: with the stride on the first 1x1, the 3x3 is after it.
    rate = rate or (before if layout.stride_on_3x3 and layout.contracted else dilation.rate)
    width = filters * layout.groups * layout.group_width // 64
    strides = (1, stride) if layout.stride_on_3x3 else (stride, 1)  # of the first 1x1 and of the 3x3

    shortcut = x
    if first:
        step = stride
        if layout.average_shortcut and stride > 1:
            # What lies outside the image does not count.
            shortcut = layers.AveragePooling2D(2, stride, padding="same", name=f"{prefix}0_pool")(x)
            step = 1
        shortcut = _conv_norm(shortcut, 4 * filters, 1, step, 1, layout, momentum, f"{prefix}0_")
    x = _conv_norm(x, width, 1, strides[0], 1, layout, momentum, f"{prefix}1_")
    x = layers.ReLU(name=f"{prefix}1_relu")(x)
    x = _conv_norm(x, width, 3, strides[1], rate, layout, momentum, f"{prefix}2_", groups=layout.groups)
    x = layers.ReLU(name=f"{prefix}2_relu")(x)
    x = _conv_norm(x, 4 * filters, 1, 1, 1, layout, momentum, f"{prefix}3_")
    x = layers.Add(name=f"{prefix}add")([shortcut, x])
    return layers.ReLU(name=f"{prefix}out")(x)


def _conv_norm(
    x: Any,
    filters: int,
    kernel: int,
    stride: int,
    rate: int,
    layout: Layout,
    momentum: float,
    prefix: str,
    groups: int = 1,
) -> Any:
    """Convolution, padded alike on all sides, and batch norm: (B, H, W, C) -> (B, H/stride, W/stride, filters)."""
    by_hand = stride > 1 and kernel > 1
    if by_hand:
        x = layers.ZeroPadding2D(kernel // 2, name=f"{prefix}pad")(x)
    x = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        dilation_rate=rate,  # 1 wherever the stride is not
        padding="valid" if by_hand else "same",
        groups=groups,
        use_bias=layout.bias,
        name=f"{prefix}conv",
    )(x)
    return batch_norm(x, momentum=momentum, epsilon=layout.epsilon, name=f"{prefix}bn")
