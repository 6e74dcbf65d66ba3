"""The ground: road, kerbs, pavements, verges, markings, shadows; and the plan of the street's width."""

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from drawing.canvas import NEAR, Canvas, Colour, cut, scale, tile

ROAD, SIDEWALK, PARKING, TERRAIN = 7, 8, 9, 22
FAR = 320.0
WHITE = (222.0, 222.0, 214.0)


@dataclass(frozen=True)
class Street:
    """Distances in metres. `edges`: the kerbs' x, left and right; `lanes`: x of each line between lanes."""

    edges: tuple[float, float]
    pavement: tuple[float, float]
    verge: tuple[float, float]
    lanes: tuple[float, ...]
    centre: float | None
    bays: tuple[float, float]  # width of the parking strip beside each kerb, 0 for none
    crossing: float | None  # z where a crossing street begins
    crossing_width: float
    zebra: float | None
    stop: float | None
    rails: float | None  # x of the tram's track
    asphalt: Colour
    paving: Colour
    slab: float
    grass: Colour
    patches: tuple[tuple[float, float, float, float, float], ...]  # x, z, width, length, tone
    covers: tuple[tuple[float, float], ...]

    def frontage(self, side: int) -> float:
        """How far from x = 0 the plots begin, signed."""
        k = 0 if side < 0 else 1
        return self.edges[k] + side * (self.pavement[k] + self.verge[k])


def strip(
    canvas: Canvas, x0: float, x1: float, z0: float, z1: float, colour: Colour, ident: int | None
) -> None:
    """A band of ground along the road; it follows the bend."""
    z0 = max(z0, NEAR)
    if z1 <= z0:
        return
    steps = 2 if canvas.view.bend == 0 else max(2, min(16, int(6 * math.log(z1 / z0)) + 2))
    z = z0 * (z1 / z0) ** (np.arange(steps) / (steps - 1))
    band = np.zeros((2 * steps, 3))
    band[:steps, 0], band[steps:, 0] = x0, x1
    band[:steps, 2], band[steps:, 2] = z, z[::-1]
    canvas.paint(canvas.project(band), colour, ident)


Span = np.ndarray | float


def quads(x0: Span, x1: Span, z0: Span, z1: Span) -> np.ndarray:
    """Rectangles on the ground, (M, 4, 3)."""
    x0, x1, z0, z1 = np.broadcast_arrays(*(np.atleast_1d(v) for v in (x0, x1, z0, z1)))
    corners = [(x0, z0), (x1, z0), (x1, z1), (x0, z1)]
    return np.stack([np.stack([x, 0 * x, z], -1) for x, z in corners], 1).astype(float)


def ground(
    canvas: Canvas, street: Street, lawns: list[tuple[float, float, float, float]], snow: bool
) -> None:
    """Everything flat, in its own colours; `shade` puts light and texture on it."""
    grass = (226.0, 228.0, 234.0) if snow else street.grass
    paving = (206.0, 208.0, 214.0) if snow else street.paving
    top = max(0, math.floor(canvas.horizon))
    canvas.image[top:] = grass
    canvas.ids[top:] = TERRAIN
    left, right = street.edges
    for side, k in ((-1, 0), (1, 1)):
        kerb = street.edges[k]
        outer = kerb + side * street.pavement[k]
        strip(canvas, kerb, outer, NEAR, FAR, paving, SIDEWALK)
        if street.verge[k] == 0.0:  # built up to the pavement: yards and gaps are paved
            strip(canvas, outer, outer + side * 60.0, NEAR, FAR, scale(paving, 0.9), SIDEWALK)
    for x0, x1, z0, z1 in lawns:
        strip(canvas, x0, x1, z0, z1, grass, TERRAIN)
    strip(canvas, left, right, NEAR, FAR * 1.5, street.asphalt, ROAD)
    if street.crossing is not None:
        z0, z1 = street.crossing, street.crossing + street.crossing_width
        walk = 2.4
        canvas.fill(quads(-90.0, 90.0, z0 - walk, z1 + walk)[0], paving, SIDEWALK)
        strip(canvas, left, right, z0 - walk - 0.5, z1 + walk + 0.5, street.asphalt, ROAD)
        canvas.fill(quads(-90.0, 90.0, z0, z1)[0], street.asphalt, ROAD)
    for side, k in ((-1, 0), (1, 1)):
        if street.bays[k]:
            tone = scale(street.asphalt, 0.9)
            inner = street.edges[k] - side * street.bays[k]
            for z0, z1 in _outside_crossing(street, NEAR, 120.0, 5.0):
                strip(canvas, inner, street.edges[k], z0, z1, tone, ROAD if k else PARKING)
    _surface(canvas, street)
    _kerbs(canvas, street)
    _joints(canvas, street, paving)
    _markings(canvas, street, snow)


def _outside_crossing(street: Street, z0: float, z1: float, margin: float) -> list[tuple[float, float]]:
    if street.crossing is None:
        return [(z0, z1)]
    a, b = street.crossing - margin, street.crossing + street.crossing_width + margin
    return [(z0, min(a, z1)), (max(b, z0), z1)]


def _surface(canvas: Canvas, street: Street) -> None:
    """Repairs, worn tracks, manhole covers, tram rails."""
    for x, z, width, length, tone in street.patches:
        strip(canvas, x, x + width, z, z + length, scale(street.asphalt, tone), None)
    if street.rails is not None:
        for offset in (-0.75, 0.75):
            x = street.rails + offset
            strip(canvas, x - 0.13, x + 0.13, NEAR, FAR, scale(street.asphalt, 1.12), None)
            strip(canvas, x - 0.045, x + 0.045, NEAR, FAR, (88.0, 90.0, 96.0), None)
    angle = np.linspace(0, 2 * math.pi, 14, endpoint=False)
    for x, z in street.covers:
        for radius, tone in ((0.36, 0.62), (0.28, 0.8)):
            ring = np.stack([x + radius * np.cos(angle), 0 * angle, z + radius * np.sin(angle)], 1)
            canvas.fill(ring, scale(street.asphalt, tone), None)


def _kerbs(canvas: Canvas, street: Street) -> None:
    for side, k in ((-1, 0), (1, 1)):
        x = street.edges[k]
        for z0, z1 in _outside_crossing(street, NEAR, 150.0, 2.4):
            strip(canvas, x, x + side * 0.16, z0, z1, scale(street.paving, 1.18), SIDEWALK)
            strip(canvas, x - side * 0.1, x, z0, z1, scale(street.asphalt, 0.72), None)


def _joints(canvas: Canvas, street: Street, paving: Colour) -> None:
    """The lines between paving slabs, as far as they can be told apart."""
    tone = scale(paving, 0.86)
    reach = min(28.0, canvas.focal * 0.022 / 0.5)
    for side, k in ((-1, 0), (1, 1)):
        inner, outer = sorted((street.edges[k] + side * 0.2, street.edges[k] + side * street.pavement[k]))
        for z0, z1 in _outside_crossing(street, NEAR, reach, 2.5):
            if z1 <= z0:
                continue
            z = np.arange(math.ceil(z0 / street.slab), math.floor(z1 / street.slab) + 1) * street.slab
            canvas.fill_many(quads(inner, outer, z, z + 0.03), tone)
            for x in np.arange(inner + street.slab, outer, street.slab):
                strip(canvas, x, x + 0.02, z0, z1, tone, None)


def _markings(canvas: Canvas, street: Street, snow: bool) -> None:
    paint = (236.0, 238.0, 240.0) if snow else WHITE
    stop = street.stop if street.stop is not None else 1e9
    for x in street.lanes:
        dashed = street.centre is None or abs(x - street.centre) > 0.1
        for z0, z1 in _outside_crossing(street, NEAR, 140.0, 5.0):
            if dashed:
                start = np.arange(math.floor(z0 / 9.0) * 9.0, min(z1, 120.0), 9.0)
                end = np.minimum(start + 4.0, z1)
                keep = (end > start) & (start >= NEAR)
                parts = quads(x - 0.07, x + 0.07, start[keep], end[keep])
                canvas.fill_many(parts, paint)
            else:
                double = len(street.lanes) > 2
                for offset in (-0.14, 0.14) if double else (0.0,):
                    strip(canvas, x + offset - 0.06, x + offset + 0.06, z0, z1, paint, None)
    left, right = street.edges
    if street.zebra is not None:
        bars = np.arange(left + 0.35, right - 0.5, 1.0)
        canvas.fill_many(quads(bars, bars + 0.5, street.zebra, street.zebra + 3.0), paint)
    if street.stop is not None:
        middle = street.centre if street.centre is not None else left + 0.2
        band = quads(middle + 0.1, right - 0.1, stop, stop + 0.45)
        canvas.fill_many(band, paint)
    for k, side in ((0, -1), (1, 1)):
        if street.bays[k]:
            x = street.edges[k] - side * street.bays[k]
            for z0, z1 in _outside_crossing(street, NEAR, 60.0, 5.0):
                strip(canvas, x - 0.05, x + 0.05, z0, z1, paint, None)
                z = np.arange(math.ceil(z0 / 6) * 6.0, z1, 6.0)
                bounds = sorted((x, street.edges[k]))
                canvas.fill_many(quads(bounds[0], bounds[1], z, z + 0.1), paint)


def cast(canvas: Canvas, boxes: list[tuple[float, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """Masks uint8 (H, W) of sun shadows and of contact shadows on the ground.

    A box is (x, z, half width, half length, height, heading, base): base is how high the thing floats.
    """
    small = canvas.height * canvas.width > 80_000  # large images: shadows are soft, half size does
    factor = 0.5 if small else 1.0
    shape = (math.ceil(canvas.height * factor), math.ceil(canvas.width * factor))
    sun_mask, contact = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    sun = canvas.light.sun
    slope = (-sun[0] / sun[1], -sun[2] / sun[1])
    sunny = max(canvas.light.direct) > 0.05
    if not boxes:
        return sun_mask, contact
    table = np.array(boxes)
    x, z, half, length, height, heading, base = (column[:, None] for column in table.T)
    along, across = np.array([-1.0, -1.0, 1.0, 1.0]), np.array([-1.0, 1.0, 1.0, -1.0])
    s, c = np.sin(heading), np.cos(heading)
    foot = np.zeros((len(table), 4, 3))
    foot[..., 0] = x + along * length * s + across * half * c
    foot[..., 2] = z + along * length * c - across * half * s
    if sunny:
        low, high = foot.copy(), foot.copy()
        for part, up in ((low, base), (high, height)):
            part[..., 0] += slope[0] * up
            part[..., 2] += slope[1] * up
        _shadows(canvas, sun_mask, np.concatenate([low, high], 1), factor)
    _shadows(canvas, contact, foot[(base[:, 0] == 0.0) & (height[:, 0] < 6.0)], factor)
    return sun_mask, contact


def _shadows(canvas: Canvas, mask: np.ndarray, points: np.ndarray, factor: float) -> None:
    """Fill the convex hulls of ground points, (M, N, 3)."""
    flat = canvas.project(points)
    near = points[..., 2].min(1) < NEAR
    seen = (flat[..., 0].max(1) > 0) & (flat[..., 0].min(1) < canvas.width) & (points[..., 2].max(1) > NEAR)
    fixed = np.rint(np.clip(flat * factor, -2e4, 2e4) * 16).astype(np.int32)
    for k in np.flatnonzero(seen | near):
        if near[k]:
            outline = cv2.convexHull(points[k][:, [0, 2]].astype(np.float32)).reshape(-1, 2)
            world = cut(np.stack([outline[:, 0], np.zeros(len(outline)), outline[:, 1]], 1))
            if len(world) < 3:
                continue
            hull = np.rint(np.clip(canvas.project(world) * factor, -2e4, 2e4) * 16).astype(np.int32)
        else:
            hull = cv2.convexHull(fixed[k])
        cv2.fillPoly(mask, [hull], 255.0, cv2.LINE_AA, 4)


@lru_cache(maxsize=1)
def _noise() -> tuple[np.ndarray, np.ndarray]:
    return tile(2), tile(1)


def shade(canvas: Canvas, boxes: list[tuple[float, ...]], wet: float) -> None:
    """Light, shadows, grain and haze on the ground painted so far."""
    top = max(0, math.floor(canvas.horizon))
    if top >= canvas.height:
        return
    light, height, width = canvas.light, canvas.height, canvas.width
    lines = np.arange(top, height, dtype=np.float32) + np.float32(0.5)
    z = canvas.focal * canvas.view.height / np.maximum(lines - canvas.horizon, 0.3)
    z = z.astype(np.float32)[:, None]
    columns = (np.arange(width, dtype=np.float32) + np.float32(0.5 - canvas.centre))[None] / canvas.focal
    x = columns * z - z * (canvas.view.yaw + 0.5 * canvas.view.bend * z)
    x = x.astype(np.float32)
    deep = np.broadcast_to(z, x.shape)
    fine, coarse = _noise()
    # One texel is 5 cm in the fine grain and 1 m in the stains; each fades where texels get below a pixel.
    grain = cv2.remap(fine, x * 20, deep * 20, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    stains = cv2.remap(coarse, x * 3, deep * 1.2, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    gain = 1.0 + 0.05 * grain * np.exp(-z / 12.0) + 0.035 * stains * np.exp(-z / 60.0)

    sun_mask, contact = cast(canvas, boxes)
    blur = max(1, round(canvas.width / 500))
    sun_mask = cv2.blur(sun_mask, (2 * blur + 1, blur | 1))
    wide = max(1, round(sun_mask.shape[1] / 90))
    contact = cv2.blur(contact, (2 * wide + 1, (wide // 2) * 2 + 1))
    if sun_mask.shape != (height, width):
        sun_mask = cv2.resize(sun_mask, (width, height), interpolation=cv2.INTER_LINEAR)
        contact = cv2.resize(contact, (width, height), interpolation=cv2.INTER_LINEAR)
    dark = sun_mask[top:].astype(np.float32) * np.float32(1 / 255)
    gain *= 1.0 - contact[top:].astype(np.float32) * np.float32(0.55 / 255)
    if light.lamps:  # the ego vehicle's headlights
        beam = np.exp(-((z - 9.0) ** 2) / 160.0) * np.exp(-((x / (1.5 + 0.16 * z)) ** 2))
        pool = 0.42 * beam
    else:
        pool = np.float32(0.0)
    clear = np.exp(-z / light.clear)
    ground = canvas.image[top:]
    for i in range(3):
        lit = light.ambient[i] + light.direct[i] * max(light.sun[1], 0.0) * (1.0 - dark) + pool
        plane = ground[..., i] * (gain * lit)
        if wet:
            plane = plane * (1.0 - 0.45 * wet) + light.haze[i] * wet * 0.16 * np.clip(z / 25.0, 0.2, 1.0)
        plane = light.haze[i] + (plane - light.haze[i]) * clear
        ground[..., i] = np.clip(plane, 0, 255).astype(np.uint8)
