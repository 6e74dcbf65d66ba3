"""Label maps: class ids from PNG files, raw ids to train ids, and pictures paired with their label maps.

Pillow decodes them, because OpenCV and TensorFlow expand a paletted PNG into its colours and leave ids that
mean nothing; Pillow keeps the palette's indices.
"""

import functools
import io
import os
from collections.abc import Callable, Collection
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from runtime.errors import UserError
from runtime.image import checked_bytes, read_rgb
from training.data.spec import Example

ReadIds = Callable[[Path], np.ndarray]  # a label file -> raw ids, uint8 (H, W)
Colour = tuple[int, int, int]


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


def read_colours(
    source: str | os.PathLike[str] | bytes,
    colours: dict[Colour, int],
    name: str | None = None,
    *,
    unknown: int | None = None,
) -> np.ndarray:
    """Class ids, uint8 (H, W), of a PNG whose RGB colours stand for classes; `colours` says which for which id.

    A colour that stands for none becomes `unknown`, or is a UserError that names it where `unknown` is None.
    """
    data, shown, header = checked_bytes(source, name)
    if header.kind != "PNG":
        raise UserError(
            f"{shown} is a {header.kind}; a label map has to be a PNG, which keeps colours exactly."
        )
    try:
        with Image.open(io.BytesIO(data)) as picture:
            if picture.mode not in ("RGB", "RGBA", "P"):
                raise UserError(
                    f"{shown} has pixels of mode {picture.mode}; here a label map has to be a colour-coded PNG."
                )
            rgb = np.array(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{shown} is a truncated or damaged PNG file; copy or export it again.") from error
    red, green, blue = np.moveaxis(rgb.astype(np.uint32), -1, 0)
    codes = red << 16 | green << 8 | blue  # (H, W), one number a colour
    keys = np.array([(r << 16) + (g << 8) + b for r, g, b in colours], np.uint32)
    order = np.argsort(keys)
    at = np.searchsorted(keys[order], codes).clip(max=len(keys) - 1)
    ids = np.array(list(colours.values()), np.uint8)[order][at]
    strange = keys[order][at] != codes
    if strange.any():
        if unknown is None:
            raise UserError(_strange_colours(shown, rgb[strange]))
        ids[strange] = unknown
    return ids


def _strange_colours(shown: str, pixels: np.ndarray) -> str:
    """The sentence on pixels (N, 3) whose colours stand for no class."""
    found, counts = np.unique(pixels, axis=0, return_counts=True)
    listed = ", ".join(f"({r}, {g}, {b})" for r, g, b in found[np.argsort(-counts)][:3])
    more = " and more" if len(found) > 3 else ""
    pixel = "pixel" if len(pixels) == 1 else "pixels"
    return f"{shown} has {len(pixels)} {pixel} of a colour that stands for no class, {listed}{more}; repaint them."


def to_train_ids(raw: np.ndarray, table: np.ndarray, allowed: frozenset[int], shown: str) -> np.ndarray:
    """Raw ids to train ids through a table of 256 entries; UserError names the file and an id not allowed."""
    refused = np.ones(256, np.uint8)
    refused[list(allowed)] = 0
    if cv2.countNonZero(cv2.LUT(raw, refused)):  # ten times faster than counting every id
        wrong = [int(value) for value in np.unique(raw) if int(value) not in allowed]
        listed = ", ".join(map(str, wrong[:5])) + (" and more" if len(wrong) > 5 else "")
        raise UserError(f"{shown} holds the class id {listed}; {_ranges(allowed)} are right.")
    return cv2.LUT(raw, table)


def _ranges(ids: Collection[int]) -> str:
    """0, 1, 2, 5, 255 -> "0 to 2, 5 and 255"."""
    runs: list[list[int]] = []
    for value in sorted(ids):
        if runs and runs[-1][-1] == value - 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    shown = [f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def check_sizes(image: np.ndarray, ids: np.ndarray, image_name: str, label_name: str) -> None:
    """UserError unless picture and label map have the same height and width."""
    if image.shape[:2] != ids.shape:
        raise UserError(
            f"{label_name} is {ids.shape[1]}x{ids.shape[0]} pixels but its picture {image_name} is "
            f"{image.shape[1]}x{image.shape[0]}; both have to be the same size."
        )


def pair(
    name: str,
    image: Path,
    label: Path,
    *,
    table: np.ndarray,
    allowed: frozenset[int],
    read: ReadIds = read_ids,
    group: str = "",
) -> Example:
    """The Example of a picture file and its label file; nothing is read until `read()` is called.

    `read` turns the label file into raw ids, of which those in `allowed` become train ids through `table`.
    The group is the picture's folder, unless `group` says another.
    """
    reader = functools.partial(read_pair, image, label, table=table, allowed=allowed, read=read)
    raw = functools.partial(read_raw, image, label, read=read)
    return Example(name, reader, group=group or image.parent.name, raw=raw)


def read_raw(image: Path, label: Path, *, read: ReadIds = read_ids) -> tuple[np.ndarray, np.ndarray]:
    """RGB uint8 (H, W, 3) and the ids as the label file holds them, uint8 (H, W), of whatever size."""
    return read_rgb(image), read(label)


def read_pair(
    image: Path, label: Path, *, table: np.ndarray, allowed: frozenset[int], read: ReadIds = read_ids
) -> tuple[np.ndarray, np.ndarray]:
    """RGB uint8 (H, W, 3) and train ids uint8 (H, W) of two files; UserError when they cannot be trusted."""
    rgb, raw = read_rgb(image), read(label)
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
