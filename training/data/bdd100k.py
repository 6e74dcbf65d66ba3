"""BDD100K semantic segmentation: dash-camera images from the United States, with Cityscapes' 19 classes.

Source: F. Yu et al., "BDD100K: A Diverse Driving Dataset for Heterogeneous Multitask Learning", CVPR 2020, and
the label format published with it. The layout is that of the "10K Images" and "Semantic Segmentation" downloads,
7,000 images for train and 1,000 for val: images/10k/SPLIT/NAME.jpg beside labels/sem_seg/masks/SPLIT/NAME.png,
whose ids are Cityscapes' train ids 0 to 18 and 255 for unknown. The labels of test are kept by its benchmark.
"""

from pathlib import Path

from training.data.files import pairs
from training.data.labels import label_maps, taxonomies
from training.data.spec import VOID_ID, Example

SPLITS = ("train", "val")
PLACES = ("bdd100k", ".")
IMAGES, ANNOTATIONS = "images/10k", "labels/sem_seg/masks"

TAXONOMIES = taxonomies.specs("bdd100k19", splits=SPLITS, size=(720, 1280))
SPEC = TAXONOMIES["bdd100k19"]

TABLES = {name: taxonomies.table("bdd100k19", name) for name in TAXONOMIES}
ALLOWED = frozenset((*range(len(SPEC.classes)), VOID_ID))


def examples(split: str, data_dir: Path | str | None, taxonomy: str) -> tuple[list[Example], list[str]]:
    """Every image of the split that has a mask, by name, and a sentence for each half without the other."""
    folder = label_maps.data_folder("bdd100k", data_dir, f"{IMAGES}/ and {ANNOTATIONS}/")
    root = pairs.inside(folder, PLACES, IMAGES)
    return pairs.pairs(
        pairs.files(root / IMAGES / split, ".jpg"),
        pairs.files(root / ANNOTATIONS / split),
        table=TABLES[taxonomy],
        allowed=ALLOWED,
    )
