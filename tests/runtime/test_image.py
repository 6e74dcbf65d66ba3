"""Images that users bring: what is read, and what is refused with one sentence."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from runtime import image
from runtime.errors import UserError
from tests.encoded import chunk, encode, refused
from tests.tiny import REPOSITORY


@pytest.fixture
def sample_image() -> np.ndarray:
    """A gradient with a red corner, 24x40, smooth enough for JPEG to keep it."""
    rows, columns = np.mgrid[0:24, 0:40]
    rgb = np.stack([rows * 8, columns * 6, 255 - columns * 5], axis=-1).astype(np.uint8)
    rgb[:8, :8] = (255, 0, 0)
    return rgb


def bomb() -> bytes:
    """20,000 x 20,000 pixels, one bit each: a PNG of some 49 kB."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    squeezed = zlib.compress(b"\0" * 2501 * 20_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", squeezed) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_lossless_kinds_come_back_exactly(sample_image, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(image.read_rgb(encode(sample_image, kind, **options)), sample_image)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}])
def test_jpeg_is_read_like_pillow(sample_image, options):
    data = encode(sample_image, "JPEG", quality=95, **options)
    expected = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    assert np.abs(image.read_rgb(data).astype(int) - expected).max() <= 4


def test_lossy_webp_size(sample_image):
    assert image.read_rgb(encode(sample_image, "WEBP", quality=80)).shape == (24, 40, 3)
    assert image.read_rgb(encode(sample_image, "WEBP", quality=80, exif=Image.Exif().tobytes())).shape == (
        24,
        40,
        3,
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_grey_becomes_three_equal_channels(sample_image, kind):
    rgb = image.read_rgb(encode(sample_image[..., 0], kind))
    assert rgb.shape == (24, 40, 3)
    assert np.array_equal(rgb[..., 0], rgb[..., 1]) and np.array_equal(rgb[..., 1], rgb[..., 2])
    if kind != "JPEG":
        assert np.array_equal(rgb[..., 0], sample_image[..., 0])


def test_paletted_png_becomes_its_colours(sample_image):
    paletted = Image.fromarray(sample_image).quantize(8)
    buffer = io.BytesIO()
    paletted.save(buffer, "PNG")
    assert np.array_equal(image.read_rgb(buffer.getvalue()), np.asarray(paletted.convert("RGB")))


@pytest.mark.parametrize("alpha", [0, 1, 255])
def test_alpha_is_dropped_and_the_colour_kept(sample_image, alpha):
    with_alpha = np.dstack([sample_image, np.full(sample_image.shape[:2], alpha, np.uint8)])
    assert np.array_equal(image.read_rgb(encode(with_alpha, "PNG")), sample_image)
    grey = np.dstack([sample_image[..., 0], np.full(sample_image.shape[:2], alpha, np.uint8)])
    assert np.array_equal(image.read_rgb(encode(grey, "PNG"))[..., 0], sample_image[..., 0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(sample_image, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(sample_image, "JPEG", quality=95, exif=exif)
    plain = image.read_rgb(encode(sample_image, "JPEG", quality=95))
    turned = {
        1: plain,
        2: plain[:, ::-1],
        3: plain[::-1, ::-1],
        4: plain[::-1],
        5: plain.transpose(1, 0, 2),
        6: np.rot90(plain, -1),
        7: np.rot90(plain, -1)[:, ::-1][::-1, ::-1],
        8: np.rot90(plain, 1),
    }[orientation]
    assert np.array_equal(image.read_rgb(data), turned)


def test_a_file_with_a_name_in_other_letters_is_read(tmp_path, sample_image):
    path = tmp_path / "straße 街 1.png"
    path.write_bytes(encode(sample_image, "PNG"))
    assert np.array_equal(image.read_rgb(path), sample_image)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    data = bomb()
    assert len(data) < 60_000
    path = tmp_path / "bomb.png"
    path.write_bytes(data)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    refused(path, "bomb.png", "20000x20000", "400 megapixels", "50 megapixels")


@pytest.mark.parametrize(
    "kind, options",
    [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("BMP", {}), ("WEBP", {"lossless": True})],
)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.97])
def test_truncated_files_are_refused(kind, options, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encode(noise, kind, **options)
    refused(data[: max(8, int(len(data) * share))], "cut.img", name="cut.img")


def test_a_jpeg_cut_behind_its_thumbnail_is_refused(sample_image):
    """The thumbnail inside EXIF has an end marker of its own, which must not pass for the image's."""
    data = encode(sample_image, "JPEG")
    thumbnail = b"Exif\0\0" + encode(sample_image[:8, :8], "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = data[:2] + segment + data[2:]
    assert image.read_rgb(whole).shape == (24, 40, 3)
    refused(whole[:-20], "cut.jpg", "truncated", name="cut.jpg")


def test_bytes_after_the_end_of_a_jpeg_do_no_harm(sample_image):
    assert image.read_rgb(encode(sample_image, "JPEG") + b"\0" * 100).shape == (24, 40, 3)


def test_a_png_with_one_changed_byte_is_refused(sample_image):
    data = bytearray(encode(sample_image, "PNG"))
    data[len(data) // 2] ^= 0x55
    refused(bytes(data), "one.png", "damaged", name="one.png")


def test_sixteen_bits_are_refused(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(path)
    refused(path, "deep.png", "16 bits", "8 bits")
    cv2.imwrite(str(path), np.full((8, 8, 3), 300, np.uint16))
    refused(path, "deep.png", "16 bits")


@pytest.mark.parametrize("mode", ["CMYK"])
def test_cmyk_is_refused(sample_image, mode):
    refused(encode(sample_image, "JPEG", mode), "print.jpg", "CMYK", "RGB", name="print.jpg")


def test_what_is_no_image_is_refused(tmp_path):
    text = tmp_path / "notes.png"
    text.write_text("these are notes", encoding="utf-8")
    refused(text, "notes.png", "not an image", "PNG")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    refused(empty, "empty.jpg", "empty")
    refused(tmp_path / "gone.png", "gone.png", "does not exist")
    refused(tmp_path, "folder")
    refused(b"", "upload.png", "empty", name="upload.png")
    refused(b"\x89PNG\r\n\x1a\n", "upload.png", name="upload.png")
    refused(b"\xff\xd8\xff", "upload.jpg", name="upload.jpg")
    refused(b"BM", "upload.bmp", name="upload.bmp")


@pytest.mark.parametrize("kind, word", [("GIF", "GIF"), ("TIFF", "TIFF")])
def test_other_kinds_are_named(sample_image, kind, word):
    refused(encode(sample_image, kind), word, "PNG, JPEG")


def test_no_byte_soup_gets_past_as_anything_but_a_user_error(sample_image):
    """Cut and flip every kind at random: an image or a UserError, nothing else."""
    generator = np.random.default_rng(1)
    for kind in ("PNG", "JPEG", "BMP", "WEBP"):
        data = encode(sample_image, kind)
        for _ in range(60):
            soup = bytearray(data[: generator.integers(1, len(data) + 1)])
            for at in generator.integers(0, len(soup), 3):
                soup[at] = generator.integers(0, 256)
            try:
                assert image.read_rgb(bytes(soup)).dtype == np.uint8
            except UserError:
                pass


def test_png_round_trip_and_refusal(sample_image):
    for array in (sample_image, sample_image[..., 0].copy()):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(image.png(array)))), array)
    with pytest.raises(ValueError):
        image.png(sample_image[..., 0].astype(np.int32))


def test_colour_and_overlay():
    ids = np.array([[0, 1, 255]], np.uint8)
    palette = ((10, 20, 30), (200, 100, 0))
    for kind in (np.uint8, np.int32, np.int64):
        assert image.colour(ids.astype(kind), palette).tolist() == [[[10, 20, 30], [200, 100, 0], [0, 0, 0]]]
    rgb = np.full((1, 3, 3), 100, np.uint8)
    assert image.overlay(rgb, ids, palette, 0.0).tolist() == rgb.tolist()
    assert image.overlay(rgb, ids, palette, 0.5).tolist() == [[[55, 60, 65], [150, 100, 50], [100] * 3]]
    assert image.overlay(rgb, ids, palette, 1.0).tolist() == [[[10, 20, 30], [200, 100, 0], [100] * 3]]


def test_pixels_are_counted_exactly_where_float32_is_not():
    """4099 x 4099 - 4 is odd and above 2**24, so float32 has no such number."""
    ids = np.zeros((4099, 4099), np.uint8)
    ids[7, 3:7] = 255
    counts = image.pixels_of_classes(ids)
    assert counts.shape == (256,) and counts[0] == 4099**2 - 4 and counts[255] == 4
    assert image.pixels_of_classes(ids[:10, ::2]).sum() == 10 * 2050


def test_resizing_keeps_image_and_ids_aligned():
    """Four times larger, then back: nearest ids sample pixel centres and must not drift."""
    ids = np.random.default_rng(0).integers(0, 19, (9, 7), np.uint8)
    large = image.resize_ids(ids, (36, 28))
    assert np.array_equal(large, ids.repeat(4, 0).repeat(4, 1))
    assert np.array_equal(image.resize_ids(large, (9, 7)), ids)
    edge = np.zeros((8, 8, 3), np.uint8)
    edge[:, 4:] = 200
    grown = image.resize_rgb(edge, (8, 16))
    assert grown.shape == (8, 16, 3)
    assert np.array_equal(grown, 200 - grown[:, ::-1])  # symmetric about the edge: no half-pixel shift


def test_the_runtime_reads_images_without_pillow_or_tensorflow():
    import subprocess
    import sys

    code = "import sys, runtime.image; print([m for m in ('PIL', 'tensorflow', 'keras') if m in sys.modules])"
    root = REPOSITORY
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
