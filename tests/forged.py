"""Checkpoints of PyTorch made by hand, byte by byte: what a stranger may put into one."""

import collections
import pickle
import zipfile
from pathlib import Path
from typing import Any

from zoo.convert.files.pth import MAGIC, STREAM_VERSION


def write_zip(path: Path, tree: bytes, **records: bytes) -> Path:
    """A file of torch.save's ZIP format around a pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", tree)
        for name, data in {"byteorder": b"little", **records}.items():
            archive.writestr(f"archive/{name}", data)
    return path


def write_stream(path: Path, tree: bytes, little_endian: bool = True) -> Path:
    """A file of torch.save's old format around a pickle, without storages."""
    head = [MAGIC, STREAM_VERSION, {"little_endian": little_endian}]
    path.write_bytes(b"".join(pickle.dumps(item, 2) for item in head) + tree + pickle.dumps([], 2))
    return path


def forged(shape: tuple[Any, ...], strides: tuple[Any, ...], offset: Any = 0, kind: str = "Float") -> bytes:
    """The pickle of {"w": a tensor on a storage of four floats}."""
    storage = f"(X\x07\x00\x00\x00storagectorch\n{kind}Storage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage.encode()
    for value in (offset, shape, strides, False, collections.OrderedDict()):
        call += pickle.dumps(value, 2)[2:-1]  # without its first and last opcode: what leaves the value
    return b"\x80\x02}X\x01\x00\x00\x00w" + call + b"tRs."


class Runs:
    """Pickled, this calls a function of choice when it is read by someone careless."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call
