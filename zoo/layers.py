"""Blocks that two or more papers share. Feature maps are (B, H, W, C)."""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from zoo import keras_private

NORM_EPSILON = 1e-3  # Keras' default, and that of the TensorFlow reference code
TORCH_EPSILON = 1e-5  # PyTorch's default, which the references in it have
JOINED_AT_ONCE = 5
GREY = 116.0  # the mean of the ImageNet channel means, 0..255: what stands for nothing around an image
# Of RGB over ImageNet, in 0..1: what torchvision, timm and Hugging Face normalise with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def resize(x: Any, size: tuple[Any, Any], interpolation: str = "bilinear") -> Any:
    """(B, h, w, C) -> (B, H, W, C), half-pixel centres; H and W may be known only when the graph runs."""
    return keras_private.resize(x, size, interpolation)


@keras.saving.register_keras_serializable("kerbside")
class ResizeLike(layers.Layer):
    """Resize x, (B, h, w, C), bilinearly to the height and width of a reference (B, H, W, ...).

    Pixel centres are at half positions and nothing is smoothed when shrinking, which is TFLite's
    RESIZE_BILINEAR with half_pixel_centers. A side that is known when the model is built stays a constant in
    the graph. Keras' own Resizing layer is not used: it puts later layers in training mode.
    """

    def call(self, inputs: list[Any]) -> Any:
        x, reference = inputs
        return resize(x, ops.shape(reference)[1:3])

    def compute_output_spec(self, inputs: list[Any]) -> keras.KerasTensor:
        x, reference = inputs
        batch, channels = x.shape[0], x.shape[3]
        return keras.KerasTensor((batch, *reference.shape[1:3], channels), dtype=self.compute_dtype)


@keras.saving.register_keras_serializable("kerbside")
class PadToMultiple(layers.Layer):
    """`pad_to_multiple` as a layer: (B, H, W, C) -> (B, H', W', C), both sides multiples of `size_divisor`, and
    `remainder` more.

    At sides that a network's stride does not divide, "same" padding puts the windows of a strided convolution elsewhere
    than at the sides of its training crops, and resizing back stretches what it found. On an image that is padded,
    every map lies as in training. A transformer takes grey better than black.
    """

    def __init__(self, size_divisor: int, value: float = 0.0, remainder: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size_divisor = size_divisor
        self.value = value
        self.remainder = remainder

    def call(self, x: Any) -> Any:
        return pad_to_multiple(x, self.size_divisor, self.value, self.remainder)

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        sides = [side and side + (self.remainder - side) % self.size_divisor for side in x.shape[1:3]]
        return keras.KerasTensor((x.shape[0], *sides, x.shape[3]), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        own = {"size_divisor": self.size_divisor, "value": self.value, "remainder": self.remainder}
        return {**super().get_config(), **own}


def pad_to_multiple(x: Any, size_divisor: int, value: float = 0.0, remainder: int = 0) -> Any:
    """x, (B, H, W, C), with `value` below and on the right, up to multiples of `size_divisor` and `remainder` more."""
    height, width = ops.shape(x)[1:3]
    below, right = (remainder - height) % size_divisor, (remainder - width) % size_divisor
    if isinstance(below, int) and isinstance(right, int):
        return _padded_by(x, below, right, value) if below or right else x
    most = size_divisor - 1  # sides known only when the graph runs: more than enough, then cut
    return _padded_by(x, most, most, value)[:, : height + below, : width + right]


def _padded_by(x: Any, below: int, right: int, value: float) -> Any:
    amounts = ((0, 0), (0, below), (0, right), (0, 0))
    if not value:
        return ops.pad(x, amounts)
    # Zeros around x - value, and not the value around x: XNNPACK has PAD, and no PADV2.
    return ops.pad(x - value, amounts) + value


@keras.saving.register_keras_serializable("kerbside")
class CropLike(layers.Layer):
    """x, (B, h, w, C), cut below and on the right to the height and width of a reference (B, H, W, ...)."""

    def call(self, inputs: list[Any]) -> Any:
        x, reference = inputs
        height, width = ops.shape(reference)[1:3]
        if (height, width) == tuple(x.shape[1:3]):
            return x  # a slice that cuts nothing would stay in an exported file
        return x[:, :height, :width]

    def compute_output_spec(self, inputs: list[Any]) -> keras.KerasTensor:
        x, reference = inputs
        return keras.KerasTensor((x.shape[0], *reference.shape[1:3], x.shape[3]), dtype=self.compute_dtype)


def padded(image: Any, size_divisor: int, remainder: int = 0) -> tuple[Any, tuple[int, int] | None]:
    """An image as a network of this stride sees it (`PadToMultiple`; 1: as it is), and its (H, W), None where free."""
    if size_divisor > 1:
        image = PadToMultiple(size_divisor, GREY, remainder, dtype="float32", name="pad")(image)
    height, width = image.shape[1:3]
    return image, (height, width) if height else None


def cut(outputs: dict[str, Any], image: Any, size_divisor: int) -> dict[str, Any]:
    """What a network gives for an image that was `padded`, at the size of the image itself."""
    if size_divisor == 1:
        return outputs
    return {key: CropLike(dtype="float32", name=f"{key}_cut")([x, image]) for key, x in outputs.items()}


@keras.saving.register_keras_serializable("kerbside")
class ResizeCornersLike(ResizeLike):
    """As ResizeLike, with the corner pixels' centres of both sizes on one another (PyTorch's align_corners).

    Keras has no such resizing. Two gathered rows and a weighted mean an axis are built-in TFLite ops in int8 too,
    where products with interpolation matrices (BATCH_MATMUL) took some forty times as long.
    """

    def call(self, inputs: list[Any]) -> Any:
        x, reference = inputs
        for axis, size in zip((1, 2), ops.shape(reference)[1:3], strict=True):
            last = ops.shape(x)[axis] - 1
            step = ops.cast(last, "float32") / ops.cast(ops.maximum(size - 1, 1), "float32")
            position = ops.arange(size, dtype="float32") * step
            before = ops.minimum(ops.cast(ops.floor(position), "int32"), last)
            weight = ops.cast(position - ops.cast(before, "float32"), x.dtype)
            weight = ops.reshape(weight, (-1,) + (1,) * (3 - axis))  # (H, 1, 1), then (W, 1)
            first, second = ops.take(x, before, axis), ops.take(x, ops.minimum(before + 1, last), axis)
            x = first + (second - first) * weight
        return x


@keras.saving.register_keras_serializable("kerbside")
class LayerNorm(layers.LayerNormalization):
    """Layer normalisation over the last axis, (..., C) -> (..., C), in float32 under any dtype policy.

    The same function as Keras' own, in ops that quantise: what Keras writes becomes NEG and SQUARED_DIFFERENCE,
    for which LiteRT has no int8 kernel or a slow one (an int8 file of six norms took five times as long), and
    no int16 kernel at all.
    """

    def call(self, inputs: Any) -> Any:
        x = ops.cast(inputs, "float32")
        x = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(x * x, axis=-1, keepdims=True)
        gamma, beta = ops.cast(self.gamma, "float32"), ops.cast(self.beta, "float32")
        return ops.cast(x * ops.rsqrt(variance + self.epsilon) * gamma + beta, self.compute_dtype)


@keras.saving.register_keras_serializable("kerbside")
class Conv2D(layers.Conv2D):
    """Keras' Conv2D with padding "same", less the taps of its kernel which meet nothing but padding.

    At a rate of 24, all but the middle row of a 3x3 kernel lies outside of a map 23 high. The numbers are the same;
    in training on small crops such convolutions took fifteen times as long as what is left of them, and a file
    that was exported at such a size is smaller. It has Keras' name because a .weights.h5 names layers by their class.
    """

    def call(self, inputs: Any) -> Any:
        kernel, rates = self.kernel, self.dilation_rate
        for axis, rate in enumerate(rates):
            middle, side = self.kernel_size[axis] // 2, inputs.shape[1 + axis]
            reach = middle if side is None else min(middle, (side - 1) // rate)
            if reach < middle:
                kept = slice(middle - reach, middle + reach + 1)
                kernel = kernel[kept] if axis == 0 else kernel[:, kept]
        if kernel is self.kernel:
            return super().call(inputs)
        x = ops.conv(inputs, kernel, padding="same", dilation_rate=rates)
        x = x if self.bias is None else x + self.bias
        return self.activation(x)


@keras.saving.register_keras_serializable("kerbside")
class MeanPool(layers.Layer):
    """The mean over windows of kernel x kernel around every stride-th place: (B, H, W, C) -> (B, H', W', C).

    H' = ceil(H / stride). Zeros around the map count as part of a window: PyTorch's AvgPool2d with a padding of
    kernel // 2. It is written as a depthwise convolution, since XNNPACK takes no AVERAGE_POOL_2D in int8; a batch norm
    and a ReLU that follow then become part of it in an exported file.
    """

    def __init__(self, kernel: int, stride: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_side = kernel
        self.stride = stride

    def call(self, x: Any) -> Any:
        side = self.kernel_side // 2
        x = ops.pad(x, ((0, 0), (side, side), (side, side), (0, 0)))
        mean = ops.full((self.kernel_side, self.kernel_side, x.shape[-1], 1), self.kernel_side**-2.0, x.dtype)
        return ops.depthwise_conv(x, mean, strides=self.stride)

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        sides = [side and -(-side // self.stride) for side in x.shape[1:3]]
        return keras.KerasTensor((x.shape[0], *sides, x.shape[3]), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel": self.kernel_side, "stride": self.stride}


@keras.saving.register_keras_serializable("kerbside")
class Concatenate(layers.Concatenate):
    """Keras' Concatenate, at most five maps at a time: XNNPACK takes no more, and what it leaves splits a file in two.

    The numbers are the same. Like Conv2D above it has Keras' name, which is what a .weights.h5 counts layers by.
    """

    def call(self, inputs: list[Any]) -> Any:
        joined = inputs[0]
        for first in range(1, len(inputs), JOINED_AT_ONCE - 1):
            joined = super().call([joined, *inputs[first : first + JOINED_AT_ONCE - 1]])
        return joined


def imagenet_normalisation(image: Any) -> Any:
    """RGB 0..255 -> each channel less its mean over ImageNet, in units of its standard deviation."""
    mean = ops.array([255 * value for value in IMAGENET_MEAN], "float32")
    deviation = ops.array([255 * value for value in IMAGENET_DEVIATION], "float32")
    return (image - mean) / deviation


def normalised(image: Any, otherwise: Callable[[Any], Any], scale: Any, offset: Any) -> Any:
    """RGB 0..255 -> image * scale + offset, by channel, where `scale` is given; else what `otherwise` makes of it."""
    if scale is None:
        return otherwise(image)
    return image * ops.array(scale, "float32") + ops.array(offset, "float32")


def gelu(x: Any) -> Any:
    """The Gaussian error linear unit in its exact form, x * (1 + erf(x / sqrt 2)) / 2, as checkpoints have it."""
    return keras.activations.gelu(x, approximate=False)


def batch_norm(x: Any, *, name: str, momentum: float, epsilon: float = NORM_EPSILON) -> Any:
    """Batch normalisation; `momentum` is what the moving statistics keep of themselves at each step."""
    return layers.BatchNormalization(momentum=momentum, epsilon=epsilon, name=name)(x)


def conv_norm(
    x: Any,
    filters: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    momentum: float,
    epsilon: float = NORM_EPSILON,
    name: str,
) -> Any:
    """Convolution without bias, padded alike on all sides as PyTorch's is, and batch norm.

    (B, H, W, C) -> (B, ceil(H / stride), ceil(W / stride), filters). With a stride, "same" pads even sides more at the
    far end.
    """
    by_hand = stride > 1 and kernel > 1
    if by_hand:
        x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    x = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="valid" if by_hand else "same",
        groups=groups,
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return batch_norm(x, momentum=momentum, epsilon=epsilon, name=f"{name}_bn")


def conv_norm_relu(
    x: Any,
    filters: int,
    kernel: int = 1,
    *,
    dilation: int = 1,
    momentum: float,
    epsilon: float = NORM_EPSILON,
    name: str,
) -> Any:
    """Convolution without bias, batch norm, ReLU: (B, H, W, C) -> (B, H, W, filters)."""
    x = Conv2D(
        filters,
        kernel,
        padding="same",
        dilation_rate=dilation,
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = batch_norm(x, momentum=momentum, epsilon=epsilon, name=f"{name}_bn")
    return layers.ReLU(name=f"{name}_relu")(x)


def separable_conv_norm_relu(
    x: Any,
    filters: int,
    kernel: int = 3,
    *,
    dilation: int = 1,
    momentum: float,
    epsilon: float = NORM_EPSILON,
    norm_between: bool = True,
    name: str,
) -> Any:
    """Depthwise convolution, batch norm, ReLU, then the same with 1x1: (B, H, W, C) -> (B, H, W, filters).

    The norm and ReLU between the two are those of DeepLab's reference code (split_separable_conv2d); without
    `norm_between` the one follows the other (segmentation_models_pytorch).
    """
    x = layers.DepthwiseConv2D(
        kernel,
        padding="same",
        dilation_rate=dilation,
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"{name}_depthwise",
    )(x)
    if norm_between:
        x = batch_norm(x, momentum=momentum, epsilon=epsilon, name=f"{name}_depthwise_bn")
        x = layers.ReLU(name=f"{name}_depthwise_relu")(x)
    return conv_norm_relu(x, filters, momentum=momentum, epsilon=epsilon, name=f"{name}_pointwise")


def image_pooling(x: Any, filters: int, *, momentum: float, epsilon: float = NORM_EPSILON, name: str) -> Any:
    """The mean of the whole image at every position (ParseNet): (B, H, W, C) -> (B, H, W, filters)."""
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)  # (B, 1, 1, C)
    pooled = conv_norm_relu(pooled, filters, momentum=momentum, epsilon=epsilon, name=name)
    return ResizeLike(name=f"{name}_broadcast")([pooled, x])


def leaves(model: keras.Model) -> list[layers.Layer]:
    """The layers that hold weights themselves, in order, those within nested models and blocks too."""
    return [
        layer
        for layer in keras_private.flat_layers(model)
        if layer.weights
        and not any(part.weights for part in keras_private.flat_layers(layer, include_self=False))
    ]
