"""The page of models side by side: a row measured anew leaves the others."""

import json
from pathlib import Path

import pytest

from benchmarks import compare_models

KEPT = {
    "epochs": 12,
    "keras": 25.03,
    "miou": 24.86,
    "precision": "int8",
    "bytes": 2_650_000,
    "date": "2026-11-21",
}


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / compare_models.RECORD).write_text(json.dumps({"FCN MobileNetV2": KEPT}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_row_anew_leaves_the_others(docs: Path, monkeypatch: pytest.MonkeyPatch):
    new = {**KEPT, "miou": 30.0, "keras": 31.0, "date": "2026-11-30"}
    monkeypatch.setattr(compare_models, "measured", lambda entry, epochs: new)
    monkeypatch.setattr(compare_models, "file_of", lambda entry, row, folder: folder / entry.model)
    monkeypatch.setattr(compare_models, "latency", lambda files: [float(len(file.name)) for file in files])
    monkeypatch.setattr(compare_models, "draw", lambda points: None)
    compare_models.main(["--only", "STDC"])
    rows = (docs / compare_models.PAGE).read_text(encoding="utf-8").splitlines()[-2:]
    assert rows == [
        "| FCN MobileNetV2 | 12, 2026-11-21 | 25.03 | 24.86 | int8 | 2.65 MB | 3.00 ms |",
        "| STDC, narrow | 12, 2026-11-30 | 31.00 | 30.00 | int8 | 2.65 MB | 4.00 ms |",
    ]
    kept = json.loads((docs / compare_models.RECORD).read_text(encoding="utf-8"))
    assert kept == {"FCN MobileNetV2": KEPT, "STDC, narrow": new}


@pytest.mark.slow
def test_a_row_whose_run_is_gone_is_timed_by_a_file_of_random_weights(tmp_path: Path):
    entry = next(one for one in compare_models.ENTRIES if one.model == "otsu" and one.flags)
    file = compare_models.file_of(entry, {**KEPT, "precision": "fp32"}, tmp_path)
    assert len(compare_models.latency([file], rounds=2)) == 1
