"""Any data set of TensorFlow Datasets that has a segmentation label.

    --data tfds --data-option builder=oxford_iiit_pet label=segmentation_mask classes=pet.json splits=train,test
    --data tfds --data-option builder=/a/folder/my_streets/1.0.0

`builder` is NAME, NAME/CONFIG or NAME/CONFIG:VERSION, or a folder that TFDS has prepared. It is prepared on first
use, in --data-dir or TFDS' usual folder, as ArrayRecord files, because training reads records by number. Images
and label maps stay the encoded bytes that TFDS keeps and are decoded by our own readers; labels that are plain
tensors of ids are taken as they are. The names of the classes come from `classes` (names in the order of their
ids, or a file as in training/data/labels/classes.py), or from the label itself (tfds.features.LabeledImage). `ignore`
lists raw ids that are no class (255 if not given). Splits are called by their usual names, or as `splits` says for
train, val and test; without a val they are made by ratio and seed.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.errors import UserError
from runtime.image import read_rgb
from training.data.files import random_splits as split_rules
from training.data.labels import classes as class_files
from training.data.labels import label_maps
from training.data.labels.classes import Classes
from training.data.spec import MOST_IDS, VOID_ID, DatasetSpec, Example, Taxonomies

IMAGES = ("image", "image_left", "images", "picture")
LABELS = ("segmentation_mask", "segmentation_label", "label", "mask", "annotations", "annotation")


class Source(NamedTuple):
    """A prepared builder, our split names to its own, its two features."""

    builder: Any
    splits: dict[str, str]
    image: str
    label: str


def taxonomies(data_dir: Path | str | None, options: dict[str, Any]) -> Taxonomies:
    """The one taxonomy of the data set, by its name."""
    named = {key: options[key] for key in ("builder", "image", "label", "splits") if key in options}
    source = _source(_text(data_dir), **{key: _plain(value) for key, value in named.items()})
    table = _classes(source, options.get("classes", ()), options.get("ignore", VOID_ID))
    name = str(source.builder.name)
    return {name: DatasetSpec(name, table.names, table.palette, tuple(source.splits), (512, 512))}


def examples(
    split: str,
    data_dir: Path | str | None,
    taxonomy: str,
    *,
    builder: str = "",
    image: str = "",
    label: str = "",
    splits: tuple[str, ...] | str = (),
    classes: tuple[str, ...] | str = (),
    ignore: tuple[int, ...] | int = VOID_ID,
) -> tuple[list[Example], list[str]]:
    """Every record of the split, in the builder's order."""
    del taxonomy  # there is one
    source = _source(_text(data_dir), builder=builder, image=image, label=label, splits=_plain(splits))
    table = _classes(source, classes, ignore)
    records = _records(source, source.splits[split])
    shown = f"{source.builder.name} {source.splits[split]}"
    return [
        Example(
            f"{split}_{index:06d}",
            functools.partial(_pair, class_files.decode, records, index, source, table, shown),
            raw=functools.partial(_pair, class_files.as_stored, records, index, source, table, shown),
            remarks=table.remarks,
            place=f"{shown} {index} image",
        )
        for index in range(len(records))
    ], []


@functools.lru_cache(maxsize=4)  # its classes, its train split and its val split are asked for one by one
def _source(
    data_dir: str | None, *, builder: str = "", image: str = "", label: str = "", splits: Any = ()
) -> Source:
    if not builder:
        raise UserError("--data tfds needs --data-option builder=NAME, such as builder=oxford_iiit_pet.")
    found = _prepared(str(builder), data_dir)
    features = found.info.features
    own = list(found.info.splits)
    return Source(
        found,
        split_rules.named(splits if isinstance(splits, tuple) else (splits,), own, builder),
        _feature(builder, "image", image, features, IMAGES),
        _feature(builder, "label", label, features, LABELS),
    )


def _prepared(name: str, data_dir: str | None) -> Any:
    """The builder with its files in place, as ArrayRecord."""
    import tensorflow_datasets as tfds  # takes seconds to import

    folder = Path(name)
    try:
        if (folder / "dataset_info.json").is_file():
            builder = tfds.builder_from_directory(str(folder))
        else:
            builder = tfds.builder(name, data_dir=data_dir)
            if not builder.is_prepared():
                builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    except Exception as error:  # tfds.core.DatasetNotFoundError lists all that there are
        raise UserError(f"TFDS has no data set {name}: {_reason(error)}.") from error
    if not builder.is_prepared():
        manual = tfds.download.DownloadConfig(manual_dir=data_dir)
        try:
            builder.download_and_prepare(download_config=manual)
        except Exception as error:  # whatever fails to be fetched or read surfaces here, in many guises
            raise UserError(f"TFDS cannot prepare {name}: {_reason(error)}.") from error
    if builder.info.file_format.value != "array_record":
        raise UserError(
            f"{builder.data_dir} was prepared as {builder.info.file_format.value}, which cannot be read by number: "
            "name another --data-dir to prepare it anew, or run tfds convert_format "
            f"--dataset_version_dir={builder.data_dir} --out_file_format=array_record --out_dir=OTHER."
        )
    return builder


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300].rstrip(".:")


def _feature(builder: str, option: str, named: str, features: Any, usual: Sequence[str]) -> str:
    if named and named not in features:
        raise UserError(f"{builder} has no feature {named}; it has {', '.join(features)}.")
    chosen = named or next((name for name in usual if name in features and _is_grid(features[name])), "")
    if not chosen:
        raise UserError(
            f"Say which feature of {builder} is the {option}, with {option}=: it has {', '.join(features)}."
        )
    if not _is_grid(features[chosen]):
        raise UserError(f"The feature {chosen} of {builder} is no image; {option}= has to name one that is.")
    return chosen


def _is_grid(feature: Any) -> bool:
    return len(getattr(feature, "shape", None) or ()) in (2, 3)


def _records(source: Source, split: str) -> Sequence[dict[str, Any]]:
    import tensorflow_datasets as tfds

    # The bytes of every image stay as they are: the two that are wanted are decoded by our own readers.
    images = [
        name for name, kind in source.builder.info.features.items() if isinstance(kind, tfds.features.Image)
    ]
    keep = {name: tfds.decode.SkipDecoding() for name in images}
    return source.builder.as_data_source(split=split, decoders=keep)


def _pair(
    decode: Callable[..., Any],
    records: Sequence[dict[str, Any]],
    index: int,
    source: Source,
    table: Classes,
    shown: str,
) -> tuple[np.ndarray, np.ndarray]:
    record, name = records[index], f"{shown} {index}"
    return decode(_image(record[source.image], f"{name} image"), record[source.label], table, _ids, name)


def _image(value: Any, shown: str) -> np.ndarray:
    if isinstance(value, bytes):
        return read_rgb(value, shown)
    image = np.asarray(value)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise UserError(f"{shown} is {image.dtype} {image.shape}; RGB of 8 bits, (H, W, 3), is right.")
    return image


def _ids(value: Any, shown: str) -> np.ndarray:
    if isinstance(value, bytes):
        return label_maps.read_ids(value, shown)
    ids = np.asarray(value)
    ids = ids[..., 0] if ids.ndim == 3 and ids.shape[-1] == 1 else ids
    if (
        ids.ndim != 2
        or ids.dtype.kind not in "iub"
        or ids.min(initial=0) < 0
        or ids.max(initial=0) >= MOST_IDS
    ):
        raise UserError(
            f"{shown} is {ids.dtype} {ids.shape}; whole ids from 0 to 65535, (H, W) or (H, W, 1), are right."
        )
    return ids.astype(np.uint8 if ids.max(initial=0) < 256 else np.uint16)


def _classes(source: Source, named: Any, ignore: Any) -> Classes:
    shown = f"{source.builder.name} ({source.label})"
    return class_files.chosen(
        named, getattr(source.builder.info.features[source.label], "names", None), ignore, shown
    )


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _text(data_dir: Path | str | None) -> str | None:
    return None if data_dir is None else str(data_dir)
