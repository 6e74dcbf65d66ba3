"""Which video files are opened at all, and how: by what is inside them, never by their name.

FFmpeg, which reads them for OpenCV, takes whatever it can make out: lists that name other files, play lists with
addresses, text that is drawn as an image. So the first bytes have to be those of a container in `CONTAINERS`, FFmpeg is
told the only demuxers and the only protocol that it may use, and no other library behind OpenCV is asked.
"""

import os
from pathlib import Path
from typing import Any

import cv2

from runtime.errors import UserError
from runtime.headers import MAX_PIXELS
from runtime.stderr import stderr_closed

# What it is called, FFmpeg's name of its demuxer, and its first bytes: (place, bytes) pairs that all have to be there.
CONTAINERS: tuple[tuple[str, str, tuple[tuple[int, bytes], ...]], ...] = (
    *(("MP4 or MOV", "mov", ((4, kind),)) for kind in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    ("MKV or WebM", "matroska", ((0, b"\x1aE\xdf\xa3"),)),
    ("AVI", "avi", ((0, b"RIFF"), (8, b"AVI "))),
    ("MPEG", "mpeg", ((0, b"\0\0\1\xba"),)),
    ("MPEG", "mpegvideo", ((0, b"\0\0\1\xb3"),)),
    ("MPEG", "mpegts", ((0, b"G"), (188, b"G"), (376, b"G"))),
)
NAMES = tuple(dict.fromkeys(name for name, _, _ in CONTAINERS))
VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"  # read by OpenCV at each file that it opens
# drefs: places in a MOV that say "this track lies in another file".
OPTIONS = (
    "format_whitelist;" + ",".join(dict.fromkeys(demuxer for _, demuxer, _ in CONTAINERS)),
    "protocol_whitelist;file",
    "enable_drefs;0",
)


def container(start: bytes) -> str | None:
    """What a video file is called by its first 400 bytes; None when it is none that is read here."""
    for name, _, marks in CONTAINERS:
        if all(start[place : place + len(mark)] == mark for place, mark in marks):
            return name
    return None


def opened(path: Path, shown: str | None = None) -> Any:
    """A `cv2.VideoCapture` of a video that can be opened, whose frames have up to 50 megapixels by its header.

    `shown` stands for the file in messages. Raises UserError; whoever gets the capture releases it.
    """
    shown = shown or str(path)
    try:
        with open(path, "rb") as file:
            start = file.read(400)
    except OSError as error:
        raise UserError(f"{shown} cannot be read: {error.strerror or error}.") from error
    if container(start) is None:
        raise UserError(f"{shown} is no video that is read here; {', '.join(NAMES)} files are.")
    own = [option for option in os.environ.get(VARIABLE, "").split("|") if option]
    os.environ[VARIABLE] = "|".join([*(option for option in own if option not in OPTIONS), *OPTIONS])
    with stderr_closed():  # what FFmpeg and OpenCV say there of a damaged file; ours is one sentence
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    width, height = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if capture.isOpened() and 0 < width * height <= MAX_PIXELS:
        return capture
    whole = capture.isOpened()
    capture.release()
    if whole:
        raise UserError(
            f"{shown} has frames of {width}x{height} pixels; from 1 to {MAX_PIXELS / 1e6:.0f} megapixels are read."
        )
    raise UserError(
        f"{shown} cannot be read as a video; it is damaged or in a form that is not read here ({', '.join(NAMES)} are)."
    )
