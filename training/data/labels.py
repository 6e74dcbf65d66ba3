"""Label maps: class ids from PNG files, raw ids to train ids, and pictures paired with their label maps.

Pillow decodes them, because OpenCV and TensorFlow expand a paletted PNG into its colours and leave ids that
mean nothing; Pillow keeps the palette's indices.
"""

import functools
import io
import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from runtime.errors import UserError
from runtime.image import checked_bytes, read_rgb
from training.data.spec import IGNORE_ID, Example


def read_ids(source: str | os.PathLike[str] | bytes, name: str | None = None) -> np.ndarray:
    """Class ids, uint8 (H, W), of an 8-bit grey PNG or of a paletted PNG (its indices, not its colours).

    Raises UserError when the file cannot be trusted or holds colours instead of ids.
    """
    data, shown, header = checked_bytes(source, name)
    if header.kind != "PNG":
        raise UserError(f"{shown} is a {header.kind}; a label map has to be a PNG, which keeps ids exactly.")
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.mode not in ("L", "P") or (header.bits != 8 and not header.paletted):
                raise UserError(
                    f"{shown} has {header.bits}-bit pixels of mode {picture.mode}; a label map has to "
                    "be an 8-bit grey or a paletted PNG with one class id per pixel."
                )
            return np.array(picture)  # a copy: Pillow's own buffer is read-only
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{shown} is a truncated or damaged PNG file; copy or export it again.") from error


def to_train_ids(raw: np.ndarray, table: np.ndarray, allowed: frozenset[int], shown: str) -> np.ndarray:
    """Raw ids to train ids through a table of 256 entries; UserError names the file and an id not allowed."""
    refused = np.ones(256, np.uint8)
    refused[list(allowed)] = 0
    if cv2.countNonZero(cv2.LUT(raw, refused)):  # ten times faster than counting every id
        wrong = [int(value) for value in np.unique(raw) if int(value) not in allowed]
        listed = ", ".join(map(str, wrong[:5])) + (" and more" if len(wrong) > 5 else "")
        top = max(value for value in allowed if value != IGNORE_ID)
        right = f"0 to {top} and {IGNORE_ID}" if IGNORE_ID in allowed else f"0 to {top}"
        raise UserError(f"{shown} holds the class id {listed}; {right} are right.")
    return cv2.LUT(raw, table)


def check_sizes(image: np.ndarray, ids: np.ndarray, image_name: str, label_name: str) -> None:
    """UserError unless picture and label map have the same height and width."""
    if image.shape[:2] != ids.shape:
        raise UserError(
            f"{label_name} is {ids.shape[1]}x{ids.shape[0]} pixels but its picture {image_name} is "
            f"{image.shape[1]}x{image.shape[0]}; both have to be the same size."
        )


def pair(name: str, image: Path, label: Path, *, table: np.ndarray, allowed: frozenset[int]) -> Example:
    """The Example of a picture file and its label file; nothing is read until `read()` is called."""
    return Example(name, functools.partial(read_pair, image, label, table=table, allowed=allowed))


def read_pair(
    image: Path, label: Path, *, table: np.ndarray, allowed: frozenset[int]
) -> tuple[np.ndarray, np.ndarray]:
    """RGB uint8 (H, W, 3) and train ids uint8 (H, W) of two files; UserError when they cannot be trusted."""
    rgb, raw = read_rgb(image), read_ids(label)
    check_sizes(rgb, raw, str(image), str(label))
    return rgb, to_train_ids(raw, table, allowed, str(label))


def data_folder(data: str, data_dir: Path | str | None, holds: str) -> Path:
    """The data set's folder; UserError when none was named, or when it is not there."""
    if data_dir is None:
        raise UserError(
            f"The data set {data} is read from a folder; name it with --data-dir (it holds {holds})."
        )
    folder = Path(data_dir)
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"The data folder {folder} {problem}; --data-dir has to name one that holds {holds}.")
    return folder


def png_names(folder: Path) -> dict[str, Path]:
    """File name to path of every PNG right inside a folder; UserError when it is missing or holds none."""
    if not folder.is_dir():
        raise UserError(f"The folder {folder} does not exist; check --data-dir and the split.")
    names = {path.name: path for path in folder.iterdir() if path.suffix.lower() == ".png"}
    if not names:
        raise UserError(f"The folder {folder} holds no PNG files; check --data-dir and the split.")
    return names
