"""Classes that are told in a JSON file and not in our code: names, raw ids or colours, palette, what is ignored.

    {"classes": ["road", "car", "sky"]}                            ids 0, 1 and 2; 255 is ignored
    {"classes": {"7": "road", "26": "car"}, "ignore": [0, 255]}
    {"by": "colours",
     "classes": [{"name": "road", "colour": [128, 64, 128]}, {"name": "car", "colour": [0, 0, 142]}],
     "ignore": [[0, 0, 0]]}

A class is its name or {"name", "id" or "ids", "colour" or "colours"}; its id is its place in the list unless said, and
of several colours the first is the one that it is shown in. A list of
names or a map of ids to names alone (the Hub's id2label.json) is a whole file too.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime import strict_json
from runtime.bundle import spread_palette
from runtime.errors import UserError
from runtime.image import read_rgb
from training.data import labels
from training.data.labels import Colour
from training.data.spec import IGNORE_ID, lookup_table

KEYS = ("name", "by", "classes", "ignore", "image_end", "mask_end")
CLASS_KEYS = ("name", "id", "ids", "colour", "colours")
MOST = 255  # train ids are bytes, and 255 is ignored


class Classes(NamedTuple):
    """`table` turns raw ids, of which those in `allowed` may occur, into train ids; where colours stand for
    classes, `colours` turns them into train ids and the table changes nothing."""

    names: tuple[str, ...]
    palette: tuple[Colour, ...]
    table: np.ndarray
    allowed: frozenset[int]
    colours: dict[Colour, int] | None = None


def read(path: Path, dropped: Collection[int] = ()) -> tuple[Classes, dict[str, Any]]:
    """The classes of a file and its other entries; UserError in one sentence that names the file and the entry.

    Raw ids in `dropped` are ignored, whatever the file says of them.
    """
    try:
        content = strict_json.read(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); it has to list the classes.") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); write it like {EXAMPLE}.") from error
    try:
        return _classes(content, dropped)
    except ValueError as error:
        raise UserError(f"{path}: {error}; a right one is {EXAMPLE}.") from error


EXAMPLE = '{"classes": ["road", "sky"], "ignore": [255]}'


def chosen(named: Any, own: Sequence[str] | None, ignore: Any, shown: str) -> Classes:
    """The classes that the options `classes` and `ignore` of a data set ask for.

    `named` are names in the order of their ids, or one FILE.json; `own` are the names that the data set has
    itself. Raw ids in `ignore` are no classes. UserError when there are no names, or wrong ones.
    """
    dropped = tuple(ignore) if isinstance(ignore, list | tuple) else (ignore,)
    for raw in dropped:
        if type(raw) is not int or not 0 <= raw <= 255:
            raise UserError(f"ignore={raw} has to be ids from 0 to 255.")
    if isinstance(named, str) and named.endswith(".json"):
        return read(Path(named), dropped)[0]
    names = ((named,) if isinstance(named, str) else tuple(named)) if named else own
    if not names:
        raise UserError(
            f"{shown} does not say what its classes are called: name them with classes=road,car,sky in the order "
            "of their ids, or with classes=FILE.json."
        )
    entries = [{"name": str(name), "id": raw} for raw, name in enumerate(names)]
    try:
        return _classes({"classes": entries}, dropped)[0]
    except ValueError as error:
        raise UserError(f"The classes of {shown}: {error}.") from error


def _classes(content: Any, dropped: Collection[int] = ()) -> tuple[Classes, dict[str, Any]]:
    if isinstance(content, dict) and "classes" not in content and not all(map(str.isdecimal, content)):
        raise ValueError('it has no "classes"')
    if not isinstance(content, dict) or "classes" not in content:
        content = {"classes": content}
    _only(content, KEYS, "it")
    by = content.get("by", "ids")
    if by not in ("ids", "colours"):
        raise ValueError(f'"by" is {by!r}, and it has to be "ids" or "colours"')
    entries = _entries(content["classes"])
    if by == "ids" and dropped:
        entries = [entry for entry in entries if "ids" in entry or _id(entry["id"]) not in dropped]
        content = {**content, "ignore": [*_list(content.get("ignore", [])), *dropped]}
    names = tuple(str(entry["name"]) for entry in entries)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"the class {twice!r} is there twice")
    spread = spread_palette(len(entries) + 1)[1:]  # not black, which is what is ignored
    given = [_colours(entry) for entry in entries]
    palette = tuple(own[0] if own else other for own, other in zip(given, spread, strict=True))
    ignore = _list(content.get("ignore", [] if by == "colours" else [IGNORE_ID]))
    if by == "colours":
        colours = _by_colour(names, given, [_colour(value) for value in ignore])
        made = Classes(names, palette, np.arange(256, dtype=np.uint8), frozenset(range(256)), colours)
    else:
        mapping = _by_id(entries, [_id(value) for value in ignore])
        # 255 is what painting tools write for "nothing", unless it is a class here.
        made = Classes(names, palette, lookup_table(mapping), frozenset({*mapping, IGNORE_ID}))
    return made, {key: value for key, value in content.items() if key not in ("classes", "ignore", "by")}


def _entries(classes: Any) -> list[dict[str, Any]]:
    if isinstance(classes, dict):
        classes = [{"name": name, "id": _id(raw)} for raw, name in classes.items()]
    if not isinstance(classes, list) or not 1 <= len(classes) <= MOST:
        raise ValueError(f'"classes" has to list 1 to {MOST} classes')
    entries = []
    for place, entry in enumerate(classes):
        entry = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"]:
            raise ValueError(f'class {place} is {entry!r}, and it has to be a name or have a "name"')
        _only(entry, CLASS_KEYS, f"the class {entry['name']!r}")
        entries.append({"id": place, **entry})
    return entries


def _by_id(entries: list[dict[str, Any]], ignore: list[int]) -> dict[int, int]:
    found: dict[int, tuple[int, str]] = {}
    for train, entry in enumerate(entries):
        for raw in map(_id, entry.get("ids", [entry["id"]])):
            if raw in found:
                raise ValueError(f"the id {raw} is both {found[raw][1]!r} and {entry['name']!r}")
            found[raw] = train, entry["name"]
    for raw in ignore:
        if raw in found and raw != IGNORE_ID:
            raise ValueError(f"the id {raw} is both {found[raw][1]!r} and ignored")
    return {raw: IGNORE_ID for raw in ignore} | {raw: train for raw, (train, _) in found.items()}


def _by_colour(names: tuple[str, ...], given: list[list[Colour]], ignore: list[Colour]) -> dict[Colour, int]:
    found: dict[Colour, int] = {colour: IGNORE_ID for colour in ignore}
    for train, colours in enumerate(given):
        if not colours:
            raise ValueError(f'the class {names[train]!r} has no "colour", by which the masks tell it')
        for colour in colours:
            if colour in found:
                other = "ignored" if found[colour] == IGNORE_ID else repr(names[found[colour]])
                raise ValueError(f"the colour {colour} is both {other} and {names[train]!r}")
            found[colour] = train
    return found


def _colours(entry: dict[str, Any]) -> list[Colour]:
    """All colours of a class, the one that it is shown in first; [] where it has none."""
    if "colours" in entry:
        return [_colour(value) for value in _list(entry["colours"])]
    return [_colour(entry["colour"])] if "colour" in entry else []


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _id(value: Any) -> int:
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 255:
        raise ValueError(f"the id {value!r} has to be a whole number from 0 to 255")
    return number


def _colour(value: Any) -> Colour:
    if isinstance(value, str) and len(value) == 7 and value[0] == "#":
        try:
            return int(value[1:3], 16), int(value[3:5], 16), int(value[5:], 16)
        except ValueError:
            pass
    if (
        isinstance(value, list)
        and len(value) == 3
        and all(type(part) is int and 0 <= part < 256 for part in value)
    ):
        return value[0], value[1], value[2]
    raise ValueError(f'the colour {value!r} has to be [red, green, blue], each 0 to 255, or "#rrggbb"')


def _only(entry: dict[str, Any], keys: tuple[str, ...], what: str) -> None:
    for key in entry:
        if key not in keys:
            raise ValueError(f'{what} has "{key}", and what is read is {", ".join(keys)}')


IdsOf = Callable[[Any, str], np.ndarray]  # a label that is no file of colours, and its name -> raw ids (H, W)


def decode(
    rgb: np.ndarray, label: Any, table: Classes, ids_of: IdsOf, shown: str
) -> tuple[np.ndarray, np.ndarray]:
    """A record's picture and its train ids; `shown` names the record. UserError when the label cannot be trusted."""
    picture, name = f"{shown} picture", f"{shown} label"
    colours = table.colours if isinstance(label, bytes | Path) else None
    ids = ids_of(label, name) if colours is None else labels.read_colours(label, colours, name)
    labels.check_sizes(rgb, ids, picture, name)
    return rgb, labels.to_train_ids(ids, table.table, table.allowed, name)


def as_stored(
    rgb: np.ndarray, label: Any, table: Classes, ids_of: IdsOf, shown: str
) -> tuple[np.ndarray, np.ndarray]:
    """A record's picture and its label as the data set has it: raw ids (H, W), or colours (H, W, 3)."""
    name = f"{shown} label"
    coloured = table.colours is not None and isinstance(label, bytes | Path)
    return rgb, read_rgb(label, name) if coloured else ids_of(label, name)
