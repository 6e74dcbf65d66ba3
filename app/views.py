"""Ways to look at a Segmentation: tinted with some classes hidden, outlines only, and what is at one point."""

import dataclasses
from collections.abc import Collection
from typing import Any

import cv2
import numpy as np

from app.edits import region_mask
from runtime import image
from runtime.errors import UserError
from runtime.segmenter import Segmentation


def overlay(found: Segmentation, opacity: float, hidden: Collection[int] = ()) -> np.ndarray:
    """`Segmentation.overlay`, uint8 (H, W, 3), with the image itself where a class of `hidden` is."""
    tinted = found.overlay(opacity)
    return np.where(_is_in(found.ids, hidden)[..., None], found.rgb, tinted) if hidden else tinted


def colour(found: Segmentation, hidden: Collection[int] = ()) -> np.ndarray:
    """`Segmentation.colour`, uint8 (H, W, 3), black where a class of `hidden` is."""
    painted = found.colour()
    painted[_is_in(found.ids, hidden)] = 0
    return painted


def outlines(found: Segmentation, hidden: Collection[int] = (), thickness: int = 1) -> np.ndarray:
    """The image, uint8 (H, W, 3), with the borders between classes in their colours and nothing else.

    A region's border is its pixels that are at most `thickness` (1 or more, pixels) away, along rows, columns and
    diagonals, from one of another class, so that a line is twice as thick, half of it in either class's colour. A
    class of `hidden` has no line. Raises UserError for a thickness below 1.
    """
    if thickness < 1:
        raise UserError(f"the thickness is {thickness}; it has to be 1 pixel or more.")
    around = np.ones((2 * thickness + 1, 2 * thickness + 1), np.uint8)
    border = cv2.dilate(found.ids, around) != cv2.erode(found.ids, around)
    drawn = border & ~_is_in(found.ids, hidden)
    return np.where(drawn[..., None], found.colour(), found.rgb)


def at(found: Segmentation, x: int, y: int) -> dict[str, Any]:
    """What is at a pixel: x, y, id, name, colour, share of the image, and `region`, the pixels of its own connected
    region (diagonal neighbours are connected). Raises UserError outside of the image."""
    region = region_mask(found.ids, x, y)
    index = int(found.ids[y, x])
    return {
        "x": x,
        "y": y,
        "id": index,
        "name": found.name_of(index),
        "colour": list(found.colour_of(index)),
        "share": float((found.ids == index).mean()),
        "region": int(region.sum()),
    }


def _is_in(ids: np.ndarray, classes: Collection[int]) -> np.ndarray:
    """bool (H, W): where the id is one of `classes`."""
    table = np.zeros(256, bool)
    table[list(classes)] = True
    return table[ids]


def for_a_screen(found: Segmentation, side: int) -> Segmentation:
    """The same, not larger than `side` pixels either way."""
    height, width = found.ids.shape
    scale = min(1.0, side / max(height, width))
    if scale == 1.0:
        return found
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return dataclasses.replace(
        found, ids=image.resize_ids(found.ids, size), rgb=image.resize_rgb(found.rgb, size)
    )
