"""Cities in Cityscapes' layout with instances, and the scores that the authors' own evaluator gives."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests import references
from training.data.cityscapes import LABELS

SHAPE = (48, 64)
CITIES = ("aachen_000000_000019", "aachen_000001_000019", "bad-honnef_000000_000000", "ulm_000009_000019")
LABEL_TO_TRAIN = np.array([label.train_id for label in LABELS])


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def city(
    root: Path, name: str, seed: int, split: str = "val", ids: tuple[int, ...] = tuple(range(34))
) -> Path:
    """An image with label ids and instance ids, which are label ids where there is no instance."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice(ids, (6, 8))
    truth = np.kron(coarse, np.ones((8, 8), int)).astype(np.uint8)
    number = np.kron(rng.integers(0, 4, (12, 16)), np.ones((4, 4), int))
    # Some regions of such labels are groups, which carry the label id alone; number 0 is 24000 and the like.
    grouped = np.kron(rng.random((6, 8)) < 0.2, np.ones((8, 8), bool))
    instances = np.where((truth >= 24) & ~grouped, truth.astype(int) * 1000 + number, truth).astype(np.uint16)
    stem = root / "gtFine" / split / name.split("_")[0] / f"{name}_gtFine"
    save(root / "leftImg8bit" / split / name.split("_")[0] / f"{name}_leftImg8bit.png", coloured(truth, seed))
    save(stem.with_name(f"{stem.name}_instanceIds.png"), instances)
    return save(stem.with_name(f"{stem.name}_labelIds.png"), truth)


def coloured(truth: np.ndarray, seed: int) -> np.ndarray:
    """An image from which `guess` reads a train id, wrong for a third of the pixels."""
    rng = np.random.default_rng(seed + 100)
    train = np.minimum(LABEL_TO_TRAIN[truth], 18)
    wrong = rng.integers(0, 19, truth.shape)
    red = np.where(rng.random(truth.shape) < 0.35, wrong, train)
    return np.stack([red, red, red], -1).astype(np.uint8)


def guess(rgb: np.ndarray) -> np.ndarray:
    return rgb[..., 0]


def official_scores(root: Path, folder: Path, split: str = "val") -> dict:
    """What the authors' evaluator finds when it looks for the predictions itself."""
    script = references.cityscapesscripts()
    script.args.predictionPath, script.args.predictionWalk = str(folder), None
    truth = sorted(map(str, root.glob(f"gtFine/{split}/*/*_gtFine_labelIds.png")))
    return script.evaluateImgLists(
        [script.getPrediction(script.args, path) for path in truth], truth, script.args
    )
