"""A visitor's video, segmented in a process of its own: `runtime.video` behind `runtime.confined`.

    python -m runtime.confined_video JOB.json

JOB.json is what `segment_safely` writes. A line of output is what there is to say of the progress.
"""

import functools
import json
import secrets
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from runtime import confined, strict_json
from runtime.errors import UserError, exit_on_user_error
from runtime.segmenter import Segmenter
from runtime.video import checked_video, segment_video

# A frame of 9 megapixels, decoded, segmented, drawn and encoded, takes some 0.4 GB.
BOUNDS = confined.Bounds(megabytes=2048, seconds=900, silence=60)
AT_ONCE = threading.BoundedSemaphore(2)  # further visitors wait their turn


class Made(NamedTuple):
    """The overlay as WebM, the report as JSON, and the report."""

    video: bytes
    report: bytes
    facts: dict[str, Any]


def segment_safely(
    model: Path,
    data: bytes,
    name: str,
    options: dict[str, Any],
    say: Callable[[str], bool | None],
    bounds: confined.Bounds = BOUNDS,
) -> Made:
    """Segment a video of these bytes, called `name`; all is on a disk that is emptied before this returns.

    `options` are most_frames and most_pixels, as `checked_film` has them, and what else `segment_video` takes, such as
    opacity, smooth and palette. When `say` returns True, the video ends there and is whole.
    UserError when it is no video, too large or too long, or when it passes a bound.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source, job = folder / secrets.token_hex(16), folder / "job.json"
        video, report = folder / "out.webm", folder / "out.json"
        source.write_bytes(data)
        facts = {"model": str(model.absolute()), "source": str(source), "name": name, "film": str(video)}
        job.write_text(json.dumps({**facts, "report": str(report), "options": options}), encoding="utf-8")
        with AT_ONCE:
            confined.run("runtime.confined_video", [str(job)], name, bounds, say)
        found = strict_json.read(report)
        found["video"] = name
        return Made(video.read_bytes(), strict_json.written(found), found)


def main(arguments: list[str]) -> int:
    job = strict_json.read(Path(arguments[0]))
    source, name, options = Path(job["source"]), job["name"], job["options"]
    most_frames = options.pop("most_frames")
    checked_video(source, name, most_frames, options.pop("most_pixels"))
    segmenter = Segmenter(job["model"]).warm_up()
    places = (source, Path(job["film"]), Path(job["report"]))
    say = functools.partial(print, flush=True)
    try:
        segment_video(segmenter, *places, progress=say, most_frames=most_frames, **options)
    except UserError as error:
        raise UserError(str(error).replace(str(source), name)) from error
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main, sys.argv[1:]))
