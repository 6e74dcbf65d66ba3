"""What neither the tensors of a checkpoint nor anything beside them says: asked for by --set, or assumed and told.

A source asks `take` for each such fact, with what the checkpoint says (None: nothing) and what its own table UNSAID
has for it. What nobody said ends in `assumed`, which the command prints and the config keeps.
"""

import ast
from collections.abc import Mapping, Sequence
from typing import Any


class Options:
    """Answers by name. `asked` is what --set says; `assumed` what was taken because nobody said it."""

    def __init__(self, asked: Mapping[str, Any] | None = None) -> None:
        self.asked = dict(asked or {})
        self.assumed: dict[str, Any] = {}
        self.known: dict[str, Any] = {}

    def fresh(self) -> "Options":
        """The same that was asked for, and nothing assumed yet."""
        return Options(self.asked)

    def take(self, name: str, said: Any, otherwise: Any) -> Any:
        """The value of a fact: what was asked for, else what the checkpoint says, else `otherwise`, which is noted.

        Raises ValueError where what was asked for is of another type than `otherwise`.
        """
        self.known[name] = otherwise
        if name in self.asked:
            return _as(name, self.asked[name], otherwise)
        if said is not None:
            return said
        self.assumed[name] = otherwise
        return otherwise

    def check(self) -> None:
        """Raise ValueError when something was asked for that nobody took."""
        for name in self.asked:
            if name not in self.known:
                known = " ".join(f"{key}={text(value)}" for key, value in self.known.items())
                raise ValueError(f"has nothing that --set {name} could say; it takes {known}")


def parse(settings: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE each -> values: whole numbers, numbers, true, false, tuples written 6,12,18, or text. ValueError,
    a sentence that begins with --set, on what is none."""
    found = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name or not equals or not value:
            raise ValueError(f"--set {setting} is not NAME=VALUE, such as rates=6,12,18")
        if name in found:
            raise ValueError(f"--set has {name} twice")
        found[name] = _value(value)
    return found


def text(value: Any) -> str:
    """A value as --set takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(map(text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _value(written: str) -> Any:
    if written in ("true", "false"):
        return written == "true"
    try:
        found = ast.literal_eval(written)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return written
    numbers = found if isinstance(found, tuple) else (found,)
    return found if all(type(number) in (int, float) for number in numbers) else written


def _as(name: str, value: Any, like: Any) -> Any:
    """A value of the type of `like`: a number for a tuple is a tuple of one, a whole number a number too."""
    if isinstance(like, tuple) and not isinstance(value, tuple):
        value = (value,)
    items, wanted = (value, like[:1]) if isinstance(like, tuple) else ((value,), (like,))
    kinds = (int, float) if isinstance(wanted[0], float) else (type(wanted[0]),)
    if isinstance(value, tuple) != isinstance(like, tuple) or not all(type(one) in kinds for one in items):
        raise ValueError(f"has {name} like {text(like)}; --set {name}={text(value)} is not")
    if isinstance(wanted[0], float):
        items = tuple(float(one) for one in items)
    return items if isinstance(like, tuple) else items[0]
