"""Names of classes: what they may be, how strangers' are mended, and how some are named on a command line."""

import unicodedata
from collections.abc import Sequence

from runtime.errors import UserError

MOST_CLASSES = 255  # ids are bytes, and 255 is void


def check_names(names: Sequence[str]) -> None:
    """ValueError, naming the name, unless each can be a line of labels.txt, is there once, and all fit into a byte."""
    check_number(len(names))
    for place, name in enumerate(names):
        if not name.strip():
            raise ValueError(f"the name of class {place} is empty")
        if any(map(_breaks_lines, name)):
            raise ValueError(
                f"the name of class {place}, {name!r}, holds a line break or another control character"
            )
    twice = (
        next((name for name in names if names.count(name) > 1), None) if len({*names}) < len(names) else None
    )
    if twice is not None:
        raise ValueError(f"the class {twice!r} is there twice")


def check_number(classes: int) -> None:
    """ValueError where there are more classes than ids of 8 bits can hold beside void."""
    if classes > MOST_CLASSES:
        raise ValueError(
            f"there are {classes} classes, and ids of 8 bits, of which 255 is void, hold up to {MOST_CLASSES}"
        )


def mended(names: Sequence[str]) -> tuple[str, ...]:
    """Names that come with a stranger's checkpoint, made such as `check_names` takes: control characters become spaces,
    an empty name its number, and one that is there before gets a number behind it."""
    found: dict[str, None] = {}
    for place, name in enumerate(names):
        plain = " ".join("".join(" " if _breaks_lines(letter) else letter for letter in name).split())
        plain = plain or f"class {place}"
        unique, number = plain, 2
        while unique in found:
            unique, number = f"{plain} ({number})", number + 1
        found[unique] = None
    return tuple(found)


def chosen(text: str, labels: Sequence[str], option: str) -> list[str]:
    """The names in a list such as "car,person". A name with commas in it is taken as it stands: of several ways to read
    the list, the one with the longest names. UserError names what is none of `labels`."""
    parts, found, at = text.split(","), [], 0
    while at < len(parts):
        ends = (end for end in range(len(parts), at, -1) if ",".join(parts[at:end]).strip() in labels)
        end = next(ends, None)
        if end is None:
            raise UserError(
                f"{option} {parts[at].strip()!r} is no class of the model; choose from {', '.join(labels)}."
            )
        found.append(",".join(parts[at:end]).strip())
        at = end
    return found


def _breaks_lines(letter: str) -> bool:
    """Control characters, line and paragraph separators, halves of surrogate pairs."""
    return unicodedata.category(letter) in ("Cc", "Zl", "Zp", "Cs")
