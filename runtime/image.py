"""Pictures in and out: decoding that refuses what it cannot trust, resizing, colouring.

NumPy and OpenCV only. `read_rgb` reads the header before it lets OpenCV decode anything, because OpenCV
alone takes the high byte of a 16-bit file, guesses at CMYK, and unpacks a 49 kB bomb into gigabytes, all
without a word.
"""

import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from runtime.errors import UserError

MAX_PIXELS = 50_000_000
MAX_BYTES = 400_000_000  # 50 megapixels of uncompressed 32-bit BMP take 200 MB
# The last row is not read here; such files are listed as bad instead of being passed over in silence.
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".bmp"),
    *(".tif", ".tiff", ".gif", ".heic", ".avif", ".jp2"),
)
READABLE = "8-bit PNG, JPEG, WebP and BMP pictures are read"

Palette = Sequence[Sequence[int]] | np.ndarray

# Formats that OpenCV or a user may take for readable: named, so that the message says what the file is.
_OTHER_KINDS = (
    (b"GIF8", 0, "a GIF"),
    (b"II*\0", 0, "a TIFF"),
    (b"MM\0*", 0, "a TIFF"),
    (b"ftyp", 4, "an HEIF, AVIF or MP4 file"),
    (b"%PDF", 0, "a PDF"),
    (b"\0\0\0\x0cjP", 0, "a JPEG 2000 file"),
)


@dataclass(frozen=True)
class Header:
    """What a picture's header says, before anything is decoded. `bits` is per channel."""

    kind: str
    height: int
    width: int
    bits: int = 8
    paletted: bool = False
    cmyk: bool = False
    complete: bool = True


def read_rgb(source: str | os.PathLike[str] | bytes, name: str | None = None) -> np.ndarray:
    """Decode a picture to RGB, uint8 (H, W, 3).

    Grey and paletted pictures become RGB; an EXIF rotation is applied; alpha is dropped, so that a pixel
    keeps its colour however transparent it is. `name` stands for the file in messages.
    Raises UserError for whatever cannot be trusted: see `checked_bytes`.
    """
    data, shown, header = checked_bytes(source, name)
    try:
        rgb = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise UserError(_damaged(shown, header.kind)) from error
    if rgb is None or rgb.dtype != np.uint8 or rgb.ndim != 3:
        raise UserError(_damaged(shown, header.kind))
    if sorted(rgb.shape[:2]) != sorted((header.height, header.width)):
        raise UserError(_damaged(shown, header.kind))
    return rgb


def checked_bytes(
    source: str | os.PathLike[str] | bytes, name: str | None = None
) -> tuple[bytes, str, Header]:
    """The bytes of a picture whose header can be trusted, its name for messages, and its header.

    Raises UserError when it is missing, a folder, empty, no picture, truncated, 16-bit, CMYK, or larger than
    50 megapixels by its header.
    """
    data, shown = file_bytes(source, name)
    return data, shown, check_header(data, shown)


def file_bytes(source: str | os.PathLike[str] | bytes, name: str | None = None) -> tuple[bytes, str]:
    """The bytes of a file and its name for messages; UserError when it is missing, a folder, empty or too large."""
    if isinstance(source, bytes):
        data, shown = source, name or "the picture"
        if not data:
            raise UserError(f"{shown} is empty (0 bytes); {READABLE}.")
        return data, shown
    shown = name or str(source)
    return _read_file(Path(source), shown), shown


def check_header(data: bytes, shown: str, bits: int = 8) -> Header:
    """The header of an image, if it can be trusted and has up to `bits` a channel; UserError as `checked_bytes`."""
    header = read_header(data, shown)
    pixels = header.height * header.width
    if pixels == 0:
        raise UserError(f"{shown} is {header.width}x{header.height} pixels; it has to have at least one.")
    if pixels > MAX_PIXELS:
        raise UserError(
            f"{shown} is {header.width}x{header.height} pixels ({pixels / 1e6:.0f} megapixels); "
            f"pictures of up to {MAX_PIXELS / 1e6:.0f} megapixels are read."
        )
    if header.bits > bits:
        raise UserError(
            f"{shown} has {header.bits} bits per channel; convert it to 8 bits per channel, "
            "because the high byte alone would silently darken or clip it."
        )
    if header.cmyk:
        raise UserError(f"{shown} is a JPEG in CMYK colours (4 channels); convert it to RGB.")
    if not header.complete:
        raise UserError(_damaged(shown, header.kind))
    return header


def read_header(data: bytes, shown: str) -> Header:
    """Kind, size, depth and completeness of a picture; UserError when it is no picture that is read here."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png_header(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg_header(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp_header(data)
        if data.startswith(b"BM"):
            return _bmp_header(data)
    except (struct.error, IndexError) as error:
        raise UserError(f"{shown} is truncated: its header ends early; copy the file again.") from error
    for magic, start, kind in _OTHER_KINDS:
        if data[start : start + len(magic)] == magic:
            raise UserError(f"{shown} is {kind}; {READABLE}.")
    raise UserError(f"{shown} is not an image (it begins with {data[:4]!r}); {READABLE}.")


def write_png(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write class ids, uint8 (H, W), or RGB, uint8 (H, W, 3), as a PNG; UserError when the disk refuses."""
    data = png(array)
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from error


def png(array: np.ndarray) -> bytes:
    """Class ids, uint8 (H, W), or RGB, uint8 (H, W, 3), as the bytes of a PNG."""
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise ValueError(f"uint8 (H, W) or (H, W, 3) expected, got {array.dtype} {array.shape}")
    bgr = array if array.ndim == 2 else array[..., ::-1]
    return bytes(cv2.imencode(".png", np.ascontiguousarray(bgr))[1])


def colour(ids: np.ndarray, palette: Palette) -> np.ndarray:
    """Class ids (H, W) to their colours, uint8 (H, W, 3); ids beyond the palette (255, ignored) are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = np.asarray(palette, np.uint8)
    return table[ids]


def overlay(rgb: np.ndarray, ids: np.ndarray, palette: Palette, opacity: float) -> np.ndarray:
    """The picture tinted with its classes' colours, uint8 (H, W, 3).

    `opacity` 0 is the picture, 1 the colours; where an id is beyond the palette (255, ignored), the picture
    stays as it is.
    """
    if ids.shape != rgb.shape[:2]:
        raise ValueError(f"ids of shape {ids.shape} do not fit a picture of shape {rgb.shape}")
    mixed = cv2.addWeighted(rgb, 1.0 - opacity, colour(ids, palette), opacity, 0.0)
    return np.where((ids < len(palette))[..., None], mixed, rgb)


def resize_rgb(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, pixel centres aligned (as tf.image.resize does); `size` is (height, width)."""
    if rgb.shape[:2] == tuple(size):
        return rgb
    return cv2.resize(rgb, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def resize_ids(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest neighbour, pixel centres aligned like `resize_rgb`; `size` is (height, width)."""
    if ids.shape == tuple(size):
        return ids
    # INTER_NEAREST would sample at the pixels' corners, half a pixel off the picture.
    return cv2.resize(ids, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)


def _read_file(path: Path, shown: str) -> bytes:
    if path.is_dir():
        raise UserError(f"{shown} is a folder; name a picture file.")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(
                f"{shown} has {size / 1e6:.0f} MB; picture files of up to {MAX_BYTES / 1e6:.0f} MB are read."
            )
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{shown} does not exist; name a picture file.") from error
    except OSError as error:
        raise UserError(f"{shown} cannot be read: {error.strerror or error}.") from error
    if not data:
        raise UserError(f"{shown} is empty (0 bytes); {READABLE}.")
    return data


def _damaged(shown: str, kind: str) -> str:
    return f"{shown} is a truncated or damaged {kind} file; copy or export it again."


def _png_header(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        return Header("PNG", 1, 1, complete=False)
    width, height, bits, colour_type = struct.unpack(">IIBB", data[16:26])
    return Header("PNG", height, width, bits, paletted=colour_type == 3, complete=_png_complete(data))


def _png_complete(data: bytes) -> bool:
    """Every chunk up to IEND is there and passes its checksum (OpenCV would decode half a file)."""
    at, view = 8, memoryview(data)
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        end = at + 12 + length
        if (
            end > len(data)
            or zlib.crc32(view[at + 4 : end - 4]) != struct.unpack(">I", data[end - 4 : end])[0]
        ):
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at = end
    return False


def _jpeg_header(data: bytes) -> Header:
    """Walk the segments to the frame header and on to the first scan, past thumbnails inside APP segments."""
    at, frame = 2, None
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:  # fill bytes
            at += 1
        if data[at] != 0xFF:
            return Header("JPEG", 1, 1, complete=False)
        marker = data[at + 1]
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = struct.unpack(">BHHB", data[at + 4 : at + 10])
        if marker == 0xDA:
            break
        at += 2 + length
    if frame is None:
        return Header("JPEG", 1, 1, complete=False)
    bits, height, width, channels = frame
    # Bytes 0xFF in a scan are stuffed, so the end marker cannot occur by chance inside it.
    complete = data.find(b"\xff\xd9", at) >= 0
    return Header("JPEG", height, width, bits, cmyk=channels == 4, complete=complete)


def _webp_header(data: bytes) -> Header:
    (riff,) = struct.unpack("<I", data[4:8])
    complete = riff + 8 <= len(data)
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif kind == b"VP8L":
        (packed,) = struct.unpack("<I", data[21:25])
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", data[26:30]))
    return Header("WebP", height, width, complete=complete)


def _bmp_header(data: bytes) -> Header:
    (offset, dib) = struct.unpack("<II", data[10:18])
    if dib == 12:
        width, height, _, bits = struct.unpack("<HHHH", data[18:26])
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack("<iiHHI", data[18:34])
    width, height = abs(width), abs(height)  # a negative height means rows from the top down
    stored = (width * bits + 31) // 32 * 4 * height if compression in (0, 3) else 0
    return Header("BMP", height, width, paletted=bits <= 8, complete=offset + stored <= len(data))
