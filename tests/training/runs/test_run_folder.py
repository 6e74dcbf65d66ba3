"""Who holds a run folder, and what it may hold."""

import errno
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.errors import UserError
from tests.tiny import REPOSITORY, environment
from training.runs import best_weights, checkpoints, run_folders
from training.runs.recipe import Recipe, from_json
from training.runs.run_folders import claim, held

RECIPE = Recipe.of(model="deeplabv3plus", data="camvid", data_dir="d")
HOLD = """
import sys, time
from pathlib import Path
from training.runs import run_folders
with run_folders.held(Path(sys.argv[1])):
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
        with pytest.raises(UserError, match="another process is training"), held(tmp_path):
            pass
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    with held(tmp_path):
        pass


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="holiday.jpg"):
        claim(tmp_path, RECIPE, fresh=False)
    with pytest.raises(UserError, match="holiday.jpg"):
        claim(tmp_path, RECIPE, fresh=True)
    assert (tmp_path / "holiday.jpg").exists()


def test_fresh_starts_over(tmp_path: Path) -> None:
    claim(tmp_path, RECIPE, fresh=False)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000001.checkpoint").write_bytes(b"x")
    claim(tmp_path, RECIPE, fresh=False)
    assert (tmp_path / "checkpoints").exists()
    claim(tmp_path, Recipe.of(model="deeplabv3plus", data="camvid", data_dir="d", seed=4), fresh=True)
    assert not (tmp_path / "checkpoints").exists()


def test_a_recipe_that_never_trained_gives_way(tmp_path: Path) -> None:
    """The first try had bad data, say; the second corrects the command."""
    other = Recipe.of(model="deeplabv3plus", data="camvid", data_dir="d", seed=4)
    claim(tmp_path, RECIPE, fresh=False)
    claim(tmp_path, other, fresh=False)
    assert from_json(tmp_path / "recipe.json").run.seed == 4
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000001.checkpoint").write_bytes(b"x")
    with pytest.raises(UserError, match="seed"):
        claim(tmp_path, RECIPE, fresh=False)


def trained(folder: Path) -> None:
    """What a run of some epochs leaves, as far as folder.py looks at it."""
    folder.mkdir(exist_ok=True)
    claim(folder, RECIPE, fresh=False)
    checkpoints.save(folder / "checkpoints", 5, {}, {})
    for name in (best_weights.NAME, "history.csv"):
        (folder / name).write_bytes(b"x")


@pytest.mark.parametrize("lost", ["the folder", "its files", "a file", "a dangling link"])
@pytest.mark.parametrize("seed", [0, 4])
def test_a_run_without_its_checkpoints_is_not_begun_anew(tmp_path: Path, lost: str, seed: int) -> None:
    """Neither with the same recipe nor with another one."""
    trained(tmp_path)
    place = tmp_path / "checkpoints"
    shutil.rmtree(place)
    if lost == "its files":
        place.mkdir()
    elif lost == "a file":
        place.write_text("", encoding="utf-8")
    elif lost == "a dangling link":
        place.symlink_to(tmp_path / "an-unplugged-disk")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match="checkpoints.* --fresh"):
        claim(tmp_path, Recipe.of(model="deeplabv3plus", data="camvid", data_dir="d", seed=seed), fresh=False)
    assert sorted(tmp_path.iterdir()) == before


def test_killed_in_its_first_epoch_a_run_may_begin_anew(tmp_path: Path) -> None:
    """Between the first best weights and the first checkpoint."""
    claim(tmp_path, RECIPE, fresh=False)
    checkpoints.begin(tmp_path / "checkpoints")
    (tmp_path / best_weights.NAME).write_bytes(b"x")
    claim(tmp_path, RECIPE, fresh=False)
    checkpoints.save(tmp_path / "checkpoints", 5, {}, {})
    assert not checkpoints.has_begun(tmp_path / "checkpoints")


@pytest.mark.parametrize("name", ["recipe.json", "history.csv", best_weights.NAME, "tensorboard", "previews"])
def test_a_folder_for_a_file_or_a_file_for_a_folder_is_named(tmp_path: Path, name: str) -> None:
    trained(tmp_path)
    path = tmp_path / name
    if path.is_file():
        path.unlink()
        path.mkdir()
    else:
        path.write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=name):
        claim(tmp_path, RECIPE, fresh=False)


def test_fresh_leaves_alone_what_a_link_leads_to(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "film.mp4").write_bytes(b"x")
    trained(run)
    (run / "previews").symlink_to(elsewhere)
    claim(run, RECIPE, fresh=True)
    assert sorted(path.name for path in run.iterdir()) == ["recipe.json"]
    assert (elsewhere / "film.mp4").exists()


@pytest.mark.parametrize("after", range(5))
def test_fresh_that_is_killed_leaves_no_run_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Whatever it had removed: the next command says --fresh, or begins anew, and never takes an old checkpoint."""
    trained(tmp_path)
    remove, removed = run_folders._remove, []

    def remove_some(item: Path) -> None:
        if len(removed) == after:
            raise KeyboardInterrupt
        removed.append(item)
        remove(item)

    monkeypatch.setattr(run_folders, "_remove", remove_some)
    with pytest.raises(KeyboardInterrupt):
        claim(tmp_path, RECIPE, fresh=True)
        raise KeyboardInterrupt  # it needed fewer
    monkeypatch.undo()
    if after:
        assert not checkpoints.listed(tmp_path / "checkpoints")
        if any((tmp_path / name).exists() for name in run_folders.RESULTS):
            with pytest.raises(UserError, match="--fresh"):
                claim(tmp_path, RECIPE, fresh=False)
    claim(tmp_path, RECIPE, fresh=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.json"]


def test_a_file_system_without_locks_is_not_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(run_folders.fcntl, "flock", flock)
    said: list[str] = []
    with held(tmp_path, said.append):
        pass
    assert "has no locks (No locks available)" in said[0]


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".lock").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="cannot be used"), held(tmp_path):
        pass
    assert not (tmp_path / "outside").exists()


def test_a_run_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="file"), held(tmp_path / "file" / "run"):
        pass
