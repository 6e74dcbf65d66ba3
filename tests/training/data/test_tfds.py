"""Cityscapes through TFDS' own builder, from two small zips in the official layout."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import UserError
from training import data

CITIES = {"train": "aachen", "val": "munster", "test": "berlin"}


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def zips(root: Path, count: int = 3) -> Path:
    """Image k of a split is all grey 10 * k, its label all raw id 7 + k."""
    with (
        zipfile.ZipFile(root / "leftImg8bit_trainvaltest.zip", "w") as images,
        zipfile.ZipFile(root / "gtFine_trainvaltest.zip", "w") as truth,
    ):
        for split, city in CITIES.items():
            for k in range(count):
                stem = f"{split}/{city}/{city}_{k:06d}_000019"
                images.writestr(
                    f"leftImg8bit/{stem}_leftImg8bit.png", png(np.full((8, 16, 3), 10 * k, np.uint8))
                )
                label = np.full((8, 16), 7 + k, np.uint8)
                truth.writestr(f"gtFine/{stem}_gtFine_labelIds.png", png(label))
    return root


def test_two_zips_are_prepared_and_read_by_index(tmp_path):
    zips(tmp_path)
    _, examples = data.load("cityscapes_tfds", "val", tmp_path)
    assert len(examples) == 3 and len({example.name for example in examples}) == 3
    train_id = {0: 0, 1: 1, 2: 255}  # road, sidewalk, parking
    seen = set()
    for example in [*examples, examples[0]]:
        image, label = example.read()
        assert image.shape == (8, 16, 3) and label.shape == (8, 16)
        k = int(image[0, 0, 0]) // 10
        seen.add(k)
        assert (image == 10 * k).all() and (label == train_id[k]).all()
    assert seen == {0, 1, 2}
    # Prepared once: the zips are no longer needed.
    for file in tmp_path.glob("*.zip"):
        file.unlink()
    _, examples = data.load("cityscapes_tfds", "train", tmp_path, "cityscapes8")
    assert {int(example.read()[1][0, 0]) for example in examples} == {1}  # all three are flat


def test_a_missing_or_broken_zip_is_named(tmp_path):
    with pytest.raises(UserError, match="leftImg8bit_trainvaltest.zip does not exist"):
        data.load("cityscapes_tfds", "train", tmp_path)
    zips(tmp_path)
    path = tmp_path / "gtFine_trainvaltest.zip"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="gtFine_trainvaltest.zip is not a whole zip"):
        data.load("cityscapes_tfds", "train", tmp_path)


def test_a_label_missing_inside_the_zip_is_no_traceback(tmp_path):
    zips(tmp_path)
    with zipfile.ZipFile(tmp_path / "gtFine_trainvaltest.zip", "w") as truth:
        truth.writestr("gtFine/readme.txt", "nothing")
    with pytest.raises(UserError, match="TFDS cannot prepare"):
        data.load("cityscapes_tfds", "train", tmp_path)
