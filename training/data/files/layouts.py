"""Where a folder's images and masks are and what its masks mean: our own layout, and what labelling tools export.

Our own has classes.json, images/ and masks/; "images" and "masks" in classes.json name other places, {split} standing
for the folder of a split. The rest needs no classes.json and is recognised by the file that says what its masks mean:

    Roboflow, "Semantic Segmentation Masks"   {split}/_classes.csv, {split}/NAME.jpg, {split}/NAME_mask.png
    CVAT, "Segmentation mask 1.1"             labelmap.txt, JPEGImages/, SegmentationClass/, lists, see LISTS
    CVAT, "CamVid 1.0"                        label_colors.txt, {split}/, {split}annot/
    labelme, labelme2voc.py                   class_names.txt, JPEGImages/, SegmentationClassPNG/ or SegmentationClass/
    Mapillary Vistas 2.0 and 1.2              config_v2.0.json or config.json, {split}/images/, {split}/v2.0/labels/

Sources: the documentation of CVAT's formats (docs.cvat.ai), examples/semantic_segmentation/labelme2voc.py of labelme,
and the config.json that comes with Mapillary Vistas. A classes.json beside them says what the masks mean instead.
"""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from runtime import strict_json
from runtime.errors import UserError
from runtime.folders import read_text
from training.data.labels import classes
from training.data.labels.classes import Classes

HOLDS = "images/, masks/ and classes.json"
LISTS = (".", "splits", "lists", "ImageSets/Segmentation")  # where lists of splits may lie; the last is VOC's


class Layout(NamedTuple):
    """`images` and `masks` are folders below the data folder, perhaps with {split}; `said` is how it was recognised, ""
    for our own."""

    table: Classes
    images: str = "images"
    masks: str = "masks"
    image_end: str = ""
    mask_end: str = ""
    name: str = ""
    said: str = ""


def layout(folder: Path) -> Layout:
    """The layout of a data folder; UserError, which says what is missing, when it has none of them."""
    file = folder / "classes.json"
    if not file.is_file():
        exported = _exported(folder)
        if exported is None:
            raise _missing(folder)
        return exported
    table, rest = classes.read(file)
    places = {key: _place(file, rest, key) for key in ("images", "masks") if key in rest}
    own = Layout(table)
    if not places and not (folder / "images").is_dir():
        own = _exported(folder) or own
    ends = {key: str(rest[key]) for key in ("image_end", "mask_end") if key in rest}
    found = own._replace(table=table, name=str(rest.get("name") or ""), **places, **ends)
    for pattern in (found.images, found.masks):
        if "{split}" not in pattern and not (folder / pattern).is_dir():
            raise UserError(f"The folder {folder / pattern} does not exist; --data folder reads {HOLDS}.")
    return found


def _exported(folder: Path) -> Layout | None:
    return next((found for read in EXPORTS.values() if (found := read(folder))), None)


def _missing(folder: Path) -> UserError:
    for name in ("images", "masks"):
        if not (folder / name).is_dir():
            return UserError(
                f"The folder {folder / name} does not exist; --data folder reads {HOLDS}, or an export of "
                f"{', '.join(EXPORTS)}."
            )
    return UserError(
        f"{folder / 'classes.json'} does not exist; write the classes into it, such as {classes.EXAMPLE}."
    )


def _place(file: Path, rest: dict[str, Any], key: str) -> str:
    value = rest[key]
    if not isinstance(value, str) or not value or ".." in value.split("/") or value.startswith("/"):
        raise UserError(
            f'{file}: "{key}" is {value!r}; a folder below that of the file is right, such as "{key}" or '
            f'"{{split}}/{key}".'
        )
    return value


def _roboflow(folder: Path) -> Layout | None:
    path = next(iter(sorted([*folder.glob("_classes.csv"), *folder.glob("*/_classes.csv")])), None)
    if path is None:
        return None
    rows = [[cell.strip() for cell in row] for row in csv.reader(_text(path).splitlines()) if any(row)]
    if rows and not rows[0][0].isdecimal():
        rows = rows[1:]  # "Pixel Value, Class"
    if not rows or not all(len(row) == 2 and row[0].isdecimal() and row[1] for row in rows):
        raise UserError(
            f"{path} is not what Roboflow writes; lines such as '1, car' below 'Pixel Value, Class' are right."
        )
    table = _by_id(path, [{"name": name, "id": int(value)} for value, name in rows])
    split = "{split}" if path.parent != folder else "."
    return Layout(
        table, split, split, mask_end="_mask", said=f"Read as Roboflow's export, classes by {path}."
    )


def _cvat(folder: Path) -> Layout | None:
    path = folder / "labelmap.txt"
    if not path.is_file() or not (folder / "SegmentationClass").is_dir():
        return None
    entries = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        entries.append(
            {"name": name.strip(), "colour": _colour(path, number, line, rest.partition(":")[0].split(","))}
        )
    table = _by_colour(path, entries)
    return Layout(
        table,
        "JPEGImages",
        "SegmentationClass",
        said=f"Read as CVAT's segmentation masks, classes by {path}.",
    )


def _cvat_camvid(folder: Path) -> Layout | None:
    path = folder / "label_colors.txt"
    if not path.is_file() or not any(place.is_dir() for place in folder.glob("*annot")):
        return None
    entries = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        red, green, blue, name = (*line.split(maxsplit=3), "", "", "", "")[:4]
        entries.append({"name": name.strip(), "colour": _colour(path, number, line, [red, green, blue])})
    table = _by_colour(path, entries)
    return Layout(table, "{split}", "{split}annot", said=f"Read as CVAT's CamVid export, classes by {path}.")


def _labelme(folder: Path) -> Layout | None:
    path = folder / "class_names.txt"
    if not path.is_file() or not (folder / "JPEGImages").is_dir():
        return None
    names = [line.strip() for line in _text(path).splitlines() if line.strip()]
    names = names[1:] if names[:1] == ["__ignore__"] else names  # its id is -1, in a PNG 255
    table = _by_id(path, [{"name": name, "id": index} for index, name in enumerate(names)])
    png = "SegmentationClassPNG"
    masks = png if (folder / png).is_dir() else "SegmentationClass"
    said = f"Read as labelme's export, classes by {path}."
    return Layout(table, "JPEGImages", masks, said=said)


def _mapillary(folder: Path) -> Layout | None:
    for config, below in (
        ("config_v2.0.json", "v2.0/labels"),
        ("config_v1.2.json", "v1.2/labels"),
        ("config.json", "labels"),
    ):
        path = folder / config
        if path.is_file() and any((place / below).is_dir() for place in folder.glob("*")):
            break
    else:
        return None
    try:
        labels = strict_json.read(path)["labels"]
        names = [str(label["readable"]) for label in labels]
        if len(set(names)) < len(names):  # two may be read alike
            names = [str(label["name"]) for label in labels]
        rows = list(
            zip(
                names,
                (label["color"] for label in labels),
                (label["evaluate"] for label in labels),
                strict=True,
            )
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not the configuration that comes with Mapillary Vistas; unpack it again."
        ) from error
    entries = [
        {"name": name, "id": index, "colour": colour}
        for index, (name, colour, counts) in enumerate(rows)
        if counts
    ]
    ignored = [index for index, (_, _, counts) in enumerate(rows) if not counts]
    table = _by_id(path, entries, [*ignored, 255])
    said = f"Read as Mapillary Vistas, classes by {path}; ids that it does not evaluate are void."
    return Layout(table, "{split}/images", f"{{split}}/{below}", said=said)


EXPORTS: dict[str, Callable[[Path], Layout | None]] = {
    "Roboflow": _roboflow,
    "CVAT (segmentation mask)": _cvat,
    "CVAT (CamVid)": _cvat_camvid,
    "labelme": _labelme,
    "Mapillary Vistas": _mapillary,
}


def _by_id(path: Path, entries: list[dict[str, Any]], ignore: list[int] | None = None) -> Classes:
    return classes.told({"classes": entries, "ignore": ignore or [255]}, str(path))


def _by_colour(path: Path, entries: list[dict[str, Any]]) -> Classes:
    return classes.told({"by": "colours", "classes": entries, "ignore": []}, str(path))


def _colour(path: Path, number: int, line: str, words: list[str]) -> list[int]:
    if len(words) != 3 or not all(word.strip().isdecimal() and int(word) < 256 for word in words):
        raise UserError(
            f"Line {number} of {path} is {line.strip()!r}; a class and its red, green and blue (0 to 255) are right."
        )
    return [int(word) for word in words]


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read; it has to be UTF-8 text that lists the classes.") from error
