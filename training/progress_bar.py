"""One live line for long work: rate, time left, and what else is worth seeing. tqdm does the drawing."""

import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm


def bar(
    total: int | None, unit: str, done: int = 0, quiet_seconds: float = 30.0, hidden: bool = False
) -> Any:
    """A tqdm bar on stderr: live in a terminal, a line every `quiet_seconds` in a log file."""
    live = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=done,
        unit=unit,
        mininterval=0.5 if live else quiet_seconds,
        dynamic_ncols=live,
        ascii=not live,
        disable=hidden,
    )


def counter(what: str) -> Callable[[int, int], None]:
    """A function (done, total) that draws `what` as a bar and ends it when all is done."""
    bars: list[Any] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(bar(total, "file"))
            bars[0].set_description(what)
        bars[0].update(done - bars[0].n)
        if done >= total:
            bars.pop().close()

    return show
