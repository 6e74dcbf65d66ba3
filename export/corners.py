"""Resizing that aligns corners, as TFLite has it: one RESIZE_BILINEAR in place of four gathers and two weighted means.

Keras has no such resizing, so the zoo's `ResizeCornersLike` writes it out (zoo/layers.py). The numbers are the
same to float rounding, and the gate compares the file with the model as it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import keras

from zoo.keras_private import flat_layers
from zoo.layers import ResizeCornersLike


@contextmanager
def native_resize(model: keras.Model) -> Iterator[None]:
    """Within, every ResizeCornersLike of the model computes by TensorFlow's own operation; afterwards as before."""
    bound: list[Any] = [
        layer
        for layer in flat_layers(model)
        if isinstance(layer, ResizeCornersLike) and "call" not in vars(layer)
    ]
    try:
        for layer in bound:
            layer.call = MethodType(_call, layer)
        yield
    finally:
        for layer in bound:
            del layer.call


def _call(self: Any, inputs: list[Any]) -> Any:
    import tensorflow as tf

    x, reference = inputs
    size = [side or tf.shape(reference)[axis] for axis, side in enumerate(reference.shape[1:3], 1)]
    return tf.raw_ops.ResizeBilinear(images=x, size=size, align_corners=True)  # float32, whatever x is
