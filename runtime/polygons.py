"""Class ids to outlines, for programs that want shapes instead of pixels."""

from collections.abc import Collection
from typing import Any

import cv2
import numpy as np


def polygons(
    ids: np.ndarray,
    tolerance: float = 1.0,
    min_area: int = 16,
    edges: bool = False,
    classes: Collection[int] | None = None,
) -> list[dict[str, Any]]:
    """The outline of each connected region of each class, largest first.

    `ids` is uint8 (H, W). A row is `id`, `area` (pixels, holes not counted), `points` [[x, y], ...] and
    `holes` (each a list of points). The first point is not repeated at the end. Points are pixel centres: an
    outline runs through the region's own border pixels, a hole through the region's pixels around it. With
    `edges` they run along the pixels' outer edges instead, pixel x covering x to x + 1, so that a shape's
    geometric area is its number of pixels. `tolerance` is how far, in pixels, a simplified outline may stray
    (0: every corner is kept); regions of fewer than `min_area` pixels are left out, and so are classes not in
    `classes`, where they are given. Diagonal neighbours are connected.
    """
    rows = []
    for index in np.unique(ids):
        if classes is not None and index not in classes:
            continue
        mask = (ids == index).astype(np.uint8)
        _, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        # Of each pixel made 2x2, the border pixel's place tells on which side of it the edge is.
        drawn = mask.repeat(2, axis=0).repeat(2, axis=1) if edges else mask
        contours, tree = cv2.findContours(drawn, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        for number, contour in enumerate(contours):
            _, _, child, parent = tree[0][number]
            if parent >= 0:
                continue
            column, row = contour[0][0] // 2 if edges else contour[0][0]
            area = int(stats[parts[row, column], cv2.CC_STAT_AREA])
            if area < min_area:
                continue
            holes = []
            while child >= 0:
                holes.append(_simplified(contours[child], tolerance, edges))
                child = tree[0][child][0]
            points = _simplified(contour, tolerance, edges)
            rows.append({"id": int(index), "area": area, "points": points, "holes": holes})
    return sorted(rows, key=lambda row: -row["area"])


def _simplified(contour: np.ndarray, tolerance: float, edges: bool) -> list[list[int]]:
    if edges:
        contour = _corners((contour + contour % 2) // 2)
    if tolerance > 0:
        simple = cv2.approxPolyDP(contour, tolerance, True)
        contour = simple if len(simple) > 2 or not edges else contour  # an area stays an area
    return [[int(x), int(y)] for x, y in contour.reshape(-1, 2)]


def _corners(contour: np.ndarray) -> np.ndarray:
    """Only the points at which the outline turns."""
    points = contour.reshape(-1, 2)
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turning = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return np.ascontiguousarray(points[turning][:, None])
