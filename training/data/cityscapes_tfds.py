"""Cityscapes from the two official zips through TensorFlow Datasets' own builder.

`--data-dir` holds leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip as they were downloaded. The first
run prepares them into DATA_DIR/tensorflow_datasets, which takes as much room again, twice (the extracted files
and the records). The records are ArrayRecord files, because they are read by index. Images and label maps
are stored as the official PNG bytes and decoded by our own readers, so the same files are refused as from
folders.
"""

import functools
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import UserError
from runtime.image import read_rgb
from training.data import cityscapes
from training.data.labels import label_maps
from training.data.spec import Example

ZIPS = ("leftImg8bit_trainvaltest.zip", "gtFine_trainvaltest.zip")
BUILDER = "cityscapes/semantic_segmentation"
SPLITS = {"train": "train", "val": "validation", "test": "test"}

TAXONOMIES = cityscapes.TAXONOMIES


def examples(split: str, data_dir: Path | str | None, taxonomy: str) -> tuple[list[Example], list[str]]:
    """Every record of the split, in the builder's order; UserError when a zip is missing or no zip."""
    folder = label_maps.data_folder("cityscapes_tfds", data_dir, " and ".join(ZIPS))
    records = _records(folder, SPLITS[split])
    found = [
        Example(
            f"{split}_{index:06d}",
            functools.partial(_read, records, index, taxonomy),
            raw=functools.partial(_raw, records, index),
        )
        for index in range(len(records))
    ]
    if not found:
        raise UserError(f"The zips in {folder} hold no images of the split {split}.")
    return found, []


def _records(folder: Path, split: str) -> Sequence[dict[str, Any]]:
    import tensorflow_datasets as tfds  # takes seconds to import, and only this data set needs it

    prepared = folder / "tensorflow_datasets"
    builder = tfds.builder(BUILDER, data_dir=str(prepared), file_format="array_record")
    if not builder.is_prepared():
        for name in ZIPS:
            path = folder / name
            if not path.is_file():
                raise UserError(
                    f"{path} does not exist; --data-dir has to hold the official {' and '.join(ZIPS)}."
                )
            if not zipfile.is_zipfile(path):
                raise UserError(f"{path} is not a whole zip file; download it again.")
        config = tfds.download.DownloadConfig(manual_dir=str(folder))
        try:
            builder.download_and_prepare(download_dir=str(prepared / "downloads"), download_config=config)
        except Exception as error:  # whatever is wrong inside the zips surfaces here, in many guises
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"TFDS cannot prepare the zips in {folder}: {reason}.") from error
    keep = tfds.decode.SkipDecoding()
    return builder.as_data_source(split=split, decoders={"image_left": keep, "segmentation_label": keep})


def _raw(records: Sequence[dict[str, Any]], index: int) -> tuple[np.ndarray, np.ndarray]:
    record = records[index]
    name = f"record {index}"
    return (
        read_rgb(bytes(record["image_left"]), name),
        label_maps.read_ids(bytes(record["segmentation_label"]), name),
    )


def _read(records: Sequence[dict[str, Any]], index: int, taxonomy: str) -> tuple[np.ndarray, np.ndarray]:
    record = records[index]
    identity = record["image_id"]
    shown = identity.decode() if isinstance(identity, bytes) else str(identity)
    image_name, label_name = f"{shown}_leftImg8bit.png", f"{shown}_gtFine_labelIds.png"
    image = read_rgb(bytes(record["image_left"]), image_name)
    raw = label_maps.read_ids(bytes(record["segmentation_label"]), label_name)
    label_maps.check_sizes(image, raw, image_name, label_name)
    table = cityscapes.TABLES[taxonomy, "labelIds"]
    return image, label_maps.to_train_ids(raw, table, cityscapes.ALLOWED_IDS, label_name)
