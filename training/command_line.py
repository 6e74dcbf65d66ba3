"""What every command of training and export reads its words with: sizes, NAME=VALUE, errors of one sentence."""

import argparse
import re
from typing import Any

from runtime.errors import UserError


def size(text: str, option: str = "size") -> tuple[int, int]:
    """HxW -> (height, width) in pixels."""
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text.strip().lower())
    if not found:
        raise UserError(f"{option} {text} is not HEIGHTxWIDTH in pixels, such as 320x480")
    return int(found[1]), int(found[2])


def setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE -> (name, value): a number, true or false, a tuple written 3,6,9 or (), or text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"'{text}' is not NAME=VALUE, such as rates=3,6,9,12")
    if value == "()":
        return name, ()
    parts = [_parsed(part) for part in value.split(",")]
    return name, tuple(parts) if len(parts) > 1 else parts[0]


def _parsed(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    if "x" in text and text.replace("x", "").isdigit():
        return size(text)
    return {"true": True, "false": False}.get(text.lower(), text)


class Parser(argparse.ArgumentParser):
    """argparse, with one sentence on stderr instead of the usage text."""

    def error(self, message: str) -> Any:
        raise UserError(f"{message}; see --help")


def add_option(section: argparse._ActionsContainer, flag: str, *, former: str = "", **said: Any) -> None:
    """`section.add_argument`, with a `former` name of the flag that works for one version more and is not shown."""
    made = section.add_argument(flag, **said)
    if former:
        section.add_argument(former, **{**said, "dest": made.dest, "help": argparse.SUPPRESS})


def add_data_option(section: argparse._ActionsContainer) -> None:
    """--data-option NAME=VALUE ...: `data_options`, a list of pairs."""
    form = {"metavar": "NAME=VALUE", "nargs": "+", "type": setting, "default": []}
    add_option(
        section,
        "--data-option",
        former="--data-set",
        dest="data_options",
        help="options of the data set",
        **form,
    )
