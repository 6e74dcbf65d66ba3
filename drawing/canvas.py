"""A canvas seen through a pinhole camera: world polygons in metres become pixels and Cityscapes ids.

World axes: x to the right, y up, z ahead of the camera, metres, the ground at y = 0. The camera looks along
+z from `View.height`; its pitch is a shifted horizon, so that upright things stay upright. A curved road is a
warp of the world (x grows with z squared), so everything beside the road bends with it.
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

Colour = tuple[float, float, float]
NEAR = 1.2  # metres; nothing nearer is drawn
SHIFT = 4  # OpenCV's sub-pixel bits
_RING = np.stack([np.cos(np.arange(12) * math.pi / 6), np.sin(np.arange(12) * math.pi / 6)], 1)


@dataclass(frozen=True)
class View:
    """Where the camera is. `horizon` and `shift` are shares of the image's height and width."""

    height: float
    horizon: float
    zoom: float
    shift: float
    bend: float  # 1 / radius of the road's curve, in 1/m, positive to the right
    yaw: float  # radians, small


@dataclass(frozen=True)
class Light:
    """Colours are multipliers of a surface's own colour, except `haze` and `sky`, which are 0..255."""

    weather: str
    sun: tuple[float, float, float]
    ambient: Colour
    direct: Colour
    haze: Colour
    clear: float  # metres after which the haze takes 63%
    lamps: bool
    sky: tuple[Colour, Colour]  # at the top, at the horizon


def mix(a: Colour, b: Colour, share: float) -> Colour:
    rest = 1.0 - share
    return (a[0] * rest + b[0] * share, a[1] * rest + b[1] * share, a[2] * rest + b[2] * share)


def scale(colour: Colour, by: float) -> Colour:
    return (min(colour[0] * by, 255.0), min(colour[1] * by, 255.0), min(colour[2] * by, 255.0))


class Canvas:
    """`image` uint8 (H, W, 3) RGB, `ids` int32 (H, W): label id, or label id * 1000 + k for things."""

    def __init__(self, size: tuple[int, int], view: View, light: Light) -> None:
        height, width = size
        self.height, self.width, self.view, self.light = height, width, view, light
        self.image = np.zeros((height, width, 3), np.uint8)
        self.ids = np.zeros((height, width), np.int32)
        # 1.1 times the width at 2:1, as in Cityscapes; between width and height for other shapes.
        self.focal = view.zoom * math.sqrt(2.0 * height * width)
        self.centre = width * (0.5 + view.shift)
        self.horizon = height * view.horizon
        self.glows: list[tuple[float, float, float, Colour, int | None]] = []
        self._counts: dict[int, int] = {}

    def instance(self, label: int) -> int:
        """The next id of a thing: label * 1000 + k."""
        k = self._counts.get(label, 0)
        self._counts[label] = k + 1
        return label * 1000 + k

    def pixels(self, z: float) -> float:
        """How many pixels a metre measures at distance z."""
        return self.focal / max(z, NEAR)

    def project(self, points: Any) -> np.ndarray:
        """(..., 3) world metres -> (..., 2) pixels, pixel centres at whole numbers."""
        points = np.asarray(points, np.float64)
        z = np.maximum(points[..., 2], NEAR)
        ratio = self.focal / z
        out = np.empty(points.shape[:-1] + (2,))
        warp = z * (self.view.yaw + (0.5 * self.view.bend) * z) if self.view.bend else z * self.view.yaw
        out[..., 0] = (points[..., 0] + warp) * ratio + (self.centre - 0.5)
        out[..., 1] = (self.view.height - points[..., 1]) * ratio + (self.horizon - 0.5)
        return out

    def sees(self, x: float, z: float, radius: float) -> bool:
        """Whether anything within `radius` metres of (x, z) can be in the image, seen from the side."""
        if z + radius < NEAR:
            return False
        near, far = max(z - radius, NEAR), z + radius
        if near == NEAR:
            return True
        view = self.view
        for edge, sign in ((-self.centre, -1.0), (self.width - self.centre, 1.0)):
            slope = edge / self.focal
            # beyond the edge at both ends of its depth
            inner = x - sign * radius
            if all(
                (inner + at * (view.yaw + 0.5 * view.bend * at) - slope * at) * sign > 0 for at in (near, far)
            ):
                return False
        return True

    def tone(self, colour: Colour, normal: tuple[float, float, float], z: float) -> Colour:
        """The colour of a surface under this light, seen through the haze."""
        light = self.light
        sun, ambient, direct, haze = light.sun, light.ambient, light.direct, light.haze
        nx, ny, nz = normal
        facing = nx * sun[0] + ny * sun[1] + nz * sun[2]
        facing = facing if facing > 0.0 else 0.0
        sky = 0.86 + 0.14 * ny
        lamp = 0.34 * math.exp(-z / 22.0) * max(0.15, -nz) if light.lamps else 0.0
        clear = math.exp(-z / light.clear) if z > 0.0 else 1.0
        veil = 1.0 - clear
        red = colour[0] * (ambient[0] * sky + direct[0] * facing + lamp)
        green = colour[1] * (ambient[1] * sky + direct[1] * facing + lamp)
        blue = colour[2] * (ambient[2] * sky + direct[2] * facing + lamp)
        return (
            (red if red < 255.0 else 255.0) * clear + haze[0] * veil,
            (green if green < 255.0 else 255.0) * clear + haze[1] * veil,
            (blue if blue < 255.0 else 255.0) * clear + haze[2] * veil,
        )

    def glow_tone(self, colour: Colour, z: float) -> Colour:
        """The colour of something that shines by itself."""
        return mix(self.light.haze, colour, math.exp(-max(z, 0.0) / (2.0 * self.light.clear)))

    def lamp_glow(self, colour: Colour) -> Colour:
        """How much of a lamp's halo shows beside this daylight."""
        return scale(colour, max(0.08, 1.0 - 1.6 * self.light.ambient[1]))

    def fixed(self, flat: np.ndarray) -> np.ndarray:
        """Pixels as OpenCV's fixed-point numbers."""
        out = np.asarray(flat) * float(1 << SHIFT)
        np.minimum(np.maximum(out, -2e4 * (1 << SHIFT), out=out), 2e4 * (1 << SHIFT), out=out)
        return np.rint(out, out=out).astype(np.int32)

    def paint(self, points: np.ndarray, colour: Colour | None, ident: int | None = None) -> None:
        """Fill one polygon, (N, 2) pixels."""
        self.paint_fixed([self.fixed(points)], colour, ident)

    def paint_many(self, points: np.ndarray, colour: Colour, ident: int | None = None) -> None:
        """Fill polygons that do not overlap, (M, N, 2) pixels, in one call."""
        if len(points):
            self.paint_fixed(list(self.fixed(points)), colour, ident)

    def paint_fixed(
        self, polygons: list[np.ndarray], colour: Colour | None, ident: int | None = None
    ) -> None:
        """Fill polygons given by `fixed`."""
        if colour is not None:
            cv2.fillPoly(self.image, polygons, colour, cv2.LINE_AA, SHIFT)
        if ident is not None:
            cv2.fillPoly(self.ids, polygons, float(ident), cv2.LINE_8, SHIFT)

    def fill(self, points: Any, colour: Colour | None, ident: int | None = None) -> None:
        """Fill one flat world polygon, (N, 3) metres, cut off where it comes too near."""
        points = np.asarray(points, np.float64)
        if points[:, 2].min() < NEAR:
            points = cut(points)
            if len(points) < 3:
                return
        self.paint(self.project(points), colour, ident)

    def fill_many(self, points: np.ndarray, colour: Colour, ident: int | None = None) -> None:
        """Fill world polygons that do not overlap, (M, N, 3); those that come too near are left out."""
        points = np.asarray(points, np.float64)
        self.paint_many(self.project(points[points[:, :, 2].min(1) >= NEAR]), colour, ident)

    def hull(self, points: Any, radii: Any, colour: Colour, ident: int | None = None) -> None:
        """Fill the convex hull of balls: (N, 3) centres and (N,) radii in metres. Limbs, tyres, rods."""
        points = np.asarray(points, np.float64)
        if points[:, 2].min() < NEAR:
            return
        flat = self.project(points)
        size = np.asarray(radii, np.float64) * (self.focal / points[:, 2])
        ring = (flat[:, None] + size[:, None, None] * _RING).reshape(-1, 2)
        fixed = cv2.convexHull(self.fixed(ring))
        cv2.fillConvexPoly(self.image, fixed, colour, cv2.LINE_AA, SHIFT)
        if ident is not None:
            cv2.fillConvexPoly(self.ids, fixed, float(ident), cv2.LINE_8, SHIFT)

    def glow(self, point: Any, radius: float, colour: Colour) -> None:
        """Remember a light that spreads, in metres at its place; `lens.finish` adds it up.

        What is painted over the lamp later hides its glow: the id under it is kept to tell.
        """
        if point[2] > NEAR:
            u, v = self.project(point)
            self.glows.append((float(u), float(v), radius * self.pixels(point[2]), colour, self.at(u, v)))

    def at(self, u: float, v: float) -> int | None:
        """The id painted at a pixel so far; None outside the image."""
        column, row = round(float(u)), round(float(v))
        if 0 <= column < self.width and 0 <= row < self.height:
            return int(self.ids[row, column])
        return None

    def paste(
        self,
        sprite: "Sprite",
        corner: tuple[float, float],
        extent: tuple[float, float],
        dark: Colour,
        bright: Colour,
        ident: int | None,
    ) -> None:
        """Blend a sprite into the box at `corner` (left, top) of `extent` (width, height), pixels."""
        left, top = max(0, math.floor(corner[0])), max(0, math.floor(corner[1]))
        right = min(self.width, math.ceil(corner[0] + extent[0]) + 1)
        bottom = min(self.height, math.ceil(corner[1] + extent[1]) + 1)
        if right <= left or bottom <= top or min(extent) < 0.3:
            return
        level = sprite.level(extent)
        rows, columns = level.shape[:2]
        sx, sy = columns / extent[0], rows / extent[1]
        matrix = np.array(
            [
                [sx, 0, (left - corner[0] + 0.5) * sx - 0.5],
                [0, sy, (top - corner[1] + 0.5) * sy - 0.5],
            ]
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        part = cv2.warpAffine(level, matrix, (right - left, bottom - top), flags=flags)
        luma, alpha = part[..., 0:1] * np.float32(1 / 255), part[..., 1:2] * np.float32(1 / 255)
        low, high = np.array(dark, np.float32), np.array(bright, np.float32)
        window = self.image[top:bottom, left:right]
        colour = low + (high - low) * luma
        window[:] = (window + (colour - window) * alpha + np.float32(0.5)).astype(np.uint8)
        if ident is not None:
            self.ids[top:bottom, left:right][part[..., 1] > 127] = ident


class Sprite:
    """A grey image with its coverage, uint8 (R, C, 2), at halving sizes so that far copies stay smooth."""

    def __init__(self, luma: np.ndarray, alpha: np.ndarray) -> None:
        self.levels = [np.ascontiguousarray(np.stack([luma, alpha], -1))]
        while min(self.levels[-1].shape[:2]) > 8:
            rows, columns = self.levels[-1].shape[:2]
            half = cv2.resize(self.levels[-1], (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
            self.levels.append(half)

    def level(self, extent: tuple[float, float]) -> np.ndarray:
        """The smallest copy that is still as large as the place it goes to."""
        for smaller in reversed(self.levels):
            if smaller.shape[1] >= 0.8 * extent[0] and smaller.shape[0] >= 0.8 * extent[1]:
                return smaller
        return self.levels[0]


def cut(points: np.ndarray) -> np.ndarray:
    """The part of a world polygon beyond NEAR (Sutherland and Hodgman's clipping at one plane)."""
    out = []
    for i in range(len(points)):
        a, b = points[i - 1], points[i]
        if (a[2] >= NEAR) != (b[2] >= NEAR):
            out.append(a + (b - a) * ((NEAR - a[2]) / (b[2] - a[2])))
        if b[2] >= NEAR:
            out.append(b)
    return np.array(out)


def tile(kind: int, side: int = 256) -> np.ndarray:
    """Noise that repeats without a seam, float32 (side, side), mean 0, deviation about 1; `kind` seeds it."""
    rng = np.random.default_rng([kind, 77])
    out = np.zeros((side, side), np.float32)
    cells = 4 if kind % 2 else side // 2
    weight = 1.0
    while cells <= side:
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        grid = np.pad(grid, 2, mode="wrap")
        step = side // cells
        big = cv2.resize(grid, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        out += weight * big[2 * step : 2 * step + side, 2 * step : 2 * step + side]
        weight *= 0.55
        cells *= 2
    return (out - out.mean()) / out.std()
