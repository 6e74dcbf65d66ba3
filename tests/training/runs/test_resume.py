"""Exact resume through the real command: kill -9, Ctrl-C, damaged checkpoints, two runs at once."""

import json
import shlex
import shutil
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from export.__main__ import main as export_main
from runtime.errors import UserError
from tests.runs import assert_same_run, begin, newest, start
from tests.tiny import TINY_MODEL, assert_refused, run, write_camvid
from training import compare, evaluate, train
from training.runs.recipe import from_json

EPOCHS = 5
TRAIN = ["deeplabv3plus", "--data", "camvid", "--data-dir", "data", *TINY_MODEL, "--epochs", str(EPOCHS),
         "--crop", "32x32", "--batch", "2", "--ema", "0.9", "--patience", "4"]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small data set and one run, `straight`, that nothing interrupted."""
    folder = tmp_path_factory.mktemp("resume")
    write_camvid(folder / "data")
    done = run(folder, "training.train", *TRAIN, "--name", "straight")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Otsu" in done.stdout and "python -m training.evaluate runs/straight" in done.stdout
    return folder


def test_the_run_folder_holds_what_the_design_says(place: Path) -> None:
    folder = place / "runs" / "straight"
    for name in ("recipe.json", "best.weights.h5", "history.csv", "curves.png"):
        assert (folder / name).stat().st_size > 0
    assert list((folder / "tensorboard").glob("events*"))
    assert sorted(path.name for path in (folder / "previews").iterdir()) == [
        f"epoch-{epoch:04d}.jpg" for epoch in range(1, EPOCHS + 1)
    ]
    assert len((folder / "history.csv").read_text(encoding="utf-8").splitlines()) == EPOCHS + 1


def test_kill_minus_9_and_the_same_command_again_give_the_same_bits(place: Path) -> None:
    process = start(place, "killed", 3, TRAIN)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, meta = newest(place / "runs" / "killed")
    assert meta["step"] < EPOCHS * 3, "the run was over before it was killed: nothing is tested"
    again = run(place, "training.train", *TRAIN, "--name", "killed")
    assert again.returncode == 0, again.stderr[-3000:]
    assert "going on from step" in again.stdout
    assert_same_run(place / "runs" / "straight", place / "runs" / "killed")


def test_ctrl_c_saves_in_the_middle_of_an_epoch_and_says_how_to_go_on(place: Path) -> None:
    process = start(place, "stopped", 3, TRAIN)
    process.send_signal(signal.SIGINT)
    output = process.communicate()[0]
    assert process.returncode == 130 and "the same command goes on" in output
    assert "Traceback" not in output
    # The data has moved, and no other flag is needed; the run keeps the new place.
    shutil.copytree(place / "data", place / "moved")
    again = run(place, "training.train", "--resume", "runs/stopped", "--data-dir", "moved")
    assert again.returncode == 0, again.stderr[-3000:]
    assert_same_run(place / "runs" / "straight", place / "runs" / "stopped")
    assert from_json(place / "runs" / "stopped" / "recipe.json").data.folder == "moved"
    assert not list((place / "runs" / "stopped" / "checkpoints").glob("begun"))


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.3, 1.1])
def test_killed_again_and_again_at_any_moment(place: Path, delay: float) -> None:
    name = f"often-{delay}"
    for _ in range(3):
        process = begin(place, name, TRAIN)
        assert process.stdout is not None
        for line in process.stdout:
            if "parameters" in line:
                break
        time.sleep(delay * 10)
        process.kill()
        process.communicate()
    again = run(place, "training.train", *TRAIN, "--name", name)
    assert again.returncode == 0, again.stderr[-3000:]
    assert_same_run(place / "runs" / "straight", place / "runs" / name)


def test_another_recipe_in_the_folder_is_refused_naming_the_fields(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    before = (place / "runs" / "straight" / "recipe.json").read_text(encoding="utf-8")
    with pytest.raises(UserError) as refused:
        train.main([*TRAIN, "--name", "straight", "--seed", "5", "--batch", "3"])
    for words in ("seed (0 there, 5 here)", "batch (2 there, 3 here)", "--fresh"):
        assert words in str(refused.value)
    assert (place / "runs" / "straight" / "recipe.json").read_text(encoding="utf-8") == before


def test_all_checkpoints_damaged_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, folder = place / "runs" / "straight", place / "runs" / "spoilt"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "recipe.json").write_bytes((source / "recipe.json").read_bytes())
    for path in (source / "checkpoints").iterdir():
        (folder / "checkpoints" / path.name).write_bytes(path.read_bytes()[:-1000])
    monkeypatch.chdir(place)
    with pytest.raises(UserError, match="damaged.*--fresh"):
        train.main([*TRAIN, "--name", "spoilt"])


def test_a_finished_run_says_so_and_trains_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    before = (place / "runs" / "straight" / "history.csv").stat().st_mtime_ns
    assert train.main([*TRAIN, "--name", "straight"]) == 0
    assert "finished" in capsys.readouterr().out
    assert newest(place / "runs" / "straight")[1]["step"] == EPOCHS * 3
    assert before <= (place / "runs" / "straight" / "history.csv").stat().st_mtime_ns


def changed_data(place: Path) -> Path:
    """The data with an image more, and with ids that stand for other classes in all train masks."""
    folder = place / "changed"
    shutil.copytree(place / "data", folder)
    for path in (folder / "trainannot").iterdir():
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), np.where(ids < 11, 10 - ids, ids).astype(np.uint8))
    for kind in ("val", "valannot"):
        shutil.copy(folder / kind / "000.png", folder / kind / "new.png")
    return folder


def test_data_that_has_changed_is_refused_naming_what(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    folder = changed_data(place)
    before = {path: path.read_bytes() for path in (place / "runs/straight").iterdir() if path.is_file()}
    with pytest.raises(UserError) as refused:
        train.main(["--resume", "runs/straight", "--data-dir", str(folder)])
    for words in (
        "the data is not what runs/straight was trained on",
        "train has 6 images whose labels mean other classes (000, 001, 002, ...)",
        "val has 1 image more (new)",
        "--init runs/straight",
        "--fresh",
    ):
        assert words in str(refused.value)
    assert before == {path: path.read_bytes() for path in before}


def test_a_run_of_before_data_json_goes_on_and_then_keeps_one(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    shutil.copytree(place / "runs/straight", place / "runs/older")
    for name in ("data.json", "best.sha256"):
        (place / "runs/older" / name).unlink()
    assert train.main(["--resume", "runs/older"]) == 0
    assert "this run is finished" in capsys.readouterr().out
    assert (place / "runs/older/data.json").read_bytes() == (place / "runs/straight/data.json").read_bytes()


def test_best_weights_that_are_gone_are_missed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    shutil.copytree(place / "runs/straight", place / "runs/without")
    (place / "runs/without/best.weights.h5").unlink()
    with pytest.raises(UserError, match="best.weights.h5 is not there, though the run has written it"):
        train.main(["--resume", "runs/without"])


@pytest.mark.slow
def test_a_run_whose_data_has_moved_is_evaluated_compared_and_exported(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    lost = place / "runs/lost"
    shutil.copytree(place / "runs/straight", lost)
    recipe = (lost / "recipe.json").read_text(encoding="utf-8")
    (lost / "recipe.json").write_text(
        recipe.replace('"data_dir": "data"', '"data_dir": "gone"'), encoding="utf-8"
    )
    weights = ["runs/lost", "--format", "weights"]
    for main, words in ((evaluate.main, ["runs/lost"]), (export_main, weights)):
        with pytest.raises(UserError, match="The data folder gone does not exist; --data-dir"):
            main(words)
    assert evaluate.main(["runs/lost", "--data-dir", "data", "--metrics", "none"]) == 0
    scores = [
        json.loads((place / "runs" / name / "evaluation/camvid-val/scores.json").read_text(encoding="utf-8"))[
            "miou"
        ]
        for name in ("lost", "straight")
        if (place / "runs" / name / "evaluation").exists()
    ]
    assert len(set(scores)) == 1
    assert compare.main(["runs/straight", "runs/lost", "--data-dir", "data", "--out", "c"]) == 0
    assert export_main([*weights, "--data-dir", "data", "--out", "by-data.weights.h5"]) == 0
    assert export_main([*weights, "--images", "data/val", "--out", "by-images.weights.h5"]) == 0
    for more in (
        ["--data", "scenes"],
        ["--classes", "road11"],
        ["--data-dir", "data", "--images", "data/val"],
    ):
        with pytest.raises(UserError, match="leave .* out|exclude each other"):
            export_main([*weights, *more])


@pytest.mark.slow
def test_more_epochs_than_a_finished_run_had_get_the_command_that_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    with pytest.raises(UserError, match="python -m training.train deeplabv3plus ") as refused:
        train.main([*TRAIN, "--name", "straight", "--epochs", str(EPOCHS + 1)])
    words = shlex.split(str(refused.value).rpartition("weights: python -m training.train ")[2])
    assert train.main(words) == 0
    made = from_json(place / "runs" / "straight-2" / "recipe.json")
    assert (made.optimisation.epochs, made.model.init) == (1, "runs/straight")


def test_evaluate_a_run(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert evaluate.main(["runs/straight"]) == 0
    said = capsys.readouterr().out
    assert "miou" in said and "Bicyclist" in said
    folder = place / "runs" / "straight" / "evaluation" / "camvid-val"
    result = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    history = (place / "runs" / "straight" / "history.csv").read_text(encoding="utf-8").splitlines()
    best = max(float(line.split(",")[5]) for line in history[1:])
    assert result["miou"] == pytest.approx(best, abs=1e-6)
    assert {path.name for path in folder.iterdir()} == {
        "index.html",
        "scores.json",
        "scores.csv",
        "confusion.csv",
        "confusion.png",
        "confusion-counts.png",
        "images.csv",
        "counts.npz",
        "classes.png",
        "best.png",
        "worst.png",
        "curves.png",
    }


def test_evaluate_refuses_what_it_cannot_use(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_refused(run(place, "training.evaluate", "runs/none"), "runs/none", "not a run folder")
    monkeypatch.chdir(place)
    with pytest.raises(UserError, match="holdout.*val"):
        evaluate.main(["runs/straight", "--split", "holdout"])
