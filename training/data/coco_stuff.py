"""COCO-Stuff 164k: every pixel of COCO 2017's images, in 80 classes of things and 91 of stuff.

Source: H. Caesar, J. Uijlings, V. Ferrari, "COCO-Stuff: Thing and Stuff Classes in Context", CVPR 2018, and the
label list published with it. The layout is the one of its setup instructions, train2017 (118,287 images) and
val2017 (5,000): images/train2017/NAME.jpg beside annotations/train2017/NAME.png as stuffthingmaps_trainval2017.zip
has them; COCO's own train2017/NAME.jpg and a folder stuffthingmaps/ will do too. An annotation holds the label
list's ids less one, 0 to 181, and 255 where nothing is labelled. Eleven ids of things were never drawn in COCO;
without them there are 171 classes, numbered in the order of the ids. There are no public labels for test2017.

Deviation: the colours are VOC's colour map at the list's ids, in which no two are the same; no colours come with
the data.
"""

from pathlib import Path

from training.data import voc
from training.data.files import pairs
from training.data.labels import label_maps
from training.data.spec import VOID_ID, DatasetSpec, Example, lookup_table

FOLDERS = {"train": "train2017", "val": "val2017"}
IMAGE_PLACES = ("images", ".")
ANNOTATION_PLACES = ("stuffthingmaps", "stuffthingmaps_trainval2017", "annotations")
OWN_ENDS = ("_labelTrainIds", "_instanceTrainIds")  # what another framework's converter leaves beside them

# The label list from id 1 on: 91 things, then 91 kinds of stuff.
LABELS = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "street sign", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse",
    "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "hat", "backpack", "umbrella", "shoe",
    "eye glasses", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "plate",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed",
    "mirror", "dining table", "window", "desk", "toilet", "door", "tv", "laptop", "mouse", "remote",
    "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "blender", "book",
    "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush", "hair brush",
    "banner", "blanket", "branch", "bridge", "building-other", "bush", "cabinet", "cage", "cardboard",
    "carpet", "ceiling-other", "ceiling-tile", "cloth", "clothes", "clouds", "counter", "cupboard", "curtain",
    "desk-stuff", "dirt", "door-stuff", "fence", "floor-marble", "floor-other", "floor-stone", "floor-tile",
    "floor-wood", "flower", "fog", "food-other", "fruit", "furniture-other", "grass", "gravel",
    "ground-other", "hill", "house", "leaves", "light", "mat", "metal", "mirror-stuff", "moss", "mountain",
    "mud", "napkin", "net", "paper", "pavement", "pillow", "plant-other", "plastic", "platform",
    "playingfield", "railing", "railroad", "river", "road", "rock", "roof", "rug", "salad", "sand", "sea",
    "shelf", "sky-other", "skyscraper", "snow", "solid-other", "stairs", "stone", "straw", "structural-other",
    "table", "tent", "textile-other", "towel", "tree", "vegetable", "wall-brick", "wall-concrete",
    "wall-other", "wall-panel", "wall-stone", "wall-tile", "wall-wood", "water-other", "waterdrops",
    "window-blind", "window-other", "wood",
)  # fmt: skip
NEVER_DRAWN = (
    *("street sign", "hat", "shoe", "eye glasses", "plate", "mirror", "window", "desk", "door", "blender"),
    "hair brush",
)
IDS = tuple(index for index, name in enumerate(LABELS) if name not in NEVER_DRAWN)  # in the files

TAXONOMIES = {
    "coco171": DatasetSpec(
        name="coco171",
        classes=tuple(LABELS[index] for index in IDS),
        palette=tuple(voc.colour_map(len(LABELS) + 1)[index + 1] for index in IDS),
        splits=tuple(FOLDERS),
        size=(480, 640),
    )
}

TO_TRAIN_ID = lookup_table({raw: train for train, raw in enumerate(IDS)})
ALLOWED = frozenset((*IDS, VOID_ID))


def examples(split: str, data_dir: Path | str | None, taxonomy: str) -> tuple[list[Example], list[str]]:
    """Every image of the split that has an annotation, by name, and a sentence for each half without the other."""
    del taxonomy  # there is one
    folder = label_maps.data_folder("coco_stuff", data_dir, "images/train2017/ and annotations/train2017/")
    year = FOLDERS[split]
    annotations = pairs.files(pairs.inside(folder, ANNOTATION_PLACES, year) / year)
    return pairs.pairs(
        pairs.files(pairs.inside(folder, IMAGE_PLACES, year) / year, ".jpg"),
        {name: path for name, path in annotations.items() if not name.endswith(OWN_ENDS)},
        table=TO_TRAIN_ID,
        allowed=ALLOWED,
    )
