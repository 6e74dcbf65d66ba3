"""Lists that say which images a split has, one a line, as people and other programs write them.

A line is a path or a name, with or without its suffix: below the folder of the images, from a folder further up
(./images/x.png, yard\\images\\x.png) or absolute, of this machine or another; in quotes or not; alone or with its mask
behind it, as VOC's and mmsegmentation's lists have it. Blank lines count for nothing.
"""

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from runtime.errors import UserError
from runtime.folders import read_text
from runtime.image import IMAGE_SUFFIXES

# A word in quotes, or anything up to a blank, a comma or a semicolon.
WORD = re.compile(r'"([^"]*)"|\'([^\']*)\'|([^\s,;]+)')


class Line(NamedTuple):
    """`text` is all of it, without blanks around it and without quotes; `words` are its parts."""

    number: int
    text: str
    words: tuple[str, ...]


def lines(path: Path) -> list[Line]:
    """The lines that are not blank; UserError when the list cannot be read or is empty."""
    try:
        texts = read_text(path).splitlines()
    except OSError as error:
        raise UserError(
            f"The list {path} cannot be read: {error.strerror or error}; it has to name an image a line."
        ) from error
    except ValueError as error:
        raise UserError(
            f"The list {path} cannot be read; it has to be UTF-8 text, an image a line."
        ) from error
    found = []
    for number, text in enumerate(texts, 1):
        words = tuple("".join(parts) for parts in WORD.findall(text))
        if words:
            found.append(Line(number, words[0] if len(words) == 1 else text.strip(), words))
    if not found:
        raise UserError(f"The list {path} is empty; it has to name an image a line.")
    return found


def key(name: str) -> str:
    """What two spellings of one name share: macOS takes a letter and its accent apart, and in an ASCII locale Python
    reads the name of a file as bytes."""
    if name.isascii():
        return name
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return unicodedata.normalize("NFC", text)


def without_suffix(name: str) -> str:
    """A name without the suffix of an image; any other dot stays."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def below(word: str, base: Path) -> Iterator[str]:
    """The names below the folder `base` that a list's word may mean, the most literal first."""
    text = word.replace("\\", "/")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    absolute = os.path.isabs(text)
    if not absolute:
        yield without_suffix("/".join(parts))
    else:
        inside = os.path.relpath(os.path.realpath(text), os.path.realpath(base))
        if not inside.startswith(".."):
            yield without_suffix(inside.replace(os.sep, "/"))
    for place, part in enumerate(parts[:-1], 1):
        if part == base.name:  # the folder as it was called where the list was written
            yield without_suffix("/".join(parts[place:]))
