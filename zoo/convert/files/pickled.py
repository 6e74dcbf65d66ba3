"""The pickle inside a file of torch.save, read as data: nothing that it names is imported or run.

A pickle may name any function to be called. Here a name is looked up in KNOWN, a literal table of stand-ins, and
what is not in it is refused. KNOWN is what `torch.load(weights_only=True)` takes, less sparse, quantised and nested
tensors, plus what training scripts keep beside their weights: NumPy's arrays, mmengine's log buffers, which every
checkpoint of mmsegmentation 1.x carries, the arguments of the command (argparse.Namespace, of which torchvision's
reference scripts keep one), paths, dates, and the dictionaries of configuration libraries.
"""

import math
import re
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from zoo.convert.files.opcodes import (
    DAMAGED,
    LARGEST_INT,
    NEVER,
    NOT_RUN,
    Dictionary,
    Function,
    Machine,
    Record,
)
from zoo.convert.files.opcodes import Refused as Refused

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
MOST_DIMENSIONS = 32  # NumPy has 64, PyTorch's own layers five
MOST_ITEMS = 100_000  # that are kept of what lies beside the weights
DEEPEST = 6


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

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def reach(self) -> int:
        """How many elements of the storage lie between its first and its last, both counted."""
        steps = zip(self.shape, self.strides, strict=True)
        return 1 + sum((count - 1) * step for count, step in steps) if self.elements else 0


class Inert(Record):
    """An object of which nothing is kept."""

    __slots__ = ()

    def build(self, state: Any) -> None:
        pass


class NumpyType(Record):
    """A NumPy dtype: its code, such as "f8", and its byte order, which the pickle sets afterwards."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code, self.order = code if isinstance(code, str) else "", "="

    def build(self, state: Any) -> None:
        self.order = state[1] if isinstance(state, tuple) and len(state) > 1 else "="

    def values(self, data: Any, shape: Any, fortran: bool = False) -> np.ndarray | None:
        """Numbers as an array; None for what is no number, or more of them than are kept."""
        is_shape = isinstance(shape, tuple) and all(type(side) is int and side >= 0 for side in shape)
        if not re.fullmatch(r"[iufb]\d", self.code) or not isinstance(data, bytes) or not is_shape:
            return None
        kind = np.dtype((">" if self.order == ">" else "<") + self.code)
        if len(shape) > DEEPEST or not 0 < math.prod(shape) <= MOST_ITEMS:
            return None
        return np.frombuffer(data, kind).reshape(shape, order="F" if fortran else "C")


class NumpyArray(Record):
    """A NumPy array, whose shape, dtype and bytes the pickle sets afterwards."""

    __slots__ = ("array",)

    def __init__(self, *_: Any) -> None:
        self.array: Any = None

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise Refused(DAMAGED)
        _, shape, kind, fortran, data = state
        if isinstance(kind, NumpyType):
            self.array = kind.values(data, shape, bool(fortran))


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Storage):
        raise Refused("holds a tensor without a storage")
    if not isinstance(shape, tuple | list) or not isinstance(strides, tuple | list):
        raise Refused(DAMAGED)
    if len(shape) != len(strides) or len(shape) > MOST_DIMENSIONS:
        raise Refused("is damaged: a tensor has a shape that cannot be")
    if not all(type(number) is int and number >= 0 for number in (storage.start, offset, *shape, *strides)):
        raise Refused("is damaged: a tensor has a negative or fractional place or size")
    return Tensor(storage, storage.kind, offset, tuple(shape), tuple(strides))


def _tensor_of_type(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Tensor:
    """Of an untyped storage: requires_grad, hooks and the element type follow; the offset counts elements."""
    if len(rest) < 3 or not isinstance(rest[2], ElementType):
        raise Refused("holds a tensor without an element type")
    return _tensor(storage, offset, shape, strides)._replace(kind=rest[2].name)


def _scalar(kind: Any = None, data: Any = b"", *_: Any) -> Any:
    values = kind.values(data, ()) if isinstance(kind, NumpyType) else None
    return Inert() if values is None else values.item()


def _bytes(text: Any = "", encoding: Any = "latin1") -> bytes:
    """What protocol 2 writes for bytes: _codecs.encode(text, "latin1")."""
    if not isinstance(text, str) or encoding != "latin1":
        raise Refused("holds text in an encoding that no checkpoint has")
    return text.encode("latin1")


def _method(owner: Any, name: Any) -> Inert:
    """getattr(HistoryBuffer, "mean"): mmengine's buffers list their own methods. Of nothing else."""
    if owner is not LOG_BUFFER:
        named = repr(name[:80]) if isinstance(name, str) else "something"
        raise Refused(f"holds a pickle that looks up {named} in an object, {NOT_RUN}")
    return Inert()


def _first(value: Any, *_: Any) -> Any:
    return value


def _nothing(*_: Any) -> Inert:
    return Inert()


def _members(*arguments: Any) -> list[Any]:
    """Of a set: nothing here asks whether a member is there twice."""
    return list(arguments[0]) if arguments and isinstance(arguments[0], list | tuple) else []


def _size(*arguments: Any) -> tuple[Any, ...]:
    return tuple(_members(*arguments))


def _mapping(*arguments: Any) -> Dictionary:
    """OrderedDict(pairs), as Python 2 wrote it; what other dictionaries are called with is not kept."""
    made = Dictionary()
    for pair in _members(*arguments):
        if isinstance(pair, list | tuple) and len(pair) == 2:
            made.put(list(pair))
    return made


LOG_BUFFER = Function(_nothing)
INERT, DICTIONARY = Function(_nothing), Function(_mapping)
DICTIONARIES = (
    "collections.OrderedDict", "collections.Counter", "collections.defaultdict", "easydict.EasyDict",
    "addict.addict.Dict", "yacs.config.CfgNode", "mmengine.config.config.ConfigDict",
    "mmcv.utils.config.ConfigDict", "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict", "lightning.fabric.utilities.data.AttributeDict",
)  # fmt: skip
NOT_KEPT = (
    "builtins.bytearray", "builtins.complex", "builtins.int", "builtins.float", "builtins.str", "builtins.list",
    "builtins.dict", "builtins.tuple", "builtins.bool", "torch.device", "torch.serialization._get_layout",
    "numpy.ndarray", "argparse.Namespace", "datetime.datetime", "datetime.timedelta", "datetime.date",
    "pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath", "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath", "pathlib._local.PosixPath", "pathlib._local.WindowsPath",
)  # fmt: skip

# The name in the pickle -> what stands for it.
KNOWN: dict[str, Any] = {
    **{name: DICTIONARY for name in DICTIONARIES},
    **{name: INERT for name in NOT_KEPT},
    "builtins.set": Function(_members),
    "builtins.frozenset": Function(_members),
    "builtins.getattr": Function(_method),
    "_codecs.encode": Function(_bytes),
    "torch.Size": Function(_size),
    "torch.nn.parameter.Parameter": Function(_first),
    "torch._utils._rebuild_tensor": Function(_tensor),
    "torch._utils._rebuild_tensor_v2": Function(_tensor),
    "torch._utils._rebuild_tensor_v3": Function(_tensor_of_type),
    "torch._utils._rebuild_parameter": Function(_first),
    "torch._utils._rebuild_parameter_with_state": Function(_first),
    **{f"torch.{name}": ElementType(kind) for name, kind in STORAGES.items()},
    **{f"torch.cuda.{name}": ElementType(kind) for name, kind in STORAGES.items()},
    "torch.storage.UntypedStorage": ElementType("uint8"),
    **{f"torch.{kind}": ElementType(kind) for kind in ELEMENTS},
    "numpy.dtype": Function(NumpyType),
    "numpy.core.multiarray._reconstruct": Function(NumpyArray),
    "numpy._core.multiarray._reconstruct": Function(NumpyArray),
    "numpy.core.multiarray.scalar": Function(_scalar),
    "numpy._core.multiarray.scalar": Function(_scalar),
    "mmengine.logging.history_buffer.HistoryBuffer": LOG_BUFFER,
}


def unpickle(file: BinaryIO) -> tuple[Any, dict[str, str]]:
    """The next pickle of a file, and the element types of the storages it speaks of. Raises Refused."""
    kinds: dict[str, str] = {}

    def stored(pid: Any) -> Storage:
        storage = _storage(pid)
        kinds[storage.key] = storage.kind
        return storage

    try:
        return Machine(KNOWN, stored).run(file), kinds
    except (Refused, OSError):
        raise
    except Exception as error:  # bytes at random raise anything
        raise Refused(f"{DAMAGED} ({type(error).__name__})") from error


def _storage(pid: Any) -> Storage:
    """Of torch's persistent id: ("storage", its type, its key, device, number of elements, and in old files a view:
    (its key, offset, length))."""
    if not isinstance(pid, tuple) or len(pid) < 5:
        raise Refused(f"holds a pickle with a place of its own, {NEVER}")
    kind, storage, key, _, _, *view = pid
    if kind != "storage" or not isinstance(storage, ElementType):
        named = repr(kind[:40]) if isinstance(kind, str) else "something"
        raise Refused(f"holds {named} where a storage should be; save only model.state_dict()")
    if type(key) not in (str, int) or (type(key) is int and abs(key) >= 1 << 64):
        raise Refused(DAMAGED)
    start = 0
    if view and view[0] is not None:
        is_view = isinstance(view[0], tuple) and len(view[0]) == 3
        start = view[0][1] if is_view and type(view[0][1]) is int else -1
    return Storage(str(key), storage.name, start)


def plain(value: Any) -> Any:
    """A copy made of None, bool, numbers, str, list and dict, at most six deep; what else there is, tensors too,
    becomes None, and what goes beyond MOST_ITEMS is left out."""
    return _plain(value, DEEPEST, [MOST_ITEMS])


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    """As `plain`; `left` holds how many items may still be copied."""
    left[0] -= 1
    if isinstance(value, NumpyArray):
        left[0] -= 0 if value.array is None else value.array.size
        value = value.array.tolist() if value.array is not None and left[0] > 0 else None
    if value is None or type(value) in (bool, float, str):
        return value
    if type(value) is int:
        return value if abs(value) < LARGEST_INT else None
    if not depth or left[0] <= 0:
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item, depth - 1, left) for key, item in _few(value.items(), left)}
    if type(value) in (list, tuple):
        return [_plain(item, depth - 1, left) for item in _few(value, left)]
    return None


def _few(items: Any, left: list[int]) -> Any:
    for item in items:
        if left[0] <= 0:
            return
        yield item
