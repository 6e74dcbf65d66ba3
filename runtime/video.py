"""A video in, the same video tinted by class out, and a JSON of what was seen.

Read and written by OpenCV (MPEG-4 in an MP4 file, or VP8 in a WebM file, which browsers play; no sound). Stopped early,
the file is closed and playable.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # our sentence, not FFmpeg's, tells a damaged file

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from runtime import streams  # noqa: E402
from runtime.bundle import Colour  # noqa: E402
from runtime.containers import opened  # noqa: E402
from runtime.errors import UserError  # noqa: E402
from runtime.files import whole_file, write_json  # noqa: E402
from runtime.fit import naming  # noqa: E402
from runtime.image import pixels_of_classes  # noqa: E402
from runtime.segmenter import Segmentation, Segmenter  # noqa: E402
from runtime.signals import noted_signals  # noqa: E402
from runtime.steady import steady  # noqa: E402

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
USUAL_RATE = 25.0  # frames a second, where the file states none
CODECS = {".mp4": "mp4v", ".webm": "VP80"}

Progress = Callable[[str], None]


class Drawn(NamedTuple):
    """What came of a video: pixels by class (256,), frames written, whether it was stopped, how many seconds
    decoding, segmenting and drawing with encoding took, each by itself, the mean confidence of each frame (None where
    the model does not tell), and how many frames are unlike what it knows."""

    counts: np.ndarray
    frames: int
    stopped: bool
    busy: dict[str, float]
    sure: list[float | None]
    doubtful: int


def segment_video(
    segmenter: Segmenter,
    source: Path | str,
    overlay: Path,
    report: Path,
    opacity: float,
    progress: Progress,
    smooth: int = 1,
    most_frames: float = math.inf,
    fit: str = "auto",
    palette: Sequence[Colour] | None = None,
    timeline: bool = False,
) -> dict[str, Any]:
    """Of a file, camera or address (streams.py): `overlay` (.mp4, .webm), `report` (.json); what the report holds.

    That is: video, model, fit (how frames lie before the model: see `Segmenter.placing`), frames, frames_expected,
    complete (False when stopped), cut_off (the file ends before the frames that it announces), smooth, rate (frames a
    second of the video), size [H, W], seconds, frames_per_second (reached here), seconds_busy (decode, segment, encode,
    which run at the same time), confidence (`sureness`), classes (the legend, shares over all frames) and, where
    `timeline` asks for it, timeline (for each frame the shares of `classes`, 0..1, in their order).
    `smooth`: see `runtime.steady`; `palette`: other colours. After `most_frames` it is stopped, whatever was announced.
    Raises UserError when the video cannot be read or the result cannot be written.
    """
    hold, colours = steady(smooth), _colours(segmenter, palette)
    each: list[np.ndarray] | None = [] if timeline else None
    capture, name = _opened(source)
    try:
        frame = _first_frame(capture, name)
        with naming(name):
            way = segmenter.placing((frame.shape[0], frame.shape[1]), fit).fit
        rate = _rate(capture)
        expected = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        start = time.perf_counter()

        def say(frames: int) -> None:
            progress(_line(frames, expected, time.perf_counter() - start))

        def segment(bgr: np.ndarray) -> Segmentation:
            found = segmenter.segment(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), way)
            return _noted(replace(found, ids=hold(found.ids), palette=colours), each)

        with whole_file(overlay) as part:
            drawn = _frames(segment, capture, frame, part, rate, opacity, say, most_frames)
            _check_written(part, overlay, drawn.frames)
    finally:
        capture.release()
    seconds = time.perf_counter() - start
    facts: dict[str, Any] = {
        "video": name if isinstance(source, str) else source.name,
        "model": segmenter.path.name,
        "fit": way,
        **_counted(drawn, expected),
        "smooth": smooth,
        "rate": rate,
        "size": list(frame.shape[:2]),
        **_speed(drawn, seconds),
        **_seen(segmenter.labels, colours, drawn.counts, each),
    }
    write_json(report, facts)
    return facts


def _opened(source: Path | str) -> tuple[Any, str]:
    """The capture of a file, or of a camera or address, and what it is called in messages."""
    if isinstance(source, str):
        return streams.opened(source), streams.shown(source)
    return opened(source), str(source)


def _colours(segmenter: Segmenter, palette: Sequence[Colour] | None) -> tuple[Colour, ...]:
    """The model's colours, or those of `palette`, which JSON may have brought as lists."""
    return tuple((int(red), int(green), int(blue)) for red, green, blue in palette or segmenter.palette)


def checked_video(path: Path, shown: str, most_frames: int, most_pixels: int) -> dict[str, Any]:
    """What a video's header says: frames (0 where it does not), rate (a second), size [H, W]; no frame is kept.

    `shown` stands for the file in messages. Raises UserError when it is no video, or is longer than `most_frames` or
    larger than `most_pixels` by its header.
    """
    capture = opened(path, shown)
    try:
        frames = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        width, height = (
            int(capture.get(prop)) for prop in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        rate = capture.get(cv2.CAP_PROP_FPS)
    finally:
        capture.release()
    if not 0 < width * height <= most_pixels:
        raise UserError(
            f"{shown} has frames of {width}x{height} pixels; up to {most_pixels / 1e6:.0f} megapixels are taken."
        )
    if frames > most_frames:
        raise UserError(f"{shown} has {frames} frames; up to {most_frames} are taken, so cut it shorter.")
    return {"frames": frames, "rate": rate, "size": [height, width]}


def _first_frame(capture: Any, path: str) -> np.ndarray:
    """(H, W, 3), BGR. Raises UserError when there is none."""
    good, frame = capture.read()
    if not good:
        raise UserError(
            f"{path} cannot be read as a video: no frame could be decoded; give one of {', '.join(SUFFIXES)}."
        )
    return frame


def _rate(capture: Any) -> float:
    """Frames a second, USUAL_RATE where the file states none that can be."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if math.isfinite(rate) and 0.1 <= rate <= 1000 else USUAL_RATE


def _counted(drawn: Drawn, expected: int) -> dict[str, Any]:
    """What the report says of the frames; `expected` is what the file announces, 0 where it does not."""
    return {
        "frames": drawn.frames,
        "frames_expected": expected,
        "complete": not drawn.stopped,
        # Some containers do not count their frames but estimate them from their length in seconds.
        "cut_off": not drawn.stopped and drawn.frames < expected - max(1, expected // 50),
        "confidence": sureness(drawn.sure, drawn.doubtful),
    }


def sureness(sure: Sequence[float | None], doubtful: int) -> dict[str, Any] | None:
    """Mean confidence over a video, its lowest and the frame (from 0) of that, of each frame, and how many frames are
    unlike what the model knows; None where the model does not tell either."""
    known = [value for value in sure if value is not None]
    if not known:
        return {"doubtful_frames": doubtful} if doubtful else None
    lowest = min(known)
    return {
        "mean": round(float(np.mean(known)), 4),
        "lowest": round(lowest, 4),
        "lowest_frame": sure.index(lowest),
        "doubtful_frames": doubtful,
        "frames": [None if value is None else round(value, 4) for value in sure],
    }


def _legend(labels: Sequence[str], colours: Sequence[Colour], counts: np.ndarray) -> list[dict[str, Any]]:
    """The classes that were seen, the most frequent first: id, name, colour, share of all pixels."""
    shares = counts / max(1, counts.sum())
    return [
        {
            "id": int(index),
            "name": labels[index],
            "colour": list(colours[index]),
            "share": float(shares[index]),
        }
        for index in np.argsort(-shares, kind="stable")
        if shares[index] > 0
    ]


def _noted(found: Segmentation, each: list[np.ndarray] | None) -> Segmentation:
    """The same; its pixels by class are added to `each`, where that is wanted."""
    if each is not None:
        each.append(np.bincount(found.ids.ravel(), minlength=256))
    return found


def _seen(
    labels: Sequence[str], colours: Sequence[Colour], counts: np.ndarray, each: list[np.ndarray] | None
) -> dict[str, Any]:
    """What the report says of the classes that were seen; `each`: the pixels by class of each frame, if noted."""
    classes = _legend(labels, colours, counts)
    if each is None:
        return {"classes": classes}
    seen = [row["id"] for row in classes]
    shares = [[round(float(share), 4) for share in one[seen] / one.sum()] for one in each]
    return {"classes": classes, "timeline": shares}


def _speed(drawn: Drawn, seconds: float) -> dict[str, Any]:
    """What the report says of the time that it took."""
    return {
        "seconds": round(seconds, 3),
        "frames_per_second": round(drawn.frames / seconds, 2),
        "seconds_busy": {name: round(spent, 3) for name, spent in drawn.busy.items()},
    }


def _frames(
    segment: Callable[[np.ndarray], Segmentation],
    capture: Any,
    frame: np.ndarray,
    part: Path,
    rate: float,
    opacity: float,
    say: Callable[[int], None],
    most_frames: float,
) -> Drawn:
    """Frame after frame into the file `part`. While one is segmented, the next is decoded and the one before it is
    drawn and encoded, each in a thread of its own; three frames are held at most."""
    height, width = frame.shape[:2]
    counts, frames, sure, doubtful = np.zeros(256, np.int64), 0, [], 0
    busy = {"decode": 0.0, "segment": 0.0, "encode": 0.0}
    codec = cv2.VideoWriter.fourcc(*CODECS.get(part.suffix, "mp4v"))
    writer = cv2.VideoWriter(str(part), codec, rate, (width, height))
    if not writer.isOpened():
        raise UserError(
            f"{part.parent} takes no video of {width}x{height} pixels; check that it can be written."
        )

    def timed(name: str, work: Callable[..., Any], *what: Any) -> Any:
        start = time.perf_counter()
        result = work(*what)
        busy[name] += time.perf_counter() - start
        return result

    def encode(found: Segmentation) -> None:
        nonlocal counts, doubtful
        writer.write(cv2.cvtColor(found.overlay(opacity), cv2.COLOR_RGB2BGR))
        counts += pixels_of_classes(found.ids)
        sure.append(found.mean_confidence)
        doubtful += bool(found.doubt)

    try:
        with ThreadPoolExecutor(1) as decoder, ThreadPoolExecutor(1) as encoder, noted_signals() as stop:
            good, encoded = True, None
            while good and not stop and frames < most_frames:
                coming = decoder.submit(timed, "decode", capture.read)
                found = timed("segment", segment, frame)
                if encoded:
                    encoded.result()
                encoded = encoder.submit(timed, "encode", encode, found)
                frames += 1
                say(frames)
                good, frame = coming.result()
            if encoded:
                encoded.result()
            stopped = bool(good)
    finally:
        writer.release()  # writes the index without which an MP4 does not play
    return Drawn(counts, frames, stopped, busy, sure, doubtful)


def _check_written(part: Path, shown: Path, frames: int) -> None:
    """OpenCV reports no write error (a full disk, say): read back how many frames the file holds."""
    check = cv2.VideoCapture(str(part))
    held = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
    check.release()
    # A WebM file states its length, from which the frames are reckoned.
    if frames and abs(held - frames) > (shown.suffix == ".webm"):
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
