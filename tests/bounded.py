"""A call in a child process with bounds on time and memory: what it says, or how it ended."""

import json
import os
import resource
import select
import signal
import traceback
from collections.abc import Callable
from typing import Any

from runtime.errors import UserError

SECONDS, MEMORY = 10, 2_000_000_000  # of processor time, and bytes beyond what the process has already


def bounded(call: Callable[[], Any], seconds: int = SECONDS, memory: int = MEMORY) -> tuple[str, str]:
    """("fine", ""), ("refused", the sentence), ("raised", the traceback), or ("ended", how)."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        with os.fdopen(writing, "w", encoding="utf-8") as told:
            told.write(json.dumps(_told(call, seconds, memory)))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as answer:
        # Of the wall's time there is more: other work may run beside it.
        ready, _, _ = select.select([answer], [], [], 6 * seconds)
        if not ready:
            os.kill(child, signal.SIGKILL)
        text = answer.read()
    _, status = os.waitpid(child, 0)
    return tuple(json.loads(text)) if text else ("ended", f"status {status}")


def _told(call: Callable[[], Any], seconds: int, memory: int) -> tuple[str, str]:
    with open("/proc/self/statm", encoding="ascii") as file:
        has = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + memory, has + memory))
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(used.ru_utime + used.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, spent + seconds))
    try:
        call()
    except UserError as error:
        return "refused", str(error)
    except BaseException:
        return "raised", traceback.format_exc()
    return "fine", ""
