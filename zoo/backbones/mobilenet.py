"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381, table 2) and MobileNetV3-Large (Howard et al. 2019,
arXiv:1905.02244, table 1), as pyramids.

Layers with weights and their names are those of keras.applications, whose weights load by name; what other
publishers of weights do otherwise are the fields of `Layout`. Deviations:

- The last 1x1 convolution (1280 or 960 channels), which serves the classifier, is left out, but not in
  torchvision's layout, where P5 is what it puts out.
- P1 to P4 are the expanded features just before the stride that ends their level, as DeepLab's
  reference code takes its low-level features from MobileNetV2; P5 is what the last block puts out. In
  torchvision's layout of V2 they are what the last block of each level puts out, and in that of V3 what its stem and
  the first block of each level do, as torchvision's own networks take them.
- The stride of a layer can be given up for dilation: that layer keeps the rate so far, and the ones after
  it double it (DeepLab, arXiv:1606.00915, section 3.1). In torchvision's layout of V3 that layer doubles it too.
- keras.applications' momentum of 0.999 keeps the moving statistics behind the weights on a small data set,
  so `momentum` is an argument.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import layers

from zoo import contract
from zoo.backbones.dilation import Dilation
from zoo.layers import NORM_EPSILON, batch_norm, imagenet_normalisation, normalised

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

# One row a block, from table 1 of the paper: kernel, expanded channels, output channels, squeeze, hard-swish,
# stride.
V3_LARGE_BLOCKS = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
V3_LEVEL_BLOCKS = {"P1": 1, "P2": 3, "P3": 6, "P4": 12}
V3_STEM = 16


def unit_normalisation(image: Any) -> Any:
    """RGB 0..255 -> -1..1."""
    return image / 127.5 - 1.0


@dataclass(frozen=True)
class Layout:
    """A MobileNet's publisher: what the weights expect around the convolutions.

    `epsilon` is the batch norms'; `symmetric` pads a strided convolution alike on all sides (PyTorch), not
    by what "same" means in TensorFlow (at even sizes, at the far sides only); `top` is the number of channels
    of the last 1x1 convolution, 0 to leave it out; `levels` names the layers that put out P1 to P4;
    `normalise` is applied to the image first, or, where `scale` is given, image * scale + offset by channel. Where
    a layer gives up its stride for dilation, it keeps the rate so far if `contracted`; segmentation_models_pytorch
    doubles it there too.
    """

    epsilon: float = NORM_EPSILON
    symmetric: bool = False
    top: int = 0
    levels: Mapping[str, str] = field(
        default_factory=lambda: {
            "P1": "block_1_expand_relu",
            "P2": "block_3_expand_relu",
            "P3": "block_6_expand_relu",
            "P4": "block_13_expand_relu",
        }
    )
    contracted: bool = True
    normalise: Callable[[Any], Any] = unit_normalisation
    scale: tuple[float, float, float] | None = None
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class V3Layout(Layout):
    """The same of a MobileNetV3; `width` multiplies all channels, which stay multiples of 8."""

    levels: Mapping[str, str] = field(
        default_factory=lambda: {
            level: f"expanded_conv_{index}_expanded" for level, index in V3_LEVEL_BLOCKS.items()
        }
    )
    width: float = 1.0


KERAS = Layout()
TORCHVISION = Layout(
    epsilon=1e-5,
    symmetric=True,
    top=1280,
    levels={
        "P1": "expanded_conv_project_BN",
        "P2": "block_2_add",
        "P3": "block_5_add",
        "P4": "block_12_add",
    },
    normalise=imagenet_normalisation,
)
V3_KERAS = V3Layout()
V3_TORCHVISION = V3Layout(
    symmetric=True,
    top=960,
    levels={
        "P1": "conv_out",
        "P2": "expanded_conv_1_project_bn",
        "P3": "expanded_conv_3_project_bn",
        "P4": "expanded_conv_6_project_bn",
    },
    contracted=False,
    normalise=imagenet_normalisation,
)


def mobilenet_v2(
    layout: Layout, image_size: contract.ImageSize, output_stride: int, momentum: float
) -> keras.Model:
    """MobileNetV2 of width 1.0: RGB 0..255 -> P1 to P5.

    Their channels are 96, 144, 192, 576, 320, or 16, 24, 32, 96, 1280 in torchvision's layout.
    """
    image = contract.image_input(image_size)
    dilation = Dilation(output_stride)
    x = normalised(image, layout.normalise, layout.scale, layout.offset)
    x, padding = pad_strided(x, 3, dilation.stride(2), layout.symmetric, "Conv1_pad")
    x = layers.Conv2D(32, 3, strides=2, padding=padding, use_bias=False, name="Conv1")(x)
    x = batch_norm(x, momentum=momentum, epsilon=layout.epsilon, name="bn_Conv1")
    x = layers.ReLU(6.0, name="Conv1_relu")(x)
    for index, (expansion, filters, stride) in enumerate(V2_BLOCKS):
        prefix = f"block_{index}_" if index else "expanded_conv_"
        x = _v2_block(x, expansion, filters, stride, layout, dilation, momentum, prefix)
    if layout.top:
        x = layers.Conv2D(layout.top, 1, use_bias=False, name="Conv_1")(x)
        x = batch_norm(x, momentum=momentum, epsilon=layout.epsilon, name="Conv_1_bn")
        x = layers.ReLU(6.0, name="out_relu")(x)
    return pyramid(image, x, layout.levels)


def convolution_names() -> list[str]:
    """The convolutions of MobileNetV2 in the order of the network, without the last 1x1."""
    names = ["Conv1", "expanded_conv_depthwise", "expanded_conv_project"]
    for block in range(1, len(V2_BLOCKS)):
        names += [f"block_{block}_{part}" for part in ("expand", "depthwise", "project")]
    return names


def mobilenet_v3_large(
    layout: V3Layout, image_size: contract.ImageSize, output_stride: int, momentum: float
) -> keras.Model:
    """MobileNetV3-Large: RGB 0..255 -> P1 to P5.

    Of width 1.0, their channels are 64, 72, 240, 672, 160, or 16, 24, 40, 80, 960 in torchvision's layout.
    """
    image = contract.image_input(image_size)
    dilation = Dilation(output_stride)
    x = normalised(image, layout.normalise, layout.scale, layout.offset)
    stride = dilation.stride(2)
    x, padding = pad_strided(x, 3, stride, layout.symmetric, "conv_pad")
    stem = divisible(V3_STEM * layout.width)
    x = layers.Conv2D(stem, 3, strides=stride, padding=padding, use_bias=False, name="conv")(x)
    x = _hard_swish(batch_norm(x, momentum=momentum, epsilon=layout.epsilon, name="conv_bn"))
    x = layers.Identity(name="conv_out")(x)
    for index, (kernel, expanded, filters, squeeze, hard_swish, stride) in enumerate(V3_LARGE_BLOCKS):
        expanded, filters = divisible(expanded * layout.width), divisible(filters * layout.width)
        prefix = f"expanded_conv_{index}_" if index else "expanded_conv_"
        x = _v3_block(
            x, kernel, expanded, filters, squeeze, hard_swish, stride, layout, dilation, momentum, prefix
        )
    if layout.top:
        x = layers.Conv2D(divisible(layout.top * layout.width), 1, use_bias=False, name="conv_1")(x)
        x = _hard_swish(batch_norm(x, momentum=momentum, epsilon=layout.epsilon, name="conv_1_bn"))
    return pyramid(image, x, layout.levels)


def pyramid(image: Any, top: Any, names: Mapping[str, str]) -> keras.Model:
    """The model from the image to the outputs of the layers named and to `top` as P5."""
    whole = keras.Model(image, top)
    levels = {level: whole.get_layer(name).output for level, name in names.items()}
    return keras.Model(image, {**levels, "P5": top}, name=contract.BACKBONE)


def pad_strided(x: Any, kernel: int, stride: int, symmetric: bool, name: str) -> tuple[Any, str]:
    """What a convolution of this kernel and stride reads, and its padding."""
    if stride == 1 or not symmetric:
        # "same" is what keras.applications pads by hand before a stride: (0, 1) at even, (1, 1) at odd sizes.
        return x, "same"
    return layers.ZeroPadding2D(kernel // 2, name=name)(x), "valid"


def divisible(channels: float) -> int:
    """The channels as a multiple of 8, but never below 90% of them (the reference code's rule)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


def _v2_block(
    x: Any,
    expansion: int,
    filters: int,
    stride: int,
    layout: Layout,
    dilation: Dilation,
    momentum: float,
    prefix: str,
) -> Any:
    """Expand, filter by depth, project; a shortcut where shapes agree. (B, H, W, C) -> (B, H, W, filters)."""

    def norm(x: Any, name: str) -> Any:
        return batch_norm(x, momentum=momentum, epsilon=layout.epsilon, name=f"{prefix}{name}_BN")

    shortcut = x
    channels = x.shape[-1]
    if expansion > 1:
        x = layers.Conv2D(channels * expansion, 1, use_bias=False, name=f"{prefix}expand")(x)
        x = layers.ReLU(6.0, name=f"{prefix}expand_relu")(norm(x, "expand"))
    before = dilation.rate
    strides = dilation.stride(stride)
    x, padding = pad_strided(x, 3, strides, layout.symmetric, f"{prefix}pad")
    x = layers.DepthwiseConv2D(
        3,
        strides=strides,
        dilation_rate=before if layout.contracted else dilation.rate,
        padding=padding,
        use_bias=False,
        name=f"{prefix}depthwise",
    )(x)
    x = layers.ReLU(6.0, name=f"{prefix}depthwise_relu")(norm(x, "depthwise"))
    x = norm(layers.Conv2D(filters, 1, use_bias=False, name=f"{prefix}project")(x), "project")
    if stride == 1 and channels == filters:
        x = layers.Add(name=f"{prefix}add")([shortcut, x])
    return x


def _v3_block(
    x: Any,
    kernel: int,
    expanded: int,
    filters: int,
    squeeze: bool,
    hard_swish: bool,
    stride: int,
    layout: Layout,
    dilation: Dilation,
    momentum: float,
    prefix: str,
) -> Any:
    """As in V2, with squeeze-and-excitation and hard-swish: (B, H, W, C) -> (B, H, W, filters)."""

    def norm(x: Any, name: str) -> Any:
        return batch_norm(x, momentum=momentum, epsilon=layout.epsilon, name=f"{prefix}{name}_bn")

    shortcut = x
    channels = x.shape[-1]
    activation = _hard_swish if hard_swish else layers.ReLU()
    if expanded != channels:  # only the first block does not expand
        x = norm(layers.Conv2D(expanded, 1, use_bias=False, name=f"{prefix}expand")(x), "expand")
        x = layers.Identity(name=f"{prefix}expanded")(activation(x))
    before = dilation.rate
    strides = dilation.stride(stride)
    x, padding = pad_strided(x, kernel, strides, layout.symmetric, f"{prefix}pad")
    x = layers.DepthwiseConv2D(
        kernel,
        strides=strides,
        dilation_rate=before if layout.contracted else dilation.rate,
        padding=padding,
        use_bias=False,
        name=f"{prefix}depthwise",
    )(x)
    x = activation(norm(x, "depthwise"))
    if squeeze:
        x = _squeeze_and_excite(x, prefix)
    x = norm(layers.Conv2D(filters, 1, use_bias=False, name=f"{prefix}project")(x), "project")
    if stride == 1 and channels == filters:
        x = layers.Add(name=f"{prefix}add")([shortcut, x])
    return x


def _squeeze_and_excite(x: Any, prefix: str) -> Any:
    """Scale each channel by a gate made of all channels' means: (B, H, W, C) -> (B, H, W, C)."""
    channels = x.shape[-1]
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{prefix}squeeze_excite_avg_pool")(x)
    gate = layers.Conv2D(divisible(channels // 4), 1, name=f"{prefix}squeeze_excite_conv")(gate)
    gate = layers.ReLU(name=f"{prefix}squeeze_excite_relu")(gate)
    gate = layers.Conv2D(channels, 1, name=f"{prefix}squeeze_excite_conv_1")(gate)
    return layers.Multiply(name=f"{prefix}squeeze_excite_mul")([x, _hard_sigmoid(gate)])


def _hard_sigmoid(x: Any) -> Any:
    return layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)


def _hard_swish(x: Any) -> Any:
    """x * hard_sigmoid(x) spelt with ReLU6, which the TFLite converter turns into its HARD_SWISH."""
    return x * _hard_sigmoid(x)
