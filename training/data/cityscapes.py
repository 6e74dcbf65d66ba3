"""Cityscapes: the official label table, its 19 classes and 8 categories, and readers of the official files.

Source: M. Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016, and the
label table published with it. `cityscapes19` are the 19 train ids of the benchmark. `cityscapes8` are the 8
categories with void as class 0, which is learnt and scored like the others; only pixels that carry no raw
label (255) are ignored there. From labelTrainIds files, which do not tell void from the classes that the
benchmark leaves out, `cityscapes8` ignores both.
"""

from pathlib import Path
from typing import NamedTuple

from runtime.errors import UserError
from training.data import labels
from training.data.spec import IGNORE_ID, DatasetSpec, Example, lookup_table

SPLITS = ("train", "val", "test")
SIZE = (1024, 2048)  # height, width


class Label(NamedTuple):
    """A row of the official table: `id` is what labelIds files hold, `train_id` is 255 where ignored."""

    name: str
    id: int
    train_id: int
    category: str
    colour: tuple[int, int, int]


# The licence plate (-1) is left out: it is never drawn into the official PNG files.
LABELS = (
    Label("unlabeled", 0, 255, "void", (0, 0, 0)),
    Label("ego vehicle", 1, 255, "void", (0, 0, 0)),
    Label("rectification border", 2, 255, "void", (0, 0, 0)),
    Label("out of roi", 3, 255, "void", (0, 0, 0)),
    Label("static", 4, 255, "void", (0, 0, 0)),
    Label("dynamic", 5, 255, "void", (111, 74, 0)),
    Label("ground", 6, 255, "void", (81, 0, 81)),
    Label("road", 7, 0, "flat", (128, 64, 128)),
    Label("sidewalk", 8, 1, "flat", (244, 35, 232)),
    Label("parking", 9, 255, "flat", (250, 170, 160)),
    Label("rail track", 10, 255, "flat", (230, 150, 140)),
    Label("building", 11, 2, "construction", (70, 70, 70)),
    Label("wall", 12, 3, "construction", (102, 102, 156)),
    Label("fence", 13, 4, "construction", (190, 153, 153)),
    Label("guard rail", 14, 255, "construction", (180, 165, 180)),
    Label("bridge", 15, 255, "construction", (150, 100, 100)),
    Label("tunnel", 16, 255, "construction", (150, 120, 90)),
    Label("pole", 17, 5, "object", (153, 153, 153)),
    Label("polegroup", 18, 255, "object", (153, 153, 153)),
    Label("traffic light", 19, 6, "object", (250, 170, 30)),
    Label("traffic sign", 20, 7, "object", (220, 220, 0)),
    Label("vegetation", 21, 8, "nature", (107, 142, 35)),
    Label("terrain", 22, 9, "nature", (152, 251, 152)),
    Label("sky", 23, 10, "sky", (70, 130, 180)),
    Label("person", 24, 11, "human", (220, 20, 60)),
    Label("rider", 25, 12, "human", (255, 0, 0)),
    Label("car", 26, 13, "vehicle", (0, 0, 142)),
    Label("truck", 27, 14, "vehicle", (0, 0, 70)),
    Label("bus", 28, 15, "vehicle", (0, 60, 100)),
    Label("caravan", 29, 255, "vehicle", (0, 0, 90)),
    Label("trailer", 30, 255, "vehicle", (0, 0, 110)),
    Label("train", 31, 16, "vehicle", (0, 80, 100)),
    Label("motorcycle", 32, 17, "vehicle", (0, 0, 230)),
    Label("bicycle", 33, 18, "vehicle", (119, 11, 32)),
)

TRAIN_LABELS = tuple(
    sorted((label for label in LABELS if label.train_id != IGNORE_ID), key=lambda x: x.train_id)
)
CATEGORIES = ("void", "flat", "construction", "object", "nature", "sky", "human", "vehicle")

ID_TO_TRAIN_ID = {label.id: label.train_id for label in LABELS}
TRAIN_ID_TO_ID = {label.train_id: label.id for label in TRAIN_LABELS}
ID_TO_CATEGORY = {label.id: CATEGORIES.index(label.category) for label in LABELS}
TRAIN_ID_TO_CATEGORY = {label.train_id: CATEGORIES.index(label.category) for label in TRAIN_LABELS}

TAXONOMIES = {
    "cityscapes19": DatasetSpec(
        name="cityscapes19",
        classes=tuple(label.name for label in TRAIN_LABELS),
        palette=tuple(label.colour for label in TRAIN_LABELS),
        splits=SPLITS,
        size=SIZE,
    ),
    # The categories have no colours of their own: each takes that of its most frequent class.
    "cityscapes8": DatasetSpec(
        name="cityscapes8",
        classes=CATEGORIES,
        palette=(
            (0, 0, 0),
            (128, 64, 128),
            (70, 70, 70),
            (153, 153, 153),
            (107, 142, 35),
            (70, 130, 180),
            (220, 20, 60),
            (0, 0, 142),
        ),
        splits=SPLITS,
        size=SIZE,
    ),
}

# Raw ids that a file may hold: 255 is the licence plate's -1 in eight bits.
ALLOWED_IDS = frozenset(ID_TO_TRAIN_ID) | {IGNORE_ID}
ALLOWED_TRAIN_IDS = frozenset(TRAIN_ID_TO_ID) | {IGNORE_ID}

# (taxonomy, kind of label file) -> train ids.
TABLES = {
    ("cityscapes19", "labelIds"): lookup_table(ID_TO_TRAIN_ID),
    ("cityscapes19", "labelTrainIds"): lookup_table({train: train for train in TRAIN_ID_TO_ID}),
    ("cityscapes8", "labelIds"): lookup_table(ID_TO_CATEGORY),
    ("cityscapes8", "labelTrainIds"): lookup_table(TRAIN_ID_TO_CATEGORY),
}
# The 19 classes take labelTrainIds first, as the official tools do; the 8 categories need the void ids.
PREFERRED = {
    "cityscapes19": ("labelTrainIds", "labelIds"),
    "cityscapes8": ("labelIds", "labelTrainIds"),
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
