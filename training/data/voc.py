"""PASCAL VOC 2012 segmentation: 20 kinds of objects and background, with SBD's labels for more training images.

Sources: M. Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective", IJCV 111, 2015, and
its development kit, whose label maps are paletted PNGs with ids 0 to 20, and 255 for void (the borders and what
is hard to tell). SBD: B. Hariharan et al., "Semantic Contours from Inverse Detectors", ICCV 2011, which labels
VOC's other images, without void: .mat files whose GTcls.Segmentation holds the ids.

`train` has VOC's own 1,464 images and `val` 1,449. With the option `sbd` (--data-option sbd=true) `train` is what the
field calls train_aug and trains on, 10,582 images (L.-C. Chen et al., DeepLab, arXiv:1606.00915, section 4.1):
VOC's train and all of SBD that is not in VOC's val. An image of VOC's train keeps VOC's own label map there. The
labels of test are kept by the benchmark.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runtime.errors import UserError
from training.data.files import pairs
from training.data.labels import label_maps
from training.data.labels.label_maps import ReadIds
from training.data.spec import VOID_ID, DatasetSpec, Example, lookup_table

SPLITS = ("train", "val")
PLACES = ("VOCdevkit/VOC2012", "VOC2012", ".")  # of the development kit's own year
HOLDS = "VOCdevkit/VOC2012/ with JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/"
LISTS = "ImageSets/Segmentation"
AUGMENTED = "SegmentationClassAug"  # SBD's label maps as PNGs, as they are often passed on
SBD_PLACES = ("benchmark_RELEASE/dataset", "VOCaug/dataset", "sbd")

CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)


def colour_map(count: int) -> tuple[tuple[int, int, int], ...]:
    """The colours that VOC's development kit gives to ids 0, 1, ... (VOClabelcolormap): no two are the same.

    Bits 0, 3 and 6 of an id are the highest three of red, from the top; bits 1, 4 and 7 those of green; bits 2
    and 5 those of blue.
    """
    return tuple((_spread(index), _spread(index >> 1), _spread(index >> 2)) for index in range(count))


def _spread(index: int) -> int:
    return sum((index >> 3 * bit & 1) << 7 - bit for bit in range(3))


SPEC = DatasetSpec(
    name="voc21", classes=CLASSES, palette=colour_map(len(CLASSES)), splits=SPLITS, size=(375, 500)
)
TAXONOMIES = {"voc21": SPEC}

TO_TRAIN_ID = lookup_table({index: index for index in range(len(CLASSES))})
ALLOWED = frozenset((*range(len(CLASSES)), VOID_ID))


class Labels(NamedTuple):
    """Where label maps are: `folder`/NAME`suffix`, and how one is read."""

    folder: Path
    suffix: str
    read: ReadIds


def examples(
    split: str, data_dir: Path | str | None, taxonomy: str, *, sbd: bool = False
) -> tuple[list[Example], list[str]]:
    """The images in the split's list, in its order, and a sentence for each whose image or label is missing."""
    del taxonomy  # there is one
    if not isinstance(sbd, bool):
        raise UserError(f"The option sbd of voc is {sbd!r}; true or false is right.")
    folder = label_maps.data_folder("voc", data_dir, HOLDS)
    root = pairs.inside(folder, PLACES, "JPEGImages")
    lists = pairs.split_lists({name: root / LISTS / f"{name}.txt" for name in SPLITS})
    own = Labels(root / "SegmentationClass", ".png", label_maps.read_ids)
    if split == "val" or not sbd:
        return _listed(root, lists[split], own)
    names, more = _sbd(folder, root)
    found, problems = _listed(root, lists["train"], own)
    added, others = _listed(root, sorted({*names} - {*lists["train"], *lists["val"]}), more)
    return found + added, problems + others


def _listed(root: Path, names: Iterable[str], truth: Labels) -> tuple[list[Example], list[str]]:
    found, problems = [], []
    for name in names:
        image, label = root / "JPEGImages" / f"{name}.jpg", truth.folder / f"{name}{truth.suffix}"
        missing = [path for path in (image, label) if not path.is_file()]
        if missing:
            problems.append(f"{missing[0]} is missing, though the list of its split names it.")
        else:
            found.append(
                label_maps.pair(name, image, label, table=TO_TRAIN_ID, allowed=ALLOWED, read=truth.read)
            )
    return found, problems


def _sbd(folder: Path, root: Path) -> tuple[list[str], Labels]:
    """The names that SBD labels, in all of its splits, and where its label maps are."""
    if (root / AUGMENTED).is_dir():
        return list(pairs.files(root / AUGMENTED)), Labels(root / AUGMENTED, ".png", label_maps.read_ids)
    for base in (folder, root.parent, root.parent.parent):
        for place in SBD_PLACES:
            sbd = base / place
            if (sbd / "cls").is_dir():
                lists = pairs.split_lists({name: sbd / f"{name}.txt" for name in ("train", "val")})
                return [*lists["train"], *lists["val"]], Labels(sbd / "cls", ".mat", read_mat)
    raise UserError(
        f"SBD's labels are not there: sbd=true needs {root / AUGMENTED} with PNGs or {folder / SBD_PLACES[0]} "
        "with cls/, train.txt and val.txt; without them, train with --data-option sbd=false."
    )


def read_mat(path: Path) -> np.ndarray:
    """Class ids, uint8 (H, W), of an SBD .mat file; UserError, naming the file, when it is none."""
    import scipy.io  # takes half a second to import, and only these files need it

    try:
        content = scipy.io.loadmat(path, variable_names=("GTcls",))
        ids = np.array(content["GTcls"]["Segmentation"].flat[0])
    except Exception as error:  # SciPy has another kind for each way in which a file can be damaged
        sentence = f"{path} is not a whole SBD label file with GTcls.Segmentation; unpack it again."
        raise UserError(sentence) from error
    if ids.dtype != np.uint8 or ids.ndim != 2:
        raise UserError(f"{path} holds {ids.dtype} {ids.shape} in GTcls.Segmentation; uint8 (H, W) is right.")
    return ids
