"""MobileNetEdgeTPU (S. Gupta, B. Akin, "Accelerator-aware Neural Network Design using AutoML", 2020, arXiv:2003.02838;
reference code: tensorflow/models, research/slim/nets/mobilenet/mobilenet_v3.py, V3_EDGETPU) as a pyramid, in the width
of 0.75 that DeepLab's model zoo calls slim.

Its early blocks expand by a whole 3x3 convolution in place of a 1x1 and a depthwise one: more operations, and a better
use of wide arithmetic. Public weights, trained on ImageNet and Cityscapes, are in Coral's
`deeplab_mobilenet_edgetpu_slim_cityscapes` (zoo/convert/layouts/mobilenet_tflite.py). Deviations:

- The last 1x1 convolution of 1280 channels, which serves the head, is left out: P5 is what the last block puts out.
  `sizes={"top": 1280}` has it, as the whole of Coral's network does.
- P1 to P4 are what the last block of each level puts out.
- The stride of a layer can be given up for dilation, as in mobilenet.py.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from zoo import contract
from zoo.backbones.dilation import Dilation
from zoo.backbones.mobilenet import pyramid, unit_normalisation
from zoo.layers import batch_norm, normalised

STEM = 24
TOP = 1280  # channels of the last 1x1 convolution, whatever the width


@dataclass(frozen=True)
class Layout:
    """What a network on it may have otherwise: `top` channels of a last 1x1 convolution, whose output is then
    P5 (0: none), and image * scale + offset by channel, where `scale` is given, in place of -1..1."""

    top: int = 0
    scale: tuple[float, float, float] | None = None
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)


LAYOUT = Layout()
# One row a block: whole 3x3 expansion (or 1x1 and depthwise), kernel, expansion, filters, stride. An expansion of 1 is
# a 1x1 convolution alone; a block that expands by 4 has a shortcut.
BLOCKS = (
    (True, 3, 1, 16, 1),
    (True, 3, 8, 24, 2),
    (True, 3, 4, 24, 1),
    (True, 3, 4, 24, 1),
    (True, 3, 4, 24, 1),
    (True, 3, 8, 40, 2),
    (True, 3, 4, 40, 1),
    (True, 3, 4, 40, 1),
    (True, 3, 4, 40, 1),
    (False, 3, 8, 72, 2),
    (False, 3, 4, 72, 1),
    (False, 3, 4, 72, 1),
    (False, 3, 4, 72, 1),
    (False, 3, 8, 72, 1),
    (False, 3, 4, 72, 1),
    (False, 3, 4, 72, 1),
    (False, 3, 4, 72, 1),
    (False, 5, 8, 120, 2),
    (False, 5, 4, 120, 1),
    (False, 5, 4, 120, 1),
    (False, 5, 4, 120, 1),
    (False, 3, 8, 144, 1),
)
LEVEL_BLOCKS = {"P1": 0, "P2": 4, "P3": 8, "P4": 16}


def mobilenet_edgetpu(
    layout: Layout, image_size: contract.ImageSize, output_stride: int, momentum: float
) -> keras.Model:
    """MobileNetEdgeTPU of width 0.75: RGB 0..255 -> P1 (16 channels), P2 (24), P3 (40), P4 (72), P5 (144, or `top`)."""
    image = contract.image_input(image_size)
    dilation = Dilation(output_stride)
    x = normalised(image, unit_normalisation, layout.scale, layout.offset)
    x = layers.Conv2D(STEM, 3, strides=dilation.stride(2), padding="same", use_bias=False, name="stem")(x)
    x = layers.ReLU(name="stem_relu")(batch_norm(x, momentum=momentum, name="stem_BN"))
    for index, row in enumerate(BLOCKS):
        x = _block(x, *row, dilation, momentum, f"block_{index}_")
    if layout.top:
        x = layers.Conv2D(layout.top, 1, use_bias=False, name="top")(x)
        x = layers.ReLU(name="top_relu")(batch_norm(x, momentum=momentum, name="top_BN"))
    return pyramid(image, x, {level: f"block_{index}_out" for level, index in LEVEL_BLOCKS.items()})


def convolution_names() -> list[str]:
    """The convolutions in the order of the network."""
    names = ["stem"]
    for index, (whole, _, expansion, _, _) in enumerate(BLOCKS):
        parts = ["expand"] if expansion > 1 else []
        parts += [] if whole else ["depthwise"]
        names += [f"block_{index}_{part}" for part in (*parts, "project")]
    return names


def _block(
    x: Any,
    whole: bool,
    kernel: int,
    expansion: int,
    filters: int,
    stride: int,
    dilation: Dilation,
    momentum: float,
    prefix: str,
) -> Any:
    """Expand and filter, in one convolution or in two, and project: (B, H, W, C) -> (B, H, W, filters)."""

    def norm(x: Any, name: str) -> Any:
        return batch_norm(x, momentum=momentum, name=f"{prefix}{name}_BN")

    shortcut = x
    channels = x.shape[-1]
    rate = dilation.rate
    where: dict[str, Any] = {"strides": dilation.stride(stride), "dilation_rate": rate, "padding": "same"}
    if expansion > 1:
        side, how = (kernel, where) if whole else (1, {})
        x = layers.Conv2D(channels * expansion, side, use_bias=False, name=f"{prefix}expand", **how)(x)
        x = layers.ReLU(name=f"{prefix}expand_relu")(norm(x, "expand"))
    if not whole:
        x = layers.DepthwiseConv2D(kernel, use_bias=False, name=f"{prefix}depthwise", **where)(x)
        x = layers.ReLU(name=f"{prefix}depthwise_relu")(norm(x, "depthwise"))
    x = norm(layers.Conv2D(filters, 1, use_bias=False, name=f"{prefix}project")(x), "project")
    if expansion == 4:
        x = layers.Add(name=f"{prefix}add")([shortcut, x])
    return layers.Identity(name=f"{prefix}out")(x)
