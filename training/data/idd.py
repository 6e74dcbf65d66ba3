"""The India Driving Dataset, and IDD-Lite: roads without lanes and kerbs, with autorickshaws and animals on them.

Source: G. Varma, A. Subramanian, A. Namboodiri, M. Chandraker, C. V. Jawahar, "IDD: A Dataset for Exploring Problems of
Autonomous Navigation in Unconstrained Environments", WACV 2019 (arXiv:1811.10200), and the label table published with
it. The layout is that of its archives, which is Cityscapes' with drives for cities: leftImg8bit/SPLIT/DRIVE/ beside
gtFine/SPLIT/DRIVE/.

- IDD: FRAME_leftImg8bit.png (or .jpg, in part II) and FRAME_gtFine_labellevel3Ids.png, which its makers' tool
  (createLabels.py, --id-type level3Id) draws from the polygons; 26 classes, 255 is void.
- IDD-Lite: FRAME_image.jpg and FRAME_label.png, ids of level 1; 7 classes, 255 is void.

A label map of level 3 can be read in the classes of level 1, not the other way round. The labels of test are kept by
its benchmark.
"""

from pathlib import Path

from runtime.errors import UserError
from runtime.folders import leftover
from training.data.files import pairs
from training.data.labels import label_maps, taxonomies
from training.data.spec import VOID_ID, Example

SPLITS = ("train", "val")
PLACES = ("IDD_Segmentation", "idd20kII", "idd20k_lite", ".")
IMAGES, ANNOTATIONS = "leftImg8bit", "gtFine"

TAXONOMIES = taxonomies.specs("idd26", "idd7", splits=SPLITS, size=(1080, 1920))
# How images end, how their label maps do, and what these hold.
LAYOUTS = (
    (
        ("_leftImg8bit.png", "_leftImg8bit.jpg"),
        ("_gtFine_labellevel3Ids.png", "_gtFine_labelLevel3Ids.png"),
        "idd26",
    ),
    (("_image.jpg", "_image.png"), ("_label.png",), "idd7"),
)

INSTANCES = "_inst_label.png"  # IDD-Lite has these beside its label maps


def examples(split: str, data_dir: Path | str | None, taxonomy: str) -> tuple[list[Example], list[str]]:
    """Every image of the split that has a label map, as DRIVE_FRAME, and a sentence for each half without the other.

    UserError where the labels are of level 1 and the classes asked for are finer, or no image is there.
    """
    folder = label_maps.data_folder("idd", data_dir, f"{IMAGES}/ and {ANNOTATIONS}/")
    root = pairs.inside(folder, PLACES, IMAGES)
    pictures, truth = root / IMAGES / split, root / ANNOTATIONS / split
    for needed in (pictures, truth):
        if not needed.is_dir():
            raise UserError(f"The folder {needed} does not exist; check --data-dir and the split.")
    for image_ends, label_ends, level in LAYOUTS:
        if images := _files(pictures, image_ends):
            return _paired(
                images, _files(truth, label_ends), truth / f"DRIVE/FRAME{label_ends[0]}", level, taxonomy
            )
    ends = " or ".join(ends[0] for ends, _, _ in LAYOUTS)
    raise UserError(f"The folder {pictures} holds no DRIVE/*{ends}; check --data-dir and the split.")


def _files(folder: Path, ends: tuple[str, ...]) -> dict[str, Path]:
    """DRIVE_FRAME to path of every DRIVE/FRAME{end} but those of instances."""
    return {
        f"{path.parent.name}_{path.name.removesuffix(end)}": path
        for end in ends
        for path in sorted(folder.glob(f"*/*{end}"))
        if not leftover(path.name) and not path.name.endswith(INSTANCES)
    }


def _paired(
    images: dict[str, Path], labels: dict[str, Path], label: Path, level: str, taxonomy: str
) -> tuple[list[Example], list[str]]:
    """`label` says what a label map is called, `level` what it holds."""
    if taxonomy not in taxonomies.reachable(level):
        raise UserError(
            f"The label maps {label} are IDD-Lite's, of 7 classes, and {taxonomy} is finer: add --classes {level}."
        )
    if not labels:
        raise UserError(
            f"There is no {label}; the makers' createLabels.py draws the label maps from the polygons."
        )
    table, ids = taxonomies.table(level, taxonomy), range(len(taxonomies.classes(level)))
    found = [
        label_maps.pair(name, images[name], labels[name], table=table, allowed=frozenset((*ids, VOID_ID)))
        for name in sorted(images.keys() & labels.keys())
    ]
    halves = ((images, labels, "label map"), (labels, images, "image"))
    problems = [
        f"{mine[name]} has no {other} of its drive and frame."
        for mine, theirs, other in halves
        for name in sorted(mine.keys() - theirs.keys())
    ]
    return found, problems
