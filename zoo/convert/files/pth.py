"""Files of torch.save (.pth, .pt, .bin, .ckpt) -> NumPy, without torch and without running what they hold.

Both formats are read: the ZIP of torch 1.6 and later (an uncompressed record for each storage, beside the pickle)
and the stream before it (pickles one after another, then the storages). The layout is that of
torch/serialization.py. Refused: TorchScript, whole pickled modules, big-endian files, the tar of torch 0.1, and
ZIPs that torch.save wrote without checksums (`set_crc32_options(False)`), since damage could not be seen.

What is read of a storage is a tensor's own part, and all tensors together may have SHARED times as many elements as
the storages, plus a few: more is asked for only by a file that was made to fill the memory.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from runtime.errors import UserError
from zoo.convert.files.pickled import ELEMENTS, Refused, Tensor, unpickle

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the stream format
STREAM_VERSION = 1001
PICKLE_LIMIT = 1 << 28  # bytes of names and shapes; real checkpoints have some 100 kB
BIG_ENDIAN = "was written on a big-endian machine; save it again on a common one"
SHARED, FEW = 4, 1 << 20  # tied weights share a storage, and expanded ones repeat it
LOCAL_HEADER = struct.Struct(
    "<4s22xHH"
)  # of a ZIP's record: signature, and the lengths of its name and extra field
CHUNK = 1 << 20

Span = Callable[[str], tuple[int, int]]  # where in the file the storage of some key begins, and its bytes


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
            tree, span = _open_zip(file) if is_zip else _open_stream(file)
            # Bytes are at least as many as elements.
            yield tree, _Reader(file, span, SHARED * path.stat().st_size + FEW)
    except Refused as error:
        raise UserError(f"{path} {error}.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error


def _open_zip(file: BinaryIO) -> tuple[Any, Span]:
    """The format since torch 1.6: NAME/data.pkl, NAME/byteorder, NAME/data/KEY."""
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        raise Refused("is damaged or cut short: its ZIP has no end") from error
    records = {record.filename.partition("/")[2]: record for record in archive.infolist()}
    if "constants.pkl" in records:
        raise Refused("is a TorchScript program, not weights; save model.state_dict() with torch.save")
    if "data.pkl" not in records:
        raise Refused("is a ZIP without data.pkl, so not of torch.save")
    checked: dict[str, tuple[int, int]] = {}

    def span(name: str) -> tuple[int, int]:
        if name not in checked:
            checked[name] = _record(file, records.get(name), name)
            # Records that lie upon one another would be read again and again.
            if sum(size for _, size in checked.values()) > file.seek(0, io.SEEK_END):
                raise Refused("is damaged: its storages overlap")
        return checked[name]

    if "byteorder" in records and _bytes(file, *span("byteorder")) != b"little":
        raise Refused(BIG_ENDIAN)
    if records["data.pkl"].file_size > PICKLE_LIMIT:
        raise Refused("holds more than weights: its pickle is larger than 256 MB")
    tree, _ = unpickle(io.BytesIO(_bytes(file, *span("data.pkl"))))
    return tree, lambda key: span(f"data/{key}")


def _record(file: BinaryIO, record: zipfile.ZipInfo | None, name: str) -> tuple[int, int]:
    """Where a record of a ZIP begins and its bytes, once they were found to have their checksum."""
    if record is None or record.compress_type != zipfile.ZIP_STORED:
        raise Refused(f"is damaged: it has no {name[:80]} as torch.save writes it")
    header = _bytes(file, record.header_offset, LOCAL_HEADER.size)
    if len(header) < LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
        raise Refused(f"is damaged: it has no {name[:80]} as torch.save writes it")
    _, name_length, extra_length = LOCAL_HEADER.unpack(header)
    start = record.header_offset + LOCAL_HEADER.size + name_length + extra_length
    checksum, here, left = 0, start, record.file_size
    while left > 0 and (chunk := _bytes(file, here, min(CHUNK, left))):
        checksum, here, left = zlib.crc32(chunk, checksum), here + len(chunk), left - len(chunk)
    if left or checksum != record.CRC:
        raise Refused(f"is damaged: {name[:80]} does not have its checksum")
    return start, record.file_size


def _open_stream(file: BinaryIO) -> tuple[Any, Span]:
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
    named = [str(key) for key in keys if type(key) is str] if isinstance(keys, list) else []
    spans = _spans(file, named, kinds)
    return tree, lambda key: spans.get(key, (0, 0))


def _spans(file: BinaryIO, keys: list[str], kinds: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Where each storage begins and how many bytes it has; all of them must be within the file."""
    here = file.tell()
    end = file.seek(0, io.SEEK_END)
    spans = {}
    for key in keys:
        count = int.from_bytes(_bytes(file, here, 8), "little")
        size = count * np.dtype(ELEMENTS[kinds[key]]).itemsize if key in kinds else end
        if here + 8 + size > end:
            raise Refused("is damaged or cut short: its storages do not fit in it")
        spans[key] = (here + 8, size)
        here += 8 + size
    return spans


def _bytes(file: BinaryIO, start: int, size: int) -> bytes:
    try:
        file.seek(start)
        return file.read(size)
    except (ValueError, OverflowError) as error:
        raise Refused("is damaged: it has a place that cannot be") from error


class _Reader:
    """Reads tensors of a file, of at most `left` elements together, as contiguous float32 arrays."""

    def __init__(self, file: BinaryIO, span: Span, left: int) -> None:
        self.file, self.span, self.left = file, span, left

    def __call__(self, tensor: Tensor) -> np.ndarray:
        kind = np.dtype(ELEMENTS[tensor.kind])
        start, size = self.span(tensor.storage.key)
        if size % kind.itemsize:
            raise Refused("is damaged or cut short: a storage ends within a number")
        self.left -= max(tensor.elements, tensor.reach)
        if self.left < 0:  # a stride of 0 can ask for any number of elements
            raise Refused("is damaged: a tensor has a shape that cannot be, with more elements than the file")
        if not tensor.elements:
            return _empty(tensor.shape)
        first = tensor.storage.start + tensor.offset
        if first + tensor.reach > size // kind.itemsize:
            raise Refused("is damaged or cut short: a tensor reaches beyond its storage")
        data = _bytes(self.file, start + first * kind.itemsize, tensor.reach * kind.itemsize)
        if len(data) < tensor.reach * kind.itemsize:
            raise Refused("is damaged or cut short: its storages do not fit in it")
        return _strided(np.frombuffer(data, kind), tensor)


def _empty(shape: tuple[int, ...]) -> np.ndarray:
    """No elements at all; NumPy, unlike PyTorch, wants the other sides to fit in memory."""
    try:
        return np.zeros(shape, np.float32)
    except ValueError as error:
        raise Refused("is damaged: a tensor has a shape that cannot be") from error


def _strided(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    # The step along a side of 1 is never taken and may be any number.
    steps = [
        step * values.itemsize if count > 1 else 0
        for count, step in zip(tensor.shape, tensor.strides, strict=True)
    ]
    window = np.lib.stride_tricks.as_strided(values, tensor.shape, steps, writeable=False)
    if tensor.kind == "bfloat16":  # the upper half of a float32
        return (window.astype(np.uint32) << 16).view(np.float32)
    return np.ascontiguousarray(window, np.float32).reshape(tensor.shape)
