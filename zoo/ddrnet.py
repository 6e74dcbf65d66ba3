"""DDRNet (Hong et al. 2021, arXiv:2101.06085): one branch stays at stride 8, one goes down to 64, and they talk.

Deviations from the paper, which are those of the authors' code:

- The last ReLU of each stage stands outside of it, so that the branches exchange their maps before it (figure 3).
- The auxiliary head reads the fine branch after its first exchange (section 3.4: 0.4 times its loss is added).
- Resizing is bilinear with half-pixel centres; sides that 8 does not divide are rounded up, as the convolutions do.
- `size_divisor=64` pads the image within the network (docs/explanation/padding.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import layers

from zoo import contract
from zoo.heads import logits
from zoo.layers import (
    TORCH_EPSILON,
    Concatenate,
    MeanPool,
    ResizeCornersLike,
    ResizeLike,
    batch_norm,
    conv_norm,
    cut,
    imagenet_normalisation,
    padded,
)

# Kernel and stride of the windows whose means the pyramid pooling takes (figure 5).
POOLS = ((5, 2), (9, 4), (17, 8))
EXPANSION = 2  # of a bottleneck


@dataclass(frozen=True)
class Sizes:
    """Channels: of the stem, of a branch of the pyramid pooling, and of the heads."""

    channels: int
    pyramid_filters: int
    head_filters: int


# Table 3 and section 4.2. Both have two basic blocks a stage.
SIZES = {
    "ddrnet_23_slim": Sizes(channels=32, pyramid_filters=128, head_filters=64),
    "ddrnet_23": Sizes(channels=64, pyramid_filters=128, head_filters=128),
}


def ddrnet(
    *,
    classes: int = 19,
    image_size: contract.ImageSize = None,
    variant: str = "ddrnet_23_slim",
    sizes: Mapping[str, Any] | None = None,
    auxiliary: bool = True,
    align_corners: bool = False,
    size_divisor: int = 1,
    batch_norm_momentum: float = 0.99,
) -> keras.Model:
    """DDRNet: image (B, H, W, 3), RGB 0..255 -> {"logits": (B, H, W, classes) float32}.

    image_size is (H, W), or None for any size; `variant` is a row of SIZES and `sizes` replaces fields of it;
    `auxiliary` adds "aux_logits", as large as the logits, for the loss alone; `align_corners` says how both are
    resized; `size_divisor` see above. Raises ValueError on a value that makes no sense.
    """
    contract.check_classes(classes)
    contract.check_count("size_divisor", size_divisor)
    row = contract.variant(SIZES, variant, sizes)
    momentum = contract.check_fraction("batch_norm_momentum", batch_norm_momentum)
    image = contract.image_input(contract.check_image_size(image_size))
    seen, _ = padded(image, size_divisor)

    x = stem(imagenet_normalisation(seen), row.channels, 2, momentum)  # (B, H/8, W/8, 2 * channels)
    first, last = _branches(x, row, momentum)
    heads = partial(
        head,
        filters=row.head_filters,
        momentum=momentum,
        resize=ResizeCornersLike if align_corners else ResizeLike,
    )
    outputs = {contract.LOGITS: heads(last, seen, classes)}
    if auxiliary:
        outputs[contract.AUX_LOGITS] = heads(
            first, seen, classes, prefix="auxiliary_", output=contract.AUX_LOGITS
        )
    return keras.Model(image, cut(outputs, image, size_divisor), name="ddrnet")


def stem(x: Any, channels: int, blocks: int, momentum: float) -> Any:
    """What comes before the branches part: (B, H, W, 3) -> (B, H/8, W/8, 2 * channels), after a ReLU."""
    for index in (1, 2):
        x = conv_norm(
            x, channels, 3, stride=2, momentum=momentum, epsilon=TORCH_EPSILON, name=f"stem_{index}"
        )
        x = layers.ReLU(name=f"stem_{index}_relu")(x)
    x = relu(basic_stage(x, channels, blocks, momentum=momentum, name="layer1"), "layer1")
    return relu(basic_stage(x, 2 * channels, blocks, stride=2, momentum=momentum, name="layer2"), "layer2")


def _branches(x: Any, row: Sizes, momentum: float) -> tuple[Any, Any]:
    """(B, H/8, W/8, 2 * channels) -> the fine branch after the first exchange, and the sum of both at the end, which
    has 4 * channels."""
    filters = row.channels
    low = high = first = x
    for layer, wide in ((3, 4 * filters), (4, 8 * filters)):
        low = basic_stage(low, wide, 2, stride=2, momentum=momentum, name=f"layer{layer}_low")
        high = basic_stage(high, 2 * filters, 2, momentum=momentum, name=f"layer{layer}_high")
        low, high = _exchange(low, high, layer - 2, momentum, layer)
        if layer == 3:
            first = high
        low, high = relu(low, f"layer{layer}_low"), relu(high, f"layer{layer}_high")
    high = bottleneck(high, 2 * filters, momentum=momentum, name="layer5_high_block1")
    low = bottleneck(low, 8 * filters, stride=2, momentum=momentum, name="layer5_low_block1")
    low = dappm(low, row.pyramid_filters, 4 * filters, momentum)  # (B, H/64, W/64, 4 * channels)
    low = ResizeLike(name="pyramid_upsample")([low, high])
    return first, layers.Add(name="branches_add")([high, low])


def _exchange(low: Any, high: Any, halvings: int, momentum: float, layer: int) -> tuple[Any, Any]:
    """Bilateral fusion (figure 3): each branch gets what the other has, brought to its size and width."""
    up = relu(low, f"compression{layer}_in")
    up = conv_norm(up, high.shape[-1], momentum=momentum, epsilon=TORCH_EPSILON, name=f"compression{layer}")
    up = ResizeLike(name=f"compression{layer}_upsample")([up, high])
    down = relu(high, f"down{layer}_in")
    for index in range(1, halvings + 1):
        down = relu(down, f"down{layer}_{index - 1}") if index > 1 else down
        filters = low.shape[-1] // 2 ** (halvings - index)
        down = conv_norm(
            down, filters, 3, stride=2, momentum=momentum, epsilon=TORCH_EPSILON, name=f"down{layer}_{index}"
        )
    return layers.Add(name=f"low{layer}_add")([low, down]), layers.Add(name=f"high{layer}_add")([high, up])


def basic_stage(x: Any, filters: int, blocks: int, *, stride: int = 1, momentum: float, name: str) -> Any:
    """Basic blocks of ResNet, without the ReLU after the last: (B, H, W, C) -> (B, H/stride, W/stride, filters)."""
    for index in range(1, blocks + 1):
        step = stride if index == 1 else 1
        x = relu(x, f"{name}_block{index - 1}") if index > 1 else x
        x = basic_block(x, filters, stride=step, momentum=momentum, name=f"{name}_block{index}")
    return x


def basic_block(x: Any, filters: int, *, stride: int = 1, momentum: float, name: str) -> Any:
    """3x3, 3x3 with a shortcut around, no ReLU after the sum: (B, H, W, C) -> (B, H/stride, W/stride, filters)."""
    norm: dict[str, Any] = {"momentum": momentum, "epsilon": TORCH_EPSILON}
    shortcut = x
    if stride != 1 or x.shape[-1] != filters:
        shortcut = conv_norm(x, filters, stride=stride, **norm, name=f"{name}_0")
    x = relu(conv_norm(x, filters, 3, stride=stride, **norm, name=f"{name}_1"), f"{name}_1")
    x = conv_norm(x, filters, 3, **norm, name=f"{name}_2")
    return layers.Add(name=f"{name}_add")([shortcut, x])


def bottleneck(x: Any, filters: int, *, stride: int = 1, momentum: float, name: str) -> Any:
    """1x1, 3x3, 1x1 with a shortcut around, no ReLU after the sum: -> (B, H/stride, W/stride, 2 * filters)."""
    norm: dict[str, Any] = {"momentum": momentum, "epsilon": TORCH_EPSILON}
    shortcut, wide = x, EXPANSION * filters
    if stride != 1 or x.shape[-1] != wide:
        shortcut = conv_norm(x, wide, stride=stride, **norm, name=f"{name}_0")
    x = relu(conv_norm(x, filters, **norm, name=f"{name}_1"), f"{name}_1")
    x = relu(conv_norm(x, filters, 3, stride=stride, **norm, name=f"{name}_2"), f"{name}_2")
    x = conv_norm(x, wide, **norm, name=f"{name}_3")
    return layers.Add(name=f"{name}_add")([shortcut, x])


def dappm(x: Any, filters: int, out: int, momentum: float) -> Any:
    """Deep aggregation pyramid pooling (figure 5, equation 2): (B, h, w, C) -> (B, h, w, out).

    Means over ever larger windows, up to the whole map, each joined to what the one before became.
    """
    first, *means = pooled_maps(x, filters, momentum)
    joined = [first]
    for index, mean in enumerate(means, 1):
        y = layers.Add(name=f"pyramid_{index}_add")([mean, joined[-1]])
        joined.append(norm_relu_conv(y, filters, 3, momentum=momentum, name=f"pyramid_process_{index}"))
    return pyramid_end(x, joined, out, momentum)


def pooled_maps(x: Any, filters: int, momentum: float) -> list[Any]:
    """The map itself and its means over windows of POOLS, (B, h, w, filters), and over all of it, (B, 1, 1, filters),
    which a sum spreads."""
    maps = [norm_relu_conv(x, filters, momentum=momentum, name="pyramid_scale_0")]
    for index, (kernel, stride) in enumerate(POOLS, 1):
        mean = MeanPool(kernel, stride, name=f"pyramid_scale_{index}_mean")(x)
        mean = norm_relu_conv(mean, filters, momentum=momentum, name=f"pyramid_scale_{index}")
        maps.append(ResizeLike(name=f"pyramid_scale_{index}_upsample")([mean, x]))
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="pyramid_scale_4_mean")(x)
    return [*maps, norm_relu_conv(mean, filters, momentum=momentum, name="pyramid_scale_4")]


def pyramid_end(x: Any, joined: list[Any], out: int, momentum: float) -> Any:
    """All scales in one map, with the pyramid's input added: (B, h, w, out)."""
    y = Concatenate(name="pyramid_concat")(joined)
    y = norm_relu_conv(y, out, momentum=momentum, name="pyramid_compression")
    return layers.Add(name="pyramid_add")(
        [y, norm_relu_conv(x, out, momentum=momentum, name="pyramid_shortcut")]
    )


def head(
    x: Any,
    image: Any,
    classes: int,
    *,
    filters: int,
    momentum: float,
    prefix: str = "",
    output: str = contract.LOGITS,
    resize: type[ResizeLike] = ResizeLike,
) -> Any:
    """Norm, ReLU, 3x3, norm, ReLU, 1x1 with a bias: (B, h, w, C) -> (B, H, W, classes) at the image's size."""
    x = norm_relu_conv(x, filters, 3, momentum=momentum, name=f"{prefix}head")
    x = batch_norm(x, momentum=momentum, epsilon=TORCH_EPSILON, name=f"{prefix}head_out_bn")
    return logits(relu(x, f"{prefix}head_out"), image, classes, resize=resize, prefix=prefix, output=output)


def norm_relu_conv(
    x: Any, filters: int, kernel: int = 1, *, groups: int = 1, momentum: float, name: str
) -> Any:
    """Batch norm, ReLU and then a convolution without bias: (B, h, w, C) -> (B, h, w, filters)."""
    x = relu(batch_norm(x, momentum=momentum, epsilon=TORCH_EPSILON, name=f"{name}_bn"), name)
    return layers.Conv2D(
        filters,
        kernel,
        padding="same",
        groups=groups,
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)


def relu(x: Any, name: str) -> Any:
    return layers.ReLU(name=f"{name}_relu")(x)
