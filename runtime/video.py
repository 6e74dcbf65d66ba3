"""A video in, the same video tinted by class out, and a JSON of what was seen.

Read and written by OpenCV (MPEG-4 in an MP4 file, no sound). Stopped early, the file is closed and playable.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # our sentence, not FFmpeg's, tells a damaged file

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from runtime.errors import UserError  # noqa: E402
from runtime.files import whole_file, write_whole  # noqa: E402
from runtime.segmenter import Segmenter  # noqa: E402
from runtime.signals import noted_signals  # noqa: E402

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
USUAL_RATE = 25.0  # frames a second, where the file states none

Progress = Callable[[str], None]


def segment_video(
    segmenter: Segmenter, path: Path, overlay: Path, report: Path, opacity: float, progress: Progress
) -> bool:
    """Write `overlay` (.mp4) and `report` (.json); False when Ctrl-C ended it early (both are still written).

    The report holds: video, model, frames, frames_expected, complete, rate (frames a second of the video),
    size [H, W], seconds, frames_per_second (reached here), classes (the legend, shares over all frames).
    Raises UserError when the video cannot be read or the result cannot be written.
    """
    capture = cv2.VideoCapture(str(path))
    try:
        good, frame = capture.read()
        if not good:
            raise UserError(
                f"{path} cannot be read as a video: no frame could be decoded; give one of "
                f"{', '.join(SUFFIXES)}."
            )
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if math.isfinite(rate) and 0.1 <= rate <= 1000 else USUAL_RATE
        expected = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        start = time.perf_counter()
        with whole_file(overlay) as part:
            counts, frames, complete = _frames(
                segmenter, capture, frame, part, rate, expected, opacity, progress, start
            )
            _check_written(part, overlay, frames)
    finally:
        capture.release()
    seconds = time.perf_counter() - start
    shares = counts / max(1, counts.sum())
    facts: dict[str, Any] = {
        "video": path.name,
        "model": segmenter.path.name,
        "frames": frames,
        "frames_expected": expected,
        "complete": complete,
        "rate": rate,
        "size": list(frame.shape[:2]),
        "seconds": round(seconds, 3),
        "frames_per_second": round(frames / seconds, 2),
        "classes": [
            {
                "id": int(index),
                "name": segmenter.labels[index],
                "colour": list(segmenter.palette[index]),
                "share": float(shares[index]),
            }
            for index in np.argsort(-shares, kind="stable")
            if shares[index] > 0
        ],
    }
    write_whole(report, (json.dumps(facts, indent=2) + "\n").encode())
    return complete


def _frames(
    segmenter: Segmenter,
    capture: Any,
    frame: np.ndarray,
    part: Path,
    rate: float,
    expected: int,
    opacity: float,
    progress: Progress,
    start: float,
) -> tuple[np.ndarray, int, bool]:
    """Segment frame after frame into the file `part`: pixels by class (256,), frames written, whether all."""
    height, width = frame.shape[:2]
    counts, frames = np.zeros(256, np.int64), 0
    writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
    if not writer.isOpened():
        raise UserError(
            f"{part.parent} takes no video of {width}x{height} pixels; check that it can be written."
        )
    try:
        with noted_signals() as stop:
            good = True
            while good and not stop:
                found = segmenter.segment(np.ascontiguousarray(frame[..., ::-1]))
                writer.write(np.ascontiguousarray(found.overlay(opacity)[..., ::-1]))
                counts += np.bincount(found.ids.ravel(), minlength=256)
                frames += 1
                progress(_line(frames, expected, time.perf_counter() - start))
                good, frame = capture.read()
            complete = not (stop and good)
    finally:
        writer.release()  # writes the index without which an MP4 does not play
    return counts, frames, complete


def _check_written(part: Path, shown: Path, frames: int) -> None:
    """OpenCV reports no write error (a full disk, say): read back how many frames the file holds."""
    check = cv2.VideoCapture(str(part))
    held = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
    check.release()
    if frames and held != frames:
        raise UserError(f"{shown} cannot be written: it holds {held} of {frames} frames; is the disk full?")


def _line(frames: int, expected: int, seconds: float) -> str:
    speed = frames / seconds
    if expected < frames:
        return f"frame {frames}  {speed:.1f} frames/s"
    left = (expected - frames) / speed
    return f"frame {frames}/{expected}  {speed:.1f} frames/s  {left // 60:.0f}:{left % 60:02.0f} left"


def live_line(text: str) -> None:
    """One line on the terminal, rewritten in place; silent where stderr is no terminal."""
    if sys.stderr.isatty():
        print(f"\r{text:<70}", end="", file=sys.stderr, flush=True)
