"""A Hugging Face data set with an image column and a label column, local or from the Hub.

    --data hf --data-option path=ORG/NAME image=pixel_values label=label
    --data hf --data-option path=/a/folder/of/parquet splits=train,test classes=road,car,sky ignore=0

`path` is a name on the Hub or a folder: of parquet files, of images with metadata (both as load_dataset reads
them), or of save_to_disk. The label is a PNG with one id a pixel (grey, paletted, or colours that a classes.json
tells), or nested lists of ids. The names of the classes come from, in this order, `classes` (names, or a file as in
training/data/labels/classes.py), the label's own ClassLabel, or id2label.json in the data set. `ignore` lists raw ids
that are no class (255 if not given). Splits are called by their usual names, or as `splits` says for train, val
and test; without a val they are made by ratio and seed. The library `datasets` does the fetching: it downloads
once, resumes, and maps Arrow files into memory, in --data-dir or in its usual cache.

`stream=true` copies only what is asked for (`count=1000` of each split) and no more, into --data-dir: see
training/data/files/stream_copy.py.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.image import read_rgb
from training.data.hf_source import Ask, Source, checked, grid, id2label, local, streamed
from training.data.labels import classes as class_files
from training.data.labels import label_maps
from training.data.labels.classes import Classes
from training.data.spec import VOID_ID, DatasetSpec, Example, Taxonomies

OPTIONS = tuple(field.name for field in dataclasses.fields(Ask))


class Record(NamedTuple):
    """An image and its label: bytes or a file; the label may be rows of ids."""

    image: bytes | Path
    label: bytes | Path | Sequence[Sequence[int]]


def taxonomies(data_dir: Path | str | None, options: dict[str, Any]) -> Taxonomies:
    """The one taxonomy of the data set, by its name."""
    ask = checked(Ask(**{key: value for key, value in options.items() if key in OPTIONS}))
    source = (streamed(ask, data_dir) if ask.stream else local(ask, _text(data_dir)))[0]
    table = _classes(ask, source)
    name = ask.path.rstrip("/").split("/")[-1]
    return {name: DatasetSpec(name, table.names, table.palette, tuple(source.splits), (512, 512))}


def examples(
    split: str,
    data_dir: Path | str | None,
    taxonomy: str,
    *,
    path: str = "",
    config: str = "",
    revision: str = "",
    image: str = "",
    label: str = "",
    splits: tuple[str, ...] | str = (),
    classes: tuple[str, ...] | str = (),
    ignore: tuple[int, ...] | int = VOID_ID,
    stream: bool = False,
    count: int = 0,
) -> tuple[list[Example], list[str]]:
    """Every record of the split, or the first `count`, in the data set's order."""
    del taxonomy  # there is one
    ask = checked(Ask(path, config, revision, image, label, splits, classes, ignore, stream, count))
    if stream:
        source, files = streamed(ask, data_dir, split)
        records: Sequence[Record] = [Record(*pair) for pair in files]
    else:
        source, parts = local(ask, _text(data_dir))
        records = _Rows(parts[source.splits[split]], source, count)
    table = _classes(ask, source)
    shown = f"{ask.path} {source.splits[split]}"
    return [
        Example(
            f"{split}_{index:06d}",
            functools.partial(_pair, class_files.decode, records, index, table, shown),
            raw=functools.partial(_pair, class_files.as_stored, records, index, table, shown),
            remarks=table.remarks,
            place=f"{shown} {index} image",
        )
        for index in range(len(records))
    ], []


class _Rows(Sequence[Record]):
    """A data set's rows as records, fetched when they are asked for."""

    def __init__(self, rows: Any, source: Source, count: int) -> None:
        self.rows, self.source = rows, source
        self.size = min(count, len(rows)) if count else len(rows)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> Any:
        row = self.rows[index]
        return Record(_content(row[self.source.image]), _content(row[self.source.label]))


def _content(value: Any) -> Any:
    """A column's value: what is in its image, or the value itself."""
    if not isinstance(value, dict):
        return value
    return value["bytes"] if value.get("bytes") is not None else Path(value["path"])


def _pair(
    decode: Callable[..., Any], records: Sequence[Record], index: int, table: Classes, shown: str
) -> tuple[np.ndarray, np.ndarray]:
    record, name = records[index], f"{shown} {index}"
    return decode(read_rgb(record.image, f"{name} image"), record.label, table, _ids, name)


def _ids(label: Any, shown: str) -> np.ndarray:
    return label_maps.read_ids(label, shown) if isinstance(label, bytes | Path) else grid(label, shown)


def _classes(ask: Ask, source: Source) -> Classes:
    """The classes of the raw ids, by name."""
    file = None if ask.classes or source.names else id2label(ask)
    return class_files.chosen(str(file) if file else ask.classes, source.names, ask.ignore, ask.path)


def _text(data_dir: Path | str | None) -> str | None:
    return None if data_dir is None else str(data_dir)
