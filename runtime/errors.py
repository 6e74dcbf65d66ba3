"""The one kind of error a user sees: a sentence on stderr and exit code 2, never a traceback."""

import io
import sys
from collections.abc import Callable
from typing import Any

LITTLE_MEMORY = "there is not enough memory for this; end other programs, or take less at once."


class UserError(Exception):
    """Something the user can mend. The message is one clear sentence that names the file and the value
    and says what would be right."""


class WriteError(UserError):
    """What the disk did not take; `what` says so in a clause. `full`: it will not take the next file either, having no
    room or being read-only."""

    def __init__(self, what: str, full: bool = False) -> None:
        advice = (
            "; what was there before is whole: make room, then run the same command again" if full else ""
        )
        super().__init__(f"{what}{advice}.")
        self.what, self.full = what, full


def first_line(error: BaseException) -> str:
    """The first line of what a library says, without its full stop; the error's name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def exit_on_user_error(main: Callable[..., Any], *args: Any) -> int:
    """Run an entry point: 0 or its own code when it ends well, 2 on a UserError or when memory ends, 130 on Ctrl-C."""
    _print_any_name()
    try:
        return int(main(*args) or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except MemoryError:
        print(f"error: {LITTLE_MEMORY}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        return 130


def _print_any_name() -> None:
    r"""Let a console whose encoding lacks a letter, as Windows' cp1252 lacks Chinese, show it as \uXXXX: the command
    would end with a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
