"""Any folder of images and masks that says what the masks mean: in classes.json, or as a labelling tool exports it.

    DIR/classes.json                      see training/data/labels/classes.py
    DIR/images/[SPLIT/][ANY/FOLDERS/]NAME.jpg    (or .png, .webp, .bmp)
    DIR/masks/[SPLIT/][ANY/FOLDERS/]NAME.png     grey or paletted ids, or colours (or .bmp, .tif, lossless .webp)

Other places, and the exports that are recognised: training/data/files/layouts.py. A mask lies where its image lies
and has its name. Ends that only one of them has are said in classes.json: "image_end": "_leftImg8bit", "mask_end":
"_labelIds" pair a_leftImg8bit.png with a_labelIds.png. Splits are the folders train, val and test (or training,
valid, validation, dev, testing, in whatever case), or lists of those names, DIR/train.txt or DIR/splits/train.txt and
so on (training/data/files/split_lists.py), or are made by ratio and seed (training/data/files/random_splits.py);
training/data/files/own_splits.py says what becomes of images in none of them. The folders within a split are its
groups: --data-option group=folder keeps each whole.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.folders import distinct, named_below
from runtime.image import IMAGE_SUFFIXES, checked_bytes, read_rgb
from training.data.files import layouts, own_splits, split_lists
from training.data.files.layouts import Layout
from training.data.files.own_splits import Found, Images, Split
from training.data.labels import classes, label_maps, masks
from training.data.spec import DatasetSpec, Example, Taxonomies

ENDS = ("_mask", "_masks", "_L", "_label", "_labels", "_labelIds", "_gtFine_labelIds", "_seg", "_gt")


def taxonomies(data_dir: Path | str | None, options: dict[str, Any]) -> Taxonomies:
    """The one taxonomy of the folder, by the name of its data set; UserError when classes.json is wrong."""
    del options
    folder = label_maps.data_folder("folder", data_dir, layouts.HOLDS)
    layout = layouts.layout(folder)
    found = _splits(folder, layout).splits
    first = next((path for split in found.values() for path in split.images.values()), None)
    header = checked_bytes(first)[2] if first else None
    size = (header.height, header.width) if header else (512, 512)
    name = layout.name or folder.resolve().name
    return {name: DatasetSpec(name, layout.table.names, layout.table.palette, tuple(found), size)}


def notes(data_dir: Path | str | None, options: dict[str, Any]) -> list[str]:
    """How the folder is read, where that is not plain: as whose export, and how its splits came about."""
    del options
    folder = label_maps.data_folder("folder", data_dir, layouts.HOLDS)
    layout = layouts.layout(folder)
    return [text for text in (layout.said, _splits(folder, layout).note) if text]


def examples(split: str, data_dir: Path | str | None, taxonomy: str) -> tuple[list[Example], list[str]]:
    """Every image of the split that has a mask, by name, and a sentence for each half without the other."""
    del taxonomy  # there is one
    folder = label_maps.data_folder("folder", data_dir, layouts.HOLDS)
    layout = layouts.layout(folder)
    chosen = _splits(folder, layout).splits[split]
    if not chosen.images:
        raise UserError(
            f"The folder {chosen.base} holds no images; {', '.join(IMAGE_SUFFIXES[:5])} are read."
        )
    painted, strangers = _files(chosen.masks, layout.mask_end, masks.SUFFIXES)
    wanted, problems = _wanted(chosen, layout)
    by_key = {split_lists.key(name): path for name, path in painted.items()}
    found = {name: by_key[split_lists.key(name)] for name in wanted if split_lists.key(name) in by_key} | {
        name.removesuffix(layout.image_end): mask
        for name, mask in chosen.named.items()
        if name.endswith(layout.image_end)
    }
    if not found:
        raise UserError(_no_pair(folder, chosen, layout, set(wanted), set(painted) | set(strangers)))
    for name in sorted(wanted.keys() - found.keys()):
        problems.append(_without_mask(wanted[name], chosen.masks / f"{name}{layout.mask_end}"))
    if not chosen.partial:  # a list leaves out what it likes
        keys = {split_lists.key(name) for name in wanted}
        for name in sorted(name for name in painted if split_lists.key(name) not in keys):
            problems.append(f"{painted[name]} has no image below {chosen.base}.")
    names = sorted(found)
    plain = [name.replace("/", "__") for name in names]
    safe = distinct(plain, plain)
    return [
        _pair(name, own, wanted[name], found[name], layout.table)
        for name, own in zip(names, safe, strict=True)
    ], problems


def _splits(folder: Path, layout: Layout) -> Found:
    """The splits that the folder has; UserError when there is no image in any of them."""
    found = _found(folder, layout)
    if not any(split.images for split in found.splits.values()):
        base = next((split.base for split in found.splits.values()), folder / layout.images)
        raise UserError(f"The folder {base} holds no images; {', '.join(IMAGE_SUFFIXES[:5])} are read.")
    return found


def _found(folder: Path, layout: Layout) -> Found:
    if "{split}" in layout.images:
        return own_splits.by_place(folder, layout.images, layout.masks, _reader(layout))
    base, truth = folder / layout.images, folder / layout.masks
    mask_files = functools.partial(_mask_files, end=layout.mask_end)
    places = [folder / place for place in layouts.LISTS]
    return own_splits.within(base, truth, places, _reader(layout), mask_files, layout.image_end)


def _reader(layout: Layout) -> Callable[[Path], Images]:
    """What lists the images below a folder; beside their masks, it leaves out what ends as these do."""
    one_place = layout.images == layout.masks and layout.mask_end

    def read(base: Path) -> Images:
        found, rest = _files(base, layout.mask_end if one_place else "", IMAGE_SUFFIXES)
        return rest if one_place else found

    return read


def _mask_files(folder: Path, end: str) -> Images:
    """Every mask by its name, with and without the end."""
    found, rest = _files(folder, end, masks.SUFFIXES)
    return {f"{name}{end}": path for name, path in found.items()} | rest | found


def _wanted(chosen: Split, layout: Layout) -> tuple[Images, list[str]]:
    """The images by the names that their masks share, and the problems of the split so far."""
    wanted, problems = {}, list(chosen.problems)
    for name, path in chosen.images.items():
        if name.endswith(layout.image_end):
            wanted[name.removesuffix(layout.image_end)] = path
        else:
            problems.append(
                f"{path} does not end in {layout.image_end}, as classes.json says that images do."
            )
    return wanted, problems


def _without_mask(image: Path, mask: Path) -> str:
    """The sentence on an image without `mask`, which is a path without its suffix."""
    for end in masks.LOSSY_SUFFIXES:
        if (lossy := mask.with_name(f"{mask.name}{end}")) != image and lossy.is_file():
            return f"{lossy} is a JPEG, and JPEG changes ids; export the masks as PNG."
    return f"{image} has no mask; {mask}.png is missing."


def _files(base: Path, end: str, suffixes: tuple[str, ...]) -> tuple[Images, Images]:
    """Files below `base` by their name without `end`, and those that do not end so. UserError on two of one name."""
    found: Images = {}
    others: Images = {}
    for whole, path in named_below(base, suffixes) if base.is_dir() else ():
        name = split_lists.without_suffix(whole)
        group, name = (found, name.removesuffix(end)) if name.endswith(end) else (others, name)
        if name in group:
            raise UserError(
                f"{group[name]} and {path} have one name, which is to tell images apart: rename one."
            )
        group[name] = path
    return found, others


def _pair(name: str, safe: str, image: Path, mask: Path, table: classes.Classes) -> Example:
    group, _, _ = name.rpartition("/")
    if table.colours is None:
        made = label_maps.pair(safe, image, mask, table=table.table, allowed=table.allowed)
    else:
        read = functools.partial(label_maps.read_colours, colours=table.colours, nearest=table.nearest)
        made = label_maps.pair(safe, image, mask, table=table.table, allowed=table.allowed, read=read)
        made = dataclasses.replace(made, raw=lambda: (read_rgb(image), masks.read_painted(mask)[0]))
    return dataclasses.replace(made, group=group, remarks=table.remarks)


def _no_pair(
    folder: Path, chosen: Split, layout: Layout, images: Collection[str], painted: Collection[str]
) -> str:
    """What to say when no image has a mask: mostly the masks' names end in something."""
    place, base = chosen.masks, chosen.base
    if not painted:
        lossy = masks.lossy_files(place) if place != base else ""
        return lossy or f"The folder {place} holds no PNG masks; --data folder reads {layouts.HOLDS}."
    for end in ENDS:
        if any(f"{name}{end}" in painted for name in images):
            return (
                f"No mask in {place} has the name of an image, but some end in {end}: "
                f'add "mask_end": "{end}" to {folder / "classes.json"}.'
            )
    return (
        f"No mask in {place} has the name of an image in {base} ({min(painted)} against {min(images)}): "
        'say in classes.json what their names end in, such as "image_end": "_leftImg8bit", "mask_end": "_labelIds".'
    )
