"""A stranger's file in a process of its own, with bounds on memory and time: what breaks there breaks nothing here.

    python -m runtime.confined MEGABYTES SECONDS MODULE ARGUMENTS...

sets the bounds and runs MODULE; `run` starts that and waits for it. Bounded are writable memory (of Linux; other
systems keep it less strictly or not at all), time on a processor, and the size of a file that it writes.
"""

import os
import queue
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from runtime.errors import LITTLE_MEMORY, UserError, exit_on_user_error

try:
    import resource
except ImportError:  # Windows has none: there the time is bounded, and the memory is not
    resource = None  # type: ignore[assignment]

MOST_FILE = 4 * 10**9  # bytes of one written file
ROOT = Path(__file__).parents[1]


class Bounds(NamedTuple):
    """What a child may take: `megabytes` of memory, `seconds` of all, and of `silence` between two lines of its
    output."""

    megabytes: int
    seconds: float
    silence: float


def run(
    module: str,
    arguments: Sequence[str],
    shown: str,
    bounds: Bounds,
    say: Callable[[str], bool | None] = lambda line: None,
) -> list[str]:
    """The lines that `python -m MODULE ARGUMENTS` printed, each handed to `say` as it comes; when that returns True,
    the child is asked to end (SIGTERM), and what it makes of that is its result.

    UserError with its own sentence where it ended with one, and else one about `shown`, the file, when it crashed or
    passed a bound. However this ends, the child has ended.
    """
    command = [sys.executable, "-m", "runtime.confined", str(bounds.megabytes), str(bounds.seconds), module]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
        )
        try:
            lines = _lines(child, bounds, shown, say)
            code = child.wait(timeout=bounds.silence)
        except subprocess.TimeoutExpired:
            raise UserError(_refusal(shown, "did not end")) from None
        finally:
            child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()
        if code:
            raise UserError(_reason(code, errors, shown, bounds))
    return lines


def _lines(
    child: "subprocess.Popen[bytes]", bounds: Bounds, shown: str, say: Callable[[str], bool | None]
) -> list[str]:
    """What the child prints until it closes its output; UserError when it is silent or runs for too long."""
    coming: queue.Queue[bytes | None] = queue.Queue()

    def read(output: IO[bytes]) -> None:
        try:
            for line in output:
                coming.put(line)
        except ValueError:
            pass  # closed from the other thread
        coming.put(None)

    assert child.stdout
    threading.Thread(target=read, args=(child.stdout,), daemon=True).start()
    until = time.monotonic() + bounds.seconds
    lines: list[str] = []
    asked = False  # a second SIGTERM would end it without its result
    while True:
        left = until - time.monotonic()
        try:
            line = coming.get(timeout=max(0.0, min(left, bounds.silence)))
        except queue.Empty:
            limit = bounds.seconds if left <= bounds.silence else bounds.silence
            raise UserError(_refusal(shown, f"took longer than {limit:g} s")) from None
        if line is None:
            return lines
        lines.append(line.decode("utf-8", "replace").rstrip("\r\n"))
        if say(lines[-1]) and not asked:
            asked = True
            child.terminate()


def _reason(code: int, errors: IO[bytes], shown: str, bounds: Bounds) -> str:
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - 20_000))
    told = errors.read().decode("utf-8", "replace").splitlines()
    sentence = next((line for line in reversed(told) if line.startswith("error: ")), None)
    if code == 2 and sentence and not sentence.endswith(LITTLE_MEMORY):
        return sentence.removeprefix("error: ")
    if sentence or any(
        "MemoryError" in line or "std::bad_alloc" in line or "Insufficient memory" in line for line in told
    ):
        return _refusal(shown, f"needed more than {bounds.megabytes} MB of memory")
    why = f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
    return _refusal(shown, why)


def _refusal(shown: str, why: str) -> str:
    return f"{shown} cannot be read: the process that was given it {why}; the file is damaged, or made to do harm."


def confine(megabytes: int, seconds: float) -> None:
    """Bound this very process, for good."""
    if resource is None:
        return
    limits = {
        resource.RLIMIT_DATA: megabytes * 2**20,
        resource.RLIMIT_CPU: int(seconds) * 4
        + 1,  # several threads run at once; the parent looks at the clock
        resource.RLIMIT_FSIZE: MOST_FILE,
        resource.RLIMIT_CORE: 0,
    }
    for which, most in limits.items():
        hard = resource.getrlimit(which)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (most, most))


def main() -> int:
    megabytes, seconds, module = sys.argv[1:4]
    confine(int(megabytes), float(seconds))
    sys.argv = [module, *sys.argv[4:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
