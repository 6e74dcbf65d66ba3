"""Images in and out: decoding that refuses what it cannot trust, resizing, colouring.

NumPy and OpenCV only. `read_rgb` reads the header before it lets OpenCV decode anything, because OpenCV
alone takes the high byte of a 16-bit file, guesses at CMYK, and unpacks a 49 kB bomb into gigabytes, all
without a word.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from runtime.encoding import encoded, memory_for
from runtime.errors import UserError
from runtime.headers import MAX_PIXELS, MOST_SCANS, READABLE, Header, for_decoder, read_header

MAX_BYTES = 400_000_000  # 50 megapixels of uncompressed 32-bit BMP take 200 MB
# The last row is not read here; such files are listed as bad instead of being passed over in silence.
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".bmp"),
    *(".tif", ".tiff", ".gif", ".heic", ".avif", ".jp2"),
)

Palette = Sequence[Sequence[int]] | np.ndarray


def read_rgb(source: str | os.PathLike[str] | bytes, name: str | None = None) -> np.ndarray:
    """Decode an image to RGB, uint8 (H, W, 3).

    Grey and paletted images become RGB; an EXIF rotation is applied; alpha is dropped, so that a pixel
    keeps its colour however transparent it is. `name` stands for the file in messages.
    Raises UserError for whatever cannot be trusted: see `checked_bytes`.
    """
    data, shown, header = checked_bytes(source, name)
    with memory_for(shown):
        try:
            rgb = cv2.imdecode(np.frombuffer(for_decoder(data, header), np.uint8), cv2.IMREAD_COLOR_RGB)
        except cv2.error as error:
            if error.code == cv2.Error.StsNoMem:
                raise
            raise UserError(_damaged(shown, header.kind)) from error
    if rgb is None or rgb.dtype != np.uint8 or rgb.ndim != 3:
        raise UserError(_damaged(shown, header.kind))
    if sorted(rgb.shape[:2]) != sorted((header.height, header.width)):
        raise UserError(_damaged(shown, header.kind))
    return rgb


def checked_bytes(
    source: str | os.PathLike[str] | bytes, name: str | None = None
) -> tuple[bytes, str, Header]:
    """The bytes of an image whose header can be trusted, its name for messages, and its header.

    Raises UserError when it is missing, a folder, empty, no image, truncated, 16-bit, CMYK, or larger than
    50 megapixels by its header.
    """
    data, shown = file_bytes(source, name)
    return data, shown, check_header(data, shown)


def file_bytes(source: str | os.PathLike[str] | bytes, name: str | None = None) -> tuple[bytes, str]:
    """The bytes of a file and its name for messages; UserError when it is missing, a folder, empty or too large."""
    if isinstance(source, bytes):
        data, shown = source, name or "the image"
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
            f"images of up to {MAX_PIXELS / 1e6:.0f} megapixels are read."
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
    if header.scans > MOST_SCANS:
        raise UserError(
            f"{shown} is a JPEG of {header.scans} scans, each of which takes as long as a whole image; up to "
            f"{MOST_SCANS} are read, so save it again."
        )
    if header.animated:
        raise UserError(f"{shown} is an animated WebP; save the one image of it that is meant.")
    return header


def png(array: np.ndarray) -> bytes:
    """Class ids, uint8 (H, W), or RGB, uint8 (H, W, 3), as the bytes of a PNG."""
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise ValueError(f"uint8 (H, W) or (H, W, 3) expected, got {array.dtype} {array.shape}")
    return encoded(array, ".png")


def colour(ids: np.ndarray, palette: Palette) -> np.ndarray:
    """Class ids 0..255, (H, W), to their colours, uint8 (H, W, 3); ids beyond the palette (255, ignored) are black.
    Fastest for uint8."""
    table = np.zeros((256, 1, 3), np.uint8)
    table[: len(palette), 0] = np.asarray(palette, np.uint8)
    if ids.dtype != np.uint8 or ids.ndim != 2 or not ids.size:
        return table[:, 0][ids]
    return cv2.applyColorMap(ids, table)  # NumPy's table[ids] takes ten times as long


def overlay(rgb: np.ndarray, ids: np.ndarray, palette: Palette, opacity: float) -> np.ndarray:
    """The image tinted with its classes' colours, uint8 (H, W, 3).

    `opacity` 0 is the image, 1 the colours; where an id is beyond the palette (255, ignored), the image
    stays as it is.
    """
    if ids.shape != rgb.shape[:2]:
        raise ValueError(f"ids of shape {ids.shape} do not fit an image of shape {rgb.shape}")
    mixed = cv2.addWeighted(rgb, 1.0 - opacity, colour(ids, palette), opacity, 0.0)
    beyond = ids >= len(palette)
    return cv2.copyTo(rgb, beyond.view(np.uint8), mixed) if beyond.any() else mixed


def pixels_of_classes(ids: np.ndarray) -> np.ndarray:
    """How many pixels of class ids, uint8 (H, W), each class has, int64 (256,)."""
    rows = max(1, 2**24 // ids.shape[1])  # OpenCV counts in float32, which is exact up to there
    parts = (ids[top : top + rows] for top in range(0, len(ids), rows))
    counts = (cv2.calcHist([part], [0], None, [256], [0, 256]) for part in parts)
    return np.sum([count.ravel().astype(np.int64) for count in counts], axis=0)


def resize_rgb(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, pixel centres aligned (as tf.image.resize does); `size` is (height, width)."""
    if rgb.shape[:2] == tuple(size):
        return rgb
    return cv2.resize(rgb, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def resize_ids(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest neighbour, pixel centres aligned like `resize_rgb`; `size` is (height, width)."""
    if ids.shape == tuple(size):
        return ids
    # INTER_NEAREST would sample at the pixels' corners, half a pixel off the image.
    return cv2.resize(ids, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)


def _read_file(path: Path, shown: str) -> bytes:
    if path.is_dir():
        raise UserError(f"{shown} is a folder; name an image file.")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(
                f"{shown} has {size / 1e6:.0f} MB; image files of up to {MAX_BYTES / 1e6:.0f} MB are read."
            )
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{shown} does not exist; name an image file.") from error
    except OSError as error:
        raise UserError(f"{shown} cannot be read: {error.strerror or error}.") from error
    if not data:
        raise UserError(f"{shown} is empty (0 bytes); {READABLE}.")
    return data


def _damaged(shown: str, kind: str) -> str:
    return f"{shown} is a truncated or damaged {kind} file; copy or export it again."
