"""Who holds a run folder, and what it may hold."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.errors import UserError
from tests.tiny import REPOSITORY, environment
from training import folder
from training.recipe import Recipe, from_json

RECIPE = Recipe(model="deeplabv3plus", data="camvid", data_dir="d")
HOLD = """
import sys, time
from pathlib import Path
from training import folder
with folder.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_two_runs_in_one_folder_at_once(tmp_path: Path) -> None:
    """A real second process holds it; when it is killed the folder is free."""
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process is training"), folder.held(tmp_path):
            pass
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    with folder.held(tmp_path):
        pass


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="holiday.jpg"):
        folder.claim(tmp_path, RECIPE, fresh=False)
    with pytest.raises(UserError, match="holiday.jpg"):
        folder.claim(tmp_path, RECIPE, fresh=True)
    assert (tmp_path / "holiday.jpg").exists()


def test_fresh_starts_over(tmp_path: Path) -> None:
    folder.claim(tmp_path, RECIPE, fresh=False)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000001.checkpoint").write_bytes(b"x")
    folder.claim(tmp_path, RECIPE, fresh=False)
    assert (tmp_path / "checkpoints").exists()
    folder.claim(tmp_path, Recipe(model="deeplabv3plus", data="camvid", data_dir="d", seed=4), fresh=True)
    assert not (tmp_path / "checkpoints").exists()


def test_a_recipe_that_never_trained_gives_way(tmp_path: Path) -> None:
    """The first try had bad data, say; the second corrects the command."""
    other = Recipe(model="deeplabv3plus", data="camvid", data_dir="d", seed=4)
    folder.claim(tmp_path, RECIPE, fresh=False)
    folder.claim(tmp_path, other, fresh=False)
    assert from_json(tmp_path / "recipe.json").seed == 4
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000001.checkpoint").write_bytes(b"x")
    with pytest.raises(UserError, match="seed"):
        folder.claim(tmp_path, RECIPE, fresh=False)


def test_a_run_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"), folder.held(tmp_path / "file" / "run"):
        pass
