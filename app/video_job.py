"""A video's segmentation beside the page: it goes on while controls are touched, tells how far it is, and can stop."""

import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.confined_video import Made, segment_safely
from runtime.errors import UserError

FRAME = re.compile(r"frame (\d+)/(\d+)")
PATIENCE = 120.0  # seconds that a job goes on without anybody who looks at it


@dataclass
class Job:
    """`key` says of what it is; `line` how far it is, in words, and `share` in 0..1; `made` or `error` is the end."""

    key: tuple[Any, ...]
    line: str = "Starting"
    share: float = 0.0
    stop: bool = False
    made: Made | None = None
    error: str = ""
    seen: float = field(default_factory=time.monotonic)

    @property
    def running(self) -> bool:
        """Whether its end is yet to come."""
        return self.made is None and not self.error


def start(key: tuple[Any, ...], model: Path, data: bytes, name: str, options: dict[str, Any]) -> Job:
    """Begin to segment the video of these bytes; `options` as `runtime.confined_video.segment_safely` takes them."""
    job = Job(key)

    def say(line: str) -> bool:
        job.line = line
        if found := FRAME.match(line):
            job.share = min(1.0, int(found[1]) / int(found[2]))
        return job.stop or time.monotonic() - job.seen > PATIENCE

    def work() -> None:
        try:
            job.made = segment_safely(model, data, name, options, say)
        except UserError as error:
            job.error = str(error)
        except Exception:  # the log has it; whoever waits must not wait for ever
            job.error = f"{name} could not be segmented; try another file."
            raise

    threading.Thread(target=work, daemon=True).start()
    return job
