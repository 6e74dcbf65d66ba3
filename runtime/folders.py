"""Folders as people have them: linked subfolders, what systems leave beside the files, two files of one stem, text
with a byte-order mark."""

import codecs
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

from runtime.errors import UserError

# What macOS, Windows and network drives leave behind; so are names that begin with a dot (._a.png, .DS_Store).
LEFTOVERS = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"})
MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # PowerShell's > writes UTF-16


def leftover(name: str) -> bool:
    """Whether a file or folder of this name was left by a system and put there by nobody."""
    return name.startswith(".") or name.casefold() in LEFTOVERS


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Every file below the folder with one of the suffixes (lower case, with the dot), in the order of the paths.

    Linked folders are followed, save for a link back to a folder that it lies in, which would have no end. UserError
    when a folder cannot be read.
    """
    return [path for _, path in named_below(folder, suffixes)]


def named_below(folder: Path, suffixes: Collection[str]) -> list[tuple[str, Path]]:
    """The same with each file's name below the folder, "sub/a.png"."""
    return list(_below(folder, "", tuple(suffixes), ()))


def _below(
    folder: Path, name: str, suffixes: tuple[str, ...], above: tuple[str, ...]
) -> Iterator[tuple[str, Path]]:
    here = os.path.realpath(folder)
    if here in above:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be read: {error.strerror or error}.") from error
    for entry in entries:  # by name, folders in their place: the order of the paths, without comparing paths
        if leftover(entry.name):
            continue
        path = folder / entry.name
        if path.is_dir() if entry.is_symlink() else entry.is_dir():
            yield from _below(path, f"{name}{entry.name}/", suffixes, (*above, here))
        elif entry.name.lower().endswith(suffixes) and (entry.is_symlink() or entry.is_file()):
            yield f"{name}{entry.name}", path  # a link to nowhere too: who reads it says so


def read_text(path: Path) -> str:
    """A text that somebody wrote: UTF-8 with or without a byte-order mark, or UTF-16 with one, whatever the locale.

    Raises OSError, and UnicodeDecodeError (a ValueError) when it is in another encoding.
    """
    data = path.read_bytes()
    return data.decode("utf-16" if data.startswith(MARKS) else "utf-8-sig")


def distinct(
    wanted: Sequence[str], longer: Sequence[str], ends: Iterable[str] = ("",), taken: Iterable[str] = ()
) -> list[str]:
    """A name for each, no two the same: the one wanted, where nobody else wants it; else the longer one; else that with
    _2, _3, ... behind.

    Each name plus any of `ends` is a file: none of them is another's, nor in `taken`, with upper and lower case alike,
    as on Windows and macOS.
    """
    ends, used = tuple(ends), {name.casefold() for name in taken}

    def free(name: str) -> bool:
        return not any(f"{name}{end}".casefold() in used for end in ends)

    def take(name: str) -> str:
        used.update(f"{name}{end}".casefold() for end in ends)
        return name

    count = Counter(f"{name}{end}".casefold() for name in wanted for end in ends)
    alone = [free(name) and all(count[f"{name}{end}".casefold()] == 1 for end in ends) for name in wanted]
    found = [take(name) if keeps else "" for name, keeps in zip(wanted, alone, strict=True)]
    for place, name in enumerate(longer):
        if not alone[place]:
            found[place] = take(_numbered(name, free))
    return found


def _numbered(name: str, free: Callable[[str], bool]) -> str:
    number, own = 1, name
    while not free(own):
        number += 1
        own = f"{name}_{number}"
    return own
