"""The splits that a folder of images and masks has itself: by lists, by folders, and what is in neither.

What a list or a folder says stays as it is. Where train is not said, what is in none of them is train; where val is not
said and train is listed, it is val. `test` alone leaves the rest to be divided by ratio and seed.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from runtime.errors import UserError
from runtime.folders import leftover
from training.data.files import random_splits, split_lists

ALL = "all"  # the one split of a folder that has none
UNSPLIT = "default"  # what CVAT calls the one split of a task without any

Images = dict[str, Path]  # name below its folder, with folders and without suffix -> file


class Split(NamedTuple):
    """What is in a split: `images` by name, the folder `base` that their names begin in and that of their `masks`,
    masks that a list names itself, sentences on what is wrong, and whether masks may be left over."""

    images: Images
    base: Path
    masks: Path
    named: Images = {}
    problems: tuple[str, ...] = ()
    partial: bool = False


class Found(NamedTuple):
    """Every split by our name, and a sentence on how it came about, "" where there is nothing to say."""

    splits: dict[str, Split]
    note: str = ""


Read = Callable[[Path], Images]  # the images below a folder, by name


def by_place(folder: Path, images: str, masks: str, read: Read) -> Found:
    """The splits of a layout such as {split}/images and {split}/masks, whose folders are found by what they mean."""
    places, theirs = _places(folder, images), _places(folder, masks)
    if not places:
        raise UserError(
            f"{folder} has no {images} with a split's name, such as {images.format(split='train')} and "
            f"{images.format(split='val')}."
        )
    found = {}
    for split, place in places.items():
        found[split] = Split(read(place), place, theirs.get(split, folder / masks.format(split=split)))
    return Found(found)


def within(
    base: Path, masks: Path, places: Sequence[Path], read: Read, mask_files: Read, end: str = ""
) -> Found:
    """The splits of one folder of images and one of masks, by lists in the first of `places` that has any, else by
    folders, else none.

    `mask_files(folder)` are all masks below it, by name. `end` is that of the images' names; a list may leave it out.
    """
    listed = next((found for place in places if (found := _named(_lists(place), "lists"))), {})
    folders = _named(_folders(base), "folders")
    if listed:
        return _by_lists(listed, base, masks, read(base), mask_files(masks), end)
    if folders:
        return _by_folders(folders, base, masks, read)
    return Found({ALL: Split(read(base), base, masks)})


def _places(folder: Path, pattern: str) -> dict[str, Path]:
    """Our split name -> the folder that a pattern such as images/{split} or {split}annot means for it."""
    before, _, after = pattern.partition("{split}")
    above, start = folder / before.rpartition("/")[0], before.rpartition("/")[2]
    end, _, rest = after.partition("/")
    words = {}
    for path in _folders(above):
        word = path.name.removeprefix(start).removesuffix(end)
        if path.name == f"{start}{word}{end}" and (path / rest).is_dir():
            words[word] = path / rest
    ours = random_splits.one_each(list(words), f"folders in {above},", "merge them, or rename one")
    whole = next((word for word in words if word.casefold() == UNSPLIT), None)
    if not ours and whole is not None:
        return {ALL: words[whole]}
    return {split: words[word] for split, word in ours.items()}


def _lists(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.glob("*.txt")) if path.is_file() and not leftover(path.name)]


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not leftover(path.name))


def _named(paths: list[Path], kind: str) -> dict[str, Path]:
    """Our split name -> the path of that meaning."""
    words = {path.name.removesuffix(".txt"): path for path in paths}
    where = paths[0].parent if paths else ""
    ours = random_splits.one_each(list(words), f"{kind} in {where},", "merge them, or rename one")
    return {split: words[word] for split, word in ours.items()}


def _by_folders(folders: Mapping[str, Path], base: Path, masks: Path, read: Read) -> Found:
    theirs = _named(_folders(masks), "folders")
    found = {}
    for split, path in folders.items():
        there = theirs.get(split, masks / path.name)
        found[split] = Split(read(path), path, there)
    held = {path.name for path in folders.values()}
    rest = {name: path for name, path in read(base).items() if path.relative_to(base).parts[0] not in held}
    if not rest:
        return Found(found)
    shown = _counted(
        {path.name: len(found[split].images) for split, path in folders.items()}, "holds", "hold"
    )
    shown = f"Below {base} {shown}"
    if "train" not in found:
        found["train"] = Split(rest, base, masks, partial=True)
        return Found(_ordered(found), f"{shown}; the {_what(found, len(rest), 'in no folder of a split')}.")
    loose = [path for path in rest.values() if path.parent == base]
    problems = tuple(f"{path} is in no split; move it into {folders['train']}, say." for path in loose)
    left = len(rest) - len(loose)
    note = f"{shown}; the {left} in other folders are left out." if left else ""
    return Found({split: part._replace(problems=problems) for split, part in found.items()}, note)


def _by_lists(
    listed: Mapping[str, Path], base: Path, masks: Path, images: Images, mask_files: Images, end: str
) -> Found:
    known = {split_lists.key(name.removesuffix(end)): name for name in images} | {
        split_lists.key(name): name for name in images
    }
    found = {}
    for split, path in listed.items():
        found[split] = _listed(path, base, masks, images, known, mask_files)
    random_splits.refuse_overlap({split: list(part.images) for split, part in found.items()})
    taken = {name for part in found.values() for name in part.images}
    rest = {name: path for name, path in images.items() if name not in taken}
    shown = _counted({listed[split].name: len(part.images) for split, part in found.items()}, "lists", "list")
    if rest and "train" not in found:
        found["train"] = Split(rest, base, masks, partial=True)
        return Found(_ordered(found), f"{shown}; the {_what(found, len(rest), 'that no list names')}.")
    if rest and "val" not in found:
        with_masks = {name: path for name, path in rest.items() if split_lists.key(name) in _keys(mask_files)}
        if with_masks:
            found["val"] = Split(with_masks, base, masks, partial=True)
            return Found(_ordered(found), f"{shown}; the {len(with_masks)} that no list names are val.")
    left = f"{shown}; the {len(rest)} that no list names are left out." if rest else ""
    return Found(found, left)


def _keys(files: Images) -> set[str]:
    return {split_lists.key(name) for name in files}


def _ordered(found: dict[str, Split]) -> dict[str, Split]:
    return {name: found[name] for name in random_splits.NAMES if name in found}


def _what(found: Mapping[str, Split], count: int, where: str) -> str:
    """ "30 that no list names are train", or that they are divided."""
    return f"{count} {where} {'are train' if 'val' in found else 'are divided into train and val'}"


def _counted(counts: Mapping[str, int], one: str, several: str) -> str:
    """{"val.txt": 10} -> "val.txt lists 10 images"; with two, "val.txt and test.txt list 10 and 5 images"."""
    numbers = [str(count) for count in counts.values()]
    images = "image" if numbers == ["1"] else "images"
    return f"{_and(list(counts))} {one if len(counts) == 1 else several} {_and(numbers)} {images}"


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _listed(
    path: Path, base: Path, masks: Path, images: Images, known: Mapping[str, str], mask_files: Images
) -> Split:
    """The split that a list names, in its order, each image once."""
    masks_known = {split_lists.key(name): file for name, file in mask_files.items()}
    chosen: Images = {}
    named: Images = {}
    problems = []
    for line in split_lists.lines(path):
        name, whole = _match(line, base, known)
        if name is None:
            problems.append(_names_nothing(path, line, base, images))
            continue
        chosen.setdefault(name, images[name])
        word = line.words[1] if not whole and len(line.words) > 1 else ""
        if not _is_path(word):
            continue
        beside = [path.parent / word, masks.parent / word]
        mask = next(
            (
                masks_known[key]
                for key in map(split_lists.key, split_lists.below(word, masks))
                if key in masks_known
            ),
            None,
        )
        mask = mask or next((file for file in beside if file.is_file()), None)
        if mask is None:
            problems.append(
                f"Line {line.number} of {path} names the mask {word}, which is not there below {masks}."
            )
        else:
            named[name] = mask
    if not chosen:
        raise UserError(problems[0])
    return Split(chosen, base, masks, named, tuple(problems), partial=True)


def _match(line: split_lists.Line, base: Path, known: Mapping[str, str]) -> tuple[str | None, bool]:
    """The image that a line names, and whether all of the line is its name."""
    for text in (line.text, line.words[0]):
        for name in split_lists.below(text, base):
            if split_lists.key(name) in known:
                return known[split_lists.key(name)], text is line.text
    return None, False


def _is_path(word: str) -> bool:
    return "/" in word or "\\" in word or split_lists.without_suffix(word) != word


def _names_nothing(path: Path, line: split_lists.Line, base: Path, images: Images) -> str:
    last = split_lists.without_suffix(line.words[0].replace("\\", "/").rpartition("/")[2])
    near = next((name for name in images if name.rpartition("/")[2] == last), next(iter(images)))
    return f"Line {line.number} of {path} names {line.words[0]}, which is not below {base}; {near} would be right."
