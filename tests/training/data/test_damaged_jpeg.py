"""A JPEG whose data are ruined though its end is there: libjpeg decodes it, and the check refuses it by name."""

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from runtime.errors import UserError
from runtime.image import read_rgb
from training import data
from training.data import inspect
from training.data.files import damaged_jpeg
from training.data.labels.class_counts import Occurrence

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (64, 96, 3), np.uint8)
WHOLE = bytes(cv2.imencode(".jpg", NOISE)[1])
END = b"\xff\xd9"


def entropy(data: bytes) -> int:
    """Where the pixels begin: after the header of the scan, ISO 10918-1, B.2.3."""
    at = data.index(b"\xff\xda")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


HALF = (entropy(WHOLE) + len(WHOLE)) // 2
RUINED = {
    "zeros": WHOLE[:HALF] + bytes(len(WHOLE) - HALF - 2) + END,
    "noise": WHOLE[:HALF] + RNG.integers(0, 255, len(WHOLE) - HALF - 2, np.uint8).tobytes() + END,
    "cut": WHOLE[:HALF] + END,
    "hole": WHOLE[:HALF] + WHOLE[HALF + 600 :],
}


def yard(root: Path, images: dict[str, bytes]) -> Path:
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
        (root / "masks" / split).mkdir(parents=True)
        for name, content in images.items():
            (root / "images" / split / f"{name}.jpg").write_bytes(content)
            Image.fromarray(np.eye(64, 96, dtype=np.uint8)).save(root / "masks" / split / f"{name}.png")
    (root / "classes.json").write_text('["road", "car"]', encoding="utf-8")
    return root


@pytest.mark.parametrize("kind", RUINED)
def test_a_ruined_jpeg_is_decoded_by_the_device_and_refused_before_training(tmp_path, kind):
    assert read_rgb(RUINED[kind]).shape == NOISE.shape
    root = yard(tmp_path, {"a": WHOLE, "b": RUINED[kind], "c": WHOLE})
    with pytest.raises(UserError) as caught:
        data.load("folder", "train", root)
    lines = str(caught.value).splitlines()
    assert "1 problem beside 2 good" in lines[0] and len(lines) == 2
    assert f"{root / 'images/train/b.jpg'} is a damaged JPEG file, though its end is there (" in lines[1]
    found = Occurrence()
    assert len(data.load("folder", "train", root, skip_bad=True, occurrence=found)[1]) == 2
    assert found.pixels[1] == 2 * 64 and found.images[1] == 2 and found.around[1] == 2 * 64 * 96
    _, parts, _ = inspect.inspect("folder", str(root), None, {})
    assert [bool(seen.problem) for seen in parts["train"].seen] == [False, True, False]


def test_bytes_of_padding_before_the_end_are_no_ruin(tmp_path):
    """Some cameras write them, libjpeg warns of them, and every pixel is there."""
    padded = WHOLE[:-2] + bytes(12) + END
    with damaged_jpeg.heard() as warnings:
        assert np.array_equal(read_rgb(padded), read_rgb(WHOLE))
        text = os.pread(2, 200, 0)
        assert b"extraneous bytes before marker 0xd9" in text and warnings() == []
    assert len(data.load("folder", "train", yard(tmp_path, {"a": padded}))[1]) == 1


def test_whatever_else_is_said_on_stderr_is_still_said(capfd):
    with damaged_jpeg.heard() as warnings:
        print("progress", file=sys.stderr)
        os.write(2, b"Corrupt JPEG data: premature end of data segment\nsomething else\n")
        assert warnings() == ["Corrupt JPEG data: premature end of data segment"]
    said = capfd.readouterr().err
    assert "progress" in said and "something else" in said and "JPEG" not in said
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
