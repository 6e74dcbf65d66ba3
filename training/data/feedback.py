"""What people corrected on the page (runtime/corrections.py): --data feedback --data-dir DIR, the folder that it shows.

The corrected masks are the labels; ids of 255, what was marked as ignored, do not count. Every fifth record, from the
second on, is val and never trained on; the rest is train: the part hangs on the record's number alone, so that it stays
what it was when more is kept. A set of classes is that of the models that predicted: the one with most records is
the default, and the others have names of their own for --classes.
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from runtime import corrections
from runtime.corrections import Record
from runtime.errors import UserError
from runtime.image import read_rgb
from training.data.labels import label_maps, taxonomies
from training.data.labels.label_maps import check_sizes, read_ids, to_train_ids
from training.data.spec import VOID_ID, DatasetSpec, Example, Taxonomies

SPLITS = ("train", "val")
HOLDS = f"{corrections.DATABASE} and {corrections.FILES}/"
KEEP_MORE = "keep more corrections on the page: every fifth, from the second on, is held out as val"


def taxonomies_of(data_dir: Path | str | None, options: dict[str, Any]) -> Taxonomies:
    """One set of classes for each that records have, that of most records first."""
    del options
    return {name: _spec(name, records[-1]) for name, records in _sets(data_dir).items()}


def examples(split: str, data_dir: Path | str | None, taxonomy: str) -> tuple[list[Example], list[str]]:
    """The records of a split that have these classes, by number; whether their files are right is seen when read."""
    chosen = _sets(data_dir)[taxonomy]
    found = [record for record in chosen if record.held_out == (split == "val")]
    if not found:
        raise UserError(f"{data_dir} has {len(chosen)} corrections, none of them {split}; {KEEP_MORE}.")
    return [_example(Path(str(data_dir)), record) for record in found], []


def _sets(data_dir: Path | str | None) -> dict[str, list[Record]]:
    """Name of a set of classes -> its records; UserError when there are none at all."""
    folder = label_maps.data_folder("feedback", data_dir, HOLDS)
    by_labels: dict[tuple[str, ...], list[Record]] = {}
    for record in corrections.records(folder):
        by_labels.setdefault(record.labels, []).append(record)
    if not by_labels:
        raise UserError(f"{folder} holds no corrections; it has to be the folder that the page shows.")
    found: dict[str, list[Record]] = {}
    for names, records in sorted(by_labels.items(), key=lambda item: -len(item[1])):
        name = taxonomies.set_of(names) or f"classes{len(names)}"
        found[name if name not in found else f"{name}_{records[0].id}"] = records
    return found


def _spec(name: str, record: Record) -> DatasetSpec:
    try:
        return DatasetSpec(name, record.labels, record.palette, SPLITS, (record.height, record.width))
    except ValueError as error:
        raise UserError(
            f"The correction {record.id} is of classes that cannot be trained: {error}."
        ) from error


def _example(folder: Path, record: Record) -> Example:
    image, mask = (corrections.path_of(folder, record.id, kind) for kind in ("picture", "corrected"))
    read = functools.partial(_read, image, mask, len(record.labels))
    return Example(f"{record.id:06d}", read, raw=lambda: (read_rgb(image), read_ids(mask)), place=str(image))


def _read(image: Path, mask: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rgb, ids = read_rgb(image), read_ids(mask)
    check_sizes(rgb, ids, str(image), str(mask))
    allowed = frozenset({*range(classes), VOID_ID})
    return rgb, to_train_ids(ids, np.arange(256, dtype=np.uint8), allowed, str(mask))
