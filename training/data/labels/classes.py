"""Classes that are told in a JSON file and not in our code: names, raw ids or colours, palette, what is ignored.

    {"classes": ["road", "car", "sky"]}                            ids 0, 1 and 2; 255 is ignored
    {"classes": {"7": "road", "26": "car"}, "ignore": [0, 255]}
    {"by": "colours",
     "classes": [{"name": "road", "colour": [128, 64, 128]}, {"name": "car", "colour": [0, 0, 142]}],
     "ignore": [[0, 0, 0]], "nearest": true}

A class is its name or {"name", "id" or "ids", "colour" or "colours"}; its id is its place in the list unless said, and
of several colours the first is the one that it is shown in. Ids are those of 16-bit files, 0 to 65535. A list of
names or a map of ids to names alone (the Hub's id2label.json) is a whole file too.

255 is ignored unless a class has it. One class alone is that class against background: id 0, or black; its own id is
1 unless said. "nearest" gives a colour that stands for nothing to the class whose colour is nearest (blurred edges).
"""

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime import strict_json
from runtime.bundle import spread_palette
from runtime.class_names import MOST_CLASSES, check_names
from runtime.errors import UserError
from training.data.labels import label_maps
from training.data.labels.label_maps import Colour
from training.data.labels.masks import Repainted, read_painted
from training.data.spec import MOST_IDS, VOID_ID, lookup_table

KEYS = ("name", "by", "classes", "ignore", "nearest", "images", "masks", "image_end", "mask_end")
CLASS_KEYS = ("name", "id", "ids", "colour", "colours")
BACKGROUND = "background"  # what one class alone is told from
BLACK = (0, 0, 0)


class Classes(NamedTuple):
    """`table` turns raw ids, of which those in `allowed` may occur, into train ids; where colours stand for
    classes, `colours` turns them into train ids and the table changes nothing. `nearest` counts the pixels
    that took the nearest colour, where that is asked for; `alone` is the name of the one class that stands against
    background."""

    names: tuple[str, ...]
    palette: tuple[Colour, ...]
    table: np.ndarray
    allowed: frozenset[int]
    colours: dict[Colour, int] | None = None
    nearest: Repainted | None = None
    alone: str = ""

    def remarks(self) -> list[str]:
        """What is to be said aloud, once the label maps have been read."""
        found = [f"there is one class, {self.alone}: it is told from {BACKGROUND}."] if self.alone else []
        return found + ([self.nearest.sentence()] if self.nearest and self.nearest.sentence() else [])


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


def told(content: dict[str, Any], shown: str) -> Classes:
    """The classes that another program's file told, rewritten as those of a classes.json; `shown` names the file."""
    try:
        return _classes(content)[0]
    except ValueError as error:
        raise UserError(f"{shown}: {error}.") from error


def chosen(named: Any, own: Sequence[str] | None, ignore: Any, shown: str) -> Classes:
    """The classes that the options `classes` and `ignore` of a data set ask for.

    `named` are names in the order of their ids, or one FILE.json; `own` are the names that the data set has
    itself. Raw ids in `ignore` are no classes. UserError when there are no names, or wrong ones.
    """
    dropped = tuple(ignore) if isinstance(ignore, list | tuple) else (ignore,)
    for raw in dropped:
        if type(raw) is not int or not 0 <= raw < MOST_IDS:
            raise UserError(f"ignore={raw} has to be ids from 0 to {MOST_IDS - 1}.")
    if isinstance(named, str) and named.endswith(".json"):
        return read(Path(named), dropped)[0]
    names = ((named,) if isinstance(named, str) else tuple(named)) if named else own
    if not names:
        raise UserError(
            f"{shown} does not say what its classes are called: name them with classes=road,car,sky in the order "
            "of their ids, or with classes=FILE.json."
        )
    entries = [str(name) for name in names]
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
    if not isinstance(content.get("nearest", False), bool) or (content.get("nearest") and by == "ids"):
        raise ValueError('"nearest" has to be true or false, and goes with "by": "colours"')
    given, ignore = _entries(content["classes"]), _list(content.get("ignore", []))
    made = (
        _made_of_colours(given, ignore, content) if by == "colours" else _made_of_ids(given, ignore, dropped)
    )
    return made, {key: value for key, value in content.items() if key not in (*_OF_CLASSES, "by")}


_OF_CLASSES = ("classes", "ignore", "nearest")


def _made_of_ids(entries: list[dict[str, Any]], ignore: list[Any], dropped: Collection[int]) -> Classes:
    said = [_id(value) for value in ignore]
    owned = {_id(raw) for entry in entries for raw in entry.get("ids", [entry["id"]])}
    if VOID_ID in said and VOID_ID in owned:
        raise ValueError(f"the id {VOID_ID} is both a class and ignored")
    # 255 is what painting tools write for "nothing", unless it is a class here.
    unnamed = {*dropped} - ({VOID_ID} & owned)
    entries = [entry for entry in entries if "ids" in entry or _id(entry["id"]) not in unnamed]
    entries, alone = _with_background(entries, {*said, *unnamed}, "id", 0)
    mapping = _by_id(entries, [*said, *unnamed])
    names, palette = _shown(entries)
    table = lookup_table({VOID_ID: VOID_ID} | mapping)
    return Classes(names, palette, table, frozenset({*mapping, VOID_ID}), alone=alone)


def _made_of_colours(entries: list[dict[str, Any]], ignore: list[Any], content: dict[str, Any]) -> Classes:
    said = [_colour(value) for value in ignore]
    entries, alone = _with_background(entries, set(said), "colour", list(BLACK))
    names, palette = _shown(entries)
    colours = _by_colour(names, [_colours(entry) for entry in entries], said)
    nearest = Repainted() if content.get("nearest") else None
    same = np.arange(256, dtype=np.uint8)
    return Classes(names, palette, same, frozenset(range(256)), colours, nearest, alone)


def _with_background(
    entries: list[dict[str, Any]], ignored: set[Any], key: str, value: Any
) -> tuple[list[dict[str, Any]], str]:
    """The entries, and the name of the one class if there is but one: then the background, whose id is 0 and whose
    colour black, comes before it. ValueError where that is no background."""
    if not entries:
        raise ValueError("no class is left, because all are ignored")
    if len(entries) > 1:
        return entries, ""
    (entry,) = entries
    own = map(_id, entry.get("ids", [entry["id"]])) if key == "id" else _colours(entry)
    what = "id 0" if key == "id" else "black"
    if (BLACK if key == "colour" else value) in {*own, *ignored} or entry["name"] == BACKGROUND:
        other = json.dumps({"name": BACKGROUND, key: value})
        raise ValueError(
            f"there is one class, {entry['name']!r}, and nothing to tell it from: {what} would be background, "
            f"but it is the class itself or ignored; name another class, such as {other}"
        )
    return [{"name": BACKGROUND, "id": 0, key: value}, entry], entry["name"]


def _shown(entries: list[dict[str, Any]]) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    """Names and colours of the classes, in their order."""
    names = tuple(entry["name"] for entry in entries)
    check_names(names)
    spread = spread_palette(len(entries) + 1)[1:]  # not black, which is what is ignored
    given = [_colours(entry) for entry in entries]
    return names, tuple(own[0] if own else other for own, other in zip(given, spread, strict=True))


def _entries(classes: Any) -> list[dict[str, Any]]:
    if isinstance(classes, dict):
        classes = [{"name": name, "id": _id(raw)} for raw, name in classes.items()]
    if not isinstance(classes, list) or not 1 <= len(classes) <= MOST_CLASSES:
        raise ValueError(f'"classes" has to list 1 to {MOST_CLASSES} classes')
    entries = []
    for place, entry in enumerate(classes):
        entry = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise ValueError(f'class {place} is {entry!r}, and it has to be a name or have a "name"')
        _only(entry, CLASS_KEYS, f"the class {entry['name']!r}")
        entries.append({"id": place + (len(classes) == 1), **entry, "name": entry["name"].strip()})
    return entries


def _by_id(entries: list[dict[str, Any]], ignore: list[int]) -> dict[int, int]:
    found: dict[int, tuple[int, str]] = {}
    for train, entry in enumerate(entries):
        for raw in map(_id, entry.get("ids", [entry["id"]])):
            if raw in found:
                raise ValueError(f"the id {raw} is both {found[raw][1]!r} and {entry['name']!r}")
            found[raw] = train, entry["name"]
    for raw in ignore:
        if raw in found:
            raise ValueError(f"the id {raw} is both {found[raw][1]!r} and ignored")
    return {raw: VOID_ID for raw in ignore} | {raw: train for raw, (train, _) in found.items()}


def _by_colour(names: tuple[str, ...], given: list[list[Colour]], ignore: list[Colour]) -> dict[Colour, int]:
    found: dict[Colour, int] = {colour: VOID_ID for colour in ignore}
    for train, colours in enumerate(given):
        if not colours:
            raise ValueError(f'the class {names[train]!r} has no "colour", by which the masks tell it')
        for colour in colours:
            if colour in found:
                other = "ignored" if found[colour] == VOID_ID else repr(names[found[colour]])
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
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < MOST_IDS:
        raise ValueError(f"the id {value!r} has to be a whole number from 0 to {MOST_IDS - 1}")
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
    """A record's image and its train ids; `shown` names the record. UserError when the label cannot be trusted."""
    image, name = f"{shown} image", f"{shown} label"
    colours = table.colours if isinstance(label, bytes | Path) else None
    ids = (
        ids_of(label, name)
        if colours is None
        else label_maps.read_colours(label, colours, name, nearest=table.nearest)
    )
    label_maps.check_sizes(rgb, ids, image, name)
    return rgb, label_maps.to_train_ids(ids, table.table, table.allowed, name)


def as_stored(
    rgb: np.ndarray, label: Any, table: Classes, ids_of: IdsOf, shown: str
) -> tuple[np.ndarray, np.ndarray]:
    """A record's image and its label as the data set has it: raw ids (H, W), or colours (H, W, 3)."""
    name = f"{shown} label"
    coloured = table.colours is not None and isinstance(label, bytes | Path)
    return rgb, read_painted(label, name)[0] if coloured else ids_of(label, name)
