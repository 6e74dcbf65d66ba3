"""Weights of keras.applications models -> our backbones. Layer names agree: it is a matter of checking."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from zoo.layers import leaves

Weights = Mapping[str, Sequence[np.ndarray]]  # layer name -> its arrays, in the order of layer.weights


def assign_by_layer_name(model: keras.Model, weights: Weights) -> None:
    """Give each layer of `model` the arrays that stand under its name.

    Layers of the source that the model lacks, such as the classifier's, are passed over. Everything is
    checked before anything is assigned: ValueError names the model's layers that the source lacks, or the
    first layer whose shapes differ, with both.
    """
    ours = leaves(model)
    missing = [layer.name for layer in ours if layer.name not in weights]
    if missing:
        shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        raise ValueError(f"has no weights for {len(missing)} of the backbone's {len(ours)} layers: {shown}")
    for layer in ours:
        expected = [tuple(variable.shape) for variable in layer.weights]
        found = [tuple(array.shape) for array in weights[layer.name]]
        if expected != found:
            raise ValueError(
                f"differs from the backbone first in layer {layer.name}: {_shapes(found)} in the file, "
                f"{_shapes(expected)} in the backbone"
            )
    for layer in ours:
        layer.set_weights(list(weights[layer.name]))


def _shapes(shapes: list[tuple[int, ...]]) -> str:
    return " ".join(str(shape) for shape in shapes) or "no weights"
