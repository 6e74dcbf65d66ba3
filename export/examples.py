"""The images that a file is calibrated on and compared on, and the size that it takes from them."""

import functools
from pathlib import Path

from export import Examples, checked_size
from runtime.errors import UserError
from training.data.spec import Example
from training.runs.converted_weights import unlabelled
from training.runs.trained_model import TrainedModel
from training.runs.trained_run import load_split


def examples_of(run: TrainedModel, folder: str | None = None) -> Examples:
    """The run's own data, as it was trained on, or the images of a folder; read and checked once."""
    if folder:
        found = unlabelled(Path(folder))
        # int8 learns its ranges from one half and is judged on the other.
        return lambda split: found[::2] if split == "train" else found[1::2] or found

    @functools.cache
    def examples(split: str) -> list[Example]:
        return load_split(run.data, split)[1]

    return examples


def size_of_data(run: TrainedModel, examples: Examples) -> tuple[int, int]:
    """Of the first val image: a data set's options may have changed its usual size."""
    found = examples("val")
    if not found:
        raise UserError(f"{run.data.name} val has no image to take the size from; give --size HxW.")
    height, width = found[0].read()[0].shape[:2]
    return checked_size(f"{height}x{width}")
