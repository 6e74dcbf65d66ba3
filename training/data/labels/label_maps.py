"""Label maps: raw ids to train ids, and images paired with their label maps (decoded by masks.py)."""

import functools
from collections.abc import Callable, Collection
from pathlib import Path

import cv2
import numpy as np

from runtime.errors import UserError
from runtime.image import read_rgb
from training.data.labels.masks import Colour, orientation, read_colours, read_ids, turned
from training.data.spec import MOST_IDS, Example

__all__ = ["Colour", "read_colours", "read_ids"]  # readers of data sets find here all that a label map needs
ReadIds = Callable[[Path], np.ndarray]  # a label file -> raw ids, uint8 or uint16 (H, W)
MOST_RANGES = 8  # of ids, in a sentence


def to_train_ids(raw: np.ndarray, table: np.ndarray, allowed: frozenset[int], shown: str) -> np.ndarray:
    """Raw ids, uint8 or uint16 (H, W), to train ids, uint8, through a table of 256 or 65,536 entries; UserError names
    the file and an id not allowed."""
    refused = _refused(allowed)
    if raw.dtype == np.uint8:
        refused, table = refused[:256], table[:256]
    if cv2.countNonZero(cv2.LUT(raw, refused)):  # ten times faster than counting every id
        wrong = [int(value) for value in np.unique(raw) if int(value) not in allowed]
        listed = ", ".join(map(str, wrong[:5])) + (" and more" if len(wrong) > 5 else "")
        raise UserError(f"{shown} holds the class id {listed}; {_ranges(allowed)} are right.")
    # All are allowed: where the table ends at 255, so do they.
    return cv2.LUT(raw.astype(np.uint8) if len(table) == 256 else raw, table)


@functools.lru_cache(maxsize=32)
def _refused(allowed: frozenset[int]) -> np.ndarray:
    """uint8 (65536,): 1 where an id is not allowed."""
    refused = np.ones(MOST_IDS, np.uint8)
    refused[list(allowed)] = 0
    return refused


def _ranges(ids: Collection[int]) -> str:
    """0, 1, 2, 5, 255 -> "0 to 2, 5 and 255"."""
    runs: list[list[int]] = []
    for value in sorted(ids):
        if runs and runs[-1][-1] == value - 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    shown = [f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    if len(shown) > MOST_RANGES:
        shown = [*shown[: MOST_RANGES - 1], f"{len(shown) - MOST_RANGES + 1} more ranges"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def check_sizes(image: np.ndarray, ids: np.ndarray, image_name: str, label_name: str) -> None:
    """UserError unless image and label map have the same height and width."""
    if image.shape[:2] != ids.shape:
        raise UserError(
            f"{label_name} is {ids.shape[1]}x{ids.shape[0]} pixels but its image {image_name} is "
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
    """The Example of an image file and its label file; nothing is read until `read()` is called.

    `read` turns the label file into raw ids, of which those in `allowed` become train ids through `table`.
    The group is the image's folder, unless `group` says another.
    """
    reader = functools.partial(read_pair, image, label, table=table, allowed=allowed, read=read)
    raw = functools.partial(read_raw, image, label, read=read)
    return Example(name, reader, group=group or image.parent.name, raw=raw, place=str(image))


def read_raw(image: Path, label: Path, *, read: ReadIds = read_ids) -> tuple[np.ndarray, np.ndarray]:
    """RGB uint8 (H, W, 3) and the ids as the label file holds them, uint8 or uint16 (H, W), of whatever size."""
    return read_rgb(image), read(label)


def read_pair(
    image: Path, label: Path, *, table: np.ndarray, allowed: frozenset[int], read: ReadIds = read_ids
) -> tuple[np.ndarray, np.ndarray]:
    """RGB uint8 (H, W, 3) and train ids uint8 (H, W) of two files; UserError when they cannot be trusted."""
    rgb, raw = read_rgb(image), read(label)
    if raw.shape != rgb.shape[:2] and raw.shape == rgb.shape[1::-1]:
        raw = _turned_alike(raw, image, label)
    check_sizes(rgb, raw, str(image), str(label))
    return rgb, to_train_ids(raw, table, allowed, str(label))


def _turned_alike(raw: np.ndarray, image: Path, label: Path) -> np.ndarray:
    """A label map that fits its image only as that is stored, and says nothing of a turn: turned as the image is."""
    quarter = orientation(image)
    return turned(raw, quarter) if quarter >= 5 and orientation(label) == 1 else raw


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
