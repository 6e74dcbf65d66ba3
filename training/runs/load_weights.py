"""Weights of a whole model from a .weights.h5."""

from pathlib import Path

import keras

from runtime.errors import UserError, first_line
from training.runs import best_weights
from zoo.convert.files import h5


def load_weights(model: keras.Model, path: Path) -> None:
    """Load a .weights.h5 of this very architecture. UserError when it is damaged or of another one."""
    best_weights.check(path)
    h5.check(path)
    try:
        model.load_weights(path)
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path} does not fit this model or is damaged: {first_line(error)}") from error
