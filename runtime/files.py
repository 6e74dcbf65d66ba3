"""Files that are either whole or not there: written under a temporary name, on the disk, and renamed when complete."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from runtime import strict_json
from runtime.errors import WriteError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
WRITING = ".writing-"  # begins the temporary name: a process that is killed may leave such a file


@contextmanager
def whole_file(path: Path, flush: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`, of the same suffix, and rename it to `path` when the block ends well;
    otherwise nothing is left. `path` is the old file or the new one, never half of it; with `flush` even when the power
    fails, which costs some 10 ms a file.

    The folder is made. Raises WriteError, a UserError, when the disk refuses.
    """
    part = path.with_name(f"{WRITING}{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A new file: a link that somebody put there would lead the bytes elsewhere.
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        yield part
        if flush:
            _flush(part, os.O_RDWR)
        os.replace(part, path)
        if flush and os.name != "nt":  # where a folder cannot be opened
            _flush(path.parent, os.O_RDONLY)
    except OSError as error:
        raise refused(path, error) from error
    finally:
        with suppress(OSError):  # where the folder could not be made, neither can this be removed
            part.unlink()


def _flush(path: Path, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, *parts: bytes | memoryview) -> None:
    """Write bytes, one part behind the other, whole or not at all."""
    with whole_file(path) as part, part.open("wb") as file:
        file.writelines(parts)


def write_json(path: Path, value: Any) -> None:
    """Write a value as `strict_json.written` has it, whole or not at all."""
    write_whole(path, strict_json.written(value))


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files, all or none: each is renamed when the last one has been written. They are those of one image
    of many, and made again soon: none is flushed."""
    with ExitStack() as stack:
        for path, data in contents.items():
            stack.enter_context(whole_file(path, flush=False)).write_bytes(data)


def refused(path: Path, error: OSError) -> WriteError:
    """What is said when the disk does not take a file."""
    return WriteError(f"{path} cannot be written: {error.strerror or error}", full=error.errno in NO_ROOM)


def make_folder(path: Path) -> None:
    """With all above it. UserError when something else is there, or the disk refuses."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused(path, error) from error


def replace_folder(finished: Path, path: Path) -> None:
    """Give the finished folder its final name; a folder that stood there goes only afterwards."""
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        if path.exists():
            os.replace(path, old)
        os.replace(finished, path)
    except OSError as error:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise refused(path, error) from error
    shutil.rmtree(old, ignore_errors=True)


def file_sha256(path: Path) -> str:
    """Of a file's content, as sha256sum prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
