"""Masks that people bring: ids and colours out of every kind of PNG, and the legend that says what they mean."""

import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from app import painted
from runtime.errors import UserError
from runtime.figures import FULL, PAPER, confusion_image, error_image
from runtime.image import png

IDS = np.random.default_rng(0).integers(0, 5, (30, 41)).astype(np.uint8)
PALETTE = ((128, 64, 128), (70, 70, 70), (0, 0, 142), (220, 20, 60), (1, 2, 3))
LABELS = ("road", "building", "car", "person", "pole")


def paletted(**options) -> bytes:
    sample_image = Image.fromarray(IDS).convert("P")
    sample_image.putdata(IDS.ravel().tolist())
    sample_image.putpalette([channel for colour in PALETTE for channel in colour])
    data = io.BytesIO()
    sample_image.save(data, "PNG", **options)
    return data.getvalue()


@pytest.mark.parametrize("options", [{}, {"bits": 4}, {"bits": 8, "transparency": 0}])
def test_a_paletted_png_gives_its_indices_as_pillow_does(options):
    data = paletted(**options)
    assert np.array_equal(np.array(Image.open(io.BytesIO(data))), IDS)  # what the file is
    mask = painted.read_mask(data)
    assert (mask.by, mask.kinds) == ("ids", ("ids", "colours"))
    assert np.array_equal(painted.to_ids(mask, painted.suggested(mask, PALETTE)), IDS)
    coloured = painted.read_mask(data, by="colours")
    assert set(coloured.values) == set(PALETTE)
    assert np.array_equal(painted.to_ids(coloured, painted.suggested(coloured, PALETTE)), IDS)


def test_values_come_with_their_shares_the_most_frequent_first():
    ids = np.array([[7, 7, 7, 7], [7, 26, 26, 26], [255, 255, 7, 26]], np.uint8)
    mask = painted.read_mask(png(ids))
    assert mask.values == (7, 26, 255)
    assert mask.shares == pytest.approx((6 / 12, 4 / 12, 2 / 12))
    assert np.array_equal(painted.to_ids(mask, {7: 0, 26: 2}), [[0] * 4, [0, 2, 2, 2], [255, 255, 0, 2]])


def test_colours_that_are_not_the_models_are_ignored_until_someone_says_what_they_are():
    rgb = np.array([[[128, 64, 128], [9, 9, 9]], [[0, 0, 142], [9, 9, 9]]], np.uint8)
    mask = painted.read_mask(png(rgb))
    assert mask.by == "colours" and mask.kinds == ("colours",)
    start = painted.suggested(mask, PALETTE)
    assert start == {(9, 9, 9): 255, (128, 64, 128): 0, (0, 0, 142): 2}
    assert np.array_equal(painted.to_ids(mask, {**start, (9, 9, 9): 4}), [[0, 4], [2, 4]])


def test_a_legend_comes_back_and_is_by_name():
    legend = {(128, 64, 128): 0, (128, 0, 0): 0, (9, 9, 9): 255, (0, 0, 142): 2}
    data = painted.legend_json("colours", legend, LABELS)
    assert json.loads(data) == {
        "by": "colours",
        "classes": [
            {"name": "road", "colours": [[128, 64, 128], [128, 0, 0]]},
            {"name": "car", "colours": [[0, 0, 142]]},
        ],
        "ignore": [[9, 9, 9]],
    }
    assert painted.read_legend(data, LABELS) == ("colours", legend)
    turned = LABELS[::-1]  # another model has its classes in another order
    assert painted.read_legend(data, turned)[1] == {
        value: 255 if index == 255 else 4 - index for value, index in legend.items()
    }
    by_id = {7: 0, 8: 0, 26: 2, 255: 255}
    assert painted.read_legend(painted.legend_json("ids", by_id, LABELS), LABELS) == ("ids", by_id)


def test_a_legend_is_a_classes_json_of_data_folder(tmp_path):
    from training.data.labels import classes

    path = tmp_path / "classes.json"
    path.write_bytes(painted.legend_json("ids", {7: 0, 8: 0, 26: 2, 3: 255}, LABELS))
    table, _ = classes.read(path)
    assert table.names == ("road", "car")
    assert [int(table.table[raw]) for raw in (7, 8, 26, 3)] == [0, 0, 1, 255]
    path.write_bytes(
        painted.legend_json("colours", {(1, 2, 3): 0, (4, 5, 6): 0, (8, 8, 8): 2, (7, 8, 9): 255}, LABELS)
    )
    table, _ = classes.read(path)
    assert table.colours == {(1, 2, 3): 0, (4, 5, 6): 0, (8, 8, 8): 1, (7, 8, 9): 255}


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"[]", "no legend"),
        (b"not json", "no legend"),
        (b"[" * 100_000, "no legend"),
        (b'{"classes": []}', "it has no 'by'"),
        (b'{"by": "smell", "classes": []}', "smell"),
        (b'{"by": "ids", "classes": [{"name": "road", "ids": [300]}]}', "300"),
        (b'{"by": "ids", "classes": [{"name": "road", "ids": [true]}]}', "True"),
        (b'{"by": "ids", "classes": [{"name": "moon", "ids": [3]}]}', "'moon'; the model has road"),
        (b'{"by": "ids", "classes": [{"name": "road", "ids": [3, 3]}]}', "says twice what 3"),
        (b'{"by": "colours", "classes": [{"name": "road", "colours": [[1, 2]]}]}', "[1, 2]"),
        (b" " * 2_000_000, "2000000 bytes"),
    ],
)
def test_a_wrong_legend_is_one_sentence(data, part):
    with pytest.raises(UserError) as caught:
        painted.read_legend(data, LABELS, "mine.json")
    assert part in str(caught.value) and str(caught.value).startswith("mine.json")


def test_what_is_no_mask_is_refused():
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    for data, part in (
        (bytes(cv2.imencode(".jpg", noise)[1]), "a JPEG, which may blur"),
        (png(noise), "colours; a mask has one a class, 256"),
    ):
        with pytest.raises(UserError, match=part):
            painted.read_mask(data, "m")
    with pytest.raises(UserError, match="painted in colours"):
        painted.read_mask(png(np.array([[[1, 2, 3]]], np.uint8)), "m", "ids")
    with pytest.raises(UserError, match="m is 41x30 pixels but p is 41x29; both"):
        painted.check_fits(painted.read_mask(png(IDS)), np.zeros((29, 41, 3), np.uint8), "m", "p")


def test_the_error_image():
    sample_image = error_image(np.array([[0, 1, 255]]), np.array([[0, 2, 2]]))
    assert sample_image.tolist() == [[[40, 40, 40], [230, 60, 40], [255, 255, 255]]]


def test_the_confusion_image_shades_each_row_by_its_shares():
    matrix = np.array([[75, 25, 0, 0], [0, 40, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    sample_image = confusion_image(matrix, ("a", "b", "not there", "nor this"))
    margin, cell = 150, 46
    assert sample_image.shape == (margin + 2 * cell + 12, margin + 2 * cell + 12, 3)

    def tone(row: int, column: int) -> list[int]:
        return sample_image[margin + row * cell + 4, margin + column * cell + 4].tolist()

    def mixed(share: float) -> list[int]:
        return [round(p + share * (f - p)) for p, f in zip(PAPER, FULL, strict=True)]

    assert tone(0, 0) == mixed(0.75) and tone(0, 1) == mixed(0.25)
    assert tone(1, 1) == list(FULL) and tone(1, 0) == list(PAPER)
    many = confusion_image(np.eye(60, dtype=int), [f"a rather long name of class {i}" for i in range(60)])
    assert many.shape[0] == many.shape[1] < 1200
    assert confusion_image(np.zeros((3, 3), int), ("a", "b", "c")).ndim == 3
