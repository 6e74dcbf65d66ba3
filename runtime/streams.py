"""Live video: a camera (`0`, `/dev/video0`) or an address (`rtsp://...`), opened by OpenCV.

A file is told by its content (containers.py), a stream by its address: whoever gives one trusts who sends it. FFmpeg
may use the protocols of streams then, and no file: a play list cannot name one of this machine.
"""

import os
import re
from typing import Any
from urllib.parse import urlsplit

import cv2

from runtime.containers import VARIABLE
from runtime.errors import UserError
from runtime.headers import MAX_PIXELS
from runtime.stderr import stderr_closed

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt")
CAMERA = re.compile(r"(?:/dev/video)?(\d{1,3})")
# enable_drefs and play lists could lead elsewhere; what remains is asked of the network alone.
OPTIONS = (
    "protocol_whitelist;rtsp,rtp,rtmp,http,https,udp,tcp,tls,srt",
    "format_whitelist;rtsp,sdp,mov,matroska,avi,mpeg,mpegts,mpegvideo,flv,mjpeg,mpjpeg",
    "enable_drefs;0",
)
WAIT = 15_000  # milliseconds without a picture


def is_stream(text: str) -> bool:
    """Whether an input is a camera or an address, and no file."""
    return CAMERA.fullmatch(text) is not None or text.partition("://")[0].lower() in SCHEMES


def shown(text: str) -> str:
    """An address without the name and password in it, for messages and reports."""
    if CAMERA.fullmatch(text):
        return f"camera {text}"
    return re.sub(r"^(\w+://)[^/@]*@", r"\1", text).partition("?")[0]


def stem(text: str) -> str:
    """What its files are called."""
    if match := CAMERA.fullmatch(text):
        return f"camera{match[1]}"
    parts = urlsplit(text)
    return re.sub(r"\W+", "_", f"{parts.hostname or ''}{parts.path}").strip("_") or parts.scheme


def opened(text: str) -> Any:
    """A `cv2.VideoCapture` of a camera or an address. Raises UserError when there is no picture within WAIT; whoever
    gets the capture releases it."""
    camera = CAMERA.fullmatch(text)
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "|".join(OPTIONS)
    waits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, WAIT, cv2.CAP_PROP_READ_TIMEOUT_MSEC, WAIT]
    try:
        with stderr_closed():
            capture = (
                cv2.VideoCapture(int(camera[1])) if camera else cv2.VideoCapture(text, cv2.CAP_FFMPEG, waits)
            )
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
    width, height = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if capture.isOpened() and 0 < width * height <= MAX_PIXELS:
        return capture
    capture.release()
    raise UserError(
        f"{shown(text)} gives no picture: "
        + (
            "is a camera plugged in and free?"
            if camera
            else "is the address right, and does it send video now?"
        )
    )
