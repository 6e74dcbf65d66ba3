"""Cityscapes: the official label table, its 19 classes and 8 categories, and readers of the official files.

Source: M. Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016, and the
label table published with it, which stands in training/data/taxonomies.py. `cityscapes19` are the 19 train ids of
the benchmark. `cityscapes8` are the 8 categories with void as class 0, which is learnt and scored like the others;
only pixels that carry no raw label (255) are ignored there. From labelTrainIds files, which do not tell void from the
classes that the benchmark leaves out, every set of classes but the 19 ignores both.
"""

from pathlib import Path
from typing import NamedTuple

from runtime.errors import UserError
from training.data import labels, taxonomies
from training.data.spec import IGNORE_ID, Example

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
        _NINETEEN.index(name) if name in _NINETEEN else IGNORE_ID,
        str(row.cityscapes8),
        row.colour,
    )
    for index, (name, row) in enumerate(taxonomies.TABLE["cityscapes34"].items())
)
TRAIN_LABELS = tuple(
    label for label in LABELS if label.train_id != IGNORE_ID
)  # in the order of their train ids
ID_TO_TRAIN_ID = {label.id: label.train_id for label in LABELS}
TRAIN_ID_TO_ID = {label.train_id: label.id for label in TRAIN_LABELS}

TAXONOMIES = taxonomies.specs("cityscapes19", "cityscapes8", "cityscapes34", splits=SPLITS, size=SIZE)

# Raw ids that a file may hold: 255 is the licence plate's -1 in eight bits.
ALLOWED_IDS = frozenset(ID_TO_TRAIN_ID) | {IGNORE_ID}
ALLOWED_TRAIN_IDS = frozenset(TRAIN_ID_TO_ID) | {IGNORE_ID}

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


def examples(split: str, data_dir: Path | str | None, taxonomy: str) -> tuple[list[Example], list[str]]:
    """Every leftImg8bit/SPLIT/CITY/*_leftImg8bit.png that has a label file under gtFine/SPLIT/CITY.

    A picture without a label file, or the other way round, is a problem, named.
    """
    folder = labels.data_folder("cityscapes", data_dir, "leftImg8bit/ and gtFine/")
    pictures, truth = folder / "leftImg8bit" / split, folder / "gtFine" / split
    for needed in (pictures, truth):
        if not needed.is_dir():
            raise UserError(f"The folder {needed} does not exist; check --data-dir and the split.")
    images = {
        (path.parent.name, path.name[: -len(IMAGE_END)]): path for path in pictures.glob(f"*/*{IMAGE_END}")
    }
    if not images:
        raise UserError(f"The folder {pictures} holds no CITY/*{IMAGE_END}; check --data-dir and the split.")
    found, problems = [], []
    for (city, stem), image in sorted(images.items()):
        for kind in PREFERRED[taxonomy]:
            label = truth / city / f"{stem}_gtFine_{kind}.png"
            if label.is_file():
                allowed = ALLOWED_IDS if kind == "labelIds" else ALLOWED_TRAIN_IDS
                found.append(labels.pair(stem, image, label, table=TABLES[taxonomy, kind], allowed=allowed))
                break
        else:
            problems.append(
                f"{image} has no label map; {truth / city / stem}_gtFine_labelIds.png is missing."
            )
    for label in sorted(truth.glob("*/*_gtFine_labelIds.png")):
        stem = label.name.removesuffix("_gtFine_labelIds.png")
        if (label.parent.name, stem) not in images:
            missing = pictures / label.parent.name / f"{stem}{IMAGE_END}"
            problems.append(f"{label} has no picture; {missing} is missing.")
    return found, problems
