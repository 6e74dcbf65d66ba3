"""The state of a run on disk: one file a checkpoint, atomic, hashed, the last few kept.

A file is one line of JSON, then the arrays as an uncompressed .npz. The line holds the small numbers of the run (step,
best score, history) and ends with the SHA-256 of all the rest of the file, the line's own bytes too, so a file is
either whole or known to be damaged. (Format 1, which does not name itself, has a hash of what follows the line alone.)
No pickled object is ever read.

Until the first checkpoint is there, an empty file named `begun` stands in for it: it says that a run which has results
and no checkpoint was interrupted in its first epoch, and that nobody took its checkpoints away.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from runtime import strict_json
from runtime.errors import UserError
from runtime.files import WRITING, write_whole

KEEP = 3
FORMAT = 2
BEGUN = "begun"
HEAD = re.compile(rb'(\{.*), "sha256": "([0-9a-f]{64})"\}', re.DOTALL)


def encode(arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> tuple[bytes, memoryview]:
    """The two parts of a checkpoint: its first line, and the arrays."""
    body = io.BytesIO()
    np.savez(body, **arrays)  # type: ignore[arg-type]
    payload = body.getbuffer()
    start = json.dumps({**meta, "format": FORMAT}).encode().removesuffix(b"}")
    return start + f', "sha256": "{_digest(start, payload)}"}}\n'.encode(), payload


def _digest(start: bytes, payload: bytes | memoryview) -> str:
    """Of a file of format 2: the first line before its hash, and the arrays."""
    digest = hashlib.sha256(start + b"\n")
    digest.update(payload)
    return digest.hexdigest()


def save(folder: Path, step: int, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> Path:
    """Write `step-00000123.checkpoint` and remove all but the newest `KEEP`. Returns its path."""
    path = folder / f"step-{step:08d}.checkpoint"
    write_whole(path, *encode(arrays, {**meta, "step": step}))
    with suppress(OSError):  # what cannot be removed does no harm
        (folder / BEGUN).unlink(missing_ok=True)
        for old in sorted(folder.glob("step-*.checkpoint"))[:-KEEP]:
            old.unlink()
    return path


def begin(folder: Path) -> None:
    """Note that a run begins here, before it has anything to keep."""
    if not listed(folder):
        write_whole(folder / BEGUN)


def has_begun(folder: Path) -> bool:
    """Whether the run is in its first epoch, so that results without a checkpoint are nothing lost."""
    return (folder / BEGUN).is_file()


def check_folder(folder: Path) -> None:
    """UserError when a folder cannot be made since a file is in its way: to be called before an hour's work."""
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UserError(f"{there} is a file, and results go into a folder: name another one with --out")


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the small numbers of one checkpoint. Raises ValueError, with the reason, if it is damaged."""
    return decode(path.read_bytes())


def decode(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What `encode` was given. Raises ValueError, with the reason, if it is damaged."""
    head, newline, payload = content.partition(b"\n")
    parts = HEAD.fullmatch(head) if newline else None
    try:
        # A long run's history is long, and its losses may be NaN.
        meta = strict_json.parse(head, len(head), nan=True) if parts else None
    except ValueError:
        meta = None
    if parts is None or not isinstance(meta, dict):
        raise ValueError("its first line is not the header of a checkpoint")
    covers_all = meta.get("format") == FORMAT
    digest = _digest(parts[1], payload) if covers_all else hashlib.sha256(payload).hexdigest()
    if digest.encode() != parts[2]:
        raise ValueError("its SHA-256 does not match its content")
    with np.load(io.BytesIO(payload), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}, meta


def listed(folder: Path) -> list[Path]:
    """All checkpoints of a folder, the oldest first; [] where there is no such folder. UserError when what is there
    cannot be listed: to take that for no checkpoints would begin the run anew."""
    if not os.path.lexists(folder):
        return []
    try:
        return sorted(path for path in folder.iterdir() if re.fullmatch(r"step-\d+\.checkpoint", path.name))
    except OSError as error:
        raise UserError(
            f"{folder}, which holds the run's checkpoints, cannot be read ({error.strerror}): bring it back, choose "
            "another --name, or start over with --fresh"
        ) from error


def latest(folder: Path, say: Callable[[str], None]) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The newest checkpoint that is whole; None in a folder without any.

    1. Newest first. 2. A damaged one is named and the one before is tried. 3. If all are damaged the folder
    is refused: starting from scratch would silently throw the run away. 4. No file at all: a new run.
    """
    paths = listed(folder)[::-1]
    for leftover in (*folder.glob(f"{WRITING}*"), *folder.parent.glob(f"{WRITING}*")):
        with suppress(OSError):
            leftover.unlink()
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
