"""What an image file says of itself before anything is decoded: kind, size, depth, and whether it is whole.

The decoders behind OpenCV have to read the very header that is read here, or a size that was checked is not the one
that is decoded. So a JPEG's segments are walked as libjpeg walks them, and what libjpeg would skip over in search of
the next marker is refused. Sources: ITU-T T.81, annex B; PNG, third edition, 5; RFC 9649 (WebP).
"""

import re
import struct
import zlib
from dataclasses import dataclass

from runtime.errors import UserError

MAX_PIXELS = 50_000_000
READABLE = "8-bit PNG, JPEG, WebP and BMP images are read"
# libjpeg's own encoder writes 10 for a progressive file. Each costs a pass over the whole image, however short it is:
# 65 ms at 49 megapixels.
MOST_SCANS = 64
MOST_CHUNKS = 200_000  # of a PNG; libpng writes one for 8 kB
# All that decides a pixel, and the turn. What else a PNG may hold is not handed to the decoder: 900 compressed texts
# took 7 GB in a file of 7 MB.
PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"IEND")
JPEG_ALONE = (0x01, *range(0xD0, 0xD8))  # markers without a length: TEM, RST0 to RST7
JPEG_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
JPEG_START, JPEG_END, JPEG_SCAN = 0xD8, 0xD9, 0xDA
# In a scan 0xFF is data when 0 follows, and RST0 to RST7 belong to it.
JPEG_NEXT = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")

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
    """What an image's header says, before anything is decoded. `bits` is per channel, `scans` of a JPEG."""

    kind: str
    height: int
    width: int
    bits: int = 8
    paletted: bool = False
    cmyk: bool = False
    complete: bool = True
    animated: bool = False
    scans: int = 1


def read_header(data: bytes, shown: str) -> Header:
    """Kind, size, depth and completeness of an image; UserError when it is no image that is read here."""
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
    if b"<svg" in data[:1000].lower():
        raise UserError(f"{shown} is an SVG drawing; {READABLE}.")
    raise UserError(f"{shown} is not an image that is read here; {READABLE}.")


def for_decoder(data: bytes, header: Header) -> bytes:
    """The same image without what the decoder need not see: of a PNG all chunks but `PNG_CHUNKS`."""
    if header.kind != "PNG":
        return data
    view, parts, at = memoryview(data), [data[:8]], 8
    while at < len(data):
        end = at + 12 + int.from_bytes(view[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if kind in PNG_CHUNKS:
            parts.append(view[at:end])  # type: ignore[arg-type]
        if kind == b"IEND":
            break
        at = end
    return b"".join(parts)


def _png_header(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        return Header("PNG", 1, 1, complete=False)
    width, height, bits, colour_type = struct.unpack(">IIBB", data[16:26])
    return Header("PNG", height, width, bits, paletted=colour_type == 3, complete=_png_complete(data))


def _png_complete(data: bytes) -> bool:
    """Every chunk up to IEND is there and passes its checksum (OpenCV would decode half a file), and one is IHDR."""
    at, view = 8, memoryview(data)
    for number in range(MOST_CHUNKS):
        if at + 12 > len(data):
            return False
        (length,) = struct.unpack(">I", view[at : at + 4])
        end = at + 12 + length
        if (
            end > len(data)
            or zlib.crc32(view[at + 4 : end - 4]) != struct.unpack(">I", view[end - 4 : end])[0]
        ):
            return False
        kind = data[at + 4 : at + 8]
        if (kind == b"IHDR") != (number == 0):
            return False
        if kind == b"IEND":
            return True
        at = end
    return False


def _jpeg_header(data: bytes) -> Header:
    """Walk the segments from the start to the end marker, past thumbnails inside APP segments; one frame header."""
    at, frame, scans = 2, None, 0
    while True:
        marker, at = _jpeg_marker(data, at)
        if marker == JPEG_END:
            break
        if marker in JPEG_ALONE:
            continue
        (length,) = struct.unpack(">H", data[at : at + 2])
        if marker < 0xC0 or marker == JPEG_START or length < 2 or at + length > len(data):
            return _NO_JPEG
        if marker in JPEG_FRAMES:
            if frame is not None:
                return _NO_JPEG
            frame = struct.unpack(">BHHB", data[at + 2 : at + 8])
        at += length
        if marker == JPEG_SCAN:
            if frame is None:
                return _NO_JPEG
            scans += 1
            found = JPEG_NEXT.search(data, at)
            if not found:
                return _NO_JPEG
            at = found.start()
    if frame is None or not scans:
        return _NO_JPEG
    bits, height, width, channels = frame
    return Header("JPEG", height, width, bits, cmyk=channels == 4, scans=scans)


_NO_JPEG = Header("JPEG", 1, 1, complete=False)


def _jpeg_marker(data: bytes, at: int) -> tuple[int, int]:
    """The marker at a place, after any fill bytes, and the place behind it; START where there is none."""
    if data[at] != 0xFF:
        return JPEG_START, at
    while data[at] == 0xFF:
        at += 1
    return data[at] or JPEG_START, at + 1


def _webp_header(data: bytes) -> Header:
    (riff,) = struct.unpack("<I", data[4:8])
    complete, animated = riff + 8 <= len(data), False
    kind = data[12:16]
    if kind == b"VP8X":
        animated = bool(data[20] & 2)
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
    elif kind == b"VP8L":
        (packed,) = struct.unpack("<I", data[21:25])
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    else:
        width, height = (side & 0x3FFF for side in struct.unpack("<HH", data[26:30]))
    return Header("WebP", height, width, complete=complete, animated=animated)


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
