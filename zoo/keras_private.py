"""What we need of Keras and Keras keeps private, in one file: the first to look at when Keras is updated.

Each name was seen in Keras 3.15.1. `export/tensorflow_private.py` has TensorFlow's and LiteRT's.
"""

from collections.abc import Iterable
from typing import Any, BinaryIO

import keras
from keras.src.backend.common import global_state
from keras.src.ops.image import Resize
from keras.src.saving import saving_lib

SEEN_IN = "3.15.1"


def resize(x: Any, size: tuple[Any, Any], interpolation: str) -> Any:
    """`keras.ops.image.resize` without antialiasing, for a size that may be known only when the graph runs: the public
    function compares it with 0 in Python, which a graph refuses; its own operation does not."""
    return Resize(size, interpolation=interpolation, antialias=False).call(x)


def flat_layers(layer: keras.layers.Layer, include_self: bool = True) -> Iterable[keras.layers.Layer]:
    """A layer or model and all layers within it: there is no public walk into the blocks that KerasCV is made of."""
    found: Iterable[keras.layers.Layer] = layer._flatten_layers(include_self=include_self)
    return found


def own_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Those of the layer itself, none of the layers within it."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def forget_uninitialised() -> None:
    """Variables made with `initialize_variables=False` stay without values; Keras would make them at a later time."""
    global_state.set_global_attribute("uninitialized_variables", [])


def write_weights(model: keras.Model, file: BinaryIO) -> None:
    """What `model.save_weights` writes; the public method takes nothing but a path."""
    store = saving_lib.H5IOStore(file, mode="w")
    saving_lib._save_state(
        model, weights_store=store, assets_store=None, inner_path="", visited_saveables=set()
    )
    store.close()


def kernel_attribute(layer: keras.layers.Layer) -> str:
    """The attribute that a convolution or Dense layer computes with; `kernel` of most is a property over it."""
    return "kernel" if isinstance(layer, keras.layers.DepthwiseConv2D) else "_kernel"


def place_of(optimizer: keras.optimizers.Optimizer, variable: Any) -> int:
    """Which of the variables that the optimizer was built with it is; also for one replica's tf.Variable."""
    place: int = optimizer._get_variable_index(variable)
    return place


def decays(optimizer: keras.optimizers.Optimizer, variable: Any) -> bool:
    """Whether the optimizer's weight decay is for this variable, after `exclude_from_weight_decay`."""
    return bool(optimizer._use_weight_decay(variable))


def adam_moments(optimizer: keras.optimizers.Adam, place: int) -> tuple[keras.Variable, keras.Variable]:
    """Adam's first and second moment of a variable."""
    return optimizer._momentums[place], optimizer._velocities[place]
