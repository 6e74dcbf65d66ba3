"""What a data set is: classes, palette, ignore id, splits, and label taxonomies. NumPy only."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runtime import strict_json
from runtime.class_names import check_names

VOID_ID = 255
MOST_IDS = 65_536  # label files hold up to 16 bits a pixel


@dataclass(frozen=True)
class Example:
    """One image with its label map, read when it is asked for.

    `name` is unique within its split and safe as a file name. `read()` returns the RGB image, uint8
    (H, W, 3), and the train ids, uint8 (H, W), 255 where nothing counts; it raises
    `runtime.errors.UserError`, naming the file, when either cannot be trusted.

    `place` is what messages call the image: its file, "" where it is known by its name alone.
    `group` is what neighbouring images share (a city, a drive, a folder), "" where nothing says.
    `remarks()` are sentences on the label maps of its data set, to be said aloud once all have been read.
    `raw()` returns the RGB image and the label map as it is stored, neither mapped nor compared with anything:
    ids (H, W) or colours (H, W, 3); None where `read` gives all there is.
    In a mixture `part` is the data set that it is of, and `weight` is how often an epoch of training takes it: 2
    is twice, 0.5 every other epoch; all examples of a part have one weight.
    `checksums` are those of training/data/files/fingerprint.py once the example was checked, "" before.
    """

    name: str
    read: Callable[[], tuple[np.ndarray, np.ndarray]]
    group: str = ""
    raw: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None
    part: str = ""
    weight: float = 1.0
    remarks: Callable[[], Sequence[str]] | None = None
    place: str = ""
    checksums: str = ""


@dataclass(frozen=True)
class DatasetSpec:
    """Classes in train-id order with their colours; `size` is the usual (height, width) of an image."""

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    splits: tuple[str, ...]
    size: tuple[int, int]
    ignore_id: int = VOID_ID

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.palette):
            raise ValueError(f"{self.name}: {len(self.classes)} classes but {len(self.palette)} colours")
        check_names(self.classes)

    def as_dict(self) -> dict[str, Any]:
        """What classes.json of a run holds."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(content: dict[str, Any]) -> "DatasetSpec":
        """The inverse of `as_dict`, after a way through JSON. ValueError on anything else."""
        strict_json.checked(content, KEPT)
        return DatasetSpec(
            name=content["name"],
            classes=tuple(content["classes"]),
            palette=tuple(_rgb(colour) for colour in content["palette"]),
            splits=tuple(content["splits"]),
            size=(content["size"][0], content["size"][1]),
            ignore_id=content["ignore_id"],
        )


KEPT: dict[str, Any] = {  # the types of a DatasetSpec that is kept as JSON
    "name": str,
    "classes": list[str],
    "palette": list[tuple[int, int, int]],
    "splits": list[str],
    "size": tuple[int, int],
    "ignore_id": int,
}


def _rgb(colour: Any) -> tuple[int, int, int]:
    red, green, blue = (int(channel) for channel in colour)
    return red, green, blue


Taxonomies = dict[str, DatasetSpec]


@dataclass(frozen=True)
class Dataset:
    """A row of DATASETS.

    `taxonomies` maps a `--classes` value to its spec; the first is the default. Where the classes come with
    the data it is a function (data_dir, options) -> such a dict, which raises `UserError` when they cannot
    be read; `options` are those that `examples` takes.
    `examples(split, data_dir, taxonomy, **options)` lists what is there without decoding it, and
    returns (examples, problems): each problem is one sentence that names a file (a label that is missing,
    say). It raises `UserError` when the folder is not there or holds nothing.
    `drawn` says that there are no files, which could be bad. `unlabelled` are official splits whose labels
    their makers keep: they are in no spec, and asked for, they are refused with that reason.
    `notes(data_dir, options)` gives sentences on how the data are read, to be said aloud: how splits came about,
    say; `options` are all of --data-option.
    """

    taxonomies: Taxonomies | Callable[[Path | str | None, dict[str, Any]], Taxonomies]
    examples: Callable[..., tuple[list[Example], list[str]]]
    needs_data_dir: bool = True
    drawn: bool = False
    unlabelled: tuple[str, ...] = ()
    notes: Callable[[Path | str | None, dict[str, Any]], list[str]] | None = None

    @property
    def static(self) -> Taxonomies:
        """The taxonomies that are known without looking at any data: none where the classes come with it."""
        return self.taxonomies if isinstance(self.taxonomies, dict) else {}

    def specs(self, data_dir: Path | str | None = None, options: dict[str, Any] | None = None) -> Taxonomies:
        """Every taxonomy, read from the data where the classes come with it."""
        if isinstance(self.taxonomies, dict):
            return self.taxonomies
        return self.taxonomies(data_dir, options or {})


def lookup_table(mapping: dict[int, int], default: int = VOID_ID) -> np.ndarray:
    """A uint8 table that turns raw ids into train ids by indexing: 256 entries, or 65,536 where an id needs them."""
    table = np.full(256 if max(mapping, default=0) < 256 else MOST_IDS, default, np.uint8)
    for raw, train in mapping.items():
        table[raw] = train
    return table
