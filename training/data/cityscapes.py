"""Cityscapes: the official label table, its 19 classes and 8 categories, and readers of the official files.

Source: M. Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016, and the
label table published with it, which stands in training/data/labels/taxonomies.py. `cityscapes19` are the 19 train ids
of the benchmark. `cityscapes8` are the 8 categories with void as class 0, which is learnt and scored like the others;
only pixels that carry no raw label (255) are ignored there. From labelTrainIds files, which do not tell void from the
classes that the benchmark leaves out, every set of classes but the 19 ignores both.
"""

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.errors import UserError
from runtime.folders import leftover
from training.data.labels import label_maps, taxonomies
from training.data.spec import VOID_ID, Example

SPLITS = ("train", "val", "test")
SIZE = (1024, 2048)  # height, width


class Label(NamedTuple):
    """A row of the official table: `id` is what labelIds files hold, `train_id` is 255 where ignored."""

    name: str
    id: int
    train_id: int
    category: str
    colour: tuple[int, int, int]


_NINETEEN, CATEGORIES = taxonomies.classes("cityscapes19"), taxonomies.classes("cityscapes8")
# The licence plate (-1) is left out: it is never drawn into the official PNG files.
LABELS = tuple(
    Label(
        name,
        index,
        _NINETEEN.index(name) if name in _NINETEEN else VOID_ID,
        str(row.cityscapes8),
        row.colour,
    )
    for index, (name, row) in enumerate(taxonomies.TABLE["cityscapes34"].items())
)
TRAIN_LABELS = tuple(
    label for label in LABELS if label.train_id != VOID_ID
)  # in the order of their train ids
ID_TO_TRAIN_ID = {label.id: label.train_id for label in LABELS}
TRAIN_ID_TO_ID = {label.train_id: label.id for label in TRAIN_LABELS}

TAXONOMIES = taxonomies.specs("cityscapes19", "cityscapes8", "cityscapes34", splits=SPLITS, size=SIZE)

# Raw ids that a file may hold: 255 is the licence plate's -1 in eight bits.
ALLOWED_IDS = frozenset(ID_TO_TRAIN_ID) | {VOID_ID}
ALLOWED_TRAIN_IDS = frozenset(TRAIN_ID_TO_ID) | {VOID_ID}

# (taxonomy, kind of label file) -> train ids. Train ids do not tell the 34 apart.
TABLES = {(name, "labelIds"): taxonomies.table("cityscapes34", name) for name in TAXONOMIES} | {
    (name, "labelTrainIds"): taxonomies.table("cityscapes19", name)
    for name in TAXONOMIES
    if name != "cityscapes34"
}
# The 19 classes take labelTrainIds first, as the official tools do; the others need what only the raw ids tell.
PREFERRED = {name: ("labelIds", "labelTrainIds") for name in TAXONOMIES} | {
    "cityscapes19": ("labelTrainIds", "labelIds"),
    "cityscapes34": ("labelIds",),
}
IMAGE_END = "_leftImg8bit.png"
EXTRA = "train_extra"  # 19,998 images with coarse labels alone
LOOKED_AT = 8  # label files in which train ids are looked for


def examples(
    split: str, data_dir: Path | str | None, taxonomy: str, *, coarse: bool = False
) -> tuple[list[Example], list[str]]:
    """Every leftImg8bit/SPLIT/CITY/*_leftImg8bit.png that has a label file under gtFine/SPLIT/CITY.

    With `coarse` train has the images of train_extra too, with their labels from gtCoarse. An image without a label
    file, or the other way round, is a problem, named.
    """
    if not isinstance(coarse, bool):
        raise UserError(f"The option coarse of cityscapes is {coarse!r}; true or false is right.")
    folder = label_maps.data_folder("cityscapes", data_dir, "leftImg8bit/ and gtFine/")
    found, problems = _paired(folder, split, "gtFine", taxonomy)
    if coarse and split == "train":
        more, others = _paired(folder, EXTRA, "gtCoarse", taxonomy)
        return found + more, problems + others
    return found, problems


def notes(data_dir: Path | str | None, options: dict[str, Any]) -> list[str]:
    """Coarse labels that lie beside the fine ones, and label ids that look like train ids.

    UserError where coarse labels would be divided into val."""
    folder = label_maps.data_folder("cityscapes", data_dir, "leftImg8bit/ and gtFine/")
    coarse = options.get("coarse") is True
    if coarse and "ratios" in options:
        raise UserError("coarse=true with ratios would put coarse labels into val; leave one of them out.")
    return [text for text in (_coarse(folder, coarse), _train_ids(folder)) if text]


def _paired(folder: Path, split: str, truth_folder: str, taxonomy: str) -> tuple[list[Example], list[str]]:
    image_folder, truth = folder / "leftImg8bit" / split, folder / truth_folder / split
    for needed in (image_folder, truth):
        if not needed.is_dir():
            raise UserError(f"The folder {needed} does not exist; check --data-dir and the split.")
    images = {
        (path.parent.name, path.name[: -len(IMAGE_END)]): path for path in _files(image_folder, IMAGE_END)
    }
    if not images:
        raise UserError(
            f"The folder {image_folder} holds no CITY/*{IMAGE_END}; check --data-dir and the split."
        )
    found, problems = [], []
    count = Counter(stem for _, stem in images)
    for (city, stem), image in sorted(images.items()):
        # The official names begin with the city's; others are told apart by it.
        name = stem if count[stem] == 1 else f"{city}_{stem}"
        for kind in PREFERRED[taxonomy]:
            label = truth / city / f"{stem}_{truth_folder}_{kind}.png"
            if label.is_file():
                allowed = ALLOWED_IDS if kind == "labelIds" else ALLOWED_TRAIN_IDS
                found.append(
                    label_maps.pair(name, image, label, table=TABLES[taxonomy, kind], allowed=allowed)
                )
                break
        else:
            missing = f"{truth / city / stem}_{truth_folder}_labelIds.png"
            problems.append(f"{image} has no label map; {missing} is missing.")
    end = f"_{truth_folder}_labelIds.png"
    for label in _files(truth, end):
        stem = label.name.removesuffix(end)
        if (label.parent.name, stem) not in images:
            missing = f"{image_folder / label.parent.name / stem}{IMAGE_END}"
            problems.append(f"{label} has no image; {missing} is missing.")
    return found, problems


def _files(folder: Path, end: str) -> list[Path]:
    """Every CITY/*END that a person put there."""
    return sorted(path for path in folder.glob(f"*/*{end}") if not leftover(path.name))


def _coarse(folder: Path, taken: bool) -> str:
    extra = folder / "leftImg8bit" / EXTRA
    count = len(_files(extra, IMAGE_END))
    if count and taken:
        return f"train has the {count} images of train_extra too, with the coarse labels of gtCoarse."
    if count:
        return (
            f"{extra} has {count} images with coarse labels, which are not read; --data-option coarse=true adds them "
            "to train."
        )
    if (folder / "gtCoarse").is_dir():
        return (
            f"{folder / 'gtCoarse'} has coarse labels of the images that gtFine has too; they are not read."
        )
    return ""


def _train_ids(folder: Path) -> str:
    """The warning on labelIds files that hold train ids: none of the ids from 19 on, which sky, person and car have,
    and mostly void. Some files of train, evenly spaced, are looked at."""
    files = _files(folder / "gtFine" / "train", "_gtFine_labelIds.png")
    files = files[:: max(1, len(files) // LOOKED_AT)][:LOOKED_AT]
    counts = np.zeros(256, np.int64)
    for path in files:
        with contextlib.suppress(UserError):  # the check of every file names it
            counts += np.bincount(label_maps.read_ids(path).ravel(), minlength=256)[:256]
    there = np.flatnonzero(counts)
    void = counts[TABLES["cityscapes19", "labelIds"] == VOID_ID].sum() / max(1, counts.sum())
    if not len(there) or (there[there != VOID_ID] >= len(TRAIN_LABELS)).any() or void <= 0.5:
        return ""
    shown = ", ".join(map(str, there))
    return (
        f"Warning: the labelIds files of {folder / 'gtFine'} look like train ids: {len(files)} of them hold the ids "
        f"{shown} and none from 19 to 33, and read as label ids {void:.0%} of their pixels are void. If so, call them "
        "*_gtFine_labelTrainIds.png."
    )
