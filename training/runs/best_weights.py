"""best.weights.h5 of a run, and best.sha256 beside it, which knows the file again.

best.sha256 has the form that `sha256sum` writes. While the weights are exchanged it holds two lines, those of the old
file and of the new one, so that whenever the process dies, the file that is there is one of those that it names.
"""

import hashlib
from pathlib import Path

import keras

from runtime.errors import UserError
from runtime.files import file_sha256, write_whole
from zoo.convert.files import h5_writer

NAME, HASH = "best.weights.h5", "best.sha256"


def write(run_folder: Path, model: keras.Model) -> None:
    """Write the model's weights as the best of the run. UserError when the disk refuses: the old ones stay whole."""
    content = h5_writer.weights_bytes(model)
    sha256 = hashlib.sha256(content).hexdigest()
    place = run_folder / HASH
    write_whole(place, _lines([*_known(place), sha256]))
    write_whole(run_folder / NAME, content)
    write_whole(place, _lines([sha256]))


def check(path: Path) -> None:
    """UserError when a best.weights.h5 is not the file that its run wrote. Runs that are older than best.sha256, and
    files of other names, have nothing to be compared with."""
    place = path.with_name(HASH)
    if path.name != NAME or not path.is_file() or not place.is_file():
        return
    if file_sha256(path) not in _known(place):
        raise UserError(
            f"{path} is damaged or another file than its run wrote: its SHA-256 is not that of {place.name}; bring "
            "back the file that the run wrote, or train the run again with --fresh"
        )


def check_present(run_folder: Path) -> None:
    """UserError when the best weights of a run that has some are gone or damaged."""
    path = run_folder / NAME
    if not path.is_file():
        raise UserError(
            f"{path} is not there, though the run has written it: bring it back, or start over with --fresh"
        )
    check(path)


def _known(place: Path) -> list[str]:
    if not place.is_file():
        return []
    lines = place.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.split()[0] for line in lines if line.strip()]


def _lines(hashes: list[str]) -> bytes:
    return "".join(f"{sha256}  {NAME}\n" for sha256 in dict.fromkeys(hashes)).encode()
