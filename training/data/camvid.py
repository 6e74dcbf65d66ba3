"""CamVid: road scenes from a driving car, in its 11 usual groups or its 32 classes, at either size.

Source: G. Brostow, J. Fauqueur, R. Cipolla, "Semantic object classes in video: a high-definition ground truth
database", Pattern Recognition Letters 30(2), 2009. Which of three layouts a folder has is seen by what it holds:

- the official archives, 960x720: 701_StillsRaw_full/NAME.png and LabeledApproved_full/NAME_L.png, coloured by
  class; the splits come from SPLIT.txt (or splits/SPLIT.txt) where there is one, else they are the usual ones
  (`usual_split`);
- the same in folders of splits: SPLIT/NAME.png and SPLIT_labels/NAME_L.png;
- the SegNet tutorial's, 480x360: SPLIT/NAME.png and SPLITannot/NAME.png with ids 0 to 10, and 11 for void.

The colours are those of label_colors.txt or class_dict.csv beside them, else the official ones, which are the
same. `camvid11` groups the 32 classes as SegNet did (V. Badrinarayanan et al., 2017), void ignored; its colours
are CamVid's own for the class that gives each group its name. In `camvid32` Void is a class, learnt and scored
like the others, as in the official table; the SegNet layout does not tell the 32 classes apart.

Deviation: pixels of one official label map, Seq05VD_f02610_L.png, have colours of no class; they count as Void.
"""

import functools
from pathlib import Path

import numpy as np

from runtime.errors import UserError
from training.data.files import pairs
from training.data.labels import label_maps, taxonomies
from training.data.labels.label_maps import Colour
from training.data.spec import Example

SPLITS = ("train", "val", "test")
IMAGES, ANNOTATIONS = "701_StillsRaw_full", "LabeledApproved_full"  # the official archives
TABLES = ("label_colors.txt", "class_dict.csv")  # "64 128 64 Animal" and "Animal,64,128,64"
HOLDS = f"train/ and trainannot/, train/ and train_labels/, or {IMAGES}/ and {ANNOTATIONS}/"
FLAWED = frozenset({"Seq05VD_f02610_L"})

COLOURS: dict[str, Colour] = {name: row.colour for name, row in taxonomies.TABLE["camvid32"].items()}
IDS = {name: index for index, name in enumerate(COLOURS)}

TAXONOMIES = {
    **taxonomies.specs("camvid11", splits=SPLITS, size=(360, 480)),
    "camvid32": taxonomies.spec("camvid32", splits=SPLITS, size=(720, 960)),
}
SPEC = TAXONOMIES["camvid11"]

# By taxonomy. In the files of the 11 groups an id of 11 is void.
FROM_COLOURS = {name: taxonomies.table("camvid32", name) for name in TAXONOMIES}
FROM_GROUPS = {name: taxonomies.table("camvid11", name) for name in TAXONOMIES if name != "camvid32"}


def examples(split: str, data_dir: Path | str | None, taxonomy: str) -> tuple[list[Example], list[str]]:
    """Every image of the split that has a label map, by name, and a sentence for each that has none."""
    folder = label_maps.data_folder("camvid", data_dir, HOLDS)
    problems: list[str] = []
    if (folder / IMAGES).is_dir():
        images, annotations = pairs.files(folder / IMAGES), pairs.files(folder / ANNOTATIONS, end="_L")
        names = _names(folder, split, images)
        lost = sorted(names - images.keys() - annotations.keys())
        problems = [f"{folder / IMAGES / name}.png is listed for {split} but is not there." for name in lost]
        images = {name: path for name, path in images.items() if name in names}
        annotations = {name: path for name, path in annotations.items() if name in names}
    elif (folder / f"{split}_labels").is_dir():
        images = pairs.files(folder / split)
        annotations = pairs.files(folder / f"{split}_labels", end="_L")
    else:
        return _grouped(folder, split, taxonomy)
    found, halves = pairs.pairs(
        images,
        annotations,
        table=FROM_COLOURS[taxonomy],
        allowed=frozenset(IDS.values()),
        read=functools.partial(_read_colours, colours=_colours(folder)),
        group=_sequence,
    )
    return found, problems + halves


def _grouped(folder: Path, split: str, taxonomy: str) -> tuple[list[Example], list[str]]:
    if taxonomy not in FROM_GROUPS:
        raise UserError(
            f"{folder} holds the 11 groups only; {taxonomy} needs colour-coded labels, in {ANNOTATIONS}/ or "
            f"{split}_labels/."
        )
    return pairs.pairs(
        pairs.files(folder / split),
        pairs.files(folder / f"{split}annot"),
        table=FROM_GROUPS[taxonomy],
        allowed=frozenset(range(len(SPEC.classes) + 1)),
        group=_sequence,
    )


def usual_split(name: str) -> str:
    """The split of a frame in the usual 367 / 101 / 233 (Brostow et al. 2008, section 4; SegNet), "" if of none.

    Train: 0006R0, 0016E5 but for its 15 Hz part, and the first half of 0001TP. Val: that part, frames 7959 to
    8159. Test: Seq05VD and the second half of 0001TP, from frame 8550 on.
    """
    sequence, _, frame = name.partition("_")
    number = int(frame) if frame.isdigit() else 0
    if sequence == "0016E5":
        return "val" if 7959 <= number <= 8159 else "train"
    if sequence == "0001TP":
        return "train" if number < 8550 else "test"
    return {"0006R0": "train", "Seq05VD": "test"}.get(sequence, "")


def _names(folder: Path, split: str, images: dict[str, Path]) -> set[str]:
    """The frames of a split of the official archives: those of its list, or of the usual split without lists."""
    for place in (folder, folder / "splits"):
        lists = {name: place / f"{name}.txt" for name in SPLITS if (place / f"{name}.txt").is_file()}
        if lists:
            return set(pairs.split_lists({**lists, split: place / f"{split}.txt"})[split])
    for name, path in images.items():
        if not usual_split(name):
            raise UserError(
                f"{path} is of none of CamVid's sequences; list the splits in train.txt and val.txt in {folder}."
            )
    return {name for name in images if usual_split(name) == split}


def _sequence(name: str) -> str:
    return name.partition("_")[0]


def _read_colours(path: Path, *, colours: dict[Colour, int]) -> np.ndarray:
    return label_maps.read_colours(path, colours, unknown=IDS["Void"] if path.stem in FLAWED else None)


def _colours(folder: Path) -> dict[Colour, int]:
    """Colour to class: of the folder's own table where it has one, whose names have to be CamVid's."""
    path = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if path is None:
        return {colour: IDS[name] for name, colour in COLOURS.items()}
    found = {}
    for number, line in enumerate(path.read_bytes().decode("utf-8-sig", "replace").splitlines(), 1):
        words = line.replace(",", " ").split()
        if not words or [word.lower() for word in words] == ["name", "r", "g", "b"]:
            continue
        colour = words[1:] if path.suffix == ".csv" else words[:3]
        name = words[0] if path.suffix == ".csv" else words[-1]
        if (
            len(words) != 4
            or name not in IDS
            or not all(word.isdigit() and int(word) < 256 for word in colour)
        ):
            raise UserError(
                f"Line {number} of {path} is {line.strip()!r}; a class of CamVid and its red, green and blue are right."
            )
        red, green, blue = map(int, colour)
        found[red, green, blue] = IDS[name]
    return found
