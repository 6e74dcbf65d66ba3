"""The shapes of vehicles: a side profile, windows, wheels, and the plates at either end.

Local axes in metres: s forward, t to the vehicle's right, y up, the origin on the ground under its middle.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

DISCS = (1.0, 0.66, 0.5, 0.16)  # the circles of a wheel, as shares of its radius
Corner = tuple[float, float]
Plate = tuple[float, float, float, float, str]


@dataclass(frozen=True)
class Body:
    """`outline`: (s, y, material of the edge to the next point), clockwise from the lower rear.

    `belt`: height from which the sides lean in by `lean` metres at the top. `windows`: side glass polygons.
    `wheels`: (s, radius). `front`, `rear`: (t0, t1, y0, y1, material) plates at either end.
    """

    width: float
    belt: float
    lean: float
    outline: tuple[tuple[float, float, str], ...]
    windows: tuple[tuple[Corner, ...], ...]
    wheels: tuple[tuple[float, float], ...]
    front: tuple[Plate, ...] = ()
    rear: tuple[Plate, ...] = ()
    lines: tuple[Plate, ...] = ()  # side plates: s0, s1, y0, y1, material

    @cached_property
    def length(self) -> float:
        s = [point[0] for point in self.outline]
        return max(s) - min(s)

    @cached_property
    def height(self) -> float:
        return max(point[1] for point in self.outline)

    def half(self, y: float) -> float:
        over = max(0.0, y - self.belt) / max(1e-6, self.height - self.belt)
        return self.width / 2 - self.lean * over

    @cached_property
    def mesh(self) -> "Mesh":
        return Mesh(self)


class Mesh:
    """All polygons of a body in one array, so that a vehicle is projected in one go.

    `points` (M, 3); polygon k is points[stops[k]:stops[k + 1]]; `groups` names the polygons' numbers;
    `following` (M,) is each point's next one around its polygon.
    """

    def __init__(self, body: Body) -> None:
        polygons: list[np.ndarray] = []
        self.groups: dict[str, list[int]] = {}
        for name, points in _polygons(body):
            self.groups.setdefault(name, []).append(len(polygons))
            polygons.append(np.array(points, np.float64))
        for name in ("pane", "line", "arch", "disc"):
            for side in ("left", "right"):
                self.groups.setdefault(f"{name} {side}", [])
        for name in ("front", "rear"):
            self.groups.setdefault(name, [])
        self.points = np.concatenate(polygons)
        self.stops = np.cumsum([0, *map(len, polygons)])
        self.starts = self.stops[:-1]
        self.following = np.arange(1, len(self.points) + 1)
        self.following[self.stops[1:] - 1] = self.starts


def _polygons(body: Body) -> Iterator[tuple[str, list[tuple[float, float, float]]]]:
    """(group, points) of each polygon; the strips come first, in the outline's order."""
    outline = body.outline
    for (s, y, _), (s2, y2, _) in zip(outline, outline[1:] + outline[:1], strict=True):
        a, b = body.half(y), body.half(y2)
        yield "strip", [(s, -a, y), (s2, -b, y2), (s2, b, y2), (s, a, y)]
    half = body.width / 2
    ends = [s for s, _, _ in outline]
    for name, plates, s in (("rear", body.rear, min(ends) - 0.01), ("front", body.front, max(ends) + 0.01)):
        for t0, t1, y0, y1, _ in plates:
            yield name, [(s, t0, y0), (s, t0, y1), (s, t1, y1), (s, t1, y0)]
    turn = [2 * math.pi * k / 18 for k in range(18)]
    for s, radius in body.wheels:
        low = half - 0.12
        yield "under", [(s, -low, 0.05), (s, low, 0.05), (s, low, 0.7), (s, -low, 0.7)]
        for t in (-1.0, 1.0):
            sides = (t * (half - 0.27), t * (half - 0.02))
            circle = [(s + radius * math.cos(a), radius + radius * math.sin(a)) for a in turn]
            yield "tyre", [(x, at, y) for at in sides for x, y in circle]
    for t, side in ((-1.0, "left"), (1.0, "right")):
        yield f"flank {side}", [(s, t * body.half(y), y) for s, y, _ in outline]
        low = 0.28 + 0.3 * (body.belt - 0.28)
        yield f"flank {side}", [(s, t * body.half(y), min(y, low)) for s, y, _ in outline]
        for pane in body.windows:
            yield f"pane {side}", [(s, t * (body.half(y) + 0.005), y) for s, y in pane]
        for s0, s1, y0, y1, _ in body.lines:
            at = t * (body.half((y0 + y1) / 2) + 0.01)
            yield f"line {side}", [(s0, at, y0), (s0, at, y1), (s1, at, y1), (s1, at, y0)]
        at = t * (half + 0.012)
        for s, radius in body.wheels:
            arch = [math.pi * k / 9 for k in range(10)]
            r = 1.2 * radius
            yield f"arch {side}", [(s + r * math.cos(a), at, radius + r * math.sin(a)) for a in arch]
        for s, radius in body.wheels:
            for share in DISCS:
                r = share * radius
                yield f"disc {side}", [(s + r * math.cos(a), at, radius + r * math.sin(a)) for a in turn]


def _car(
    rear_base: float,
    roof_rear: float,
    roof_front: float,
    screen: float,
    top: float,
    bonnet: float,
    length: float,
) -> Body:
    """A passenger car from where its glass begins; all from the middle, metres."""
    a, b = -length / 2, length / 2
    belt = 0.93 * (top / 1.45)
    nose = belt * 0.86
    outline = (
        (a + 0.05, 0.24, "bumper"),
        (a, 0.55, "paint"),
        (a + 0.06, belt, "paint"),
        (rear_base, belt + 0.04, "glass"),
        (roof_rear, top - 0.03, "paint"),
        ((roof_rear + roof_front) / 2, top, "paint"),
        (roof_front, top - 0.03, "glass"),
        (screen, belt + 0.02, "paint"),
        (bonnet, nose, "paint"),
        (b, nose - 0.2, "paint"),
        (b, 0.5, "bumper"),
        (b - 0.08, 0.24, "dark"),
    )
    low, high = belt + 0.06, top - 0.12
    mid = (roof_rear + roof_front) / 2 - 0.05
    windows: tuple[tuple[Corner, ...], ...] = (
        ((rear_base + 0.22, low), (roof_rear + 0.1, high), (mid - 0.04, high + 0.02), (mid - 0.04, low)),
        ((mid + 0.04, low), (mid + 0.04, high + 0.02), (roof_front - 0.06, high), (screen - 0.24, low)),
    )
    w = 0.86
    lamp = belt - 0.26
    front = (
        (-0.62, 0.62, 0.36, 0.56, "dark"),
        (-w, -w + 0.42, nose - 0.27, nose - 0.1, "head"),
        (w - 0.42, w, nose - 0.27, nose - 0.1, "head"),
        (-0.4, 0.4, nose - 0.26, nose - 0.13, "grille"),
        (-0.26, 0.26, 0.42, 0.53, "plate"),
    )
    rear = (
        (-w, -w + 0.34, lamp, lamp + 0.2, "tail"),
        (w - 0.34, w, lamp, lamp + 0.2, "tail"),
        (-0.28, 0.28, lamp - 0.08, lamp + 0.05, "plate"),
        (-0.8, 0.8, 0.3, 0.4, "dark"),
    )
    lines = (
        (mid - 0.02, mid + 0.02, 0.42, belt, "seam"),
        (mid - 0.98, mid - 0.95, 0.5, belt, "seam"),
        (screen - 0.4, screen - 0.37, 0.42, belt, "seam"),
        (mid - 0.3, mid - 0.14, belt - 0.13, belt - 0.09, "seam"),
        (screen - 1.4, screen - 1.24, belt - 0.13, belt - 0.09, "seam"),
        (a + 0.6, b - 0.6, 0.26, 0.36, "bumper"),
    )
    wheels = ((a + 0.82, 0.33), (b - 0.86, 0.33))
    return Body(1.8, belt, 0.24, outline, windows, wheels, front, rear, lines)


def _box(
    label_height: float, length: float, width: float, sill: float, panes: int, rear: str, face: str
) -> Body:
    """A box on wheels: bus and tram cars."""
    a, b, h = -length / 2, length / 2, label_height
    outline = (
        (a + 0.05, 0.28, "paint"),
        (a, 1.1, "paint"),
        (a + 0.06, h - 0.25, "paint"),
        (a + 0.3, h, "roof"),
        (b - 0.35, h, "paint"),
        (b - 0.08, h - 0.3, "paint"),
        (b, 1.1, "paint"),
        (b, 0.28, "dark"),
    )
    pitch = (length - 0.8) / panes
    low, high = sill, h - 0.62
    windows: tuple[tuple[Corner, ...], ...] = tuple(
        ((s, low), (s, high), (s + pitch - 0.1, high), (s + pitch - 0.1, low))
        for s in (a + 0.4 + pitch * k for k in range(panes))
    )
    w = width / 2
    front_plates = (
        (-w + 0.12, w - 0.12, sill - 0.15, h - 0.62, "glass"),
        (-w + 0.35, w - 0.35, h - 0.52, h - 0.2, "display"),
        (-w + 0.15, -w + 0.5, 0.62, 0.86, "head"),
        (w - 0.5, w - 0.15, 0.62, 0.86, "head"),
        (-0.3, 0.3, 0.42, 0.56, "plate"),
        (-w + 0.02, w - 0.02, 0.28, 0.4, "bumper"),
    )
    rear_plates = (
        (-w + 0.3, w - 0.3, sill + 0.1, h - 0.7, rear),
        (-w + 0.08, -w + 0.3, 0.75, 1.25, "tail"),
        (w - 0.3, w - 0.08, 0.75, 1.25, "tail"),
        (-0.3, 0.3, 0.5, 0.64, "plate"),
        (-w + 0.4, w - 0.4, 0.8, 1.2, "grille"),
    )
    wheels: tuple[Corner, ...] = ((a + 2.4, 0.48), (b - 2.4, 0.48))
    if face == "tram":  # two bogies
        wheels = ((a + 1.6, 0.32), (a + 2.7, 0.32), (b - 2.7, 0.32), (b - 1.6, 0.32))
    lines = (
        (b - 1.5, b - 0.35, 0.4, h - 0.6, "door"),
        (-0.7, 0.7, 0.4, h - 0.6, "door"),
        (a + 0.1, b - 0.1, sill - 0.42, sill - 0.2, "stripe"),
    )
    return Body(width, h - 0.4, 0.08, outline, windows, wheels, front_plates, rear_plates, lines)


BODIES: dict[str, Body] = {
    "hatchback": _car(-1.82, -1.35, 0.02, 0.86, 1.47, 1.75, 3.95),
    "sedan": _car(-1.6, -0.98, 0.12, 0.98, 1.44, 2.05, 4.6),
    "estate": _car(-2.12, -1.85, 0.1, 0.98, 1.48, 2.05, 4.65),
    "suv": _car(-2.0, -1.6, 0.1, 0.9, 1.72, 1.9, 4.45),
    "minivan": _car(-1.95, -1.7, 0.55, 1.4, 1.85, 1.9, 4.4),
    "bus": _box(3.05, 11.8, 2.52, 1.25, 8, "glass", "bus"),
    "tram": _box(3.35, 9.6, 2.45, 1.3, 6, "glass", "tram"),
    "cab": Body(
        2.3,
        1.7,
        0.1,
        (
            (-1.0, 0.45, "dark"),
            (-1.0, 2.75, "paint"),
            (0.7, 2.8, "paint"),
            (0.92, 2.55, "glass"),
            (1.05, 1.5, "paint"),
            (1.1, 0.4, "dark"),
        ),
        (((-0.45, 1.6), (-0.45, 2.4), (0.62, 2.4), (0.82, 1.6)),),
        ((0.15, 0.48),),
        (
            (-1.1, 1.1, 0.42, 0.72, "bumper"),
            (-0.7, 0.7, 0.85, 1.25, "grille"),
            (-1.05, -0.68, 0.78, 1.0, "head"),
            (0.68, 1.05, 0.78, 1.0, "head"),
            (-0.26, 0.26, 0.5, 0.62, "plate"),
        ),
        (),
        ((-0.5, -0.46, 0.6, 1.55, "seam"),),
    ),
    "van": Body(
        2.0,
        1.5,
        0.14,
        (
            (-2.6, 0.28, "bumper"),
            (-2.62, 0.6, "paint"),
            (-2.55, 2.2, "paint"),
            (-2.4, 2.3, "paint"),
            (1.1, 2.3, "glass"),
            (1.85, 1.3, "paint"),
            (2.55, 1.05, "paint"),
            (2.62, 0.6, "bumper"),
            (2.55, 0.28, "dark"),
        ),
        (((0.35, 1.35), (0.35, 2.02), (1.08, 2.02), (1.6, 1.35)),),
        ((-1.7, 0.36), (1.65, 0.36)),
        (
            (-0.9, -0.5, 0.72, 0.98, "head"),
            (0.5, 0.9, 0.72, 0.98, "head"),
            (-0.45, 0.45, 0.7, 0.92, "grille"),
            (-0.26, 0.26, 0.46, 0.58, "plate"),
        ),
        (
            (-0.82, -0.06, 1.4, 2.05, "glass"),
            (0.06, 0.82, 1.4, 2.05, "glass"),
            (-0.98, -0.8, 0.85, 1.35, "tail"),
            (0.8, 0.98, 0.85, 1.35, "tail"),
            (-0.26, 0.26, 0.66, 0.8, "plate"),
            (-0.02, 0.02, 0.5, 2.1, "seam"),
        ),
        ((0.28, 0.31, 0.4, 2.1, "seam"), (-1.2, -1.17, 0.4, 2.1, "seam")),
    ),
}


def cargo(length: float, height: float) -> Body:
    """The box behind a truck's cab."""
    a, b = -length / 2, length / 2
    outline = (
        (a, 1.0, "cargo"),
        (a, height, "cargo"),
        (b, height, "cargo"),
        (b, 1.0, "dark"),
    )
    rear = (
        (-0.03, 0.03, 1.1, height - 0.1, "seam"),
        (-1.15, 1.15, height - 0.16, height - 0.06, "seam"),
        (-1.15, -0.85, 0.72, 0.92, "tail"),
        (0.85, 1.15, 0.72, 0.92, "tail"),
        (-1.2, 1.2, 0.55, 0.68, "dark"),
        (-0.26, 0.26, 0.76, 0.9, "plate"),
        (-1.15, 1.15, 0.98, 1.06, "bumper"),
    )
    lines = ((a + 0.3, b - 0.3, height * 0.55, height * 0.8, "stripe"), (a, b, 0.62, 0.98, "dark"))
    return Body(2.5, height, 0.0, outline, (), ((a + 1.0, 0.5), (a + 2.1, 0.5)), (), rear, lines)
