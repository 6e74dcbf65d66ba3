"""BiSeNetV2 (Yu et al. 2021, arXiv:2004.02147): a shallow wide branch for details, a deep narrow one for meaning.

Deviations from the paper, which are those of mmsegmentation (`bisenetv2_fcn_*`) and of the common implementations:

- ReLU follows the depthwise convolution of a gather-and-expansion layer, and norm and ReLU the last convolution of the
  context embedding and of the aggregation (figures 4 and 5 have none there).
- The mean pooling of the aggregation is 3x3 and counts the zeros around the map.
- Resizing is bilinear with half-pixel centres, or with aligned corners (`align_corners`).
- `size_divisor=32` pads the image within the network (docs/explanation/padding.md).
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from zoo import contract
from zoo.heads import logits
from zoo.layers import (
    TORCH_EPSILON,
    MeanPool,
    ResizeCornersLike,
    ResizeLike,
    batch_norm,
    conv_norm,
    cut,
    imagenet_normalisation,
    padded,
)

# Of table 1: strides of the detail branch's convolutions, a tuple a stage; gather-and-expansion layers a stage.
DETAIL_STRIDES = ((2, 1), (2, 1, 1), (2, 1, 1))
EXPANSION_LAYERS = (2, 2, 4)


def bisenetv2(
    *,
    classes: int = 19,
    image_size: contract.ImageSize = None,
    detail_filters: tuple[int, ...] = (64, 64, 128),
    semantic_filters: tuple[int, ...] = (16, 32, 64, 128),
    expansion: int = 6,
    head_filters: int = 1024,
    auxiliary: bool = True,
    auxiliary_filters: tuple[int, ...] = (16, 64, 256, 1024),
    dropout: float = 0.1,
    align_corners: bool = False,
    size_divisor: int = 1,
    batch_norm_momentum: float = 0.99,
) -> keras.Model:
    """BiSeNetV2: image (B, H, W, 3), RGB 0..255 -> {"logits": (B, H, W, classes) float32}.

    image_size is (H, W), or None for any size; `detail_filters` and `semantic_filters` are the channels of the
    branches' stages, both ending in the same number (table 1); `expansion` is the factor of the depthwise layers;
    `auxiliary` adds the booster (section 3.5): "aux_logits_1" to "aux_logits_4", as large as the logits, for the loss
    alone, from heads of `auxiliary_filters` on the stages of the semantic branch; `align_corners` and
    `size_divisor` see above. Raises ValueError on a value that makes no sense.
    """
    contract.check_classes(classes)
    contract.check_counts(head_filters=head_filters, expansion=expansion, size_divisor=size_divisor)
    contract.check_fraction("dropout", dropout)
    _check_filters(detail_filters, semantic_filters, auxiliary_filters)
    momentum = contract.check_fraction("batch_norm_momentum", batch_norm_momentum)
    image = contract.image_input(contract.check_image_size(image_size))
    seen, _ = padded(image, size_divisor)

    x = imagenet_normalisation(seen)
    details = _details(x, detail_filters, momentum)
    stages = _semantics(x, semantic_filters, expansion, momentum)
    x = _aggregation(details, _context(stages[-1], momentum), momentum)  # (B, H/8, W/8, channels)
    shared: dict[str, Any] = {
        "dropout": dropout,
        "momentum": momentum,
        "resize": ResizeCornersLike if align_corners else ResizeLike,
    }
    outputs = {contract.LOGITS: fcn_head(x, seen, classes, head_filters, **shared)}
    for number, (stage, filters) in enumerate(zip(stages, auxiliary_filters, strict=True), 1):
        if auxiliary:
            key = f"{contract.AUX_LOGITS}_{number}"
            outputs[key] = fcn_head(
                stage,
                seen,
                classes,
                filters,
                convolutions=2,
                prefix=f"auxiliary_{number}_",
                output=key,
                **shared,
            )
    return keras.Model(image, cut(outputs, image, size_divisor), name="bisenetv2")


def _check_filters(detail: Sequence[int], semantic: Sequence[int], auxiliary: Sequence[int]) -> None:
    for name, filters, count in (
        ("detail_filters", detail, 3),
        ("semantic_filters", semantic, 4),
        ("auxiliary_filters", auxiliary, 4),
    ):
        if not isinstance(filters, Sequence) or isinstance(filters, str) or len(filters) != count:
            raise ValueError(f"{name} must be {count} whole numbers, not {filters!r}")
        for value in filters:
            contract.check_count(name, value)
    if detail[-1] != semantic[-1]:
        raise ValueError(
            f"detail_filters and semantic_filters must end in the same number, not in {detail[-1]} and {semantic[-1]}"
        )


def _details(x: Any, filters: Sequence[int], momentum: float) -> Any:
    """The detail branch (table 1, left): (B, H, W, 3) -> (B, H/8, W/8, filters[-1])."""
    for stage, (channels, strides) in enumerate(zip(filters, DETAIL_STRIDES, strict=True), 1):
        for index, stride in enumerate(strides, 1):
            x = conv(x, channels, 3, momentum, f"detail{stage}_{index}", stride=stride)
    return x


def _semantics(x: Any, filters: Sequence[int], expansion: int, momentum: float) -> list[Any]:
    """The semantic branch (table 1, right): (B, H, W, 3) -> its stages at stride 4, 8, 16 and 32."""
    stages = [_stem(x, filters[0], momentum)]
    for stage, (channels, count) in enumerate(zip(filters[1:], EXPANSION_LAYERS, strict=True), 2):
        x = gather_and_expand(
            stages[-1], channels, expansion, momentum, f"semantic{stage}_block1", halve=True
        )
        for block in range(2, count + 1):
            x = gather_and_expand(x, channels, expansion, momentum, f"semantic{stage}_block{block}")
        stages.append(x)
    return stages


def _stem(x: Any, filters: int, momentum: float) -> Any:
    """Halved by a convolution and by max-pooling side by side (figure 4a): (B, H, W, 3) -> (B, H/4, W/4, filters)."""
    x = conv(x, filters, 3, momentum, "stem_first", stride=2)
    left = conv(x, filters // 2, 1, momentum, "stem_left_1")
    left = conv(left, filters, 3, momentum, "stem_left_2", stride=2)
    # After a ReLU, zeros around the map are no larger than what they stand beside.
    right = layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    right = layers.MaxPooling2D(3, strides=2, name="stem_pool")(right)
    return conv(layers.Concatenate(name="stem_concat")([left, right]), filters, 3, momentum, "stem_last")


def gather_and_expand(
    x: Any, filters: int, expansion: int, momentum: float, name: str, *, halve: bool = False
) -> Any:
    """Gather-and-expansion layer (figure 5b; 5c to halve): a 3x3 convolution, depthwise ones on `expansion` times the
    channels, a 1x1 convolution, and a shortcut around: (B, H, W, C) -> (B, H/stride, W/stride, filters)."""
    stride = 2 if halve else 1
    shortcut = x
    if halve:
        shortcut = depthwise_norm(x, momentum, f"{name}_shortcut_depthwise", stride=2)
        shortcut = conv_norm(
            shortcut, filters, momentum=momentum, epsilon=TORCH_EPSILON, name=f"{name}_shortcut_pointwise"
        )
    x = conv(x, x.shape[-1], 3, momentum, f"{name}_gather")
    x = depthwise_norm(x, momentum, f"{name}_expand_1", stride=stride, multiplier=expansion)
    if halve:
        x = depthwise_norm(x, momentum, f"{name}_expand_2")
    x = layers.ReLU(name=f"{name}_expand_relu")(x)
    x = conv_norm(x, filters, momentum=momentum, epsilon=TORCH_EPSILON, name=f"{name}_project")
    return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([x, shortcut]))


def _context(x: Any, momentum: float) -> Any:
    """Context embedding (figure 4b): the mean of the whole map is added to it: (B, h, w, C) -> (B, h, w, C)."""
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="context_mean")(x)
    mean = batch_norm(mean, momentum=momentum, epsilon=TORCH_EPSILON, name="context_mean_bn")
    mean = conv(mean, x.shape[-1], 1, momentum, "context_gap")
    return conv(layers.Add(name="context_add")([x, mean]), x.shape[-1], 3, momentum, "context")


def _aggregation(details: Any, context: Any, momentum: float) -> Any:
    """Bilateral guided aggregation (figure 6): each branch lets through what the other, at its size, points at."""
    channels = details.shape[-1]
    norm: dict[str, Any] = {"momentum": momentum, "epsilon": TORCH_EPSILON}
    fine = _separable(details, momentum, "fine_detail")
    fine_gate = conv_norm(context, channels, 3, **norm, name="fine_context")
    fine_gate = ResizeLike(name="fine_context_upsample")([fine_gate, fine])
    coarse = conv_norm(details, channels, 3, stride=2, **norm, name="coarse_detail")
    coarse = MeanPool(3, 2, name="coarse_detail_mean")(coarse)  # (B, H/32, W/32, channels)
    coarse_gate = _separable(context, momentum, "coarse_context")
    fine = layers.Multiply(name="fine_gate")(
        [fine, layers.Activation("sigmoid", name="fine_sigma")(fine_gate)]
    )
    sigma = layers.Activation("sigmoid", name="coarse_sigma")(coarse_gate)
    coarse = layers.Multiply(name="coarse_gate")([coarse, sigma])
    coarse = ResizeLike(name="coarse_upsample")([coarse, fine])
    return conv(layers.Add(name="aggregation_add")([fine, coarse]), channels, 3, momentum, "aggregation")


def _separable(x: Any, momentum: float, name: str) -> Any:
    """Depthwise 3x3 with a norm, then 1x1 with a bias: (B, h, w, C) -> (B, h, w, C)."""
    x = depthwise_norm(x, momentum, f"{name}_depthwise")
    return layers.Conv2D(x.shape[-1], 1, kernel_initializer="he_normal", name=f"{name}_pointwise_conv")(x)


def depthwise_norm(x: Any, momentum: float, name: str, *, stride: int = 1, multiplier: int = 1) -> Any:
    """3x3 of each channel alone, padded alike on all sides, and norm: -> (B, H/stride, W/stride, C * multiplier)."""
    if stride > 1:
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    x = layers.DepthwiseConv2D(
        3,
        strides=stride,
        padding="valid" if stride > 1 else "same",
        depth_multiplier=multiplier,
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return batch_norm(x, momentum=momentum, epsilon=TORCH_EPSILON, name=f"{name}_bn")


def conv(x: Any, filters: int, kernel: int, momentum: float, name: str, *, stride: int = 1) -> Any:
    """Convolution, norm, ReLU: (B, H, W, C) -> (B, H/stride, W/stride, filters)."""
    x = conv_norm(x, filters, kernel, stride=stride, momentum=momentum, epsilon=TORCH_EPSILON, name=name)
    return layers.ReLU(name=f"{name}_relu")(x)


def fcn_head(
    x: Any,
    image: Any,
    classes: int,
    filters: int,
    *,
    convolutions: int = 1,
    dropout: float,
    momentum: float,
    resize: type[ResizeLike],
    prefix: str = "",
    output: str = contract.LOGITS,
) -> Any:
    """3x3 convolutions, dropout, a 1x1 one with a bias: (B, h, w, C) -> (B, H, W, classes) at the image's size."""
    for index in range(1, convolutions + 1):
        x = conv(x, filters, 3, momentum, f"{prefix}head_{index}")
    x = layers.Dropout(dropout, name=f"{prefix}dropout")(x)
    return logits(x, image, classes, resize=resize, prefix=prefix, output=output)
