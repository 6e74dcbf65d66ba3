"""What a data set is: classes, palette, ignore id, splits, and label taxonomies. NumPy only."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

IGNORE_ID = 255


@dataclass(frozen=True)
class Example:
    """One picture with its label map, read when it is asked for.

    `name` is unique within its split and safe as a file name. `read()` returns the RGB image, uint8
    (H, W, 3), and the train ids, uint8 (H, W), 255 where nothing counts; it raises
    `runtime.errors.UserError`, naming the file, when either cannot be trusted.
    """

    name: str
    read: Callable[[], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class DatasetSpec:
    """Classes in train-id order with their colours; `size` is the usual (height, width) of a picture."""

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    splits: tuple[str, ...]
    size: tuple[int, int]
    ignore_id: int = IGNORE_ID

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.palette):
            raise ValueError(f"{self.name}: {len(self.classes)} classes but {len(self.palette)} colours")


@dataclass(frozen=True)
class Dataset:
    """A row of DATASETS.

    `taxonomies` maps a `--classes` value to its spec; the first is the default.
    `examples(split, data_dir, taxonomy, **options)` lists what is there without decoding it, and
    returns (examples, problems): each problem is one sentence that names a file (a label that is missing,
    say). It raises `UserError` when the folder is not there or holds nothing.
    """

    taxonomies: dict[str, DatasetSpec]
    examples: Callable[..., tuple[list[Example], list[str]]]
    needs_data_dir: bool = True

    def spec(self, taxonomy: str | None = None) -> DatasetSpec:
        return self.taxonomies[taxonomy or next(iter(self.taxonomies))]


def lookup_table(mapping: dict[int, int], default: int = IGNORE_ID) -> np.ndarray:
    """A uint8 table of 256 entries that turns raw ids into train ids by indexing."""
    table = np.full(256, default, np.uint8)
    for raw, train in mapping.items():
        table[raw] = train
    return table
