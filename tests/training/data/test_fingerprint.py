"""What a run knows its data by: names, order and content, and what is said of a difference."""

from pathlib import Path

import numpy as np
import pytest

from runtime.errors import UserError
from training import data
from training.data.check_files import check
from training.data.files import fingerprint
from training.data.spec import Example
from training.runs import checkpoints
from training.runs.trained_run import keep_data


def images(*names: str, shift: int = 0, brighter: int = 0) -> list[Example]:
    """Examples by name; `shift` turns their ids into others, `brighter` adds to their pixels."""

    def make(name: str) -> Example:
        rng = np.random.default_rng(list(name.encode()))
        rgb, ids = rng.integers(0, 200, (4, 6, 3)), rng.integers(0, 3, (4, 6))
        return Example(
            name, lambda: ((rgb + brighter).astype(np.uint8), ((ids + shift) % 3).astype(np.uint8))
        )

    return check([make(name) for name in names], [])[0]


def keep(folder: Path, splits: dict[str, list[Example]]) -> None:
    keep_data(folder, {split: of(examples) for split, examples in splits.items()})


def of(examples: list[Example]) -> fingerprint.Images:
    return fingerprint.of(examples, lambda index: examples[index].read())


BEFORE = {"train": images("a", "b", "c", "d"), "val": images("e")}
CHANGES = {
    "train has 1 image more (x)": {"train": images("a", "b", "c", "d", "x")},
    "train lacks 2 images that it had (b, d)": {"train": images("a", "c")},
    "train has 4 images whose labels mean other classes (a, b, c, ...)": {
        "train": images("a", "b", "c", "d", shift=1)
    },
    "val has 1 image with other pixels (e)": {"val": images("e", brighter=1)},
    "train has its images in another order": {"train": images("a", "c", "b", "d")},
    "": {},
}


@pytest.mark.parametrize("said", CHANGES)
def test_what_has_changed_is_named(tmp_path: Path, said: str) -> None:
    keep(tmp_path, BEFORE)
    checkpoints.save(tmp_path / "checkpoints", 3, {}, {})
    before = (tmp_path / "data.json").read_bytes()
    if said:
        with pytest.raises(UserError) as refused:
            keep(tmp_path, {**BEFORE, **CHANGES[said]})
        assert f"was trained on: {said}; bring it back" in str(refused.value)
    else:
        keep(tmp_path, BEFORE)
    assert (tmp_path / "data.json").read_bytes() == before


def test_data_may_change_until_there_is_a_checkpoint(tmp_path: Path) -> None:
    keep(tmp_path, BEFORE)
    keep(tmp_path, {**BEFORE, "train": images("x")})
    kept = fingerprint.kept(tmp_path)
    assert kept is not None and [name for name, _ in kept["train"]] == ["x"]


def test_the_checksums_are_crc_32_of_pixels_and_labels() -> None:
    """0x414fa339 and 0xcbf43926 are the check values of "The quick brown fox ..." and of "123456789"."""
    fox = np.frombuffer(b"The quick brown fox jumps over the lazy dog", np.uint8)
    digits = np.frombuffer(b"123456789", np.uint8).reshape(3, 3)
    assert fingerprint.checksums(fox, digits) == "414fa339-cbf43926"


def test_of_drawn_data_a_few_images_are_looked_at() -> None:
    _, examples = data.load("scenes", "train", count=20, size=(32, 64))
    known = [checksum for _, checksum in of(examples)]
    assert sum(map(bool, known)) == fingerprint.READ and known[0] and known[-1]


@pytest.mark.parametrize("content", ["", "[]", '{"train": [["a"]]}', '{"train": [[1, "x"]]}'])
def test_a_damaged_note_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "data.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="data.json is not what a run keeps of its data"):
        fingerprint.kept(tmp_path)


def test_names_that_are_no_text_can_be_kept(tmp_path: Path) -> None:
    """A file system's names are bytes; Python has them as halves of surrogate pairs."""
    fingerprint.keep(tmp_path, {"train": of([*images("a"), *images("\u8def")])})
    odd = Example("odd\udcff", images("a")[0].read)
    fingerprint.keep(tmp_path, {"train": of([odd])})
    assert fingerprint.differences(fingerprint.kept(tmp_path) or {}, {"train": of([odd])}) == []
