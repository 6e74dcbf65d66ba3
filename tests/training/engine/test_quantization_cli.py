"""--quantize through the real commands: from a float run to an int8 file, killed on the way, and what is refused."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from runtime.errors import UserError
from tests.runs import assert_same_run, start
from tests.tiny import TINY_MODEL, run, write_camvid
from training import train

BASE = ["deeplabv3plus", "--data", "camvid", "--data-dir", "data", *TINY_MODEL, "--crop", "32x32", "--batch", "2",
        "--ema", "0.9"]  # fmt: skip
QUANTIZED = [*BASE, "--init", "runs/float", "--quantize", "--epochs", "4"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and no run."""
    folder = tmp_path_factory.mktemp("quantize")
    write_camvid(folder / "data")
    return folder


@pytest.fixture(scope="module")
def place(data: Path) -> Path:
    """The same with a run in float."""
    done = run(data, "training.train", *BASE, "--epochs", "1", "--name", "float")
    assert done.returncode == 0, done.stderr[-3000:]
    return data


@pytest.mark.slow
def test_a_quantised_run_goes_on_to_the_bit_and_exports(place: Path) -> None:
    done = run(place, "training.train", *QUANTIZED, "--name", "straight")
    assert done.returncode == 0, done.stderr[-3000:]
    recipe = json.loads((place / "runs" / "straight" / "recipe.json").read_text(encoding="utf-8"))
    assert recipe["quantize"] is True and recipe["learning_rate"] == 1e-4
    process: subprocess.Popen[str] = start(place, "killed", 3, QUANTIZED)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = run(place, "training.train", *QUANTIZED, "--name", "killed")
    assert again.returncode == 0 and "going on from step" in again.stdout, again.stderr[-3000:]
    assert_same_run(place / "runs" / "straight", place / "runs" / "killed")
    exported = run(place, "export", "runs/straight", "--precision", "int8", "--allow-loss", "100")
    assert exported.returncode == 0, exported.stderr[-3000:]
    assert "correcting biases" not in exported.stderr
    report = run(
        place, "export.quantization_report", "runs/straight", "--images", "1", "--out", "report.json"
    )
    assert report.returncode == 0, report.stderr[-3000:]
    facts = json.loads((place / "report.json").read_text(encoding="utf-8"))
    assert facts["norms"] > 40 and facts["unfolded"] == [] and facts["per_tensor"] == []


def test_a_run_without_weights_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    (data / "runs" / "empty").mkdir(parents=True)
    with pytest.raises(
        UserError, match="--init.*runs/empty/best.weights.h5|runs/empty/best.weights.h5.*--init"
    ):
        train.main([*BASE, "--init", "runs/empty", "--quantize", "--name", "a"])


def test_no_run_to_begin_with_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    with pytest.raises(UserError, match="--init runs/NAME"):
        train.main([*BASE, "--quantize", "--name", "b"])
    assert not (data / "runs" / "b").exists()
