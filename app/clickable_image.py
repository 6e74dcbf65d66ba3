"""An image that can be clicked: points, polygons, boxes, strokes of a brush. Our own component, for which nothing is
fetched.

By keyboard: Tab to the image, arrow keys move the cross (with Shift by ten), Enter is a click, Backspace takes back
the last corner, Escape all of them, C closes the polygon.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from app.frontend import address, registered

SHOWN_SIDE = 1200  # pixels: what is sent to the browser is at most as large

_component = registered("canvas")


def canvas(
    rgb: np.ndarray,
    *,
    key: str,
    mode: str = "point",
    label: str = "The image; click it",
    size: tuple[int, int] | None = None,
    marks: Sequence[tuple[int, int, bool]] = (),
    box: Sequence[int] | None = None,
    serial: str = "",
    ids: np.ndarray | None = None,
    brush: tuple[int, Sequence[int]] | None = None,
) -> list[list[int]] | None:
    """Show an image, uint8 (H, W, 3); the points (x, y) just drawn on it, in pixels of an image of `size`
    (height, width), or None. A point is one, a box its top left and bottom right, a polygon three or more,
    a stroke what was passed over.

    `marks` are points (x, y, inside?) and `box` (x1, y1, x2, y2) to show over it. What is being drawn is dropped when
    `mode` or `serial` changes. `ids`, uint8 (h, w) of any size, lets the region under the pointer light up.
    `brush`: its width in pixels, and the colour that it paints.
    """
    height, width = size or rgb.shape[:2]
    scale = min(1.0, SHOWN_SIDE / max(rgb.shape[:2]))
    small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else rgb
    data: dict[str, Any] = {
        "image": address(small),
        "width": width,
        "height": height,
        "ids": None if ids is None else address(ids, ".png"),
        "mode": mode,
        "label": label,
        "marks": [[int(x), int(y), bool(inside)] for x, y, inside in marks],
        "box": None if box is None else [int(value) for value in box],
        "brush": None
        if brush is None
        else {"width": brush[0], "colour": "rgb({}, {}, {})".format(*brush[1])},
        "serial": hashlib.sha256(serial.encode()).hexdigest(),
    }
    drawn = _component(key=key, data=data, on_drawn_change=lambda: None).drawn
    return _checked(drawn, mode, height, width)


def _checked(drawn: Any, mode: str, height: int, width: int) -> list[list[int]] | None:
    """What a browser sent, if it can be right: anybody may send anything."""
    if not isinstance(drawn, dict) or drawn.get("kind") != mode or not isinstance(drawn.get("points"), list):
        return None
    points = drawn["points"]
    if not 0 < len(points) <= 1000 or not all(
        isinstance(point, list) and len(point) == 2 for point in points
    ):
        return None
    if not all(type(value) in (int, float) and abs(value) < 1e6 for point in points for value in point):
        return None
    return [[min(max(0, int(x)), width - 1), min(max(0, int(y)), height - 1)] for x, y in points]
