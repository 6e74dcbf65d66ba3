"""What a mask may be: every file that keeps ids exactly means the same, what is lossy or unclear is refused by name."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from runtime.errors import UserError
from training.data.labels import label_maps, masks
from training.data.labels.masks import read_colours, read_ids
from training.data.spec import lookup_table

IDS = np.array([[0, 1, 2, 3], [3, 9, 255, 0]], np.uint8)
DEEP = np.array([[0, 300, 65535], [7, 256, 255]], np.uint16)
ORIENTATION = 0x0112


def packed(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def grey(mode: str = "L") -> Image.Image:
    return Image.fromarray(IDS).convert(mode)


def refusal(data: bytes, read=read_ids, **options) -> str:
    with pytest.raises(UserError) as caught:
        read(data, name="m", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
@pytest.mark.parametrize(
    "kind, options",
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "packbits"}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_ids_are_the_same_in_every_file_that_keeps_them(mode, kind, options):
    if kind == "BMP" and mode == "LA":
        pytest.skip("BMP has no grey with alpha")
    found = read_ids(packed(grey(mode), kind, **options))
    assert found.dtype == np.uint8 and np.array_equal(found, IDS)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_one_bit_masks_hold_0_and_1_and_palettes_their_indices(kind):
    bits = np.eye(9, dtype=bool)
    assert np.array_equal(read_ids(packed(Image.fromarray(bits), kind)), bits.astype(np.uint8))
    paletted = Image.fromarray(IDS, mode="P")
    paletted.putpalette([channel for value in range(256) for channel in (value, 0, 255 - value)])
    assert np.array_equal(read_ids(packed(paletted, kind)), IDS)


def png(ids: np.ndarray, bits: int, colour_type: int = 0) -> bytes:
    """A PNG written by hand, RFC 2083: rows of `bits` a pixel, no filter."""
    rows = np.unpackbits(ids.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :].reshape(len(ids), -1)
    data = b"".join(b"\0" + np.packbits(row).tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, colour_type, 0, 0, 0)

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_narrow_grey_keeps_the_numbers_that_are_stored(bits):
    ids = np.arange(24).reshape(3, 8) % 2**bits
    assert np.array_equal(read_ids(png(ids, bits)), ids)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_ids(kind):
    found = read_ids(packed(Image.fromarray(DEEP), kind))
    assert found.dtype == np.uint16 and np.array_equal(found, DEEP)


def test_wide_tiffs_are_ids_as_long_as_16_bits_hold_them():
    assert np.array_equal(read_ids(packed(Image.fromarray(DEEP.astype(np.int32)), "TIFF")), DEEP)
    assert "class id 65536" in refusal(packed(Image.fromarray(DEEP.astype(np.int32) + 1), "TIFF"))
    assert "mode F" in refusal(packed(Image.fromarray(DEEP.astype(np.float32)), "TIFF"))


COLOURS = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
GLASS = Image.fromarray(np.dstack([IDS, IDS, IDS, np.where(IDS == 9, 128, 255).astype(np.uint8)]))
NOISE = np.random.default_rng(0).integers(0, 9, (200, 200), np.uint8)
PAGES = {"save_all": True, "append_images": [Image.fromarray(255 - IDS)]}


@pytest.mark.parametrize(
    "data, words",
    [
        (packed(grey(), "JPEG"), "m is a JPEG, and JPEG changes ids"),
        (packed(grey("RGB"), "WEBP", quality=90), "m is a lossy WebP, and lossy WebP changes ids"),
        (packed(grey("RGB"), "WEBP", lossless=True, **PAGES), "m is an animated WebP"),
        (packed(grey(), "TIFF", compression="jpeg"), "m is a TIFF with JPEG inside, which changes ids"),
        (packed(grey(), "TIFF", **PAGES), "m is a TIFF of 2 pages"),
        (packed(grey(), "TIFF", tiffinfo={262: 0}), "white is 0"),
        (packed(grey(), "GIF"), "m is a GIF"),
        (packed(COLOURS, "PNG"), 'm holds colours.*"by": "colours"'),
        (packed(GLASS, "PNG"), "m is partly transparent"),
        (packed(GLASS, "WEBP", lossless=True, exact=True), "m is partly transparent"),
        (packed(grey(), "PNG")[:-20], "m is a truncated or damaged PNG"),
        (
            packed(Image.fromarray(NOISE), "TIFF", compression="tiff_lzw")[:2000],
            "m is a truncated or damaged TIFF",
        ),
        (packed(grey(), "BMP")[:-4], "m is a truncated or damaged BMP"),
    ],
)
def test_what_is_lossy_or_unclear_is_refused_by_name(data, words):
    assert re.search(words, refusal(data)), refusal(data)
    if "colours" not in words:
        refusal(data, read_colours, colours={(0, 0, 0): 0})


def test_whatever_pillow_raises_on_a_damaged_file_is_a_sentence(monkeypatch):
    data = packed(grey(), "PNG")
    for error in (IndexError, AssertionError, KeyError, struct.error, RecursionError):

        def broken(*args, error=error, **kwargs):
            raise error("inside Pillow")

        monkeypatch.setattr(Image, "open", broken)
        assert "m is a truncated or damaged PNG" in refusal(data)


def test_a_large_tiff_is_refused_by_its_header():
    for side in (12_000, 20_000):  # below and above what Pillow refuses itself
        data = packed(Image.new("1", (side, side)), "TIFF", compression="tiff_adobe_deflate")
        assert len(data) < 200_000 and "50 megapixels" in refusal(data)


@pytest.mark.parametrize("quarter", range(1, 9))
@pytest.mark.parametrize("kind, options", [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_a_mask_is_turned_by_its_own_exif(tmp_path, kind, options, quarter):
    """Both turned alike: Pillow's ImageOps.exif_transpose is the reference."""
    exif = Image.Exif()
    exif[ORIENTATION] = quarter
    stored = packed(grey("RGB"), kind, exif=exif, **options)
    reference = Image.fromarray(IDS)
    reference.getexif()[ORIENTATION] = quarter
    upright = np.array(ImageOps.exif_transpose(reference))
    assert np.array_equal(read_ids(stored), upright)
    (tmp_path / "i.jpg").write_bytes(packed(grey("RGB"), "JPEG", exif=exif))
    (tmp_path / "m.png").write_bytes(stored)
    plain = tmp_path / "plain.png"
    plain.write_bytes(packed(grey(), "PNG"))
    table, allowed = np.arange(256, dtype=np.uint8), frozenset(range(256))
    rgb, ids = label_maps.read_pair(tmp_path / "i.jpg", tmp_path / "m.png", table=table, allowed=allowed)
    assert rgb.shape[:2] == ids.shape == upright.shape
    if quarter >= 5:  # without a turn of its own it fits the image as stored alone, so it is turned alike
        assert np.array_equal(
            label_maps.read_pair(tmp_path / "i.jpg", plain, table=table, allowed=allowed)[1], upright
        )
    assert masks.orientation(tmp_path / "i.jpg") == quarter


def test_sixteen_bit_ids_become_classes_through_a_table():
    raw = np.array([[0, 1000, 65534], [255, 1000, 0]], np.uint16)
    table = lookup_table({0: 0, 1000: 1, 65534: 254})
    allowed = frozenset({0, 255, 1000, 65534})
    assert label_maps.to_train_ids(raw, table, allowed, "m").tolist() == [[0, 1, 254], [255, 1, 0]]
    with pytest.raises(UserError, match="m holds the class id 1001; 0, 255, 1000 and 65534 are right"):
        label_maps.to_train_ids(raw + (raw == 1000), table, allowed, "m")
    every = frozenset(range(0, 65536, 2))
    with pytest.raises(UserError, match="class id 1; 0, 2, 4, 6, 8, 10, 12 and 32761 more ranges are right"):
        label_maps.to_train_ids(np.ones((1, 1), np.uint16), table, every, "m")
    small = label_maps.to_train_ids(raw[:, :1], np.arange(256, dtype=np.uint8), frozenset({0, 255}), "m")
    assert small.tolist() == [[0], [255]]  # a 16-bit file, and a data set whose ids are bytes


def test_the_nearest_colour_is_taken_where_that_is_asked_for():
    """A blurred edge: halves of red and black. (200, 0, 0) is 55 from red, (100, 0, 0) 100 from black, 155 from red."""
    rgb = np.array([[(255, 0, 0), (200, 0, 0), (100, 0, 0), (0, 0, 0)]], np.uint8)
    colours = {(255, 0, 0): 4, (0, 0, 0): 9}
    data = packed(Image.fromarray(rgb), "PNG")
    assert '"nearest": true' in refusal(data, read_colours, colours=colours)
    counted = masks.Repainted()
    assert counted.sentence() == ""
    for _ in range(2):  # a file that is read again counts once
        assert read_colours(data, colours, "m", nearest=counted).tolist() == [[4, 4, 9, 9]]
    assert counted.sentence().startswith("50.00% of the masks' pixels")
