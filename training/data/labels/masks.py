"""Label files: class ids, or colours that stand for classes, from every file that keeps them exactly.

Pillow decodes them, because OpenCV and TensorFlow expand a paletted PNG into its colours and leave ids that
mean nothing; Pillow keeps the palette's indices. Read are PNG, BMP, TIFF (uncompressed, LZW, Deflate, PackBits) and
lossless WebP. What is lossy has changed ids on the way, so it is refused by name. A turn in a file's own EXIF is
applied, as `runtime.image.read_rgb` applies that of the image beside it.
"""

import io
import os
import struct
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from runtime.errors import UserError
from runtime.image import MAX_PIXELS, check_header, file_bytes

Colour = tuple[int, int, int]
warnings.filterwarnings("ignore", module="PIL")  # of sizes and damaged EXIF; what matters is refused here

SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".webp")
LOSSY_SUFFIXES = (".jpg", ".jpeg")
READ = "PNG, BMP, TIFF (uncompressed, LZW or Deflate) and lossless WebP keep it exactly"
ORIENTATION = 0x0112  # the tag of EXIF and TIFF
# Tag 259 of a TIFF: none, LZW, Deflate, PackBits, Deflate by its old number; the rest is named where it is refused.
TIFF_LOSSLESS = (1, 5, 8, 32773, 32946)
TIFF_LOSSY = {6: "JPEG", 7: "JPEG", 33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 50001: "WebP"}
GREY_STEP = {2: 85, 4: 17}  # Pillow spreads grey of so many bits over 0 to 255; ids are as they are stored


class Repainted:
    """How many pixels had a colour that stands for no class and took the nearest, by the name of their file."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def note(self, name: str, changed: int, pixels: int) -> None:
        with self._lock:
            self._found[name] = changed, pixels

    def sentence(self) -> str:
        """Such as "2.31% of the pixels of the masks took the nearest class's colour"; "" before anything was read."""
        changed, pixels = (
            (sum(column) for column in zip(*self._found.values(), strict=True)) if self._found else (0, 0)
        )
        if not pixels:
            return ""
        return f"{100 * changed / pixels:.2f}% of the masks' pixels had the colour of no class and took the nearest."


def read_ids(source: str | os.PathLike[str] | bytes, name: str | None = None) -> np.ndarray:
    """Class ids (H, W), uint8, or uint16 of a 16-bit file: of a grey file, of a paletted one (its indices, not its
    colours), or of one in RGB whose pixels are all grey. An alpha has to be opaque.

    Raises UserError when the file cannot be trusted or holds colours instead of ids.
    """
    shown, image, bits = _decoded(source, name)
    array = np.array(image)  # a copy: Pillow's own buffer is read-only
    if image.mode == "1":
        return array.astype(np.uint8)
    if image.mode in ("L", "P"):
        return array // np.uint8(GREY_STEP.get(bits, 1) if image.mode == "L" else 1)
    if image.mode.startswith("I"):
        if array.min(initial=0) < 0 or array.max(initial=0) > 65535:
            wrong = int(array.min() if array.min() < 0 else array.max())
            raise UserError(f"{shown} holds the class id {wrong}; ids are whole numbers from 0 to 65535.")
        return array.astype(np.uint16)
    if image.mode in ("LA", "RGB", "RGBA") and bits <= 8:
        first = array[..., 0]
        if all(np.array_equal(first, array[..., channel]) for channel in range(1, _colours(image.mode))):
            return np.ascontiguousarray(first)
        raise UserError(
            f"{shown} holds colours; a label map has one class id a pixel, grey or paletted (where colours stand for "
            'classes, classes.json says "by": "colours" and the "colour" of each).'
        )
    raise UserError(
        f"{shown} has {bits}-bit pixels of mode {image.mode}; a label map has one class id a pixel, grey of up to "
        "16 bits or paletted."
    )


def read_colours(
    source: str | os.PathLike[str] | bytes,
    colours: dict[Colour, int],
    name: str | None = None,
    *,
    unknown: int | None = None,
    nearest: Repainted | None = None,
) -> np.ndarray:
    """Class ids, uint8 (H, W), of a file whose RGB colours stand for classes; `colours` says which for which id.

    A colour that stands for none becomes `unknown`, or with `nearest`, which counts such pixels, the id of the nearest
    colour (Euclid's distance in RGB); without either it is a UserError that names it.
    """
    rgb, shown = read_painted(source, name)
    codes = _codes(rgb)  # (H, W), one number a colour
    keys = _codes(np.array(list(colours), np.uint8))
    order = np.argsort(keys)
    at = np.searchsorted(keys[order], codes).clip(max=len(keys) - 1)
    ids = np.array(list(colours.values()), np.uint8)[order][at]
    strange = keys[order][at] != codes
    if nearest is not None:
        nearest.note(shown, int(np.count_nonzero(strange)), strange.size)
    if strange.any():
        if nearest is None and unknown is None:
            raise UserError(_strange_colours(shown, rgb[strange]))
        ids[strange] = unknown if nearest is None else _nearest(rgb[strange], colours)
    return ids


def read_painted(source: str | os.PathLike[str] | bytes, name: str | None = None) -> tuple[np.ndarray, str]:
    """The colours of a label file, uint8 (H, W, 3), and its name for messages."""
    shown, image, bits = _decoded(source, name)
    if bits > 8 or image.mode not in ("P", "RGB", "RGBA"):
        raise UserError(
            f"{shown} has {bits}-bit pixels of mode {image.mode}; here a label map has to be colour-coded, "
            "in 8 bits a channel."
        )
    return np.array(image.convert("RGB")), shown


def orientation(path: Path) -> int:
    """1 to 8: how EXIF says that the stored pixels lie (1: as they are seen; 5 to 8: a quarter turn)."""
    try:
        with Image.open(path) as image:
            found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # who decodes it says what is wrong with it
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def turned(ids: np.ndarray, quarter: int) -> np.ndarray:
    """Ids (H, W) as seen, (W, H), when EXIF's orientation is `quarter`, 5 to 8."""
    ways = {5: ids.T, 6: np.rot90(ids, -1), 7: np.rot90(ids, 2).T, 8: np.rot90(ids)}
    return np.ascontiguousarray(ways[quarter])


def _decoded(source: str | os.PathLike[str] | bytes, name: str | None) -> tuple[str, Image.Image, int]:
    """Its name for messages, the decoded image, upright and without transparency, and its bits a channel."""
    data, shown = file_bytes(source, name)
    tiff = data[:4] in (b"II*\0", b"MM\0*")
    kind, bits = ("TIFF", 8) if tiff else _checked(data, shown)
    try:
        with Image.open(io.BytesIO(data)) as file:
            if tiff:
                bits = _check_tiff(file, shown)
            file.load()
            # Of a TIFF Pillow applies it unasked.
            image = ImageOps.exif_transpose(file) if "exif" in file.info and not tiff else file
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise UserError(_too_large(shown)) from error
    except Exception as error:  # Pillow has another kind for each way in which a file can be damaged
        raise UserError(f"{shown} is a truncated or damaged {kind} file; copy or export it again.") from error
    if image.mode in ("LA", "RGBA") and np.array(image.getchannel("A")).min() < 255:
        raise UserError(
            f"{shown} is partly transparent, which leaves open what a pixel means; save it without an alpha channel."
        )
    return shown, image, bits


def _checked(data: bytes, shown: str) -> tuple[str, int]:
    """Kind and bits a channel of a file that keeps ids exactly; UserError names what is lossy."""
    header = check_header(data, shown, bits=16)
    if header.kind == "JPEG":
        raise UserError(
            f"{shown} is a JPEG, and JPEG changes ids; a label map has to be a file that does not: {READ}."
        )
    if header.kind == "WebP" and (found := _webp_kind(data)) != "lossless":
        reason = "and lossy WebP changes ids" if found == "lossy" else "and a label map is one image"
        raise UserError(f"{shown} is {'a' if found == 'lossy' else 'an'} {found} WebP, {reason}; {READ}.")
    if header.kind == "BMP" and int.from_bytes(data[14:18], "little") > 12 and data[28:30] == b"\x10\0":
        raise UserError(f"{shown} is a BMP of 16 bits a pixel, whose 5 bits a channel change ids; {READ}.")
    return header.kind, header.bits


def _webp_kind(data: bytes) -> str:
    """ "lossless", "lossy" or "animated", by its chunks."""
    at = 12
    while at + 8 <= len(data):
        chunk = data[at : at + 4]
        if chunk in (b"VP8L", b"VP8 ", b"ANIM"):
            return {b"VP8L": "lossless", b"VP8 ": "lossy", b"ANIM": "animated"}[chunk]
        (length,) = struct.unpack("<I", data[at + 4 : at + 8])
        at += 8 + length + length % 2
    return "lossy"


def _check_tiff(image: Image.Image, shown: str) -> int:
    """Bits a channel of a TIFF that keeps ids exactly, by its tags, before anything is decoded."""
    tags = getattr(image, "tag_v2", {})
    packed = tags.get(259, 1)
    if image.width * image.height > MAX_PIXELS:
        raise UserError(_too_large(shown))
    if packed in TIFF_LOSSY:
        raise UserError(f"{shown} is a TIFF with {TIFF_LOSSY[packed]} inside, which changes ids; {READ}.")
    if packed not in TIFF_LOSSLESS:
        raise UserError(f"{shown} is a TIFF of compression {packed}, which is not read; {READ}.")
    if tags.get(262) == 0:
        raise UserError(
            f"{shown} is a TIFF in which white is 0, so its ids are turned round; save it with black as 0."
        )
    if (pages := getattr(image, "n_frames", 1)) > 1:
        raise UserError(f"{shown} is a TIFF of {pages} pages; a label map is one image.")
    return max(tags.get(258, (1,)))


def _too_large(shown: str) -> str:
    return f"{shown} is too large; label maps of up to {MAX_PIXELS / 1e6:.0f} megapixels are read."


def _colours(mode: str) -> int:
    """How many channels are colour, the others alpha."""
    return 1 if mode == "LA" else 3


def _codes(rgb: np.ndarray) -> np.ndarray:
    """RGB uint8 (..., 3) -> 24-bit numbers, uint32 (...)."""
    red, green, blue = np.moveaxis(rgb.astype(np.uint32), -1, 0)
    return red << 16 | green << 8 | blue


def _nearest(pixels: np.ndarray, colours: dict[Colour, int]) -> np.ndarray:
    """The id of the nearest colour of each pixel, uint8 (N,), of RGB (N, 3). The first of several that are as near."""
    known = np.array(list(colours), np.int64)
    found, where = np.unique(_codes(pixels), return_inverse=True)  # there are few shades between two colours
    rgb = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=-1).astype(np.int64)
    best = np.zeros(len(rgb), np.int64)
    for start in range(0, len(rgb), 4096):
        part = rgb[start : start + 4096, None]
        best[start : start + 4096] = ((part - known) ** 2).sum(axis=-1).argmin(axis=1)
    return np.array(list(colours.values()), np.uint8)[best][where]


def _strange_colours(shown: str, pixels: np.ndarray) -> str:
    """The sentence on pixels (N, 3) whose colours stand for no class."""
    found, counts = np.unique(pixels, axis=0, return_counts=True)
    listed = ", ".join(f"({r}, {g}, {b})" for r, g, b in found[np.argsort(-counts)][:3])
    more = " and more" if len(found) > 3 else ""
    pixel = "pixel" if len(pixels) == 1 else "pixels"
    return (
        f"{shown} has {len(pixels)} {pixel} of a colour that stands for no class, {listed}{more}; repaint them, or, if "
        'they are blurred edges, write "nearest": true into classes.json, which takes the nearest class.'
    )


def lossy_files(folder: Path) -> str:
    """The sentence on a folder of masks in JPEG, "" where there are none."""
    found = [path for path in folder.rglob("*") if path.suffix.lower() in LOSSY_SUFFIXES]
    if not found:
        return ""
    count = "1 .jpg mask" if len(found) == 1 else f"{len(found)} .jpg masks"
    return f"The folder {folder} holds {count}: JPEG changes ids; export them as PNG."
