"""CamVid: 11 classes of road scenes from a driving car, void ignored.

Source: G. Brostow, J. Fauqueur, R. Cipolla, "Semantic object classes in video", 2009, in the layout and with
the 11 classes of the SegNet tutorial (480x360): SPLIT/NAME.png beside SPLITannot/NAME.png with ids 0 to 10,
and 11 for void. The colours are CamVid's own for the class that gives each group its name.
"""

from pathlib import Path

from training.data import labels
from training.data.spec import DatasetSpec, Example, lookup_table

SPLITS = ("train", "val", "test")
VOID = 11

SPEC = DatasetSpec(
    name="camvid11",
    classes=(
        "Sky",
        "Building",
        "Pole",
        "Road",
        "Pavement",
        "Tree",
        "SignSymbol",
        "Fence",
        "Car",
        "Pedestrian",
        "Bicyclist",
    ),
    palette=(
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (0, 0, 192),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
    splits=SPLITS,
    size=(360, 480),
)
TAXONOMIES = {"camvid11": SPEC}

TO_TRAIN_ID = lookup_table({raw: raw for raw in range(len(SPEC.classes))})
ALLOWED = frozenset(range(VOID + 1))


def examples(split: str, data_dir: Path | str | None, taxonomy: str) -> tuple[list[Example], list[str]]:
    """Every picture of the split that has a label map, by name, and a sentence for each that has none."""
    folder = labels.data_folder("camvid", data_dir, "train/, trainannot/, val/ and valannot/")
    images = labels.png_names(folder / split)
    annotations = labels.png_names(folder / f"{split}annot")
    table, allowed = TO_TRAIN_ID, ALLOWED
    found = [
        labels.pair(Path(name).stem, images[name], annotations[name], table=table, allowed=allowed)
        for name in sorted(images.keys() & annotations.keys())
    ]
    problems = [
        f"{images[name]} has no label map; {folder / f'{split}annot' / name} is missing."
        for name in sorted(images.keys() - annotations.keys())
    ]
    problems += [
        f"{annotations[name]} has no picture; {folder / split / name} is missing."
        for name in sorted(annotations.keys() - images.keys())
    ]
    return found, problems
