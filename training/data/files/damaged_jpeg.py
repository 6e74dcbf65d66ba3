"""JPEG files whose data are ruined though their beginning and end are whole (zeros over the tail, a piece cut out).

libjpeg decodes them all the same: what is missing comes out grey or as garbage, and all that tells is a warning on
stderr, which nobody reads in a run that trains for hours. No decoder at hand can be told to be strict. So the warnings
are listened to while all files are read; only if there was one, files are read again one by one to find whose it is.
"""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from runtime.errors import UserError
from training.data.spec import Example

WARNING = re.compile(rb"^((?:Corrupt JPEG data|Premature end of JPEG).*)\n", re.MULTILINE)
# A few bytes that nobody reads between the last pixel and the end: some cameras pad so, and nothing is lost.
PADDED = re.compile(rb"Corrupt JPEG data: (\d{1,2}) extraneous bytes before marker 0xd9")


@contextmanager
def heard() -> Iterator[Callable[[], list[str]]]:
    """Inside the block, what libraries write to stderr is held back; the function gives libjpeg's warnings of ruin so
    far. Python's own stderr (progress, say) goes on, and at the end so does what is no such warning."""
    sys.stderr.flush()
    kept, python = os.dup(2), sys.stderr
    own = _leads_to_2(python)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        if own:
            sys.stderr = os.fdopen(
                os.dup(kept), "w", buffering=1, encoding=python.encoding, errors="backslashreplace"
            )
        try:
            yield lambda: _warnings(_text(held.fileno()))
        finally:
            if own:
                sys.stderr.close()
                sys.stderr = python
            os.dup2(kept, 2)
            if rest := WARNING.sub(b"", _text(held.fileno())):
                os.write(2, rest)
            os.close(kept)


def found(examples: Sequence[Example]) -> dict[int, str]:
    """Which of the examples are ruined, as a sentence each, by their places; every file is read for that."""
    problems: dict[int, str] = {}
    with heard() as warnings:
        before = 0
        for place, example in enumerate(examples):
            try:
                example.read()
            except UserError:
                continue  # said already
            said = warnings()
            if len(said) > before:
                reason = said[-1].removeprefix("Corrupt JPEG data: ")
                problems[place] = (
                    f"{example.place or example.name} is a damaged JPEG file, though its end is there ({reason}); "
                    "copy or export it again."
                )
            before = len(said)
    return problems


def _leads_to_2(stream: object) -> bool:
    try:
        return stream.fileno() == 2  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):  # a stream in memory
        return False


def _text(held: int) -> bytes:
    return os.pread(held, os.fstat(held).st_size, 0)


def _warnings(text: bytes) -> list[str]:
    return [line.decode(errors="replace") for line in WARNING.findall(text) if not PADDED.match(line)]
