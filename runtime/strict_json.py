"""JSON: the one reader of what strangers wrote (recipes, configs, lists of classes, legends, notes), and
how ours is written.

What is bounded: bytes, depth, and numbers (finite, whole ones within 64 bits). What is decided: UTF-8 with or without
a byte-order mark; a key that is there twice is refused, because Python would silently take the last; so are NaN and
Infinity, which JSON has not, and half of a surrogate pair, which no file and no terminal could write again.
`fits`, `checked` and `wrong_field` compare values with types, so that `true` is no number and 1.5 no count.
"""

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_BYTES = 8_000_000  # the largest of ours, a confusion matrix of 255 classes, has half a megabyte
MAX_DEPTH = 64
MOST_DIGITS = 20  # of 2**64
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class JsonError(ValueError):
    """Why a text is not taken, as a clause: "it is not UTF-8 text", say."""


def read(path: Path, most_bytes: int = MAX_BYTES, nan: bool = False) -> Any:
    """The content of a JSON file; of a file too large only the start is read.

    Raises OSError when it cannot be read, and JsonError as `parse` does.
    """
    with open(path, "rb") as file:
        return parse(file.read(most_bytes + 1), most_bytes, nan)


def parse(data: bytes | bytearray | str, most_bytes: int = MAX_BYTES, nan: bool = False) -> Any:
    """The value that a JSON text holds. Raises JsonError, a ValueError, with the reason as a clause.

    `nan` takes NaN and Infinity, for what Python wrote for itself: the numbers of a run in its checkpoint.
    """
    if len(data) > most_bytes:
        raise JsonError(f"it has more than {most_bytes / 1e6:g} MB")
    text = _decoded(data) if isinstance(data, bytes | bytearray) else data.removeprefix("\ufeff")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_int,
            parse_float=_float,
            parse_constant=float if nan else _constant,
        )
        _check_depth(value)
        if SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise JsonError(_too_deep()) from None
    except UnicodeEncodeError as error:
        raise JsonError("it holds half of a surrogate pair, which is no character") from error
    except json.JSONDecodeError as error:
        raise JsonError(str(error)) from error
    return value


def without_nan(value: Any) -> Any:
    """The same with None where a number does not exist, which is not a number or infinite: JSON has neither."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def written(value: Any) -> bytes:
    """The text of a JSON file that holds a value of our own, `without_nan`."""
    return (json.dumps(without_nan(value), indent=2, allow_nan=False) + "\n").encode()


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotation's type, as JSON means it: a bool is no number, an int is a float too, and a
    list stands for a tuple.

    Known are Any, None, bool, int, float, str, dict[str, X], list[X], tuple[X, ...], tuple[X, Y], their unions, and
    dataclasses (an instance). A float has to be finite.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (types.UnionType, typing.Union):
        return any(fits(value, one) for one in inner)
    if origin is dict:
        return isinstance(value, dict) and all(
            fits(key, inner[0]) and fits(item, inner[1]) for key, item in value.items()
        )
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and _items_fit(value, origin, inner)
    if hint in (None, types.NoneType):
        return value is None
    if hint is float:
        return type(value) is not bool and isinstance(value, int | float) and math.isfinite(value)
    if hint is int:
        return type(value) is not bool and isinstance(value, int)
    if hint in (bool, str) or dataclasses.is_dataclass(hint):
        return isinstance(value, hint)
    raise TypeError(f"fits() does not know the annotation {hint!r}")


def checked(content: Any, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The object, when it has each key of `wanted` with a value of that type; JsonError names the first that is not."""
    if not isinstance(content, dict):
        raise JsonError(f"it holds {shown(content)} where an object {{...}} should be")
    for key, hint in wanted.items():
        if key not in content:
            raise JsonError(f'it has no "{key}"')
        if not fits(content[key], hint):
            raise JsonError(f'its "{key}" is {shown(content[key])}, and has to be {named(hint)}')
    return content


def wrong_field(made: Any, called: Mapping[str, str] | None = None) -> str | None:
    """Which field of a dataclass's instance is not of its annotation, as a clause; None where all are. `called` has
    the names by which a user knows the fields."""
    for name, hint in typing.get_type_hints(type(made)).items():
        if not fits(getattr(made, name), hint):
            return f"{(called or {}).get(name, name)} is {shown(getattr(made, name))}, and has to be {named(hint)}"
    return None


def named(hint: Any) -> str:
    """An annotation in plain words, for a message."""
    words = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        types.NoneType: "null",
    }
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " or ".join(named(one) for one in typing.get_args(hint))
    if typing.get_origin(hint) is dict:
        values = typing.get_args(hint)[1]
        return "an object" if values is Any else f"an object in which each value is {named(values)}"
    if typing.get_origin(hint) in (list, tuple):
        inner = typing.get_args(hint)
        count = "" if typing.get_origin(hint) is list or inner[-1] is Ellipsis else f" of {len(inner)}"
        return f"a list{count}, each {named(inner[0])}"
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def _items_fit(value: Any, origin: Any, inner: tuple[Any, ...]) -> bool:
    if origin is list or inner[-1] is Ellipsis:
        return all(fits(item, inner[0]) for item in value)
    return len(value) == len(inner) and all(map(fits, value, inner))


def _decoded(data: bytes | bytearray) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise JsonError(f"it is not UTF-8 text (byte {data[error.start]:#04x} at {error.start})") from error


def _too_deep() -> str:
    return f"it nests deeper than {MAX_DEPTH} levels"


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            item
            for one in level
            if isinstance(one, dict | list)
            for item in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise JsonError(_too_deep())


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise JsonError(f"the key {shown(twice)} is there twice in one object")
    return found


def _int(text: str) -> int:
    if len(text) > MOST_DIGITS or not -(2**63) <= int(text) < 2**64:
        raise JsonError(f"the number {shown(text)} is beyond 64 bits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JsonError(f"the number {shown(text)} is beyond what a number can hold")
    return value


def _constant(text: str) -> float:
    raise JsonError(f"{text} is no number of JSON")


def shown(value: Any, most: int = 60) -> str:
    """A value of any length as it can stand in a sentence: on one line, cut."""
    text = repr(value[: most + 1] if isinstance(value, str | bytes | list) else value)
    return text if len(text) <= most else f"{text[:most]}..."
