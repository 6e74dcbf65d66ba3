"""The opcodes of a pickle, carried out one by one within bounds: what a stranger's file can do is push values.

Python's own unpickler is never given such a file. It allocates a memo as large as an index says, and its containers
nest and refer to one another without a bound, which ends in a crash of whoever hashes, prints or copies them. Here
opcodes are counted, a name is looked up in a table or refused, only what the table calls a function is called, and
only plain values are keys of a dictionary.
"""

import pickletools
from collections.abc import Callable
from typing import IO, Any, BinaryIO, cast

MOST_OPCODES = 2_000_000  # a checkpoint of 600 tensors with its optimizer has some 100,000
MOST_BYTES = 1 << 28  # of one text or name, or what stands in one line
LINE = 1 << 16
KEY_TYPES = (str, int, float, bool, bytes, type(None))
LARGEST_INT = 1 << 63
ITEM: dict[Any, int] = {
    str: 1,
    bytes: 1,
    list: 8,
    tuple: 8,
}  # bytes that a copy takes for each character or item


class Refused(Exception):
    """Why a file is not read: the end of a sentence that begins with its name."""


DAMAGED = "is damaged or cut short, or no file of torch.save"
NEVER = "which no checkpoint does"
NOT_RUN = (
    "which weights do not need and which is never run; save only the weights, with "
    "torch.save(model.state_dict(), FILE)"
)


class Record:
    """What stands for an object of the file. `build` takes the state that the pickle sets afterwards."""

    __slots__ = ()

    def build(self, state: Any) -> None:
        raise Refused(f"holds a pickle that alters what it calls, {NEVER}")


class Function(Record):
    """Stands for a function or class of the file: called with a tuple of values, it makes an inert record."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


class Dictionary(dict[Any, Any], Record):
    """A dictionary of the file, without the attributes that an OrderedDict may have (`_metadata` of a state dict).

    A key that is no plain value, such as a tuple of tuples, is left out with what it stands for: to hash it could take
    for ever, and no tensor is named by one.
    """

    __slots__ = ()

    def put(self, pairs: list[Any]) -> None:
        """Keys and values in turn."""
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if isinstance(key, KEY_TYPES) and not (type(key) is int and abs(key) >= LARGEST_INT):
                self[key] = value

    def build(self, state: Any) -> None:
        pass


class Bounded:
    """A file of which no read takes more than MOST_BYTES, as pickletools wants it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.tell = file, file.tell

    def read(self, size: int) -> bytes:
        if size > MOST_BYTES:
            raise Refused("holds more than weights: a text of more than 256 MB")
        return self._file.read(size)

    def readline(self) -> bytes:
        return self._file.readline(LINE)


class Machine:
    """A pickle's stack, marks and memo. `known` are the names that it may use and what stands for them; `stored`
    makes what stands for a persistent id. Raises Refused."""

    def __init__(self, known: dict[str, Any], stored: Callable[[Any], Any]) -> None:
        self.known, self.stored = known, stored
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.left = MOST_BYTES  # that functions may still make of what they are given

    def run(self, file: BinaryIO) -> Any:
        """The value of the next pickle of a file, which is left where the pickle ends."""
        for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], Bounded(file)))):
            if count >= MOST_OPCODES:
                raise Refused(f"holds more than weights: its pickle has more than {MOST_OPCODES} steps")
            if opcode.name in PUSHES:
                self.stack.append(argument)
            elif opcode.name == "STOP":
                return self.pop()
            elif opcode.name in STEPS:
                STEPS[opcode.name](self, argument)
            else:
                raise Refused(f"holds a pickle with the step {opcode.name}, {NEVER}")
        raise Refused(DAMAGED)

    def pop(self) -> Any:
        """The top of the stack, which must not be below the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Refused(DAMAGED)
        return self.stack.pop()

    def top(self) -> Any:
        self.stack.append(self.pop())
        return self.stack[-1]

    def marked(self) -> list[Any]:
        """What was pushed since the last mark."""
        if not self.marks:
            raise Refused(DAMAGED)
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def last(self, count: int) -> tuple[Any, ...]:
        return tuple(reversed([self.pop() for _ in range(count)]))

    def look_up(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Refused(DAMAGED)
        # Protocol 2, torch's, writes Python 2's name of builtins.
        full_name = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if full_name not in self.known:
            raise Refused(f"holds the Python object {full_name[:200]}, {NOT_RUN}")
        self.stack.append(self.known[full_name])

    def call(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, Function) or not isinstance(arguments, tuple):
            raise Refused(f"holds a pickle that calls what is no function, {NEVER}")
        # One long text may be referred to, and copied, as often as there are opcodes.
        self.left -= sum(len(one) * ITEM.get(type(one), 0) for one in arguments if type(one) in ITEM)
        if self.left < 0:
            raise Refused("holds more than weights: its pickle copies more than 256 MB")
        self.stack.append(function.call(*arguments))

    def extend(self, values: list[Any]) -> None:
        if type(self.top()) is not list:
            raise Refused(DAMAGED)
        self.top().extend(values)

    def put(self, pairs: list[Any]) -> None:
        if not isinstance(self.top(), Dictionary):
            raise Refused(DAMAGED)
        self.top().put(pairs)

    def build(self, state: Any) -> None:
        if not isinstance(self.top(), Record):
            raise Refused(f"holds a pickle that alters what it calls, {NEVER}")
        self.top().build(state)

    def instance(self, values: list[Any]) -> None:
        """OBJ: a class and its arguments since the mark."""
        if not values:
            raise Refused(DAMAGED)
        self.call(values[0], tuple(values[1:]))

    def global_instance(self, name: str) -> None:
        """INST: "module name", and its arguments since the mark."""
        values = self.marked()
        self.look_up(*name.split(" ", 1))
        self.call(self.pop(), tuple(values))


def _dictionary(pairs: list[Any]) -> Dictionary:
    made = Dictionary()
    made.put(pairs)
    return made


# Opcodes whose argument is the value, and what the others do to a machine, given their argument.
PUSHES = frozenset(
    "INT LONG BININT BININT1 BININT2 LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES "
    "SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8".split()
)
Step = Callable[[Machine, Any], Any]


def _remember(machine: Machine, index: Any) -> None:
    machine.memo[len(machine.memo) if index is None else index] = machine.top()


def _recall(machine: Machine, index: Any) -> None:
    if index not in machine.memo:
        raise Refused(DAMAGED)
    machine.stack.append(machine.memo[index])


def _pushes(make: Callable[[], Any]) -> Step:
    return lambda machine, _: machine.stack.append(make())


def _joins(make: Callable[[list[Any]], Any]) -> Step:
    return lambda machine, _: machine.stack.append(make(machine.marked()))


def _called(machine: Machine, _: Any) -> None:
    function, arguments = machine.last(2)
    machine.call(function, arguments)


def _called_with_keywords(machine: Machine, _: Any) -> None:
    function, arguments, _keywords = machine.last(3)
    machine.call(function, arguments)


STEPS: dict[str, Step] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.marked(),
    "DUP": lambda machine, _: machine.stack.append(machine.top()),
    "NONE": _pushes(lambda: None),
    "NEWTRUE": _pushes(lambda: True),
    "NEWFALSE": _pushes(lambda: False),
    "EMPTY_LIST": _pushes(list),
    "EMPTY_TUPLE": _pushes(tuple),
    "EMPTY_DICT": _pushes(Dictionary),
    "EMPTY_SET": _pushes(list),  # of which nothing is kept but its members
    "LIST": _joins(list),
    "TUPLE": _joins(tuple),
    "FROZENSET": _joins(list),
    "DICT": _joins(_dictionary),
    "TUPLE1": lambda machine, _: machine.stack.append(machine.last(1)),
    "TUPLE2": lambda machine, _: machine.stack.append(machine.last(2)),
    "TUPLE3": lambda machine, _: machine.stack.append(machine.last(3)),
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.marked()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.marked()),
    "SETITEM": lambda machine, _: machine.put(list(machine.last(2))),
    "SETITEMS": lambda machine, _: machine.put(machine.marked()),
    "GET": _recall,
    "BINGET": _recall,
    "LONG_BINGET": _recall,
    "PUT": _remember,
    "BINPUT": _remember,
    "LONG_BINPUT": _remember,
    "MEMOIZE": _remember,
    "GLOBAL": lambda machine, name: machine.look_up(*name.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.look_up(*machine.last(2)),
    "REDUCE": _called,
    "NEWOBJ": _called,
    "NEWOBJ_EX": _called_with_keywords,
    "OBJ": lambda machine, _: machine.instance(machine.marked()),
    "INST": lambda machine, name: machine.global_instance(name),
    "BUILD": lambda machine, _: machine.build(machine.pop()),
    "BINPERSID": lambda machine, _: machine.stack.append(machine.stored(machine.pop())),
    "PERSID": lambda machine, text: machine.stack.append(machine.stored(text)),
}
