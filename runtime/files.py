"""Files that are either whole or not there: written under a temporary name, renamed when complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.errors import UserError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, of the same suffix, and rename it to `path` when the block ends
    well; otherwise nothing is left. Raises UserError when the disk refuses."""
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):  # where the folder could not be made, neither can this be removed
            part.unlink()


def write_whole(path: Path, data: bytes) -> None:
    with whole_file(path) as part:
        part.write_bytes(data)
