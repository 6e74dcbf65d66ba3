"""Outlines of what was found as files that other programs read: GeoJSON, COCO and Cityscapes polygons."""

import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from runtime.class_names import chosen
from runtime.errors import UserError
from runtime.files import refused, whole_file
from runtime.polygons import polygons
from runtime.segmenter import Segmentation, Segmenter

FORMATS = ("json", "geojson", "coco", "cityscapes")
COCO_FILE = "annotations_coco.json"
REST = 255  # the id of what was not asked for
REST_NAME = "unlabeled"  # as Cityscapes calls it


def chosen_formats(text: str) -> tuple[str, ...]:
    """The formats of a list such as geojson,coco; UserError names one that is none."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in FORMATS:
            raise UserError(f"--polygons {name!r} is no format; choose from {', '.join(FORMATS)}.")
    return names


def chosen_classes(text: str | None, labels: tuple[str, ...]) -> frozenset[int] | None:
    """The ids of the classes in a list such as car,person; UserError names one that the model does not have."""
    if text is None:
        return None
    return frozenset(labels.index(name) for name in chosen(text, labels, "--polygon-classes"))


def geojson(found: Segmentation, classes: Collection[int] | None = None) -> dict[str, Any]:
    """A FeatureCollection, RFC 7946 in form: one Polygon a region, with id, name, colour and area (pixels).

    Deviation: coordinates are pixels, (0, 0) the image's top left corner and y downwards, not degrees.
    Rings are closed; by the shoelace formula outer rings are positive and holes negative.
    """
    features = []
    for row in found.polygons(edges=True, classes=classes):
        rings = [_ring(row["points"], 1), *(_ring(hole, -1) for hole in row["holes"])]
        colour = "#{:02x}{:02x}{:02x}".format(*found.colour_of(row["id"]))
        facts = {"id": row["id"], "name": row["name"], "colour": colour, "area": row["area"]}
        shape = {"type": "Polygon", "coordinates": rings}
        features.append({"type": "Feature", "properties": facts, "geometry": shape})
    return {"type": "FeatureCollection", "features": features}


def _ring(points: list[list[int]], sign: int) -> list[list[int]]:
    """Closed, and in the direction in which its signed area has this sign."""
    x, y = np.array(points).T
    turns = float(x @ np.roll(y, -1) - y @ np.roll(x, -1))
    ordered = points if turns * sign > 0 else points[::-1]
    return [*ordered, ordered[0]]


def cityscapes(found: Segmentation, classes: Collection[int] | None = None) -> dict[str, Any]:
    """What a *_gtFine_polygons.json of Cityscapes holds: imgHeight, imgWidth, and objects, each a label and
    a polygon of pixel centres, to be painted in this order: a later one lies on top, as there are no holes.

    Labels are the model's names: those of a model of Cityscapes are the data set's own. What is not in
    `classes` is painted as unlabeled.
    """
    ids = found.ids
    if classes is not None:
        ids = np.where(np.isin(ids, list(classes)), ids, REST).astype(np.uint8)
    rows = sorted(polygons(ids, min_area=1 if classes else 16), key=lambda row: -_enclosed(row["points"]))
    return {
        "imgHeight": ids.shape[0],
        "imgWidth": ids.shape[1],
        "objects": [
            {
                "label": REST_NAME if row["id"] == REST else found.name_of(row["id"]),
                "polygon": (row["points"] * 3)[: max(3, len(row["points"]))],
            }
            for row in rows
        ],
    }


def _enclosed(points: list[list[int]]) -> float:
    x, y = np.array(points, np.float64).T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


class Coco:
    """One COCO file of all images, instances format; `add` keeps no more than one image in memory.

    An annotation is a connected region: its bounding box, its area, and its outline, or uncompressed
    run lengths (as COCO's tools take them) where it has holes, which COCO's polygons cannot. Category ids are
    the class ids + 1, because tools of COCO take 0 for the background.
    """

    def __init__(self, images: Any, annotations: Any, classes: Collection[int] | None) -> None:
        self._images, self._annotations, self._classes = images, annotations, classes
        self._image_count = self._annotation_count = 0

    def add(self, name: str, found: Segmentation) -> None:
        height, width = found.ids.shape
        self._image_count += 1
        image = {"id": self._image_count, "file_name": name, "height": height, "width": width}
        self._images.write((",\n" if self._image_count > 1 else "") + json.dumps(image))
        for row in found.polygons(edges=True, classes=self._classes):
            self._annotation_count += 1
            text = json.dumps(self._annotation(row, found.ids))
            self._annotations.write((",\n" if self._annotation_count > 1 else "") + text)

    def _annotation(self, row: dict[str, Any], ids: np.ndarray) -> dict[str, Any]:
        x, y = np.array(row["points"]).T
        left, top = int(x.min()), int(y.min())
        outline: Any = [np.array(row["points"]).ravel().tolist()]
        return {
            "id": self._annotation_count,
            "image_id": self._image_count,
            "category_id": row["id"] + 1,
            "bbox": [left, top, int(x.max()) - left, int(y.max()) - top],
            "area": row["area"],
            "iscrowd": 0,
            "segmentation": _run_lengths(row, ids.shape) if row["holes"] else outline,
        }


def _run_lengths(row: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """Lengths of the runs outside and inside, in turn, column by column, the first of them outside."""
    # Edges are half a pixel away from centres: on a grid of half pixels both have a place.
    big = np.zeros((2 * shape[0] + 1, 2 * shape[1] + 1), np.uint8)
    rings = [np.array(points, np.int32) * 2 for points in (row["points"], *row["holes"])]
    cv2.fillPoly(big, rings, 1)
    flat = np.concatenate([[0], big[1::2, 1::2].ravel(order="F"), [2]])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    return {"counts": np.diff(np.concatenate([[0], ends])).tolist(), "size": list(shape)}


@contextmanager
def coco_file(path: Path, segmenter: Segmenter, classes: Collection[int] | None) -> Iterator[Coco]:
    """A Coco that becomes the file `path` when the block ends well."""
    categories = [
        {"id": index + 1, "name": name, "supercategory": ""} for index, name in enumerate(segmenter.labels)
    ]
    with (
        tempfile.TemporaryFile("w+") as images,
        tempfile.TemporaryFile("w+") as annotations,
    ):
        try:
            yield Coco(images, annotations, classes)
        except OSError as error:  # of the temporary files
            raise refused(path, error) from error
        with whole_file(path) as part, part.open("w", encoding="utf-8") as file:
            file.write(f'{{"info": {json.dumps({"description": segmenter.path.name})},\n')
            file.write(f'"categories": {json.dumps(categories)},\n')
            for name, content in (("images", images), ("annotations", annotations)):
                content.seek(0)
                file.write(f'"{name}": [\n')
                shutil.copyfileobj(content, file)
                file.write("\n]}\n" if name == "annotations" else "\n],\n")


# What is written beside each image: its suffix, and what it holds.
SIDE_FILES: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
    "geojson": (".geojson", geojson),
    "cityscapes": ("_polygons.json", cityscapes),
}
