"""Tensors of a recognised checkpoint -> the variables of our model: all is checked before any is assigned."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

import zoo
from zoo import keras_private
from zoo.convert.checkpoint import Match


def same(array: np.ndarray) -> np.ndarray:
    return array


def convolution(array: np.ndarray) -> np.ndarray:
    """(out, in / groups, h, w) -> (h, w, in / groups, out)."""
    return array.transpose(2, 3, 1, 0)


def depthwise(array: np.ndarray) -> np.ndarray:
    """(channels, 1, h, w) -> (h, w, channels, 1)."""
    return array.transpose(2, 3, 0, 1)


def dense(array: np.ndarray) -> np.ndarray:
    """(out, in), or the (out, in, 1, 1) of a 1x1 convolution, -> (in, out)."""
    return array.reshape(array.shape[:2]).T


MORE_WEIGHTS, FEW_WEIGHTS = 2, 1 << 22  # a new head may be larger than the old one
Turn = Callable[[np.ndarray], np.ndarray]
_NORM: dict[str, tuple[str, Turn]] = {"gamma": ("weight", same), "beta": ("bias", same)}

# Keras' layer -> its variable -> PyTorch's name for it, and how to turn it.
TORCH: dict[str, dict[str, tuple[str, Turn]]] = {
    "Conv2D": {"kernel": ("weight", convolution), "bias": ("bias", same)},
    "DepthwiseConv2D": {"kernel": ("weight", depthwise), "bias": ("bias", same)},
    "Dense": {"kernel": ("weight", dense), "bias": ("bias", same)},
    "Embedding": {"embeddings": ("weight", same)},
    "LayerNormalization": _NORM,
    "GroupNormalization": _NORM,
    "BatchNormalization": {
        **_NORM,
        "moving_mean": ("running_mean", same),
        "moving_variance": ("running_var", same),
    },
}


@dataclass(frozen=True)
class Report:
    """What became of the tensors; `fresh` are our variables that kept their random values (a new head)."""

    used: tuple[str, ...]
    left_over: tuple[str, ...]
    fresh: tuple[str, ...]


def check_size(match: Match, arguments: Mapping[str, Any]) -> None:
    """Raise ValueError where the model would have more weights than the checkpoint: one forged shape, such as the
    classes of a tensor without elements, can ask for any number of them. Nothing is allocated."""
    with keras.StatelessScope(initialize_variables=False):
        weights = zoo.build(match.model, **arguments).weights
        wanted = sum(math.prod(weight.shape) for weight in weights)
    keras_private.forget_uninitialised()
    there = sum(array.size for array in match.tensors.values())
    if wanted > MORE_WEIGHTS * there + FEW_WEIGHTS:
        raise ValueError(f"it would have {wanted} weights, and the checkpoint has {there}")


def assign(model: keras.Model, match: Match, new_head: bool = False) -> Report:
    """Give each variable of `model` its tensor. Nothing is assigned unless everything fits.

    Raises ValueError when a tensor is missing, has another shape or is not finite. With `new_head`, a layer
    whose variables differ in their last axis only (the classes) keeps its random values instead.
    """
    values, missing = _values(model, match)
    if missing:
        shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        raise ValueError(f"lacks {len(missing)} of the {len(model.weights)} tensors it should have: {shown}")
    fresh = _new_head(values) if new_head else set()
    chosen = []
    for variable, name, array in values:
        if _layer_path(variable) in fresh:
            continue
        if tuple(variable.shape) != array.shape:
            raise ValueError(
                f"has {name} in the shape {array.shape} where {match.model} has {tuple(variable.shape)}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"has values in {name} that are not finite: the file is damaged")
        chosen.append((variable, array))
    for variable, array in chosen:
        variable.assign(array)
    read = {name for _, name, _ in values}
    known = re.compile("|".join(f"(?:{pattern})" for pattern in match.unused) or r"(?!)")
    return Report(
        used=tuple(name for name in match.tensors if name in read),
        left_over=tuple(name for name in match.tensors if name not in read and not known.fullmatch(name)),
        fresh=tuple(variable.path for variable in model.weights if _layer_path(variable) in fresh),
    )


def _values(model: keras.Model, match: Match) -> tuple[list[tuple[Any, str, np.ndarray]], list[str]]:
    """(variable, tensor's name, array as the variable lies) of all variables, and the names that are missing."""
    owners = {
        id(variable): layer
        for layer in keras_private.flat_layers(model)
        for variable in keras_private.own_variables(layer)
    }
    values, missing = [], []
    reads_image = _reads_image(model) if match.flipped else None
    for variable in model.weights:
        prefix = match.names(_layer_path(variable))
        suffix, turn = _torch_name(owners[id(variable)], variable.name)
        name = f"{prefix}.{suffix}"
        if match.layout == "keras":
            name, turn = f"{prefix}/{variable.name}", same
        if name in match.tensors:
            array = turn(np.asarray(match.tensors[name]))
            values.append((variable, name, array[:, :, ::-1] if variable is reads_image else array))
        else:
            missing.append(name)
    return values, missing


def _reads_image(model: keras.Model) -> Any:
    """The kernel (h, w, 3, filters) that reads the image, the only one with three channels."""
    kernels = [variable for variable in model.weights if len(variable.shape) == 4 and variable.shape[2] == 3]
    if len(kernels) != 1:
        raise ValueError(f"reads blue first, but has {len(kernels)} kernels that read three channels")
    return kernels[0]


def _torch_name(layer: Any, variable: str) -> tuple[str, Turn]:
    """A variable's row of TORCH, that of the nearest base class; one of our own layers keeps its names."""
    for kind in type(layer).__mro__:
        if kind.__name__ in TORCH:
            return TORCH[kind.__name__][variable]
    return variable, same


def _new_head(values: list[tuple[Any, str, np.ndarray]]) -> set[str]:
    """The paths of the layers of which a variable differs in its last axis and in nothing else."""
    return {
        _layer_path(variable)
        for variable, _, array in values
        if tuple(variable.shape) != array.shape and tuple(variable.shape)[:-1] == array.shape[:-1]
    }


def _layer_path(variable: Any) -> str:
    return variable.path.rpartition("/")[0]
