"""Class ids to outlines, for programs that want shapes instead of pixels."""

from typing import Any

import cv2
import numpy as np


def polygons(ids: np.ndarray, tolerance: float = 1.0, min_area: int = 16) -> list[dict[str, Any]]:
    """The outline of each connected region of each class, largest first.

    `ids` is uint8 (H, W). A row is `id`, `area` (pixels, holes not counted), `points` [[x, y], ...] and
    `holes` (each a list of points). Points are pixel centres, the first not repeated at the end: an outline
    runs through the region's own border pixels, a hole through the region's pixels around it. `tolerance` is
    how far, in pixels, a simplified outline may stray (0: every corner is kept); regions of fewer than
    `min_area` pixels are left out. Diagonal neighbours are connected.
    """
    rows = []
    for index in np.unique(ids):
        mask = (ids == index).astype(np.uint8)
        _, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        contours, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        for number, contour in enumerate(contours):
            _, _, child, parent = tree[0][number]
            if parent >= 0:
                continue
            column, row = contour[0][0]
            area = int(stats[parts[row, column], cv2.CC_STAT_AREA])
            if area < min_area:
                continue
            holes = []
            while child >= 0:
                holes.append(_simplified(contours[child], tolerance))
                child = tree[0][child][0]
            rows.append(
                {"id": int(index), "area": area, "points": _simplified(contour, tolerance), "holes": holes}
            )
    return sorted(rows, key=lambda row: -row["area"])


def _simplified(contour: np.ndarray, tolerance: float) -> list[list[int]]:
    if tolerance > 0:
        contour = cv2.approxPolyDP(contour, tolerance, True)
    return [[int(x), int(y)] for x, y in contour.reshape(-1, 2)]
