"""A stream of images copied into a folder, once.

Training wants any image by its number: an epoch's order is a permutation of all of them, its length is known, and
a run that was stopped goes on in the middle of an epoch. A stream has none of that, and shuffling a buffer of one
would neither resume exactly nor give every image once an epoch. So a stream is copied, as far as it is wanted,
into files that are then read like any others; a copy that was cut short goes on where it stopped.

    PLACE/000000.image PLACE/000000.label ...     the very bytes of the source
    PLACE/index.json                              how many are whole, where the stream goes on
"""

import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from runtime import strict_json
from runtime.errors import UserError
from runtime.files import write_json
from training.progress_bar import bar

NOTED_EVERY = 64  # images: what a killed copy reads again at most

Pair = tuple[bytes, bytes]
# state of the stream, or None for its beginning -> (images with their labels, the state after those taken so far)
Start = Callable[[Any], tuple[Iterator[Pair], Callable[[], Any]]]


def copied(place: Path, start: Start, count: int, expected: int | None) -> list[tuple[Path, Path]]:
    """The files of the first `count` pairs (0: of all), fetched as far as they are not there.

    `expected` is how many there are in all, None if unknown: it is for the bar only.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = open(place / ".lock", "w", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{place} cannot be written: {error.strerror}; choose another --data-dir.") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second worker waits, and then finds everything there
        index = _index(place)
        if not index["done"] and not 0 < count <= index["count"]:
            index = _fetch(place, start, index, count, expected)
    size = min(count, index["count"]) if count else index["count"]
    return [_files(place, number) for number in range(size)]


def _fetch(
    place: Path, start: Start, index: dict[str, Any], count: int, expected: int | None
) -> dict[str, Any]:
    number = index["count"]
    total = min(count or expected or 0, expected or count) or None
    pairs, state = start(index["state"])
    with bar(total, "image", number) as progress:
        progress.set_description(f"copying {place.name}")
        while not count or number < count:
            pair = next(pairs, None)
            if pair is None:
                break
            for path, data in zip(_files(place, number), pair, strict=True):
                _write(path, data)
            number += 1
            progress.update()
            if number % NOTED_EVERY == 0:
                _note(place, number, state(), False)
    return _note(place, number, state(), pair is None)


def _files(place: Path, number: int) -> tuple[Path, Path]:
    return place / f"{number:06d}.image", place / f"{number:06d}.label"


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): make room, then run the same command again; "
            "the copy goes on where it stopped."
        ) from error


def _index(place: Path) -> dict[str, Any]:
    path = place / "index.json"
    if not path.exists():
        return {"count": 0, "state": None, "done": False}
    try:
        found = strict_json.checked(strict_json.read(path), {"count": int, "state": Any, "done": bool})
        return {"count": found["count"], "state": found["state"], "done": found["done"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete {place} to copy it again.") from error


def _note(place: Path, count: int, state: Any, done: bool) -> dict[str, Any]:
    index = {"count": count, "state": state, "done": done}
    write_json(place / "index.json", index)
    return index
