"""The pickle inside a torch checkpoint, read as inert records: nothing that it names is imported or run.

A pickle may name any function to be called. Here a name is looked up in KNOWN, a literal table of stand-ins, and
what is not in it is refused. KNOWN is what `torch.load(weights_only=True)` takes, less sparse, quantised and nested
tensors, plus NumPy's arrays and mmengine's log buffers, which every checkpoint of mmsegmentation 1.x carries.
"""

import pickle
import re
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import numpy as np

# torch's element types -> how they lie in the file. bfloat16 is the upper half of a float32.
ELEMENTS = {
    "float64": "<f8", "float32": "<f4", "float16": "<f2", "bfloat16": "<u2",
    "int64": "<i8", "int32": "<i4", "int16": "<i2", "int8": "<i1",
    "uint64": "<u8", "uint32": "<u4", "uint16": "<u2", "uint8": "<u1", "bool": "|b1",
}  # fmt: skip
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16",
    "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8",
}  # fmt: skip


class Refused(Exception):
    """Why a file is not read: the end of a sentence that begins with its name."""


class ElementType(NamedTuple):
    """A storage class or dtype of torch."""

    name: str


class Storage(NamedTuple):
    """A run of elements somewhere in the file; `start` counts elements, for views of old files."""

    key: str
    kind: str
    start: int = 0


class Tensor(NamedTuple):
    """A strided window on a storage; offset and strides count elements."""

    storage: Storage
    kind: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Named:
    """Stands for a function or class of the file: called, it makes an inert record; it has no state to set."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)

    def __setstate__(self, state: Any) -> None:
        raise Refused("holds a pickle that alters what it calls, which no checkpoint does")


class Inert:
    """An object of which nothing is kept."""

    __slots__ = ()

    def __new__(cls, *args: Any) -> "Inert":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


class Dictionary(dict[Any, Any]):
    """An OrderedDict without its attributes (a state dict carries `_metadata` there)."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class NumpyType:
    """A NumPy dtype: its code, such as "f8", and its byte order, which the pickle sets afterwards."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1])

    def values(self, data: Any, shape: tuple[int, ...], fortran: bool = False) -> np.ndarray | None:
        """Numbers as an array; None for what is no number."""
        if not re.fullmatch(r"[iufb]\d", self.code) or not isinstance(data, bytes):
            return None
        kind = np.dtype((">" if self.order == ">" else "<") + self.code)
        return np.frombuffer(data, kind).reshape(shape, order="F" if fortran else "C")


class NumpyArray:
    """A NumPy array, whose shape, dtype and bytes the pickle sets afterwards."""

    __slots__ = ("array",)

    def __init__(self, *_: Any) -> None:
        self.array: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if isinstance(kind, NumpyType):
            self.array = kind.values(data, shape, bool(fortran))


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Storage):
        raise Refused("holds a tensor without a storage")
    return Tensor(storage, storage.kind, offset, tuple(shape), tuple(strides))


def _tensor_of_type(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
    """Of an untyped storage: requires_grad, hooks and the element type follow; the offset counts elements."""
    kind = rest[2]
    if not isinstance(kind, ElementType):
        raise Refused("holds a tensor without an element type")
    return _tensor(storage, offset, shape, strides)._replace(kind=kind.name)


def _scalar(kind: Any, data: Any = b"", *_: Any) -> Any:
    values = kind.values(data, ()) if isinstance(kind, NumpyType) else None
    return Inert() if values is None else values.item()


def _bytes(text: Any, encoding: Any = "latin1") -> bytes:
    """What protocol 2 writes for bytes: _codecs.encode(text, "latin1")."""
    if not isinstance(text, str) or encoding != "latin1":
        raise Refused("holds text in an encoding that no checkpoint has")
    return text.encode("latin1")


def _method(owner: Any, name: Any) -> Inert:
    """getattr(HistoryBuffer, "mean"): mmengine's buffers list their own methods. Of nothing else."""
    if owner is not Inert:
        raise Refused(f"holds a pickle that looks up {str(name)!r} in an object, which weights never need")
    return Inert()


def _first(value: Any, *_: Any) -> Any:
    return value


def _nothing(*_: Any) -> Inert:
    return Inert()


# The name in the pickle -> what stands for it.
KNOWN: dict[str, Any] = {
    "collections.OrderedDict": Dictionary,
    "collections.Counter": Dictionary,
    "builtins.set": Named(lambda *args: frozenset(*args[:1])),
    "builtins.bytearray": Named(_nothing),
    "builtins.complex": Named(_nothing),
    "builtins.getattr": Named(_method),
    "_codecs.encode": Named(_bytes),
    "torch.Size": Named(lambda *args: tuple(*args[:1])),
    "torch.device": Named(_nothing),
    "torch.serialization._get_layout": Named(_nothing),
    "torch.nn.parameter.Parameter": Named(_first),
    "torch._utils._rebuild_tensor": Named(_tensor),
    "torch._utils._rebuild_tensor_v2": Named(_tensor),
    "torch._utils._rebuild_tensor_v3": Named(_tensor_of_type),
    "torch._utils._rebuild_parameter": Named(_first),
    "torch._utils._rebuild_parameter_with_state": Named(_first),
    **{f"torch.{name}": ElementType(kind) for name, kind in STORAGES.items()},
    **{f"torch.cuda.{name}": ElementType(kind) for name, kind in STORAGES.items()},
    "torch.storage.UntypedStorage": ElementType("uint8"),
    **{f"torch.{kind}": ElementType(kind) for kind in ELEMENTS},
    "numpy.ndarray": Named(_nothing),
    "numpy.dtype": Named(NumpyType),
    "numpy.core.multiarray._reconstruct": Named(NumpyArray),
    "numpy._core.multiarray._reconstruct": Named(NumpyArray),
    "numpy.core.multiarray.scalar": Named(_scalar),
    "numpy._core.multiarray.scalar": Named(_scalar),
    "mmengine.logging.history_buffer.HistoryBuffer": Inert,
}


class Unpickler(pickle.Unpickler):
    """Builds a tree of records; every name it meets is one of KNOWN. `kinds` are the storages' element types."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="latin1")  # never fails on Python 2's strings
        self.kinds: dict[str, str] = {}

    def find_class(self, module: str, name: str) -> Any:
        # Protocol 2, torch's, writes Python 2's name of builtins.
        full_name = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if full_name not in KNOWN:
            raise Refused(
                f"holds the Python object {full_name}, which weights do not need and which is never run; "
                "save only the weights, with torch.save(model.state_dict(), FILE)"
            )
        return KNOWN[full_name]

    def persistent_load(self, pid: Any) -> Storage:
        kind, storage, key, _, _, *view = pid
        if kind != "storage" or not isinstance(storage, ElementType):
            raise Refused(f"holds a {kind!r} where a storage should be; save only model.state_dict()")
        start = 0
        if view and view[0] is not None:  # the stream format: (its key, offset, length)
            start = view[0][1]
        self.kinds[str(key)] = storage.name
        return Storage(str(key), storage.name, start)


def unpickle(file: BinaryIO) -> tuple[Any, dict[str, str]]:
    """The next pickle of a file, and the element types of the storages it speaks of. Raises Refused."""
    unpickler = Unpickler(file)
    try:
        return unpickler.load(), unpickler.kinds
    except (Refused, OSError):
        raise
    except Exception as error:  # bytes at random raise anything
        raise Refused(
            f"is damaged or cut short, or no file of torch.save ({type(error).__name__})"
        ) from error


def plain(value: Any, depth: int = 6) -> Any:
    """A copy made of None, bool, numbers, str, list and dict; what else there is, tensors too, becomes None."""
    if isinstance(value, NumpyArray):
        value = value.array.tolist() if value.array is not None else None
    if value is None or type(value) in (bool, int, float, str):
        return value
    if depth and isinstance(value, dict):
        return {str(key): plain(item, depth - 1) for key, item in dict.items(value)}
    if depth and type(value) in (list, tuple, frozenset):
        return [plain(item, depth - 1) for item in value]
    return None
