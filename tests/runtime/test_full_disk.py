"""A full disk, little memory, an encoder that fails: one sentence, and no half of a result."""

import errno
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import encoding, files, image
from runtime.__main__ import main
from runtime.errors import UserError, WriteError, exit_on_user_error
from tests.tiny import REPOSITORY, called
from tests.tiny_tflite import sample_image

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)

run = partial(called, main)


@pytest.fixture
def images(tmp_path) -> Path:
    (tmp_path / "in").mkdir()
    for name in "abc":
        sample_image(tmp_path / "in" / f"{name}.png")
    return tmp_path / "in"


def test_only_one_place_encodes():
    """It looks at the encoder's flag; nobody else has to."""
    rooms = ("runtime", "app", "training", "export", "zoo")
    users = {
        path.relative_to(REPOSITORY).as_posix()
        for room in rooms
        for path in (REPOSITORY / room).rglob("*.py")
        if any(word in path.read_text(encoding="utf-8") for word in ("cv2.imencode", "cv2.imwrite"))
    }
    assert users == {"runtime/encoding.py"}


@pytest.mark.parametrize("kind", [".png", ".jpg"])
def test_what_is_encoded_comes_back(kind):
    for array in (PIXELS, PIXELS[..., 0]):
        back = cv2.imdecode(np.frombuffer(encoding.encoded(array, kind), np.uint8), cv2.IMREAD_UNCHANGED)
        back = back if back.ndim == 2 else back[..., ::-1]
        assert back.shape == array.shape
        assert kind == ".jpg" or np.array_equal(back, array)


def fails(flag: bool = False, **error):
    def imencode(*_):
        if error:
            made = cv2.error("OpenCV's own words")
            made.code, made.err = error["code"], "OpenCV's own words"
            raise made
        return flag, np.zeros(0 if flag else 9, np.uint8)

    return imencode


@pytest.mark.parametrize(
    ("imencode", "words"),
    [
        (fails(False), "could not be made: the encoder failed"),
        (fails(True), "could not be made: the encoder failed"),  # success, without a byte
        (fails(code=-215), "could not be made .OpenCV's own words"),
        (fails(code=cv2.Error.StsNoMem), "needs more memory than there is"),
    ],
)
def test_an_encoder_that_fails_is_no_success(model, images, tmp_path, monkeypatch, capsys, imencode, words):
    monkeypatch.setattr(cv2, "imencode", imencode)
    with pytest.raises(UserError, match=words):
        image.png(PIXELS)
    assert run(model, images, "--out", tmp_path / "o") == 2
    told = capsys.readouterr()
    assert told.err.count("bad: ") == 3 and "3 could not be read" in told.out
    assert not list((tmp_path / "o").rglob("*.*"))


def test_a_real_image_that_no_encoder_takes():
    """WebP ends at 16,383 pixels a side, JPEG at 65,500."""
    with pytest.raises(UserError, match="The .jpg of 65501x1 pixels could not be made"):
        encoding.encoded(np.zeros((1, 65501), np.uint8), ".jpg")


def test_a_full_disk_is_named_and_no_mask_stands_without_its_overlay(
    model, images, tmp_path, monkeypatch, capsys
):
    real, room = (
        Path.write_bytes,
        [5],
    )  # files: those of the first image, and the second one's mask and overlay

    def write_bytes(self, data):
        if room[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= 1
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    assert run(model, images, "--out", tmp_path / "o") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "could not be read" not in err
    assert (
        "b.json cannot be written: No space left on device, after 1 of 3 images, which are whole; make room"
        in err
    )
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == [
        "a.json",
        "a_mask.png",
        "a_overlay.png",
    ]


def test_one_file_that_cannot_be_written_ends_nothing(model, images, tmp_path, capsys):
    (tmp_path / "o" / "b.json" / "x").mkdir(parents=True)
    assert run(model, images, "--out", tmp_path / "o", "--overwrite") == 2
    told = capsys.readouterr()
    assert "b.json cannot be written" in told.err and "2 images" in told.out
    assert "1 could not be written" in told.out and "could not be read" not in told.out
    assert not list((tmp_path / "o").glob("b*.png"))


def test_a_disk_that_is_really_full():
    """/dev/full takes no byte."""
    with pytest.raises(WriteError, match="No space left on device") as caught:
        with files.whole_file(Path("/dev/shm/kerbside-never-there")) as part:
            with open("/dev/full", "wb", buffering=0) as full:
                full.write(b"x")
    assert caught.value.full and not part.exists()


LITTLE = """
import resource, sys
from runtime.__main__ import main
from runtime.errors import exit_on_user_error
most = 2**20 * int(sys.argv.pop())
resource.setrlimit(resource.RLIMIT_DATA, (most, most))
sys.exit(exit_on_user_error(main, sys.argv[1:]))
"""


def test_an_image_that_memory_does_not_hold_is_named_and_the_others_are_done(model, images, tmp_path):
    """49 megapixels take 147 MB, and their overlay as much again; here are 420 MB for all."""
    (images / "b.png").write_bytes(cv2.imencode(".png", np.zeros((7000, 7000), np.uint8))[1].tobytes())
    arguments = [str(model), str(images), "--out", str(tmp_path / "o"), "--threads", "1", "420"]
    done = subprocess.run(
        [sys.executable, "-c", LITTLE, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "b.png needs more memory than there is" in done.stderr and "2 images" in done.stdout
    assert not list((tmp_path / "o").glob("b*"))


def test_little_memory_anywhere_is_a_sentence(capsys):
    def main():
        np.zeros(1 << 60, np.uint8)

    assert exit_on_user_error(main) == 2
    assert capsys.readouterr().err.startswith("error: there is not enough memory")
