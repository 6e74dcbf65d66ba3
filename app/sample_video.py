"""A sample video, made on first use: a slow zoom into each of the images that ship, one after another."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from runtime.errors import UserError
from runtime.image import read_rgb

SIZE = (480, 240)  # width and height
RATE = 10.0  # frames a second
FRAMES = 12  # of each image
CLOSEST = 0.6  # of the image's width and height that is seen in the end
NAME = "sample.mp4"


def made(paths: Sequence[Path]) -> bytes:
    """An MP4 of `FRAMES` frames of each image. UserError where there is none, or nothing can be written."""
    if not paths:
        raise UserError("there is no image in examples/ to make a sample video of.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, SIZE)
        if not writer.isOpened():
            raise UserError("a sample video cannot be written here; upload one.")
        for image in paths:
            rgb = read_rgb(image)
            for number in range(FRAMES):
                writer.write(np.ascontiguousarray(zoomed(rgb, number / (FRAMES - 1))[..., ::-1]))
        writer.release()
        return path.read_bytes()


def zoomed(rgb: np.ndarray, way: float) -> np.ndarray:
    """The image, uint8 (240, 480, 3), as it is seen after `way`, 0..1, of the zoom into its middle."""
    height, width = rgb.shape[:2]
    share = 1 - (1 - CLOSEST) * way
    wide, high = max(1, round(width * share)), max(1, round(height * share))
    left, top = (width - wide) // 2, (height - high) // 2
    seen = rgb[top : top + high, left : left + wide]
    return cv2.resize(seen, SIZE, interpolation=cv2.INTER_AREA)
