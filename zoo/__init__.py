"""The model zoo: MODELS is the table, `build` makes a model from it. Keras 3 only, no files read."""

import inspect
from typing import Any

import keras

from zoo.deeplabv3plus import deeplabv3plus

MODELS = {
    "deeplabv3plus": deeplabv3plus,
}


def names() -> tuple[str, ...]:
    """The names that `build` knows."""
    return tuple(MODELS)


def build(name: str, **arguments: Any) -> keras.Model:
    """A model of the zoo, ready to compile: image (B, H, W, 3), RGB 0..255 -> {"logits": (B, H, W, classes)}.

    The keywords are those of the model's own function; ValueError lists the valid names or keywords when one
    is not among them.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; choose one of {', '.join(MODELS)}")
    valid = inspect.signature(MODELS[name]).parameters
    for argument in arguments:
        if argument not in valid:
            raise ValueError(f"{name} has no argument {argument!r}; it takes {', '.join(valid)}")
    return MODELS[name](**arguments)
