"""Folders of images and masks as `--data folder` reads them, and what it says of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import UserError
from training import data

IDS = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)
NAMES = ["road", "car", "sky"]


def save(path: Path, array: np.ndarray, palette: list[int] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette:
        image = image.convert("P")
        image.putpalette(palette)
    image.save(path)
    return path


def write(root: Path, names: list[str], content=None, mask_end: str = "", suffix: str = ".png") -> Path:
    """Images by name below images/, masks of IDS, and classes.json."""
    for index, name in enumerate(names):
        save(root / "images" / f"{name}{suffix}", np.full((2, 3, 3), 10 * index % 256, np.uint8))
        save(root / "masks" / f"{name}{mask_end}.png", IDS)
    (root / "classes.json").write_text(json.dumps(NAMES if content is None else content), encoding="utf-8")
    return root


def names_of(root: Path, split: str, **options) -> list[str]:
    return [example.name for example in data.load("folder", split, root, **options)[1]]


def refusal(root: Path, split: str = "train", **options) -> str:
    with pytest.raises(UserError) as caught:
        data.load("folder", split, root, **options)
    return str(caught.value)
