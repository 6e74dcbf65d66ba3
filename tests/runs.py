"""Runs started as processes that can be killed, and two runs compared bit for bit."""

import subprocess
import time
from pathlib import Path

import h5py
import numpy as np

from tests.tiny import command, environment
from training.runs import checkpoints


def begin(place: Path, name: str, train: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("training.train", *train, "--name", name),
        cwd=place,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start(place: Path, name: str, until: int, train: list[str]) -> subprocess.Popen[str]:
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
    """Weights, optimizer, average, dropout seeds, best score, early-stopping count and history, bit for bit."""
    arrays, meta = newest(one)
    others, other_meta = newest(other)
    assert meta["step"] == other_meta["step"] and meta["progress"] == other_meta["progress"]
    assert list(arrays) == list(others)
    for name in arrays:
        assert arrays[name].tobytes() == others[name].tobytes(), name
    assert (one / "history.csv").read_text(encoding="utf-8") == (other / "history.csv").read_text(
        encoding="utf-8"
    )

    with h5py.File(one / "best.weights.h5") as a, h5py.File(other / "best.weights.h5") as b:
        names: list[str] = []
        a.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        assert len(names) > 100
        for name in names:
            assert np.array_equal(a[name][()], b[name][()]), name
