"""The state of a run on disk: one file a checkpoint, atomic, hashed, the last few kept.

A file is one line of JSON, then the arrays as an uncompressed .npz. The line holds the SHA-256 of what follows and
the small numbers of the run (step, best score, history), so a file is either whole or known to be damaged.
No pickled object is ever read.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import UserError

KEEP = 3


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """`write(temporary)`, then fsync and rename: `path` is the old file or the new one, never half of it.

    A failure (a full disk, say) removes the temporary file and raises UserError; `path` is untouched.
    """
    # The suffix stays: h5py and Keras choose the format by it.
    temporary = path.with_name(f".writing-{path.name}")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"{path} could not be written ({error.strerror or error}); what was there before is whole: "
            "free some space or choose another folder, then run the same command again"
        ) from error


def encode(arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> tuple[bytes, memoryview]:
    """The two parts of a checkpoint: its first line, and the arrays."""
    body = io.BytesIO()
    np.savez(body, **arrays)  # type: ignore[arg-type]
    payload = body.getbuffer()
    head = json.dumps({**meta, "sha256": hashlib.sha256(payload).hexdigest()}).encode() + b"\n"
    return head, payload


def save(folder: Path, step: int, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> Path:
    """Write `step-00000123.checkpoint` and remove all but the newest `KEEP`. Returns its path."""
    head, payload = encode(arrays, {**meta, "step": step})
    path = folder / f"step-{step:08d}.checkpoint"

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            file.write(head)
            file.write(payload)

    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, write)
    for old in sorted(folder.glob("step-*.checkpoint"))[:-KEEP]:
        old.unlink()
    return path


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the small numbers of one checkpoint. Raises ValueError, with the reason, if it is damaged."""
    return decode(path.read_bytes())


def decode(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What `encode` was given. Raises ValueError, with the reason, if it is damaged."""
    head, newline, payload = content.partition(b"\n")
    try:
        meta = json.loads(head) if newline else None
    except ValueError:
        meta = None
    if not isinstance(meta, dict) or "sha256" not in meta:
        raise ValueError("its first line is not the header of a checkpoint")
    if hashlib.sha256(payload).hexdigest() != meta["sha256"]:
        raise ValueError("its SHA-256 does not match its content")
    with np.load(io.BytesIO(payload), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}, meta


def latest(folder: Path, say: Callable[[str], None]) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The newest checkpoint that is whole; None in a folder without any.

    1. Newest first. 2. A damaged one is named and the one before is tried. 3. If all are damaged the folder
    is refused: starting from scratch would silently throw the run away. 4. No file at all: a new run.
    """
    for leftover in folder.glob(".writing-*"):
        leftover.unlink()
    paths = sorted(folder.glob("step-*.checkpoint"), reverse=True)
    for path in paths:
        try:
            return read(path)
        except (ValueError, OSError) as error:
            say(f"checkpoint {path} is damaged ({error}); trying the one before.")
    if paths:
        raise UserError(
            f"all {len(paths)} checkpoints in {folder} are damaged, so the run cannot go on: restore one of "
            "them, or start over with --fresh"
        )
    return None
