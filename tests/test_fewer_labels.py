"""The protocol of fewer labels: which images keep theirs, and what the table says."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import fewer_labels
from benchmarks.fewer_labels import ALONE, TOGETHER
from runtime.errors import UserError
from tests.folders import save


@pytest.fixture
def camvid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "camvid"
    for kind in ("train", "trainannot"):
        (folder / kind).mkdir(parents=True)
        for name in (*(f"0001TP_{number}" for number in range(5)), "0006R0_1", "0016E5_1", "0016E5_2"):
            save(folder / kind / f"{name}.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.iterdir())


def test_one_image_in_four_of_each_drive_keeps_its_label(camvid: Path):
    folder, unlabelled = fewer_labels.folders(camvid, "0006R0", 4)
    kept = ["0001TP_0", "0001TP_4", "0016E5_1"]
    assert names(folder / "train") == [f"{name}_{copy}" for name in kept for copy in range(4)]
    assert names(folder / "trainannot") == names(folder / "train")
    assert names(unlabelled) == ["0001TP_1", "0001TP_2", "0001TP_3", "0016E5_2"]
    assert names(folder / "val") == names(folder / "valannot") == ["0006R0_1"]
    assert (folder / "train" / "0016E5_1_3.png").read_bytes()
    assert fewer_labels.folders(camvid, "0006R0", 4) == (folder, unlabelled)  # again


def test_the_table_has_means_and_what_was_not_measured(camvid: Path, monkeypatch: pytest.MonkeyPatch):
    found = iter((40.0, 42.0, 44.0, 47.0))
    monkeypatch.setattr(fewer_labels, "measured", lambda *_: next(found))
    words = [str(camvid), "--parts", "8", "--seeds", "0", "1", "--", "unet", "--epochs", "2"]
    assert fewer_labels.main(words) == 0
    text = fewer_labels.PAGE.read_text(encoding="utf-8")
    assert "| 1/8 | 41.00 | 45.50 | +4.50 ± 0.71 |" in text
    assert "| 1/4 | not measured | not measured | not measured |" in text and "| all | not measured |" in text
    assert fewer_labels.main(words) == 0  # nothing is measured twice
    with pytest.raises(UserError, match="is of the drive 0006R0 and the flags unet --epochs 2: use these"):
        fewer_labels.main([*words[:-1], "3"])
    with pytest.raises(UserError, match="flags of training.train are missing"):
        fewer_labels.main([str(camvid)])


def test_what_a_run_is_given(camvid: Path, monkeypatch: pytest.MonkeyPatch):
    said = []

    def run(module: str, *words: str) -> None:
        said.append((module, words))
        if module == "training.evaluate":
            (fewer_labels.FOLDER / "scores").mkdir(parents=True, exist_ok=True)
            (fewer_labels.FOLDER / "scores" / "scores.json").write_text('{"miou": 0.5}')

    monkeypatch.setattr(fewer_labels.unseen, "run", run)
    fewer_labels.main([str(camvid), "--parts", "2", "--", "unet"])
    trained = [words for module, words in said if module == "training.train"]
    assert ["--unlabeled" in words for words in trained] == [False, True]
    known = fewer_labels.begun(["unet"], "0006R0")["scores"]["2"]
    assert known == {ALONE: {"0": 50.0}, TOGETHER: {"0": 50.0}}
