"""What a data folder holds: its files by name, its split lists, and which images have label maps.

Nothing is decoded here. Each problem of a pair is one sentence that names the file; a folder or a list that cannot
be used at all is a UserError.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from runtime.errors import UserError
from runtime.folders import leftover
from training.data.files import split_lists as text_lists
from training.data.labels.label_maps import ReadIds, pair, read_ids
from training.data.spec import Example


def inside(folder: Path, places: tuple[str, ...], holds: str) -> Path:
    """The first of `places` below the folder that has a folder called `holds`; UserError when none has.

    So --data-dir may name what an archive unpacks to, or the folder that it was unpacked in.
    """
    for place in places:
        if (folder / place / holds).is_dir():
            return folder / place
    raise UserError(f"The folder {folder / places[-1] / holds} does not exist; check --data-dir.")


def files(folder: Path, suffix: str = ".png", end: str = "") -> dict[str, Path]:
    """Name, without `end` and suffix, to path of every such file right inside a folder.

    UserError when the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise UserError(f"The folder {folder} does not exist; check --data-dir and the split.")
    names: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() == suffix and path.stem.endswith(end) and not leftover(path.name):
            name = path.stem.removesuffix(end)
            if name in names:  # a.png and a.PNG
                raise UserError(
                    f"{names[name]} and {path} have one name, which tells images apart: rename one."
                )
            names[name] = path
    if not names:
        kind = suffix[1:].upper()
        raise UserError(
            f"The folder {folder} holds no {end + ' ' if end else ''}{kind} files; check --data-dir and the split."
        )
    return names


def split_lists(paths: dict[str, Path]) -> dict[str, list[str]]:
    """Split to the names in its text file: the first word of each line, without folder and suffix.

    UserError when a file cannot be read or is empty, or when two splits share an image.
    """
    lists = {}
    for split, path in paths.items():
        words = (line.words[0].replace("\\", "/") for line in text_lists.lines(path))
        lists[split] = list(dict.fromkeys(text_lists.without_suffix(Path(word).name) for word in words))
    seen: dict[str, str] = {}
    for split, names in lists.items():
        for name in names:
            if seen.setdefault(name, split) != split:
                raise UserError(
                    f"{name} is in both {paths[seen[name]]} and {paths[split]}; splits must not share images."
                )
    return lists


def pairs(
    images: dict[str, Path],
    annotations: dict[str, Path],
    *,
    table: np.ndarray,
    allowed: frozenset[int],
    read: ReadIds = read_ids,
    group: Callable[[str], str] = lambda name: "",
) -> tuple[list[Example], list[str]]:
    """The Examples of the names that are in both, and a sentence for each file that lacks its other half.

    What is read and how: see `labels.pair`; `group(name)` is what neighbouring images share.
    """
    if not images or not annotations:
        raise UserError("There are no images with label maps of this split; check --data-dir and the split.")
    found = [
        pair(
            *(name, images[name], annotations[name]),
            table=table,
            allowed=allowed,
            read=read,
            group=group(name),
        )
        for name in sorted(images.keys() & annotations.keys())
    ]
    halves = ((images, annotations, "label map"), (annotations, images, "image"))
    problems = [
        f"{mine[name]} has no {other} in {next(iter(theirs.values())).parent}."
        for mine, theirs, other in halves
        for name in sorted(mine.keys() - theirs.keys())
    ]
    return found, problems
