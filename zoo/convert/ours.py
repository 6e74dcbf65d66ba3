"""Our own FILE.weights.h5 -> a model of the zoo: every layer by its name, a head of other classes row by row.

Keras' own loader goes by counters (conv2d_7), which shift as soon as a layer more or less is there, and takes a model
whole or not at all. The file has each layer's name as well, and those of the layers around it.
"""

import collections
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from runtime.errors import UserError, first_line
from zoo import contract
from zoo.convert.files import h5

OPTIONAL = "auxiliary"  # layers whose name begins so serve training alone: they may be new, or left out
RANGES = "range"  # what a run with --quantize has beside its layers

Rows = Sequence[
    int | None
]  # for each class of the model, in its order, the class of the file, or None: a new row
Stored = Mapping[str, Sequence[h5py.Dataset]]  # path of a layer -> its arrays, in the order of its variables


@dataclass(frozen=True)
class Taken:
    """What became of a file's layers in a model, by their paths: taken as they are, taken by rows or new because their
    classes are others (`heads`), `new` because the file has none, `left` because the model has none."""

    whole: tuple[str, ...]
    heads: tuple[str, ...]
    new: tuple[str, ...]
    left: tuple[str, ...]


@contextmanager
def opened(path: Path) -> Iterator[Stored]:
    """The layers that have weights in FILE.weights.h5; their arrays can be read inside the block.

    Raises UserError, naming the file, when it is damaged or is none that Keras 3 wrote.
    """
    h5.check(path)
    try:
        with h5py.File(path, "r") as file:
            yield _layers(file, path)
    except (OSError, KeyError, RuntimeError, TypeError) as error:
        raise UserError(f"{path} is damaged, cut short or no .weights.h5: {first_line(error)}") from error


def _layers(file: h5py.File, path: Path) -> Stored:
    """Each group "vars" has its layer's name; those of the groups above it make the path."""
    names: dict[str, str] = {}
    groups: dict[str, h5py.Group] = {}

    def visit(name: str, item: Any) -> None:  # links are not followed
        if isinstance(item, h5py.Group) and name.endswith("/vars") and "name" in item.attrs:
            place = name.removesuffix("/vars")
            names[place], groups[place] = str(item.attrs["name"]), item

    file.visititems(visit)
    found = {}
    for place, group in groups.items():
        parts = place.split("/")
        above = ("/".join(parts[: depth + 1]) for depth in range(len(parts)))
        if len(group):
            arrays = [group[key] for key in sorted(group, key=int)]
            found["/".join(names[one] for one in above if one in names)] = arrays
    if not found:
        raise UserError(f"{path} has no named layers: it is no .weights.h5 of a model of the zoo")
    strange = [
        name
        for name, arrays in found.items()
        if not all(
            isinstance(one, h5py.Dataset) and one.dtype.kind in "fiub" and not one.external for one in arrays
        )
    ]
    if strange:
        raise UserError(f"{path} holds in {strange[0]} something else than arrays of numbers")
    return found


def layers_of(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """The layers that hold weights themselves, by the path under which a .weights.h5 has them."""
    found: dict[str, keras.layers.Layer] = {}

    def visit(layer: Any, above: str) -> None:
        # Keras has no public way to the layers that a layer is made of.
        for part in layer.layers if isinstance(layer, keras.Model) else layer._layers:
            path = f"{above}{part.name}"
            if _variables(part):
                found[path] = part
            visit(part, f"{path}/")

    visit(model, "")
    return found


def class_count(model: keras.Model, stored: Stored, classes: int) -> int | None:
    """How many classes the file's head has, where the model has `classes`; None where either has no head."""
    layers = layers_of(model)
    for path in layers.keys() & stored.keys():
        if is_head(path):
            last, *_ = (variable.shape[-1] for variable in _variables(layers[path]))
            return int(stored[path][0].shape[-1]) - (last - classes)
    return None


def is_head(path: str) -> bool:
    return _last(path) in contract.HEADS


def _placed(layers: Mapping[str, Any], stored: Stored) -> Stored:
    """The file's arrays under the paths of the model's layers. A block that Keras numbers (conv_block13) has another
    number in another process: what is in it is found by its own name, if that is the only one in file and model."""
    theirs, names = collections.Counter(map(_last, stored)), collections.Counter(map(_last, layers))
    numbered = {_last(path): path for path in layers if path not in stored and names[_last(path)] == 1}
    return {
        numbered.get(_last(path), path) if theirs[_last(path)] == 1 else path: arrays
        for path, arrays in stored.items()
    }


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def take(model: keras.Model, stored: Stored, rows: Rows | None = None) -> Taken:
    """Give the model every layer of the file that fits. All is checked before anything is assigned.

    With `rows` a head takes these rows of the file's, weights and bias, and keeps its random values elsewhere; what a
    head has beyond the classes ("no object") is always taken. Raises ValueError that names the layer when one that
    ought to fit is missing, has another shape, or holds values that are not finite.
    """
    layers = layers_of(model)
    stored = _placed(layers, stored)
    heads = [path for path in layers if rows is not None and is_head(path)]
    new = [path for path in layers if path not in stored and path.startswith(OPTIONAL)]
    for path, layer in layers.items():
        if path not in new:
            _check(path, layer, stored, by_rows=path in heads)
    for path, layer in layers.items():
        if path in new:
            continue
        for variable, dataset in zip(_variables(layer), stored[path], strict=True):
            array = np.asarray(dataset[()], np.float32)
            if not np.isfinite(array).all():
                raise ValueError(f"has values in the layer {path} that are not finite: the file is damaged")
            variable.assign(_with_rows(variable, array, rows or ()) if path in heads else array)
    return Taken(
        whole=tuple(path for path in layers if path not in (*heads, *new)),
        heads=tuple(path for path in heads if path not in new),
        new=tuple(new),
        left=tuple(path for path in stored if path not in layers and not path.endswith(RANGES)),
    )


def _check(path: str, layer: keras.layers.Layer, stored: Stored, by_rows: bool) -> None:
    ours = [tuple(variable.shape) for variable in _variables(layer)]
    if path not in stored:
        raise ValueError(f"lacks the layer {path} {_shapes(ours)}")
    theirs = [tuple(array.shape) for array in stored[path]]
    if ours != theirs and not (by_rows and [one[:-1] for one in ours] == [one[:-1] for one in theirs]):
        raise ValueError(
            f"has the layer {path} in the shape {_shapes(theirs)}, where {_shapes(ours)} is needed"
        )


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes)


def _with_rows(variable: Any, array: np.ndarray, rows: Rows) -> np.ndarray:
    """The variable's own values (..., classes [+ more]), with those rows of `array` (..., its classes [+ as many])."""
    made = np.array(keras.ops.convert_to_numpy(variable))
    for row, source in enumerate(rows):
        if source is not None:
            made[..., row] = array[..., source]
    more = made.shape[-1] - len(rows)
    if more:
        made[..., -more:] = array[..., -more:]
    return made


def _variables(layer: keras.layers.Layer) -> list[Any]:
    """In the order in which Keras stores them."""
    return layer._trainable_variables + layer._non_trainable_variables
