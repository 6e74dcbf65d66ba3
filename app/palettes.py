"""Colours that the colour-blind can tell apart.

The first eight are Okabe's and Ito's ("Color Universal Design", 2008, jfly.uni-koeln.de/color), black last. There is no
such published set for the 19 or more classes of a road scene, so each further colour is the one that is farthest from
all before it, in CIE Lab, under whichever of normal vision, protanopia, deuteranopia and tritanopia sees least of the
difference (Machado, Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency",
2009, table 1, severity 1.0, on linear RGB).
"""

import colorsys
import dataclasses
import functools

import cv2
import numpy as np

from runtime.bundle import Colour, farthest
from runtime.errors import UserError
from runtime.segmenter import Segmentation

OKABE_ITO: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (0, 0, 0),
)
DEFICIENCIES = {
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
OWN, SAFE = "standard colours", "for the colour-blind"
NAMES = (OWN, SAFE)


def recoloured(found: Segmentation, name: str) -> Segmentation:
    """The same classes in the colours of a palette of NAMES; UserError for another name."""
    if name not in NAMES:
        raise UserError(f"the palette {name!r} is none; choose from {', '.join(NAMES)}.")
    if name == OWN:
        return found
    return dataclasses.replace(found, palette=safe_palette(len(found.palette)))


@functools.cache
def safe_palette(count: int) -> tuple[Colour, ...]:
    """`count` colours (1 to 256), each as far as can be from all before it for every kind of colour vision."""
    shades = [
        colorsys.hsv_to_rgb(hue / 24, part, value)
        for hue in range(24)
        for part in (0.3, 0.6, 1.0)
        for value in (0.35, 0.6, 0.8, 1.0)
    ]
    greys = [(level, level, level) for level in (0.3, 0.5, 0.7, 0.85, 1.0)]
    colours = np.concatenate([np.array(OKABE_ITO) / 255, np.array(shades + greys)])
    lab = as_seen(np.rint(colours * 255).astype(np.uint8))  # (kinds of vision, colours, 3)
    return farthest(colours, lab, len(OKABE_ITO), count)


def as_seen(colours: np.ndarray) -> np.ndarray:
    """uint8 (N, 3) sRGB -> CIE Lab float32 (4, N, 3): as seen normally and with each of DEFICIENCIES."""
    srgb = colours.astype(np.float64) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.stack([linear, *(linear @ np.array(matrix).T for matrix in DEFICIENCIES.values())])
    seen = np.clip(seen, 0, 1)
    back = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(back.astype(np.float32), cv2.COLOR_RGB2LAB)
