"""The run folder runs/NAME: who holds it, what recipe it belongs to, and its small files."""

import csv
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from training.checkpoints import write_atomically
from training.recipe import Recipe, from_json


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder for this process. The system lets go of the lock however the process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise UserError(f"the run folder {folder} cannot be used: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"another process is training in {folder}: wait for it, or choose another folder with --name"
            ) from error
        yield
    finally:
        os.close(lock)


def claim(folder: Path, recipe: Recipe, fresh: bool) -> None:
    """Write recipe.json, or see that the one that is there is the same."""
    path = folder / "recipe.json"
    if fresh and path.exists():
        for item in folder.iterdir():
            if item.is_dir():
                shutil.rmtree(item)
            elif item.name != ".lock":
                item.unlink()
    if path.exists():
        different = recipe.differences(from_json(path))
        if different and not any((folder / "checkpoints").glob("step-*")):
            write_text(path, recipe.to_json())  # that run never got as far as a checkpoint: nothing is lost
        elif different:
            raise UserError(
                f"{folder} belongs to a run of another recipe, which differs in {'; '.join(different)}: "
                "choose another --name, or start over with --fresh"
            )
        return
    # A folder without recipe.json may hold somebody's other files: only our own names may be there already.
    strangers = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
    if strangers:
        raise UserError(f"{folder} holds other files ({', '.join(strangers[:3])}): choose another --name")
    write_text(path, recipe.to_json())


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: _put(temporary, text))


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def write_history(path: Path, rows: list[dict[str, Any]]) -> None:
    """history.csv, written anew from the rows of the checkpoint, so that a resume never doubles a line."""
    if not rows:
        return

    def write(temporary: Path) -> None:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(path, write)


def recipe_table(recipe: Recipe, folder: Path) -> str:
    """The recipe as it is shown before training starts."""
    rows = {"run folder": str(folder), **{key: _shown(value) for key, value in recipe.as_dict().items()}}
    width = max(len(key) for key in rows)
    return "\n".join(f"  {key.replace('_', ' '):<{width}}  {value}" for key, value in rows.items())


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(entry)}" for key, entry in value.items()) or "-"
    if isinstance(value, list):
        return " ".join(str(entry) for entry in value)
    return "-" if value is None else str(value)
