"""Correcting a mask by hand: a class filled over a polygon or a connected region, or painted by a brush.

ids = corrected(segmentation.ids, [Region(410, 120, 0), Polygon(((10, 10), (60, 10), (60, 40)), 3)])
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from runtime.errors import UserError


@dataclass(frozen=True)
class Polygon:
    """A class filled inside an outline of at least three points (x, y), pixel centres, its border included."""

    points: tuple[tuple[int, int], ...]
    class_id: int


@dataclass(frozen=True)
class Region:
    """A class filled over the connected region, diagonal neighbours included, that the pixel (x, y) is in."""

    x: int
    y: int
    class_id: int


@dataclass(frozen=True)
class Stroke:
    """A class painted along a line through points (x, y), one or more, by a round brush of `width` pixels."""

    points: tuple[tuple[int, int], ...]
    width: int
    class_id: int


Edit = Polygon | Region | Stroke


def corrected(ids: np.ndarray, edits: Sequence[Edit]) -> np.ndarray:
    """Class ids, uint8 (H, W), after the edits, one after another; `ids` stays as it is.

    UserError when a point lies outside the image, a polygon has fewer than three points, a stroke has none or no width,
    or a class is not 0..255.
    """
    result = ids.copy()
    for edit in edits:
        if not 0 <= edit.class_id <= 255:
            raise UserError(f"the class id {edit.class_id} has to be from 0 to 255.")
        result[_mask(result, edit)] = edit.class_id
    return result


def _mask(ids: np.ndarray, edit: Edit) -> np.ndarray:
    if isinstance(edit, Polygon):
        return polygon_mask(ids.shape, edit.points)
    if isinstance(edit, Stroke):
        return stroke_mask(ids.shape, edit.points, edit.width)
    return region_mask(ids, edit.x, edit.y)


def polygon_mask(shape: Sequence[int], points: Sequence[Sequence[int]]) -> np.ndarray:
    """The pixels of a polygon, its border included, bool (H, W); where it crosses itself, by the even-odd rule."""
    if len(points) < 3:
        raise UserError(f"a polygon has three points or more, not {len(points)}.")
    for x, y in points:
        check_inside(shape, x, y)
    inside = np.zeros((shape[0], shape[1]), np.uint8)
    cv2.fillPoly(inside, [np.array(points, np.int32)], 1)
    return inside.astype(bool)


def stroke_mask(shape: Sequence[int], points: Sequence[Sequence[int]], width: int) -> np.ndarray:
    """The pixels that are at most half of `width` away from a line through the points, bool (H, W)."""
    if not points or width < 1:
        raise UserError(f"a brush of {width} pixels over {len(points)} points paints nothing.")
    for x, y in points:
        check_inside(shape, x, y)
    outside = np.ones((shape[0], shape[1]), np.uint8)
    cv2.polylines(outside, [np.array(points, np.int32)], False, 0)
    outside[points[0][1], points[0][0]] = 0  # of one point there is no line
    return np.asarray(cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= width / 2)


def region_mask(ids: np.ndarray, x: int, y: int) -> np.ndarray:
    """The connected region of one class that the pixel (x, y) is in, bool (H, W)."""
    check_inside(ids.shape, x, y)
    _, parts = cv2.connectedComponents((ids == ids[y, x]).astype(np.uint8), connectivity=8)
    return np.asarray(parts == parts[y, x])


def check_inside(shape: Sequence[int], x: int, y: int) -> None:
    """UserError unless (x, y) is a pixel of an image of this shape, (H, W, ...)."""
    if not (0 <= x < shape[1] and 0 <= y < shape[0]):
        raise UserError(f"the point {x}, {y} lies outside the image of {shape[1]}x{shape[0]} pixels.")
