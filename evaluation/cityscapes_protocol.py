"""The official protocol of Cityscapes: IoU and instance-weighted iIoU of classes and categories, and submissions.

Source: M. Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016, section 4.1, and
the authors' evalPixelLevelSemanticLabeling of cityscapesscripts 2.3.0, which this equals. Everything is counted in
label ids, as the files hold them. What differs from metrics.scores: a prediction on a pixel of an ignored class is no
false positive; a class that is predicted but nowhere true counts as 0 in the mean; iIoU = iTP / (iTP + FP + iFN), where
the pixels of an instance are weighted by the class's average instance size over the instance's own.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from evaluation.confusion_counts import pairs
from evaluation.metric import Metric, Prediction
from runtime.errors import UserError, WriteError
from runtime.files import make_folder, write_whole
from runtime.folders import leftover
from runtime.image import png, read_rgb
from training.data.cityscapes import CATEGORIES, IMAGE_END, LABELS, TRAIN_ID_TO_ID
from training.data.labels import label_maps
from training.data.spec import VOID_ID, Example, lookup_table

IDS = len(LABELS)  # 34, from 0 on
# The classes that a prediction in label ids can be made of; what is none of them is id 0, unlabeled, which is wrong.
LABEL_IDS = {
    "cityscapes19": lookup_table(TRAIN_ID_TO_ID, default=0),
    "cityscapes34": lookup_table({label.id: label.id for label in LABELS}, default=0),
}
EVALUATED = np.array([label.train_id != VOID_ID for label in LABELS])
CATEGORY = np.array([CATEGORIES.index(label.category) for label in LABELS])
# Mean pixels of an instance over the training set, from the authors' table; instances of caravan and trailer, which are
# not evaluated, are left out.
INSTANCE_SIZES = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}
SIZES = np.array([INSTANCE_SIZES.get(label.name, 0.0) for label in LABELS])
INSTANCE_IDS = range(24, 34)  # labels that come in instances: from person to bicycle
FIRST_INSTANCE = 1001  # label id * 1000 + number; the authors take what is above 1000
INSTANCE_CATEGORIES = ("human", "vehicle")  # all of their labels come in instances

OFFICIAL_NAME = re.compile(r"[a-z-]+_\d{6}_\d{6}")
SUBMISSION_END = "_pred_labelIds.png"


class Files(NamedTuple):
    """The truth of one image; without `instances` there is no iIoU."""

    ids: Path
    instances: Path | None


def official(classes: str, names: Sequence[str], data_dir: Path | str) -> tuple[Metric | None, str]:
    """The protocol for predictions of `classes`, a key of LABEL_IDS, on images of these names; and a sentence on
    what has to be left out of it, or "".

    Needs *_gtFine_labelIds.png of every image under gtFine/, and for iIoU *_gtFine_instanceIds.png beside them.
    """
    truth = {
        path.name.removesuffix("_gtFine_labelIds.png"): path
        for path in Path(data_dir).glob("gtFine/*/*/*_gtFine_labelIds.png")
    }
    lacking = [name for name in names if name not in truth]
    if lacking:
        reason = f"{lacking[0]}_gtFine_labelIds.png is not there"
        return None, f"The official protocol is left out: {reason} ({len(lacking)} such files)."
    beside = {name: _instances_of(truth[name]) for name in names}
    absent = [path for path in beside.values() if not path.is_file()]
    files = {name: Files(truth[name], None if absent else path) for name, path in beside.items()}
    found = Metric(
        functools.partial(count, table=LABEL_IDS[classes], files=files),
        lambda total, _: scores(total, not absent),
    )
    if not absent:
        return found, ""
    return found, f"The official iIoU is left out: {absent[0]} is not there ({len(absent)} such files)."


def _instances_of(ids: Path) -> Path:
    return ids.with_name(ids.name.replace("_labelIds", "_instanceIds"))


def count(seen: Prediction, *, table: np.ndarray, files: Mapping[str, Files]) -> np.ndarray:
    """(34, 38) float64, a row a true label id: pixels predicted as each id, then the weighted true positives and false
    negatives of its instances, by class and by category."""
    paths = files[seen.name]
    truth, predicted = label_maps.read_ids(paths.ids), table[seen.predicted]
    _same_size(paths.ids, truth, predicted)
    found = np.zeros((IDS, IDS + 4))
    found[:, :IDS] = pairs(truth, predicted)[:IDS, :IDS]
    if paths.instances:
        instances = read_instances(paths.instances)
        _same_size(paths.instances, instances, predicted)
        found[:, IDS:] = instance_sums(instances, predicted, str(paths.instances))
    return found


def instance_sums(instances: np.ndarray, predicted: np.ndarray, shown: str = "") -> np.ndarray:
    """(34, 4) weighted pixels of the instances of each label: right and wrong class, right and wrong category.

    `instances` holds label id * 1000 + number where an instance is, uint16 (H, W); `predicted` label ids, uint8.
    """
    inside = instances >= FIRST_INSTANCE
    found, guess = instances[inside], predicted[inside]
    label = found // 1000
    strange = sorted({int(value) for value in np.unique(label)} - set(INSTANCE_IDS))
    if strange:
        raise UserError(f"{shown} holds instances of the label id {strange[0]}; 24 to 33 come in instances.")
    size = np.bincount(found, minlength=1)
    right = np.bincount(found[guess == label], minlength=len(size))
    near = np.bincount(found[_instance_category(guess) == _instance_category(label)], minlength=len(size))
    present = np.flatnonzero(size)
    weight = SIZES[present // 1000] / size[present]
    columns = [right, size - right, near, size - near]
    return np.stack(
        [
            np.bincount(present // 1000, weights=column[present] * weight, minlength=IDS)[:IDS]
            for column in columns
        ],
        axis=-1,
    )


def _instance_category(ids: np.ndarray) -> np.ndarray:
    """The category of label ids; one number for all that is not 24..33."""
    return np.where(ids >= INSTANCE_IDS[0], CATEGORY[np.minimum(ids, IDS - 1)], 0)


def read_instances(path: Path) -> np.ndarray:
    """Instance ids, int64 (H, W), of a 16-bit grey PNG. UserError, naming the file, on anything else."""
    try:
        with Image.open(path) as image:
            if image.format != "PNG" or image.mode not in ("I;16", "I"):
                raise UserError(
                    f"{path} is a {image.format} of mode {image.mode}; instance ids are a 16-bit grey PNG."
                )
            return np.array(image).astype(np.int64)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"{path} is not a PNG that can be read, or damaged; copy or export it again."
        ) from error


def _same_size(path: Path, found: np.ndarray, predicted: np.ndarray) -> None:
    if found.shape != predicted.shape:
        sides = [f"{array.shape[1]}x{array.shape[0]}" for array in (found, predicted)]
        raise UserError(
            f"{path} is {sides[0]} pixels but its image {sides[1]}; both have to be the same size."
        )


def scores(total: np.ndarray, with_instances: bool = True) -> dict[str, Any]:
    """The official scores, fractions 0..1, of summed counts: `classes` and `categories` with `iou` and `iiou` each, and
    the four means, over what is not NaN."""
    matrix, sums = total[:, :IDS], total[:, IDS:]
    if not with_instances:
        sums = np.full_like(sums, np.nan)
    classes = {
        label.name: _scores_of(
            matrix, sums[:, :2], np.arange(IDS) == label.id, instances=label.id in INSTANCE_IDS
        )
        for label in LABELS
        if EVALUATED[label.id]
    }
    categories = {
        name: _scores_of(matrix, sums[:, 2:], CATEGORY == index, instances=name in INSTANCE_CATEGORIES)
        for index, name in enumerate(CATEGORIES)
        if EVALUATED[CATEGORY == index].any()
    }
    return {
        "mean_class_iou": _mean(classes, "iou"),
        "mean_class_iiou": _mean(classes, "iiou"),
        "mean_category_iou": _mean(categories, "iou"),
        "mean_category_iiou": _mean(categories, "iiou"),
        "classes": classes,
        "categories": categories,
    }


def _scores_of(
    matrix: np.ndarray, sums: np.ndarray, members: np.ndarray, *, instances: bool
) -> dict[str, float]:
    """IoU and iIoU of the label ids that `members`, bool (34,), takes together.

    Only evaluated ids count, save that the false positives of iIoU are the predictions of any member.
    """
    valid, outside = EVALUATED & members, EVALUATED & ~members
    hit, true = matrix[np.ix_(valid, valid)].sum(), matrix[valid].sum()
    iou = _divided(hit, true + matrix[np.ix_(outside, valid)].sum())
    if not instances:
        return {"iou": iou, "iiou": float("nan")}
    right, wrong = sums[members].sum(axis=0)
    return {"iou": iou, "iiou": _divided(right, right + wrong + matrix[np.ix_(outside, members)].sum())}


def _divided(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _mean(rows: Mapping[str, Mapping[str, float]], key: str) -> float:
    values = [row[key] for row in rows.values() if row[key] == row[key]]
    return float(np.mean(values)) if values else float("nan")


def submission(classes: str, names: Sequence[str], folder: Path) -> Callable[[Prediction], None]:
    """A function that writes the prediction of each image as the benchmark takes it: NAME_pred_labelIds.png with
    label ids, at full size.

    UserError when an image has no official name (CITY_000000_000000), or when the folder holds other PNG files, which
    the official tools might take for a second prediction.
    """
    strange = [name for name in names if not OFFICIAL_NAME.fullmatch(name)]
    if strange:
        raise UserError(
            f"{strange[0]} is no official name, CITY_000000_000000, so --submission cannot name its prediction."
        )
    try:
        make_folder(folder)
    except WriteError as error:
        raise UserError(f"--submission {error.what}.") from error
    others = sorted(
        path
        for path in folder.rglob("*.png")
        if not path.name.endswith(SUBMISSION_END) and not leftover(path.name)
    )
    if others:
        raise UserError(f"{folder} holds {others[0].name}: --submission has to name an empty folder.")

    def write(seen: Prediction) -> None:
        ids = LABEL_IDS[classes][seen.predicted]
        write_whole(folder / f"{seen.name}{SUBMISSION_END}", png(ids))

    return write


def unlabelled(split: str, data_dir: Path | str | None) -> list[Example]:
    """The images of a split, all void, so that they can be predicted where nobody has the truth."""
    folder = label_maps.data_folder("cityscapes", data_dir, "leftImg8bit/") / "leftImg8bit" / split
    found = sorted(path for path in folder.glob(f"*/*{IMAGE_END}") if not leftover(path.name))
    if not found:
        raise UserError(f"The folder {folder} holds no CITY/*{IMAGE_END}; check --data-dir and the split.")
    return [
        Example(path.name.removesuffix(IMAGE_END), functools.partial(_read_void, path), path.parent.name)
        for path in found
    ]


def _read_void(path: Path) -> tuple[np.ndarray, np.ndarray]:
    rgb = read_rgb(path)
    return rgb, np.full(rgb.shape[:2], VOID_ID, np.uint8)
