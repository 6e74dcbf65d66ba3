"""Files that are either whole or not there: written under a temporary name, renamed when complete."""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from runtime.errors import WriteError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, of the same suffix, and rename it to `path` when the block ends
    well; otherwise nothing is left. Raises WriteError, a UserError, when the disk refuses."""
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise refused(path, error) from error
    finally:
        with suppress(OSError):  # where the folder could not be made, neither can this be removed
            part.unlink()


def write_whole(path: Path, data: bytes) -> None:
    with whole_file(path) as part:
        part.write_bytes(data)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files, all or none: each is renamed when the last one has been written."""
    with ExitStack() as stack:
        for path, data in contents.items():
            stack.enter_context(whole_file(path)).write_bytes(data)


def refused(path: Path, error: OSError) -> WriteError:
    """What is said when the disk does not take a file."""
    return WriteError(f"{path} cannot be written: {error.strerror or error}.", full=error.errno in NO_ROOM)
