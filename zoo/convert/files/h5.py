"""The one way in which a stranger's HDF5 file (.weights.h5, keras.applications' .h5) is opened.

HDF5 can do more than weights need: a link or an external data set leads to another file of this machine, a virtual
one puts others together, and a fill value or compression makes a kilobyte stand for gigabytes. What is taken are groups
and arrays of numbers that lie in the file itself, and together are no larger than the file allows. (Ours are written by
h5_writer.py.)

The library itself (2.0) goes round for ever in a global heap, where the strings of attributes lie, that has an object
of no size; so heaps are walked here before it sees them. Source: HDF5 File Format Specification 3.0, II.A (superblock)
and III.E (global heap).
"""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from runtime.errors import UserError, first_line

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Where the superblock of each version has the bytes of an address and of a length; always 8 in files of Keras.
WIDTHS = {0: 13, 1: 13, 2: 9, 3: 9}
HEAP = b"GCOL\x01"  # and three bytes that mean nothing, and the heap's length, in which these 16 are counted
HEADER = 16  # of a heap and of an object in it: 2 bytes of index, 6 that are skipped here, 8 of length
NUMBERS = "fiub"
MOST_OBJECTS = 100_000
LARGER, FEW = 4, 1 << 20  # compression may save that much, and a small file have so many bytes more


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file, checked, for reading. Raises UserError, one sentence that names it, also for what is damaged within."""
    try:
        with path.open("rb") as file:
            if file.read(len(SIGNATURE)) != SIGNATURE:
                raise UserError(
                    f"{path} is damaged, cut short or no .weights.h5: it does not begin as HDF5 does."
                )
        _check_heaps(path)
        with h5py.File(path, "r") as file:
            _check(path, file)
            yield file
    # h5py raises almost anything on what is damaged.
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged, cut short or no .weights.h5: {first_line(error)}.") from error


def _check_heaps(path: Path) -> None:
    """Raise ValueError where HDF5 would never come to the end of a heap."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        width = WIDTHS.get(int.from_bytes(data[len(SIGNATURE) : len(SIGNATURE) + 1]), 0)
        if not width or data[width : width + 2] != b"\x08\x08":
            raise ValueError("its superblock is none that Keras writes")
        heap = data.find(HEAP)
        while heap >= 0:
            end = heap + int.from_bytes(data[heap + 8 : heap + HEADER], "little")
            place = heap + HEADER
            while end <= len(data) and place + HEADER <= end:
                index, size = (
                    data[place : place + 2],
                    int.from_bytes(data[place + 8 : place + HEADER], "little"),
                )
                # Object 0 is the free space, whose length counts its header; others are filled up to 8 bytes.
                length = HEADER + -(-size // 8) * 8 if any(index) else size
                if not length or place + length > end:
                    raise ValueError("an object of its global heap has an impossible length")
                place += length
            heap = data.find(HEAP, heap + 1)


def check(path: Path) -> None:
    """Raise UserError where `opened` does: before a file is given to Keras' own loader."""
    with opened(path):
        pass


def arrays(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every data set by its path, under each of its names."""
    for path, item in _objects(file):
        if isinstance(item, h5py.Dataset):
            yield path, item


def _check(path: Path, file: h5py.File) -> None:
    left = LARGER * path.stat().st_size + FEW
    for name, item in arrays(file):
        where = f"{path} holds {name[:120]!r}"
        if item.external or item.is_virtual:
            kind = "in another file" if item.external else "put together from others"
            raise UserError(
                f"{where}, whose data are {kind}; weights lie in the file itself, so it is not read."
            )
        if item.dtype.kind not in NUMBERS:
            raise UserError(f"{where}, which is no array of numbers ({item.dtype}), as weights are.")
        left -= item.nbytes
        if left < 0:
            raise UserError(
                f"{where}, with which its arrays are more than {LARGER} times as large as the file: it is "
                "damaged, or made to fill the memory."
            )


def _objects(file: h5py.File) -> Iterator[tuple[str, Any]]:
    """Groups by path, each once, and data sets under each of their names; no link is followed."""
    seen, count = {h5py.h5o.get_info(file.id).addr}, 0
    waiting: list[tuple[str, h5py.Group]] = [("", file)]
    while waiting:
        prefix, group = waiting.pop(0)
        for name in group:
            path = f"{prefix}/{name}" if prefix else name
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise UserError(
                    f"{file.filename} holds the link {path[:120]!r}, which may lead to another file; weights have none."
                )
            item = group[name]
            place = h5py.h5o.get_info(item.id).addr
            count += 1
            if place in seen and isinstance(item, h5py.Group):
                continue
            seen.add(place)
            if count > MOST_OBJECTS:
                raise UserError(f"{file.filename} holds more than {MOST_OBJECTS} groups and arrays.")
            yield path, item
            if isinstance(item, h5py.Group):
                waiting.append((path, item))
