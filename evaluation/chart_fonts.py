"""Letters that matplotlib's own font lacks, Chinese ones for instance, in the charts of a report.

A font that is installed and has them takes its place letter by letter. Where none has, the letter is written as Python
writes it, \\uXXXX, as it is on a console that lacks it: a box would tell nothing, and comes with a warning for each.
"""

import functools
from collections.abc import Sequence
from typing import Any

from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text

OWN = "DejaVu Sans"  # comes with matplotlib: Latin, Greek, Cyrillic and more
# What Linux distributions, Windows and macOS bring for other scripts, by name; those that are there are used in turn.
OTHERS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Source Han Sans SC",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Microsoft YaHei", "SimHei", "PingFang SC",
    "Hiragino Sans", "Yu Gothic", "Meiryo", "Malgun Gothic", "Apple SD Gothic Neo", "Noto Sans Arabic",
    "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", "Nirmala UI", "Leelawadee UI", "Segoe UI",
    "Arial Unicode MS", "Unifont",
)  # fmt: skip


@functools.cache
def families() -> tuple[str, ...]:
    """The fonts to draw with, in the order in which they are asked for a letter."""
    there = set(font_manager.get_font_names())
    return (OWN, *(name for name in OTHERS if name in there))


@functools.cache
def _letters() -> frozenset[int]:
    """Every letter that one of the families has, as a code point."""
    found: set[int] = set()
    for name in families():
        path = font_manager.findfont(font_manager.FontProperties(family=name))
        found |= font_manager.get_font(path).get_charmap().keys()
    return frozenset(found)


def drawable(text: str) -> str:
    """The text, with what no font here has as \\uXXXX. Line breaks stay."""
    known = _letters()
    shown = (
        letter
        if ord(letter) in known or letter == "\n"
        else letter.encode("ascii", "backslashreplace").decode()
        for letter in text
    )
    return "".join(shown)


def all_drawable(names: Sequence[str]) -> list[str]:
    """`drawable` of each."""
    return [drawable(name) for name in names]


def save(figure: Figure, place: Any, **how: Any) -> None:
    """`figure.savefig`, in `families`; ticks get their text as late as that. No global setting stays changed."""
    with rc_context({"font.family": list(families())}):
        for text in figure.findobj(Text):
            text.set_fontfamily(list(families()))
        figure.savefig(place, **how)
