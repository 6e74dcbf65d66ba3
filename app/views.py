"""Ways to look at a Segmentation: tinted with some classes hidden, its borders, how sure the model is, and as large as
a screen shows it."""

import dataclasses
from collections.abc import Collection

import cv2
import numpy as np

from runtime import image
from runtime.errors import UserError
from runtime.segmenter import Segmentation

SURENESS = "How sure"  # the view's name


def overlay(found: Segmentation, opacity: float, hidden: Collection[int] = ()) -> np.ndarray:
    """`Segmentation.overlay`, uint8 (H, W, 3), with the image itself where a class of `hidden` is."""
    tinted = found.overlay(opacity)
    return np.where(_is_in(found.ids, hidden)[..., None], found.rgb, tinted) if hidden else tinted


def borders(ids: np.ndarray, thickness: int = 1) -> np.ndarray:
    """Class ids, uint8 (H, W), at the borders between classes, and 255 everywhere else.

    A region's border is its pixels that are at most `thickness` (1 or more, pixels) away, along rows, columns and
    diagonals, from one of another class, so that a line is twice as thick, half of it in either class.
    Raises UserError for a thickness below 1.
    """
    if thickness < 1:
        raise UserError(f"the thickness is {thickness}; it has to be 1 pixel or more.")
    around = np.ones((2 * thickness + 1, 2 * thickness + 1), np.uint8)
    return np.where(cv2.dilate(ids, around) != cv2.erode(ids, around), ids, np.uint8(255))


def heat(confidence: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Confidence, float32 (H, W), 0..1, on its image, uint8 RGB (H, W, 3) -> uint8 RGB (H, W, 3).

    The image is grey at two fifths of its brightness; over it, where the model is less sure, OpenCV's inferno: purple,
    orange, and yellow where the confidence is 0.
    """
    unsure = np.rint(255 * (1 - np.clip(confidence, 0, 1))).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(unsure, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    grey = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(grey, 0.4, colours, 0.6, 0)


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
