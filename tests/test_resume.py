"""Exact resume through the real command: kill -9, Ctrl-C, damaged checkpoints, two runs at once."""

import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import TINY_MODEL, assert_refused, command, environment, run, write_camvid
from training import checkpoints

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


def begin(place: Path, name: str, train: list[str] = TRAIN) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("training.train", *train, "--name", name),
        cwd=place,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start(place: Path, name: str, until: int, train: list[str] = TRAIN) -> subprocess.Popen[str]:
    """Start a run and wait until it has a checkpoint at step `until` or beyond."""
    process = begin(place, name, train)
    folder = place / "runs" / name / "checkpoints"
    for _ in range(12000):
        if any(int(path.stem.split("-")[1]) >= until for path in folder.glob("step-*")):
            return process
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(process.communicate()[0][-3000:])


def newest(run_folder: Path) -> tuple[dict[str, np.ndarray], dict]:
    found = checkpoints.latest(run_folder / "checkpoints", print)
    assert found is not None
    return found


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, optimizer, average, dropout seeds, best score, early-stopping count and history, to the bit."""
    arrays, meta = newest(one)
    others, other_meta = newest(other)
    assert meta["step"] == other_meta["step"] and meta["progress"] == other_meta["progress"]
    assert list(arrays) == list(others)
    for name in arrays:
        assert arrays[name].tobytes() == others[name].tobytes(), name
    assert (one / "history.csv").read_text() == (other / "history.csv").read_text()
    import h5py

    with h5py.File(one / "best.weights.h5") as a, h5py.File(other / "best.weights.h5") as b:
        names: list[str] = []
        a.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        assert len(names) > 100
        for name in names:
            assert np.array_equal(a[name][()], b[name][()]), name


def test_the_run_folder_holds_what_the_design_says(place: Path) -> None:
    folder = place / "runs" / "straight"
    for name in ("recipe.json", "best.weights.h5", "history.csv", "curves.png"):
        assert (folder / name).stat().st_size > 0
    assert list((folder / "tensorboard").glob("events*"))
    assert sorted(path.name for path in (folder / "previews").iterdir()) == [
        f"epoch-{epoch:04d}.jpg" for epoch in range(1, EPOCHS + 1)
    ]
    assert len((folder / "history.csv").read_text().splitlines()) == EPOCHS + 1


def test_kill_minus_9_and_the_same_command_again_give_the_same_bits(place: Path) -> None:
    process = start(place, "killed", until=3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, meta = newest(place / "runs" / "killed")
    assert meta["step"] < EPOCHS * 3, "the run was over before it was killed: nothing is tested"
    again = run(place, "training.train", *TRAIN, "--name", "killed")
    assert again.returncode == 0, again.stderr[-3000:]
    assert "going on from step" in again.stdout
    assert_same_run(place / "runs" / "straight", place / "runs" / "killed")


def test_ctrl_c_saves_in_the_middle_of_an_epoch_and_says_how_to_go_on(place: Path) -> None:
    process = start(place, "stopped", until=3)
    process.send_signal(signal.SIGINT)
    output = process.communicate()[0]
    assert process.returncode == 130 and "the same command goes on" in output
    assert "Traceback" not in output
    again = run(place, "training.train", *TRAIN, "--name", "stopped")
    assert again.returncode == 0, again.stderr[-3000:]
    assert_same_run(place / "runs" / "straight", place / "runs" / "stopped")


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.3, 1.1])
def test_killed_again_and_again_at_any_moment(place: Path, delay: float) -> None:
    name = f"often-{delay}"
    for _ in range(3):
        process = begin(place, name)
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


def test_another_recipe_in_the_folder_is_refused_naming_the_fields(place: Path) -> None:
    before = (place / "runs" / "straight" / "recipe.json").read_text()
    done = run(place, "training.train", *TRAIN, "--name", "straight", "--seed", "5", "--batch", "3")
    assert_refused(done, "seed (0 there, 5 here)", "batch (2 there, 3 here)", "--fresh")
    assert (place / "runs" / "straight" / "recipe.json").read_text() == before


def test_all_checkpoints_damaged_is_refused(place: Path) -> None:
    source, folder = place / "runs" / "straight", place / "runs" / "spoilt"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "recipe.json").write_bytes((source / "recipe.json").read_bytes())
    for path in (source / "checkpoints").iterdir():
        (folder / "checkpoints" / path.name).write_bytes(path.read_bytes()[:-1000])
    done = run(place, "training.train", *TRAIN, "--name", "spoilt")
    assert_refused(done, "damaged", "--fresh")


def test_a_finished_run_says_so_and_trains_nothing(place: Path) -> None:
    before = (place / "runs" / "straight" / "history.csv").stat().st_mtime_ns
    done = run(place, "training.train", *TRAIN, "--name", "straight")
    assert done.returncode == 0 and "finished" in done.stdout
    assert newest(place / "runs" / "straight")[1]["step"] == EPOCHS * 3
    assert before <= (place / "runs" / "straight" / "history.csv").stat().st_mtime_ns


def test_evaluate_a_run(place: Path) -> None:
    import json

    done = run(place, "training.evaluate", "runs/straight")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "miou" in done.stdout and "Bicyclist" in done.stdout
    folder = place / "runs" / "straight" / "evaluation" / "camvid-val"
    result = json.loads((folder / "scores.json").read_text())
    history = (place / "runs" / "straight" / "history.csv").read_text().splitlines()
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


def test_evaluate_refuses_what_it_cannot_use(place: Path) -> None:
    assert_refused(run(place, "training.evaluate", "runs/none"), "runs/none", "not a run folder")
    assert_refused(run(place, "training.evaluate", "runs/straight", "--split", "holdout"), "holdout", "val")
