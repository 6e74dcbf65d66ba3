"""`kerbside benchmark`: the table, the JSON, mIoU against what is known, and what it refuses."""

import json
import sys

import numpy as np
import pytest

import training.data
from kerbside import benchmark
from runtime.errors import exit_on_user_error
from tests import tiny_tflite as tiny
from training.data.spec import DatasetSpec, Example


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory):
    return tiny.write_bundle(tmp_path_factory.mktemp("model") / "tiny.tflite", tiny.mask_model())


def test_one_table_and_one_json(model, tmp_path, capsys) -> None:
    report = tmp_path / "device.json"
    assert benchmark.main([str(model), "--threads", "1", "2", "--runs", "3", "--json", str(report)]) == 0
    found = json.loads(report.read_text(encoding="utf-8"))
    assert [row["threads"] for row in found["rows"]] == [1, 2]
    for row in found["rows"]:
        assert row["file"] == "tiny.tflite" and row["format"] == "TFLite" and row["input"] == [8, 12]
        assert row["bytes"] == model.stat().st_size and row["miou"] is None
        assert row["whole_ms"]["median"] <= row["whole_ms"]["p90"]
        # A process with NumPy, OpenCV and LiteRT in it.
        assert sys.platform == "win32" or 3e7 < row["peak_memory_bytes"] < 4e8
    assert found["machine"]["cores"] >= 1 and "ai-edge-litert" in found["machine"]["versions"]
    assert str(tmp_path) not in report.read_text(encoding="utf-8")  # nobody's folders are sent back
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("tiny.tflite", "median ms", "p90 ms", "peak MB", "480x360"))


def test_miou_is_that_of_the_images(model, monkeypatch, tmp_path, capsys) -> None:
    """Red left, green right; of what it calls green half is blue: IoU is 1, 1/2 and 0."""
    rgb = np.zeros((8, 12, 3), np.uint8)
    rgb[:, :6, 0] = rgb[:, 6:, 1] = 200
    label = np.zeros((8, 12), np.uint8)
    label[:, 6:], label[4:, 6:] = 1, 2
    spec = DatasetSpec("colours", tiny.LABELS, tiny.PALETTE, ("val",), (8, 12))
    examples = [Example(f"{place}", lambda: (rgb, label)) for place in range(4)]
    monkeypatch.setattr(training.data, "load", lambda *args, **options: (spec, examples))
    report = tmp_path / "device.json"
    words = ["--runs", "1", "--threads", "1", "--data", "colours", "--images", "2", "--json", str(report)]
    assert benchmark.main([str(model), *words]) == 0
    found = json.loads(report.read_text(encoding="utf-8"))
    assert found["rows"][0]["miou"] == pytest.approx(0.5)
    assert found["data"] == {"name": "colours", "split": "val", "images": 2}
    assert "50.00" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--runs", "0"], "--runs is 0; it has to be 1 or more"),
        (["--threads", "0"], "--threads is 0; it has to be 1 or more"),
        (["--data-dir", "x"], "name that with --data"),
        (["--fit", "bend"], "--fit"),
        (["--data", "scenes", "--images", "1"], "name the data that it was made for"),
    ],
)
def test_bad_input_is_one_sentence(model, capsys, words, told) -> None:
    assert exit_on_user_error(benchmark.main, [str(model), "--runs", "1", "--threads", "1", *words]) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error: ")]
    assert told in line


def test_a_file_that_is_none(tmp_path, capsys) -> None:
    assert exit_on_user_error(benchmark.main, [str(tmp_path / "none.tflite")]) == 2
    assert "none.tflite does not exist" in capsys.readouterr().err
