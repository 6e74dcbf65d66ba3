"""The run folder runs/NAME: who holds it, what recipe it belongs to, and its small files."""

import csv
import errno
import fcntl
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.files import write_whole
from training.runs import best_weights, checkpoints
from training.runs.recipe import MACHINE_KEYS, Recipe, from_json
from training.runs.settings import usual

FILES = (
    "recipe.json",
    "classes.json",
    "data.json",
    "learnt_from.json",
    "tracking.json",
    "history.csv",
    "curves.png",
    best_weights.NAME,
    best_weights.HASH,
)
FOLDERS = ("checkpoints", "tensorboard", "previews", "evaluation", "export")
RESULTS = (best_weights.NAME, "history.csv")
THROWN_AWAY = ".thrown-away"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def held(folder: Path, say: Callable[[str], None] = print) -> Iterator[None]:
    """Hold the folder for this process. The system lets go of the lock however the process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
    except OSError as error:
        raise UserError(f"the run folder {folder} cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another process is training in {folder}: wait for it, or choose another folder with --name"
            ) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise UserError(f"the run folder {folder} cannot be locked: {error.strerror}") from error
            say(
                f"the file system of {folder} has no locks ({error.strerror}): "
                "see to it that no other process trains there."
            )
        yield
    finally:
        os.close(lock)


def claim(folder: Path, recipe: Recipe, fresh: bool) -> None:
    """Write recipe.json, or see that the one that is there is the same, and that nothing of the run is lost."""
    path = folder / "recipe.json"
    _remove(folder / THROWN_AWAY)
    if fresh and path.exists():
        _throw_away(folder)
    _check_kinds(folder)
    if not path.exists():
        # It may hold somebody's other files: only our own names may be there already.
        strangers = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
        if strangers:
            raise UserError(f"{folder} holds other files ({', '.join(strangers[:3])}): choose another --name")
        write_whole(path, recipe.to_json().encode())
        return
    different = recipe.differences(from_json(path))
    if not checkpoints.listed(folder / "checkpoints"):
        _refuse_lost(folder)
        if different:  # that run never got as far as a checkpoint: nothing is lost
            write_whole(path, recipe.to_json().encode())
    elif different:
        raise UserError(
            f"{folder} belongs to a run of another recipe, which differs in {'; '.join(different)}: "
            "choose another --name, or start over with --fresh"
        )


def keep_places(folder: Path, recipe: Recipe) -> None:
    """Let recipe.json say where data and teacher lie now, once they are known to be the same."""
    path = folder / "recipe.json"
    kept, now = from_json(path).flat(), recipe.flat()
    if any(kept[key] != now[key] for key in MACHINE_KEYS):
        write_whole(path, recipe.to_json().encode())


def _check_kinds(folder: Path) -> None:
    """UserError when a folder stands where a run keeps a file, or the other way round."""
    for name in FILES:
        if (folder / name).is_dir():
            raise UserError(f"{folder / name} is a folder, and a run keeps a file there: move it away")
    for name in FOLDERS:
        path = folder / name
        if os.path.lexists(path) and not path.is_dir():
            what = "a file" if path.exists() else "a link that leads nowhere"
            raise UserError(
                f"{path} is {what}, and a run keeps a folder there: bring it back, choose another --name, or "
                "start over with --fresh"
            )


def _refuse_lost(folder: Path) -> None:
    """UserError when a run has results but no checkpoint to go on from: to begin anew would overwrite them."""
    there = [name for name in RESULTS if os.path.lexists(folder / name)]
    if there and not checkpoints.has_begun(folder / "checkpoints"):
        raise UserError(
            f"{folder} holds {' and '.join(there)} of a run, but no checkpoint to go on from in "
            f"{folder / 'checkpoints'}: bring them back, choose another --name, or start over with --fresh"
        )


def _throw_away(folder: Path) -> None:
    """Empty the folder. The checkpoints go first, and all at once, the recipe last: whenever the process dies, what is
    left is no run that could be gone on with."""
    if os.path.lexists(folder / "checkpoints"):
        try:
            os.rename(folder / "checkpoints", folder / THROWN_AWAY)
        except OSError as error:
            raise UserError(f"{folder / 'checkpoints'} cannot be removed: {error.strerror}") from error
    for item in sorted(folder.iterdir(), key=lambda item: item.name == "recipe.json"):
        if item.name != ".lock":
            _remove(item)


def _remove(item: Path) -> None:
    """A file, a folder with all that is in it, or a link, but not what it leads to."""
    try:
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        else:
            item.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{item} cannot be removed: {error.strerror}") from error


def write_history(path: Path, rows: list[dict[str, Any]]) -> None:
    """history.csv, written anew from the rows of the checkpoint, so that a resume never doubles a line."""
    if not rows:
        return

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())


def recipe_table(recipe: Recipe, folder: Path, whole: bool = False) -> str:
    """The recipe as it is shown before training starts: what is not usual in it, or all."""
    values = {key: value for key, value in recipe.as_dict().items() if whole or value != usual().get(key)}
    rows = {"run folder": str(folder), **{key: _shown(value) for key, value in values.items()}}
    width = max(len(key) for key in rows)
    lines = [f"  {key.replace('_', ' '):<{width}}  {value}" for key, value in rows.items()]
    return "\n".join(lines if whole else [*lines, "  All else is as usual; --verbose shows it."])


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(entry)}" for key, entry in value.items()) or "-"
    if isinstance(value, list):
        return " ".join(str(entry) for entry in value)
    return "-" if value is None else str(value)
