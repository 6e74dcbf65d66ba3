"""Quantisation-aware training: a model that computes as its int8 file will, and learns to do so well.

Sources: Jacob et al. 2018 (arXiv:1712.05877, section 3) for the simulated quantisation and the moving averages of
ranges; Krishnamoorthi 2018 (arXiv:1806.08342, sections 3 and 4) for a scale a channel; Bengio et al. 2013
(arXiv:1308.3432) for the straight-through gradient.

- Kernels of Conv2D, DepthwiseConv2D and Dense: int8, symmetric, -127..127, a scale for each output channel.
- What goes from one op to the next: int8, asymmetric, one scale a tensor, over a moving average of each batch's least
  and largest value. It is rounded where the converter's int8 file holds a tensor: behind a convolution with its batch
  norm and its ReLU, a sum, a concatenation, a resize.

Deviations: batch norms are not folded into kernels here, though they are in the file, because that would change
nothing: with a symmetric scale for each output channel, a channel's factor, gamma / sqrt(variance + epsilon), goes
through the rounding as it is, round(k w / (k s)) k s = k round(w / s) s. So a norm trains as always, by the statistics
of the batch, without Jacob's second convolution, and its moving statistics take up the mean error of rounded weights.
Biases (int32 in the file) are not rounded. Ranges inside a layer of several ops, such as attention or a layer norm, are
not simulated: its kernels and what it puts out are.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from runtime.errors import UserError
from training.engine.fused_norms import fuse_norms
from zoo import keras_private
from zoo.layers import CropLike, PadToMultiple

IMAGES = 16
MOMENTUM = 0.99  # what a range keeps of itself at each step
KERNELS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
# What the file does to a tensor without a scale of its own: nothing, or moving values.
MOVES = (
    keras.layers.InputLayer, keras.layers.Dropout, keras.layers.SpatialDropout2D, keras.layers.Reshape,
    keras.layers.Flatten, keras.layers.Permute, keras.Model, PadToMultiple, CropLike,
)  # fmt: skip


class Range(keras.layers.Layer):
    """(...) -> (...), rounded to 256 steps between the least and the largest value that it has seen.

    `low` and `high` are weights that no gradient reaches, so that a step's guard against what is not finite, micro-
    batches, replicas, averages and checkpoints treat them like a norm's moving statistics.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self.low = self.add_weight(name="low", shape=(), initializer="zeros", trainable=False)
        self.high = self.add_weight(name="high", shape=(), initializer="zeros", trainable=False)
        self.watching = False  # calibration: widen the range, round nothing
        self.built = True

    def call(self, x: Any, training: bool | None = None) -> Any:
        low, high = tf.reduce_min(x), tf.reduce_max(x)
        if self.watching:
            self.low.assign(tf.minimum(self.low, low))
            self.high.assign(tf.maximum(self.high, high))
            return x
        if training:
            for kept, new in ((self.low, tf.minimum(low, 0.0)), (self.high, tf.maximum(high, 0.0))):
                kept.assign(kept * MOMENTUM + tf.stop_gradient(new) * (1.0 - MOMENTUM))
        return rounded(x, self.low.value, self.high.value)


def rounded(x: Any, low: Any, high: Any) -> Any:
    """x, float32, as int8 with one scale and zero point over low..high, where low <= 0 <= high, keeps it; a gradient
    goes through where x lies in that range, and not where it is clipped."""
    high = tf.maximum(high, low + 1e-6)
    return tf.quantization.fake_quant_with_min_max_vars(x, low, high, num_bits=8)


def rounded_kernel(kernel: Any, depthwise: bool = False) -> Any:
    """A kernel, float32, as int8 with a scale for each output channel keeps it; the gradient goes through whole.

    Output channels are the last axis of (h, w, in, out) and (in, out), the last two of a depthwise (h, w, in, times).
    """
    axes = list(range(kernel.shape.rank - (2 if depthwise else 1)))
    scale = tf.maximum(tf.reduce_max(tf.abs(kernel), axis=axes, keepdims=True) / 127.0, 1e-12)
    return kernel + tf.stop_gradient(tf.round(kernel / scale) * scale - kernel)


def quantize(model: keras.Model) -> list[Range]:
    """Let a model compute as its int8 file does, in training and in prediction, and give its ranges, which
    `calibrate` has to fill first. Names and order of its weights stay; `best.weights.h5` of such a model has the
    ranges as well, and loads into one that is not quantised.

    UserError for a model without kernels, and for one that is quantised already.
    """
    kernels = [layer for layer in keras_private.flat_layers(model) if isinstance(layer, KERNELS)]
    if not kernels:
        raise UserError(f"{model.name} has no kernel to quantise: leave --quantize out")
    if hasattr(model, "ranges"):
        raise UserError(f"{model.name} is quantised already")
    fuse_norms(model)  # it binds calls too, and has to come first
    model.ranges = [
        _round_result_of(operation, f"{path}/range".replace("/", "_")) for path, operation in _results(model)
    ]
    for layer in kernels:
        _round_kernel_of(layer, model.ranges)
    return model.ranges


def calibrate(model: keras.Model, ranges: Iterable[Range], images: Iterable[np.ndarray]) -> None:
    """Widen the ranges to all that the float model's tensors hold on these images, uint8 (H, W, 3): what the
    converter does when it calibrates. UserError without an image."""
    ranges, seen = list(ranges), 0
    for one in ranges:
        one.watching = True
    for image in images:
        model(tf.cast(image[None], tf.float32), training=False)
        seen += 1
    for one in ranges:
        one.watching = False
    if not seen:
        raise UserError("the train split has no image to begin the ranges of --quantize with; one is needed")


def _round_kernel_of(layer: keras.layers.Layer, ranges: Sequence[Range]) -> None:
    """While the layer computes, the rounded kernel stands in the place of its own, but not in calibration."""
    inner, depthwise = layer.call, isinstance(layer, keras.layers.DepthwiseConv2D)
    attributes, place = (
        vars(layer),
        keras_private.kernel_attribute(layer),
    )  # set past Keras, which tracks variables

    def call(*args: Any, **kwargs: Any) -> Any:
        kernel = attributes[place]
        if any(one.watching for one in ranges):
            return inner(*args, **kwargs)
        value = rounded_kernel(tf.cast(kernel.value, tf.float32), depthwise)
        attributes[place] = tf.cast(value, layer.compute_dtype)
        try:
            return inner(*args, **kwargs)
        finally:
            attributes[place] = kernel

    layer.call = call


def _round_result_of(operation: Any, name: str) -> Range:
    found, inner = Range(name), operation.call

    def call(*args: Any, **kwargs: Any) -> Any:
        result = inner(*args, **kwargs)
        return tf.cast(found(tf.cast(result, tf.float32)), result.dtype)

    operation.call = call
    return found


def _results(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, operation) of all whose result the int8 file holds as a tensor with a scale."""
    ends = {id(tensor._keras_history.operation) for tensor in keras.tree.flatten(model.outputs)}
    nodes = {id(node) for depth in model._nodes_by_depth.values() for node in depth}
    for operation in model.operations:
        path = prefix + operation.name
        if isinstance(operation, keras.Model):
            yield from _results(operation, f"{path}/")
        if isinstance(operation, MOVES) or not _is_float_tensor(operation):
            continue
        readers = [node.operation for node in operation._outbound_nodes if id(node) in nodes]
        fused = len(readers) == 1 and id(operation) not in ends and _fuses(operation, readers[0])
        if not fused:
            yield path, operation


def _is_float_tensor(operation: Any) -> bool:
    results = operation._inbound_nodes[0].output_tensors
    return len(results) == 1 and "float" in str(results[0].dtype)


def _fuses(operation: Any, reader: Any) -> bool:
    """Whether the converter makes one op of an operation and the only one that reads it."""
    convolution = isinstance(operation, KERNELS) and operation.activation is keras.activations.linear
    if isinstance(reader, keras.layers.BatchNormalization):
        return convolution
    if not _is_relu(reader):
        return False
    norm = isinstance(operation, keras.layers.BatchNormalization)
    return convolution or norm or type(operation).__name__ in ("Add", "Subtract", "Multiply")


def _is_relu(operation: Any) -> bool:
    if isinstance(operation, keras.layers.ReLU):
        return not operation.negative_slope and not operation.threshold and operation.max_value in (None, 6)
    if isinstance(operation, keras.layers.Activation):
        return operation.activation in (keras.activations.relu, keras.activations.relu6)
    return type(operation).__name__ in ("Relu", "Relu6")
