"""Encoded images, whole ones and chunks of them, and how `read_rgb` refuses those that lie."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from runtime import image
from runtime.errors import UserError


def encode(rgb: np.ndarray, kind: str, mode: str | None = None, **options) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(rgb)
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def refused(source, *words: str, name: str | None = None) -> None:
    """read_rgb raises a UserError of one sentence that holds every word."""
    with pytest.raises(UserError) as caught:
        image.read_rgb(source, name)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    for word in words:
        assert word in message
