"""Any folder of pictures and masks that says in classes.json what the masks mean.

    DIR/classes.json                      see training/data/classes.py
    DIR/images/[SPLIT/][ANY/FOLDERS/]NAME.jpg    (or .png, .webp, .bmp)
    DIR/masks/[SPLIT/][ANY/FOLDERS/]NAME.png     grey or paletted ids, or colours (or .bmp, .tif, lossless .webp)

A mask lies where its picture lies and has its name. Ends that only one of them has are said in classes.json:
"image_end": "_leftImg8bit", "mask_end": "_labelIds" pair a_leftImg8bit.png with a_labelIds.png. Splits are the
folders train, val and test, or the lists train.txt, val.txt and test.txt in DIR (a picture a line, below images/,
with or without its suffix), or else are made by ratio and seed (training/data/splits.py). The folders within a
split are its groups: --data-set group=folder keeps each whole.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.image import IMAGE_SUFFIXES, checked_bytes, read_rgb
from training.data import classes, labels, masks, splits
from training.data.spec import DatasetSpec, Example, Taxonomies

SPLITS = splits.NAMES
ALL = "all"  # the one split of a folder that has none
ENDS = ("_mask", "_masks", "_L", "_label", "_labels", "_labelIds", "_gtFine_labelIds", "_seg", "_gt")
HOLDS = "images/, masks/ and classes.json"

Pictures = dict[str, Path]  # name below images/SPLIT, with folders and without suffix -> file


def taxonomies(data_dir: Path | str | None, options: dict[str, Any]) -> Taxonomies:
    """The one taxonomy of the folder, by the name of its data set; UserError when classes.json is wrong."""
    del options
    folder = _folder(data_dir)
    table, rest = classes.read(folder / "classes.json")
    name = str(rest.get("name") or folder.resolve().name)
    found = _splits(folder)
    first = next((path for split in found for path in _pictures(folder, split)[0].values()), None)
    header = checked_bytes(first)[2] if first else None
    size = (header.height, header.width) if header else (512, 512)
    return {name: DatasetSpec(name, table.names, table.palette, found, size)}


def examples(split: str, data_dir: Path | str | None, taxonomy: str) -> tuple[list[Example], list[str]]:
    """Every picture of the split that has a mask, by name, and a sentence for each half without the other."""
    del taxonomy  # there is one
    folder = _folder(data_dir)
    table, rest = classes.read(folder / "classes.json")
    image_end, mask_end = str(rest.get("image_end", "")), str(rest.get("mask_end", ""))
    images, problems = _pictures(folder, split)
    painted, strangers = _files(_base(folder, "masks", split), mask_end, masks.SUFFIXES)
    wanted: Pictures = {}
    for name, path in images.items():
        if name.endswith(image_end):
            wanted[name.removesuffix(image_end)] = path
        else:
            problems.append(f"{path} does not end in {image_end}, as classes.json says that pictures do.")
    if not wanted.keys() & painted.keys():
        raise UserError(
            _no_pair(folder, split, image_end, mask_end, set(wanted), set(painted) | set(strangers))
        )
    found = [
        _pair(name, wanted[name], painted[name], table) for name in sorted(wanted.keys() & painted.keys())
    ]
    place = _base(folder, "masks", split)
    for name in sorted(wanted.keys() - painted.keys()):
        lossy = next(
            (path for end in masks.LOSSY_SUFFIXES if (path := place / f"{name}{mask_end}{end}").is_file()),
            None,
        )
        problems.append(
            f"{lossy} is a JPEG, and JPEG changes ids; export the masks as PNG."
            if lossy
            else f"{wanted[name]} has no mask; {place / name}{mask_end}.png is missing."
        )
    if not (folder / f"{split}.txt").is_file():  # a list leaves out what it likes
        for name in sorted(painted.keys() - wanted.keys()):
            problems.append(f"{painted[name]} has no picture below {_base(folder, 'images', split)}.")
    return found, problems


def _folder(data_dir: Path | str | None) -> Path:
    folder = labels.data_folder("folder", data_dir, HOLDS)
    for name in ("images", "masks"):
        if not (folder / name).is_dir():
            raise UserError(f"The folder {folder / name} does not exist; --data folder reads {HOLDS}.")
    if not (folder / "classes.json").is_file():
        raise UserError(
            f"{folder / 'classes.json'} does not exist; write the classes into it, such as {classes.EXAMPLE}."
        )
    return folder


def _splits(folder: Path) -> tuple[str, ...]:
    """Lists come before folders, which may then be anything else (a drive, say)."""
    listed = tuple(name for name in SPLITS if (folder / f"{name}.txt").is_file())
    return listed or tuple(name for name in SPLITS if (folder / "images" / name).is_dir()) or (ALL,)


def _base(folder: Path, kind: str, split: str) -> Path:
    """Where the names of a split begin."""
    by_folder = split != ALL and not (folder / f"{split}.txt").is_file()
    return folder / kind / split if by_folder else folder / kind


def _pictures(folder: Path, split: str) -> tuple[Pictures, list[str]]:
    """The pictures of a split, with its problems."""
    base = _base(folder, "images", split)
    found, _ = _files(base, "", IMAGE_SUFFIXES)
    if not found:
        raise UserError(f"The folder {base} holds no pictures; {', '.join(IMAGE_SUFFIXES[:5])} are read.")
    if base.name == split:
        loose = [path for path in (folder / "images").iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
        return found, [f"{path} is in no split; move it into images/train, say." for path in sorted(loose)]
    if split == ALL:
        return found, []
    lists = {name: _listed(folder / f"{name}.txt") for name in _splits(folder)}
    splits.refuse_overlap(lists)
    missing = [name for name in lists[split] if name not in found]
    problems = [f"{base / name} is not there, though {folder / split}.txt lists it." for name in missing]
    return {name: found[name] for name in lists[split] if name in found}, problems


def _listed(path: Path) -> list[str]:
    """The names in a list, each once: the first word of a line, without images/ before it and its suffix."""
    try:
        words = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The list {path} cannot be read; it has to name a picture a line.") from error
    if not words:
        raise UserError(f"The list {path} is empty; it has to name a picture a line.")
    return list(dict.fromkeys(_name(Path(word.removeprefix("images/"))) for word in words))


def _name(path: Path) -> str:
    return (path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path).as_posix()


def _files(base: Path, end: str, suffixes: tuple[str, ...]) -> tuple[Pictures, Pictures]:
    """Files below `base` by their name without `end`, and those that do not end so. UserError on two of one name."""
    found: Pictures = {}
    others: Pictures = {}
    for path in sorted(base.rglob("*")) if base.is_dir() else ():
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        name = _name(path.relative_to(base))
        group, name = (found, name.removesuffix(end)) if name.endswith(end) else (others, name)
        if name in group:
            raise UserError(
                f"{group[name]} and {path} have one name, which is to tell pictures apart: rename one."
            )
        group[name] = path
    return found, others


def _pair(name: str, image: Path, mask: Path, table: classes.Classes) -> Example:
    group, _, _ = name.rpartition("/")
    safe = name.replace("/", "__")
    if table.colours is None:
        made = labels.pair(safe, image, mask, table=table.table, allowed=table.allowed)
    else:
        read = functools.partial(labels.read_colours, colours=table.colours, nearest=table.nearest)
        made = labels.pair(safe, image, mask, table=table.table, allowed=table.allowed, read=read)
        made = dataclasses.replace(made, raw=lambda: (read_rgb(image), masks.read_painted(mask)[0]))
    return dataclasses.replace(made, group=group, remarks=table.remarks)


def _no_pair(
    folder: Path, split: str, image_end: str, mask_end: str, images: set[str], painted: set[str]
) -> str:
    """What to say when no picture has a mask: mostly the masks' names end in something."""
    place, pictures = _base(folder, "masks", split), _base(folder, "images", split)
    if not painted:
        lossy = masks.lossy_files(place)
        return lossy or f"The folder {place} holds no PNG masks; --data folder reads {HOLDS}."
    for end in ENDS:
        if any(f"{name}{end}" in painted for name in images):
            return (
                f"No mask in {place} has the name of a picture, but some end in {end}: "
                f'add "mask_end": "{end}" to {folder / "classes.json"}.'
            )
    return (
        f"No mask in {place} has the name of a picture in {pictures} ({min(painted)} against {min(images)}): "
        'say in classes.json what their names end in, such as "image_end": "_leftImg8bit", "mask_end": "_labelIds".'
    )
