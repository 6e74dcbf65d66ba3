"""Files of torch.save (.pth, .pt, .bin, .ckpt) -> NumPy, without torch and without running what they hold.

Both formats are read: the ZIP of torch 1.6 and later (an uncompressed record for each storage, beside the pickle)
and the stream before it (pickles one after another, then the storages). The layout is that of
torch/serialization.py. Refused: TorchScript, whole pickled modules, big-endian files, the tar of torch 0.1, and
ZIPs that torch.save wrote without checksums (`set_crc32_options(False)`), since damage could not be seen.
"""

import io
import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from runtime.errors import UserError
from zoo.convert.pickled import ELEMENTS, Refused, Tensor, unpickle

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the stream format
STREAM_VERSION = 1001
PICKLE_LIMIT = 1 << 28  # bytes of names and shapes; real checkpoints have some 100 kB
BIG_ENDIAN = "was written on a big-endian machine; save it again on a common one"

Read = Callable[[str], bytes]  # the bytes of the storage of some key


@contextmanager
def torch_file(path: Path) -> Iterator[tuple[Any, Callable[[Tensor], np.ndarray]]]:
    """What a file of torch.save holds, and a function that reads one of its tensors while the block lasts.

    Containers come as dict, list and tuple, tensors as `Tensor`, the rest as inert records. Raises UserError,
    naming the file, when it is damaged, of another format or holds what is not weights, also within the block.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            tree, read = _open_zip(file) if is_zip else _open_stream(file)
            # Tensors that share a storage mostly follow one another.
            cached = lru_cache(maxsize=1)(read)
            size = path.stat().st_size
            yield tree, lambda tensor: _array(tensor, cached, size)
    except Refused as error:
        raise UserError(f"{path} {error}.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error


def _open_zip(file: BinaryIO) -> tuple[Any, Read]:
    """The format since torch 1.6: NAME/data.pkl, NAME/byteorder, NAME/data/KEY."""
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError) as error:
        raise Refused("is damaged or cut short: its ZIP has no end") from error
    records = {record.filename.partition("/")[2]: record for record in archive.infolist()}
    if "constants.pkl" in records:
        raise Refused("is a TorchScript program, not weights; save model.state_dict() with torch.save")
    if "data.pkl" not in records:
        raise Refused("is a ZIP without data.pkl, so not of torch.save")

    def read(name: str) -> bytes:
        record = records.get(name)
        if record is None or record.compress_type != zipfile.ZIP_STORED:
            raise Refused(f"is damaged: it has no {name} as torch.save writes it")
        try:
            return archive.read(record)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise Refused(f"is damaged: {name} does not have its checksum") from error

    if "byteorder" in records and read("byteorder") != b"little":
        raise Refused(BIG_ENDIAN)
    if records["data.pkl"].file_size > PICKLE_LIMIT:
        raise Refused("holds more than weights: its pickle is larger than 256 MB")
    tree, _ = unpickle(io.BytesIO(read("data.pkl")))
    return tree, lambda key: read(f"data/{key}")


def _open_stream(file: BinaryIO) -> tuple[Any, Read]:
    """The format before torch 1.6: five pickles (magic, version, machine, data, keys), then of each storage
    its length in elements, 8 bytes, and the elements."""
    if file.read(1) != b"\x80":  # how every pickle of protocol 2 and later begins
        raise Refused("is no file of torch.save")
    file.seek(0)
    if unpickle(file)[0] != MAGIC:
        raise Refused("is a pickle, but not one of torch.save")
    if unpickle(file)[0] != STREAM_VERSION:
        raise Refused("is of a version of torch.save that is not known")
    machine, _ = unpickle(file)
    if not isinstance(machine, dict) or not machine.get("little_endian", True):
        raise Refused(BIG_ENDIAN)
    (tree, kinds), (keys, _) = unpickle(file), unpickle(file)
    spans = _spans(file, [str(key) for key in keys] if isinstance(keys, list) else [], kinds)

    def read(key: str) -> bytes:
        start, size = spans.get(key, (0, 0))
        file.seek(start)
        return file.read(size)

    return tree, read


def _spans(file: BinaryIO, keys: list[str], kinds: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Where each storage begins and how many bytes it has; all of them must be within the file."""
    here = file.tell()
    end = file.seek(0, io.SEEK_END)
    spans = {}
    for key in keys:
        file.seek(here)
        count = int.from_bytes(file.read(8), "little")
        size = count * np.dtype(ELEMENTS[kinds[key]]).itemsize if key in kinds else end
        if here + 8 + size > end:
            raise Refused("is damaged or cut short: its storages do not fit in it")
        spans[key] = (here + 8, size)
        here += 8 + size
    return spans


def _array(tensor: Tensor, read: Read, limit: int) -> np.ndarray:
    """A tensor of at most `limit` elements as a contiguous float32 array; what a forged one asks is checked."""
    storage, kind = tensor.storage, np.dtype(ELEMENTS[tensor.kind])
    numbers = (storage.start, tensor.offset, *tensor.shape, *tensor.strides)
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise Refused("is damaged: a tensor has a negative or fractional place or size")
    if len(tensor.shape) != len(tensor.strides) or math.prod(tensor.shape) > limit:
        # A stride of 0 can ask for any number of elements; no checkpoint has more of them than bytes.
        raise Refused("is damaged: a tensor has a shape that cannot be")
    values = np.frombuffer(_whole(read(storage.key), kind), kind)
    first = storage.start + tensor.offset
    last = first + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, np.float32)
    if last >= len(values):
        raise Refused("is damaged or cut short: a tensor reaches beyond its storage")
    steps = [step * kind.itemsize for step in tensor.strides]
    window = np.lib.stride_tricks.as_strided(values[first:], tensor.shape, steps, writeable=False)
    if tensor.kind == "bfloat16":  # the upper half of a float32
        return (window.astype(np.uint32) << 16).view(np.float32)
    return np.ascontiguousarray(window, np.float32).reshape(tensor.shape)


def _whole(data: bytes, kind: np.dtype) -> bytes:
    if len(data) % kind.itemsize:
        raise Refused("is damaged or cut short: a storage ends within a number")
    return data
