"""Headers that lie, and files that cost more to decode than they say."""

import io
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

import runtime
from runtime import headers, image
from runtime.errors import UserError
from tests.encoded import chunk, encode, refused
from tests.shared import CASES, present
from tests.tiny import REPOSITORY

STREET = np.kron(np.arange(48, dtype=np.uint8).reshape(6, 8), np.ones((8, 8), np.uint8))[
    ..., None
] * np.uint8([5, 3, 1])


def jpeg(**options) -> bytes:
    return encode(STREET, "JPEG", quality=95, **options)


def segments(data: bytes) -> list[bytes]:
    """A JPEG cut before each marker that is followed by a length or ends the file; a scan's data belong to its SOS."""
    cuts, at = [2], 2
    while data[at + 1] != 0xD9:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[cuts[-1] + 1] == 0xDA:
            at = headers.JPEG_NEXT.search(data, at).start()
        cuts.append(at)
    return [data[start:end] for start, end in zip(cuts, [*cuts[1:], len(data)], strict=True)]


def at_frame(data: bytes, extra: bytes) -> bytes:
    """The same with `extra` before its frame header."""
    parts = segments(data)
    place = next(number for number, part in enumerate(parts) if part[1] in headers.JPEG_FRAMES)
    return data[:2] + b"".join([*parts[:place], extra, *parts[place:]])


def frame_of(height: int, width: int) -> bytes:
    return (
        b"\xff\xc0\0\x11\x08"
        + height.to_bytes(2, "big")
        + width.to_bytes(2, "big")
        + b"\3\1\x11\0\2\x11\0\3\x11\0"
    )


@pytest.mark.parametrize("alone", [b"\xff\x01", b"\xff\xd0", b"\xff\xd7", b"\xff\xff\xff\x01"])
def test_a_marker_without_a_length_hides_no_frame(alone):
    """Read as a segment, TEM's "length" would be the next marker, and jump over a frame of 900 megapixels."""
    hidden = frame_of(30_000, 30_000)
    refused(at_frame(jpeg(), alone + hidden), "JPEG")  # two frames
    parts = [part for part in segments(jpeg()) if part[1] not in headers.JPEG_FRAMES]
    lone = b"\xff\xd8" + alone + hidden + b"".join(parts)
    refused(lone, "30000x30000 pixels (900 megapixels)")
    assert image.read_rgb(at_frame(jpeg(), alone)).shape == STREET.shape  # harmless where it hides nothing


@pytest.mark.parametrize(
    "extra",
    [
        b"\0\0\0\0",  # libjpeg would search for the next 0xFF
        b"\xff\x00",
        b"\xff\xd8",
        b"\xff\x02\0\4ab",
        b"\xff\xe1\0\1",
        b"\xff\xe1\0\0",
        frame_of(48, 64),
        b"\xff\xda\0\x08\1\1\0\0\x3f\0" + b"\0\0",  # a scan before the frame
    ],
)
def test_what_libjpeg_might_read_otherwise_is_refused(extra):
    refused(at_frame(jpeg(), extra), "truncated or damaged JPEG")


def test_a_thumbnail_and_what_follows_the_end_do_not_count():
    inner = jpeg(progressive=True)
    with_thumbnail = at_frame(jpeg(), b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner)
    header = headers.read_header(with_thumbnail + inner * 100, "x")
    assert (header.height, header.width, header.scans) == (48, 64, 1)
    assert image.read_rgb(with_thumbnail + inner * 100).shape == STREET.shape


def test_scans_are_counted_and_bounded():
    data = jpeg(progressive=True)
    assert headers.read_header(data, "x").scans == 10  # what libjpeg writes for three channels
    parts = segments(data)
    scans = [part for part in parts if part[1] == headers.JPEG_SCAN]
    for more, good in ((54, True), (55, False), (2000, False)):
        long = data[:2] + b"".join([*parts[:-1], *scans[-1:] * more, parts[-1]])
        assert headers.read_header(long, "x").scans == 10 + more
        if good:
            assert image.read_rgb(long).shape == STREET.shape
        else:
            refused(long, f"JPEG of {10 + more} scans", "up to 64", name="long.jpg")


@pytest.mark.parametrize("cut", [1, 2, 3, 50])
def test_a_progressive_file_that_is_cut_is_refused(cut):
    refused(jpeg(progressive=True)[:-cut], "truncated")


TEXT = zlib.compress(b"a" * 7_900_000, 9)  # libpng unpacks up to 8 MB of each, and keeps 1000 of them
EXTRAS = {
    "zTXt": chunk(b"zTXt", b"k\0\0" + TEXT),
    "iTXt": chunk(b"iTXt", b"k\0\1\0\0\0" + TEXT),
    "iCCP": chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(50_000_000), 9)),
    "gAMA": chunk(b"gAMA", (10_000).to_bytes(4, "big")),
    "private": chunk(b"prVt", b"x" * 1000),
}


@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_extras_of_a_png_never_reach_the_decoder(extra, mode):
    plain = encode(STREET, "PNG", mode=mode)
    data = plain[:33] + EXTRAS[extra] * 3 + plain[33:]
    kept = headers.for_decoder(data, headers.read_header(data, "x"))
    assert kept == headers.for_decoder(plain, headers.read_header(plain, "x")) and len(kept) <= len(plain)
    # The image is that of Pillow, which knows nothing of what is left out here.
    expected = np.asarray(Image.open(io.BytesIO(plain)).convert("RGB"))
    assert np.array_equal(image.read_rgb(data), expected)


def test_a_png_of_many_chunks_is_refused_soon():
    plain = encode(STREET, "PNG")
    refused(plain[:33] + chunk(b"tEXt", b"k\0") * headers.MOST_CHUNKS + plain[33:], "damaged PNG")


def test_a_second_header_of_a_png_is_refused():
    plain = encode(STREET, "PNG")
    refused(plain[:33] + plain[8:33] + plain[33:], "damaged PNG")


def test_of_an_animated_png_the_still_image_is_read():
    buffer = io.BytesIO()
    frames = [Image.fromarray(STREET), Image.fromarray(255 - STREET)]
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    assert b"fdAT" in buffer.getvalue()
    assert np.array_equal(image.read_rgb(buffer.getvalue()), STREET)


def test_an_animated_webp_is_refused():
    buffer = io.BytesIO()
    frames = [Image.fromarray(STREET), Image.fromarray(255 - STREET)]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    refused(buffer.getvalue(), "m.webp is an animated WebP; save the one image", name="m.webp")


@pytest.mark.parametrize("side", [20_000, 46_341])  # 46,341 squared is beyond 31 bits
@pytest.mark.parametrize("packed", [0, 1])
def test_a_bmp_of_any_packing_is_bounded(side, packed):
    header = (
        b"BM"
        + (70).to_bytes(4, "little")
        + bytes(4)
        + (54).to_bytes(4, "little")
        + (40).to_bytes(4, "little")
    )
    sides = side.to_bytes(4, "little") * 2
    refused(header + sides + b"\1\0\x08\0" + packed.to_bytes(4, "little") + bytes(40), "megapixels")


FIRST = (
    "import training.train",
    "import training.evaluate",
    "import export",
    "import zoo.convert.__main__",
    "import runtime.__main__",
    "import app.segment_tab",
)


@pytest.mark.parametrize("first", FIRST[4:])
def test_the_decoder_holds_to_the_limit_itself(first, tmp_path):
    """Whoever imports OpenCV first: the variable is read once, when its library is loaded."""
    (tmp_path / "big.png").write_bytes(cv2.imencode(".png", np.zeros((7100, 7100), np.uint8))[1])
    code = f"{first}\nimport cv2, sys\ncv2.imread(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "big.png")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert "pixels <= CV_IO_MAX_IMAGE_PIXELS" in done.stderr
    assert runtime.MAX_PIXELS < 7100**2 == 50_410_000


@pytest.mark.slow
@pytest.mark.parametrize("first", FIRST[:4])
def test_so_do_the_entry_points_of_training(first, tmp_path):
    test_the_decoder_holds_to_the_limit_itself(first, tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [("jpeg_bomb_66kB.jpg", "30000x30000 pixels"), ("jpeg_scans_7000_x200", "JPEG of 210 scans")],
)
def test_the_files_that_were_found(name, words):
    path = present(CASES / name)
    with pytest.raises(UserError, match=words):
        image.read_rgb(path)
