"""EfficientNet-Lite 0 to 4 (R. Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog, 2020;
reference code: tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py) as pyramids.

EfficientNet (Tan and Le 2019, arXiv:1905.11946, table 1) made for integers: ReLU6 in place of swish, no
squeeze-and-excitation, and a stem, a first stage and a last stage that do not grow with the variant. Layers with
weights are named as KerasHub names them, whose `efficientnet_lite0_ra_imagenet` loads by name. Deviations:

- The last 1x1 convolution (1280 channels), which serves the classifier, is left out: P5 is the last block's output.
- P1 to P4 are the expanded features just before the stride that ends their level, as in mobilenet.py.
- No stochastic depth (drop connect of 0.2) in training.
- The stride of a layer can be given up for dilation, as in mobilenet.py.

The reference reads (image - 127) / 128. timm's own weights (`efficientnet_lite0.ra_in1k`, which KerasHub has too) were
trained with PyTorch's padding, another epsilon and ImageNet's mean and deviation: `efficientnet_lite0_timm`. timm's
`tf_efficientnet_lite0` to `4` are the reference's weights and go into the rows of the reference's layout.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from zoo import contract
from zoo.backbones.dilation import Dilation
from zoo.backbones.mobilenet import divisible, pad_strided, pyramid
from zoo.layers import NORM_EPSILON, batch_norm, imagenet_normalisation, normalised

STEM = 32
# One row a stage, from table 1: blocks, kernel, stride, expansion, channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# The blocks whose expansions end the levels: the first ones of the stages with a stride.
LEVELS = {"P1": "block2a", "P2": "block3a", "P3": "block4a", "P4": "block6a"}


def lite_normalisation(image: Any) -> Any:
    """RGB 0..255 -> (image - 127) / 128, the reference code's."""
    return (image - 127.0) / 128.0


@dataclass(frozen=True)
class Layout:
    """A variant, and what the publisher of its weights does around the convolutions.

    Channels grow by `width` and blocks a stage by `depth`. `epsilon` is the batch norms'; `symmetric` pads a strided
    convolution alike on all sides (PyTorch), not by what "same" means in TensorFlow; `normalise` is applied to the
    image first, or, where `scale` is given, image * scale + offset by channel.
    """

    width: float
    depth: float
    epsilon: float = NORM_EPSILON
    symmetric: bool = False
    normalise: Callable[[Any], Any] = lite_normalisation
    scale: tuple[float, float, float] | None = None
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)


# efficientnet_lite_params of the reference code, and timm's own.
LAYOUTS = {
    "efficientnet_lite0": Layout(width=1.0, depth=1.0),
    "efficientnet_lite1": Layout(width=1.0, depth=1.1),
    "efficientnet_lite2": Layout(width=1.1, depth=1.2),
    "efficientnet_lite3": Layout(width=1.2, depth=1.4),
    "efficientnet_lite4": Layout(width=1.4, depth=1.8),
    "efficientnet_lite0_timm": Layout(
        width=1.0, depth=1.0, epsilon=1e-5, symmetric=True, normalise=imagenet_normalisation
    ),
}


def efficientnet_lite(
    layout: Layout, image_size: contract.ImageSize, output_stride: int, momentum: float
) -> keras.Model:
    """EfficientNet-Lite: RGB 0..255 -> P1 to P5, of 96, 144, 240, 672 and 320 channels in variants 0 and 1."""
    image = contract.image_input(image_size)
    dilation = Dilation(output_stride)
    x = normalised(image, layout.normalise, layout.scale, layout.offset)
    stride = dilation.stride(2)
    x, padding = pad_strided(x, 3, stride, layout.symmetric, "stem_pad")
    x = layers.Conv2D(STEM, 3, strides=stride, padding=padding, use_bias=False, name="stem_conv")(x)
    x = batch_norm(x, momentum=momentum, epsilon=layout.epsilon, name="stem_bn")
    x = layers.ReLU(6.0, name="stem_activation")(x)
    for name, kernel, stride, expansion, filters in blocks(layout):
        x = _block(x, kernel, stride, expansion, filters, layout, dilation, momentum, f"{name}_")
    return pyramid(image, x, {level: f"{name}_expand_activation" for level, name in LEVELS.items()})


def blocks(layout: Layout) -> list[tuple[str, int, int, int, int]]:
    """(name, kernel, stride, expansion, channels) of each block in the order of the network: block1a, block2a, ..."""
    found = []
    for stage, (count, kernel, stride, expansion, filters) in enumerate(STAGES, 1):
        fixed = stage in (1, len(STAGES))
        for index in range(count if fixed else math.ceil(layout.depth * count)):
            name = f"block{stage}{chr(ord('a') + index)}"
            found.append((name, kernel, 1 if index else stride, expansion, divisible(filters * layout.width)))
    return found


def _block(
    x: Any,
    kernel: int,
    stride: int,
    expansion: int,
    filters: int,
    layout: Layout,
    dilation: Dilation,
    momentum: float,
    prefix: str,
) -> Any:
    """Expand, filter by depth, project; a shortcut where shapes agree. (B, H, W, C) -> (B, H, W, filters)."""

    def norm(x: Any, name: str) -> Any:
        return batch_norm(x, momentum=momentum, epsilon=layout.epsilon, name=f"{prefix}{name}")

    shortcut = x
    channels = x.shape[-1]
    if expansion > 1:
        x = layers.Conv2D(channels * expansion, 1, use_bias=False, name=f"{prefix}expand_conv")(x)
        x = layers.ReLU(6.0, name=f"{prefix}expand_activation")(norm(x, "expand_bn"))
    rate = dilation.rate
    strides = dilation.stride(stride)
    x, padding = pad_strided(x, kernel, strides, layout.symmetric, f"{prefix}dwconv_pad")
    x = layers.DepthwiseConv2D(
        kernel,
        strides=strides,
        dilation_rate=rate,
        padding=padding,
        use_bias=False,
        name=f"{prefix}dwconv",
    )(x)
    x = layers.ReLU(6.0, name=f"{prefix}dwconv_activation")(norm(x, "dwconv_bn"))
    x = norm(layers.Conv2D(filters, 1, use_bias=False, name=f"{prefix}project")(x), "project_bn")
    if stride == 1 and channels == filters:
        x = layers.Add(name=f"{prefix}add")([shortcut, x])
    return x
