"""Trees, bushes and hedges: leafy sprites made once of noise, tinted and placed many times."""

import math
from functools import lru_cache

import cv2
import numpy as np

from drawing.canvas import Canvas, Colour, Sprite, mix, scale, tile

VEGETATION = 21
SIDE = 256


@lru_cache(maxsize=32)
def crown(kind: int, bare: bool = False) -> Sprite:
    """A crown of leaves: 0..3 round, 4..5 tall (poplar), 6..7 conifer, 8..9 flat bush."""
    rng = np.random.default_rng([5150, kind])
    luma: np.ndarray = np.zeros((SIDE, SIDE), np.float32)
    alpha: np.ndarray = np.zeros((SIDE, SIDE), np.uint8)
    count = 46 if not bare else 30
    for step in range(count):
        share = step / count
        x, y, radius = _clump(rng, kind)
        # later clumps lie nearer to the viewer and are brighter, more so high up
        value = 0.25 + 0.35 * share + 0.35 * (1.0 - y) + rng.uniform(-0.08, 0.08)
        centre = (round(x * SIDE * 16), round(y * SIDE * 16))
        cv2.circle(alpha, centre, round(radius * SIDE * 16), 255.0, -1, cv2.LINE_AA, 4)
        for inner, lift in ((1.0, -0.12), (0.8, 0.0), (0.5, 0.1)):
            spot = (
                round((x - 0.02 * (1 - inner) * 4) * SIDE * 16),
                round((y - 0.1 * (1 - inner)) * SIDE * 16),
            )
            cv2.circle(luma, spot, round(radius * inner * SIDE * 16), float(value + lift), -1, cv2.LINE_8, 4)
    grid = np.arange(SIDE, dtype=np.float32)
    dx, dy = tile(10 + kind % 3 * 2, SIDE) * 4.0, tile(20 + kind % 3 * 2, SIDE) * 4.0
    coarse = tile(11, SIDE) * 3.0
    mapx, mapy = grid[None] + dx + coarse, grid[:, None] + dy + coarse.T
    alpha = cv2.remap(alpha, mapx, mapy, cv2.INTER_LINEAR)
    luma = cv2.remap(luma, mapx, mapy, cv2.INTER_LINEAR)
    leaf = np.roll(tile(30, SIDE), kind * 37, 0)
    luma = luma + 0.11 * leaf
    if bare:
        alpha = np.where(leaf > 0.35, alpha, 0).astype(np.uint8)
    return Sprite((np.clip(luma, 0, 1) * 255).astype(np.uint8), alpha)


def _clump(rng: np.random.Generator, kind: int) -> tuple[float, float, float]:
    angle, out = rng.uniform(0, 2 * math.pi), math.sqrt(rng.uniform(0, 1))
    if kind < 4:
        radius = rng.uniform(0.09, 0.17)
        return 0.5 + 0.34 * out * math.cos(angle), 0.5 + 0.33 * out * math.sin(angle), radius
    if kind < 6:
        y = rng.uniform(0.1, 0.9)
        half = 0.3 * math.sin(math.pi * min(1.0, y * 0.9 + 0.1)) ** 0.7
        return 0.5 + half * math.cos(angle) * out, y, rng.uniform(0.07, 0.12)
    if kind < 8:
        y = rng.uniform(0.06, 0.93)
        return 0.5 + 0.42 * y * math.cos(angle) * out, y, 0.03 + 0.07 * y
    radius = rng.uniform(0.12, 0.2)
    return 0.5 + 0.34 * out * math.cos(angle), 0.6 + 0.25 * out * math.sin(angle), radius


def leaves(canvas: Canvas, colour: Colour, z: float, snow: bool) -> tuple[Colour, Colour]:
    """The dark and the bright end of a crown's colours."""
    bright = mix(colour, (236.0, 240.0, 246.0), 0.75) if snow else scale(colour, 1.45)
    sun = canvas.light.sun
    toward = (0.3 * math.copysign(1.0, sun[0]), 0.75, -0.55)
    low = canvas.tone(scale(colour, 0.36), (0.0, 0.3, 0.0), z)
    return low, canvas.tone(bright, toward, z)


def tree(
    canvas: Canvas, x: float, z: float, height: float, width: float, kind: int, colour: Colour, snow: bool
) -> None:
    """A tree on the ground at (x, z); its crown takes the upper part of `height`."""
    stem = 0.14 if kind >= 6 else 0.34
    if not canvas.sees(x, z, width / 2):
        return
    u, v = canvas.project((x, 0.0, z))
    metre = canvas.pixels(z)
    bark = canvas.tone((92.0, 76.0, 60.0), (0.4, 0.2, -0.7), z)
    thick = 0.018 * height * (0.8 if kind >= 4 else 1.0)
    top = height * (stem + 0.25)
    canvas.fill(
        [[x - thick, 0, z], [x + thick, 0, z], [x + thick * 0.6, top, z], [x - thick * 0.6, top, z]],
        bark,
        VEGETATION,
    )
    if metre * thick > 1.5:
        side = math.copysign(1.0, -canvas.light.sun[0])
        canvas.fill(
            [[x + side * thick * 0.2, 0, z], [x + side * thick, 0, z], [x + side * thick * 0.6, top, z]],
            scale(bark, 0.72),
        )
        for lean in (-1, 1):
            canvas.hull(
                [[x, height * stem * 0.8, z], [x + lean * width * 0.2, height * (stem + 0.16), z]],
                [thick * 0.45, thick * 0.25],
                scale(bark, 0.85),
                VEGETATION,
            )
    low, high = leaves(canvas, colour, z, snow)
    tall = height * (1.0 - stem) * 1.08 * metre
    corner = (u - width * metre / 2, v - height * metre)
    canvas.paste(crown(kind), corner, (width * metre, tall), low, high, VEGETATION)


def bush(
    canvas: Canvas, x: float, z: float, height: float, width: float, kind: int, colour: Colour, snow: bool
) -> None:
    if not canvas.sees(x, z, width / 2):
        return
    u, v = canvas.project((x, 0.0, z))
    metre = canvas.pixels(z)
    low, high = leaves(canvas, colour, z, snow)
    corner = (u - width * metre / 2, v - height * metre * 1.12)
    canvas.paste(crown(8 + kind % 2), corner, (width * metre, height * metre * 1.25), low, high, VEGETATION)


@lru_cache(maxsize=1)
def _foliage() -> Sprite:
    """A rectangle of clipped leaves with a ragged top."""
    luma = 0.5 + 0.16 * tile(30, SIDE) + 0.1 * tile(11, SIDE)
    luma += np.linspace(0.25, -0.2, SIDE, dtype=np.float32)[:, None]
    alpha = np.full((SIDE, SIDE), 255, np.uint8)
    edge = (10 + 4 * tile(11, SIDE)[0]).astype(int)
    alpha[np.arange(SIDE)[:, None] < edge[None]] = 0
    return Sprite((np.clip(luma, 0, 1) * 255).astype(np.uint8), alpha)


def hedge(
    canvas: Canvas, x: float, z0: float, z1: float, height: float, depth: float, colour: Colour, snow: bool
) -> None:
    """A clipped hedge along the road: its flank facing the street, drawn as upright slices, far to near."""
    side = math.copysign(1.0, x)
    z1, z0 = min(z1, 120.0), max(z0, 2.0)
    if z1 <= z0:
        return
    count = max(2, min(40, int(14 * math.log(z1 / z0)) + 2))
    cuts = np.geomspace(z1, z0, count)
    low, high = leaves(canvas, colour, float(z0 + z1) / 2, snow)
    top = canvas.tone(scale(colour, 1.2) if not snow else (232.0, 236.0, 242.0), (0, 1, 0), (z0 + z1) / 2)
    if height < canvas.view.height:
        canvas.fill(
            [
                [x, height, z0],
                [x, height, z1],
                [x + side * depth, height, z1],
                [x + side * depth, height, z0],
            ],
            top,
            VEGETATION,
        )
    quad = [[x, 0, z0], [x, 0, z1], [x, height * 0.92, z1], [x, height * 0.92, z0]]
    canvas.fill(quad, mix(low, high, 0.35), VEGETATION)
    foliage = _foliage()
    for a, b in zip(cuts[:-1], cuts[1:], strict=True):
        p, q = canvas.project((x, 0.0, a)), canvas.project((x, 0.0, b))
        tall = height * canvas.pixels((a + b) / 2)
        left, right = sorted((p[0], q[0]))
        canvas.paste(
            foliage, (left, (p[1] + q[1]) / 2 - tall), (right - left + 1.0, tall), low, high, VEGETATION
        )
    end = canvas.project((x, 0.0, z0))
    metre = canvas.pixels(z0)
    left = end[0] if side > 0 else end[0] - depth * metre
    canvas.paste(
        foliage, (left, end[1] - height * metre), (depth * metre, height * metre), low, high, VEGETATION
    )
