"""Outlines as files: read back by COCO's and Cityscapes' own tools, GeoJSON by arithmetic."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import outlines
from runtime.__main__ import main
from runtime.errors import exit_on_user_error
from runtime.polygons import polygons
from runtime.segmenter import Segmentation
from tests import references
from tests import tiny_tflite as tiny

LABELS = ("road", "sidewalk", "building", "car")
PALETTE = ((128, 64, 128), (244, 35, 232), (70, 70, 70), (0, 0, 142))


def street() -> np.ndarray:
    """Class ids with straight edges: road in which a car stands that has a hole with a building in it."""
    ids = np.zeros((40, 60), np.uint8)
    ids[:12] = 2
    ids[12:16, 30:] = 1
    ids[20:34, 10:40] = 3
    ids[24:30, 20:30] = 2
    return ids


def blobs(height: int = 60, width: int = 80) -> np.ndarray:
    noise = np.random.default_rng(3).random((height, width)).astype(np.float32)
    return (cv2.GaussianBlur(noise, (0, 0), 3) * 400 % 4).astype(np.uint8)


def found(ids: np.ndarray) -> Segmentation:
    return Segmentation(ids, LABELS, PALETTE, 0.01, np.zeros((*ids.shape, 3), np.uint8))


def signed_area(ring: list[list[int]]) -> float:
    (x, y) = np.array(ring, float).T
    return float(x[:-1] @ y[1:] - y[:-1] @ x[1:]) / 2


def test_the_area_inside_edges_is_the_number_of_pixels():
    ids = blobs()
    rows = polygons(ids, tolerance=0, min_area=1, edges=True)
    for row in rows:
        outer = abs(signed_area([*row["points"], row["points"][0]]))
        holes = sum(abs(signed_area([*hole, hole[0]])) for hole in row["holes"])
        assert outer - holes == row["area"]
    assert sum(row["area"] for row in rows) == ids.size


def test_outlines_turn_at_every_point():
    (row,) = polygons(np.ones((5, 7), np.uint8), min_area=1, edges=True)
    assert sorted(row["points"]) == [[0, 0], [0, 5], [7, 0], [7, 5]]


def test_geojson_rings_are_closed_and_turn_as_they_should():
    features = outlines.geojson(found(street()))["features"]
    assert sum(row["properties"]["area"] for row in features) == street().size
    for feature in features:
        outer, *holes = feature["geometry"]["coordinates"]
        assert all(ring[0] == ring[-1] and len(ring) >= 4 for ring in (outer, *holes))
        assert signed_area(outer) > 0 and all(signed_area(hole) < 0 for hole in holes)
        assert sum(map(signed_area, (outer, *holes))) == feature["properties"]["area"]
    car = next(row for row in features if row["properties"]["name"] == "car")
    assert car["properties"] == {"id": 3, "name": "car", "colour": "#00008e", "area": 14 * 30 - 6 * 10}
    assert sorted(car["geometry"]["coordinates"][1][1:]) == [[20, 24], [20, 30], [30, 24], [30, 30]]


def test_only_the_classes_asked_for():
    features = outlines.geojson(found(street()), classes={3})["features"]
    assert [row["properties"]["name"] for row in features] == ["car"]


def coco_of(ids: np.ndarray, tmp_path: Path, count: int = 1) -> Path:
    model = tiny.write_bundle(
        tmp_path / "tiny.tflite", tiny.mask_model(), labels=list(LABELS), palette=[list(c) for c in PALETTE]
    )
    path = tmp_path / "coco.json"
    with outlines.coco_file(path, outlines.Segmenter(model), None) as file:
        for number in range(count):
            file.add(f"{number}.png", found(ids))
    return path


def test_coco_s_own_tools_draw_every_region_again(tmp_path):
    coco = references.pycocotools_coco()(str(coco_of(street(), tmp_path, count=2)))
    assert [row["name"] for row in coco.loadCats(coco.getCatIds())] == list(LABELS)
    assert [row["file_name"] for row in coco.loadImgs(coco.getImgIds())] == ["0.png", "1.png"]
    drawn = np.full(street().shape, 255, np.uint8)
    for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[2])):
        mask = coco.annToMask(annotation).astype(bool)
        rows, columns = np.nonzero(mask)
        left, top, width, height = annotation["bbox"]
        assert mask.sum() == annotation["area"]
        assert (left, top, left + width, top + height) == (
            columns.min(), rows.min(), columns.max() + 1, rows.max() + 1,
        )  # fmt: skip
        drawn[mask] = annotation["category_id"] - 1
    assert (drawn == street()).all()


def test_coco_outlines_of_round_things_stray_by_a_pixel_at_most(tmp_path):
    smooth = cv2.GaussianBlur(np.random.default_rng(4).random((120, 160)), (0, 0), 8)
    ids = np.searchsorted(np.quantile(smooth, (0.25, 0.5, 0.75)), smooth).astype(np.uint8)
    coco = references.pycocotools_coco()(str(coco_of(ids, tmp_path)))
    drawn = np.full(ids.shape, 255, np.uint8)
    for annotation in coco.loadAnns(coco.getAnnIds()):
        drawn[coco.annToMask(annotation).astype(bool)] = annotation["category_id"] - 1
    inner = np.ones_like(ids, bool)
    for index in range(4):  # more than two pixels away from any boundary
        inner &= (ids == index) == (cv2.dilate((ids == index).astype(np.uint8), np.ones((5, 5))) > 0)
    covered = inner & (drawn != 255)  # regions of fewer than 16 pixels are left out
    assert (drawn[covered] == ids[covered]).all() and covered.sum() > 0.9 * inner.sum()


CITYSCAPES_IDS = np.array([7, 8, 11, 26])  # of road, sidewalk, building and car in its labels.py


def test_cityscapes_own_tools_draw_the_image_again():
    drawn = references.cityscapes_painter()(json.dumps(outlines.cityscapes(found(street()))))
    assert (drawn == CITYSCAPES_IDS[street()]).all()


def test_cityscapes_paints_the_rest_as_unlabeled():
    drawn = references.cityscapes_painter()(json.dumps(outlines.cityscapes(found(street()), classes={3})))
    assert ((drawn == 26) == (street() == 3)).all() and set(np.unique(drawn)) == {0, 26}


def run(*arguments: object) -> int:
    return exit_on_user_error(main, [str(argument) for argument in arguments])


def test_the_command_writes_each_format(model, tmp_path):
    for name in ("a/one.png", "two.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "in" / name), tiny.colours()[0][..., ::-1])
    out = tmp_path / "out"
    formats = "json,geojson,coco,cityscapes"
    assert run(model, tmp_path / "in", "--out", out, "--polygons", formats) == 0
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    ends = ("_mask.png", "_overlay.png", ".json", ".geojson", "_polygons.json")
    assert written == {f"{stem}{end}" for stem in ("a/one", "two") for end in ends} | {outlines.COCO_FILE}
    coco = json.loads((out / outlines.COCO_FILE).read_text(encoding="utf-8"))
    assert [row["file_name"] for row in coco["images"]] == ["a/one.png", "two.png"]
    assert len(coco["annotations"]) == 6 and coco["categories"][2] == {
        "id": 3, "name": "blue", "supercategory": "",
    }  # fmt: skip
    assert run(model, tmp_path / "in", "--out", out, "--polygons", "coco") == 2  # what is there stays


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--polygons", "svg"], "'svg' is no format; choose from json, geojson, coco, cityscapes"),
        (
            ["--polygons", "json", "--polygon-classes", "cat"],
            "'cat' is no class of the model; choose from red, green",
        ),
        (["--polygon-classes", "red"], "say which with --polygons"),
    ],
)
def test_what_cannot_be_outlined_is_said(model, tmp_path, capsys, arguments, words):
    cv2.imwrite(str(tmp_path / "one.png"), tiny.colours()[0])
    assert run(model, tmp_path / "one.png", "--out", tmp_path / "o", *arguments) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "o").exists()


def test_ids_without_a_name_are_ignored_ones():
    shown = replace(found(street()), labels=LABELS[:3], palette=PALETTE[:3])
    names = {row["properties"]["name"] for row in outlines.geojson(shown)["features"]}
    assert names == {"road", "sidewalk", "building", "ignored"}
