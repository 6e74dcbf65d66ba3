"""Cars, vans, trucks, buses and trams: a side profile drawn out across its width, with lamps and windows.

Local axes in metres: s forward, t to the vehicle's right, y up, the origin on the ground under its middle;
heading 0 drives away from the camera, pi towards it, and a quarter turn to the right.
"""

import math

import cv2
import numpy as np

from drawing.bodies import BODIES, DISCS, Body, cargo
from drawing.canvas import NEAR, Canvas, Colour, mix, scale

CAR, TRUCK, BUS, TRAIN = 26, 27, 28, 31
GLASS: Colour = (46.0, 54.0, 64.0)
DARK: Colour = (30.0, 31.0, 34.0)
TYRE: Colour = (26.0, 26.0, 28.0)
RIMS: dict[float, Colour] = {1.0: TYRE, 0.66: (150.0, 152.0, 156.0), 0.5: (104.0, 106.0, 112.0), 0.16: DARK}
LAMPS: dict[str, tuple[Colour, Colour]] = {  # off by day, on
    "head": ((226.0, 230.0, 234.0), (255.0, 250.0, 226.0)),
    "tail": ((178.0, 26.0, 26.0), (250.0, 40.0, 30.0)),
}
FLAT: dict[str, Colour] = {"plate": (226.0, 226.0, 220.0), "dark": DARK, "grille": (40.0, 42.0, 46.0)}


class Frame:
    """A vehicle's place: local (s, t, y) to world."""

    def __init__(self, x: float, z: float, heading: float, y: float = 0.0) -> None:
        self.x, self.y, self.z = x, y, z
        self.sin, self.cos = math.sin(heading), math.cos(heading)

    def world(self, local: np.ndarray) -> np.ndarray:
        s, t, y = local[..., 0], local[..., 1], local[..., 2]
        out = np.empty_like(local, dtype=np.float64)
        out[..., 0] = s * self.sin + t * self.cos + self.x
        out[..., 1] = y + self.y
        out[..., 2] = s * self.cos - t * self.sin + self.z
        return out

    def normal(self, s: float, t: float, y: float) -> tuple[float, float, float]:
        return (s * self.sin + t * self.cos, y, s * self.cos - t * self.sin)


class Painter:
    """Paints one body in one place; `colours` gives paint, cargo, stripe."""

    def __init__(
        self, canvas: Canvas, frame: Frame, body: Body, colours: dict[str, Colour], ident: int
    ) -> None:
        self.canvas, self.frame, self.body, self.ident = canvas, frame, body, ident
        self.colours = colours
        self.z = frame.z
        self.fine = canvas.pixels(self.z) * 0.1
        mesh = body.mesh
        world = frame.world(mesh.points)
        self.flat = canvas.project(world)
        self.fixed = canvas.fixed(self.flat)
        x, y = self.flat[:, 0], self.flat[:, 1]
        self.area = np.add.reduceat(x * y[mesh.following] - y * x[mesh.following], mesh.starts).tolist()
        self.depth = np.add.reduceat(world[:, 2], mesh.starts) / np.diff(mesh.stops)
        self.near = (np.minimum.reduceat(world[:, 2], mesh.starts) < NEAR).tolist()
        self.tones: dict[tuple[str, tuple[float, float, float]], Colour] = {}

    def material(self, name: str, normal: tuple[float, float, float]) -> Colour:
        key = (name, normal)
        if key not in self.tones:
            self.tones[key] = self._material(name, normal)
        return self.tones[key]

    def _material(self, name: str, normal: tuple[float, float, float]) -> Colour:
        canvas, light = self.canvas, self.canvas.light
        paint = self.colours["paint"]
        if name in ("paint", "roof", "cargo", "stripe", "door"):
            base = mix(GLASS, paint, 0.25) if name == "door" else self.colours.get(name, paint)
            tone = canvas.tone(base, normal, self.z)
            if name != "cargo" and normal[1] > 0.25:  # lacquer shows the sky
                tone = mix(tone, light.sky[0], 0.22 * normal[1])
            return tone
        if name == "glass":
            if light.lamps and self.body.height > 2.9:
                return canvas.glow_tone((226.0, 214.0, 170.0), self.z)
            return mix(canvas.tone(GLASS, normal, self.z), light.sky[0], 0.1 + 0.25 * max(0.0, normal[1]))
        if name == "display":
            return canvas.glow_tone((250.0, 172.0, 50.0), self.z)
        if name in LAMPS:
            off, on = LAMPS[name]
            return canvas.glow_tone(on, self.z) if light.lamps else canvas.tone(off, normal, self.z)
        base = {"bumper": mix(DARK, paint, 0.35), "seam": scale(paint, 0.55)}.get(name) or FLAT[name]
        return canvas.tone(base, normal, self.z)

    def paint(self, k: int, tone: Colour, ident: int | None = None) -> None:
        """Fill polygon k of the mesh."""
        if not self.near[k]:
            stops = self.body.mesh.stops
            self.canvas.paint_fixed([self.fixed[stops[k] : stops[k + 1]]], tone, ident)

    def run(self) -> None:
        self._under()
        self._strips()
        self._plates()
        self._flank()

    def _under(self) -> None:
        """The dark below the body, and tyres seen from before or behind."""
        mesh, canvas = self.body.mesh, self.canvas
        dark = canvas.tone((16.0, 16.0, 18.0), (0, 0, 0), self.z)
        tyre = canvas.tone(TYRE, (0, 0, -1), self.z)
        for group, tone in (("under", dark), ("tyre", tyre)):
            for k in sorted(mesh.groups[group], key=lambda k: -self.depth[k]):
                if not self.near[k]:
                    hull = cv2.convexHull(self.fixed[mesh.stops[k] : mesh.stops[k + 1]])
                    canvas.paint_fixed([hull], tone, self.ident)

    def _strips(self) -> None:
        """The faces across the vehicle: rear, glass, roof, bonnet, front, the farther ones first."""
        body, frame = self.body, self.frame
        seen = [k for k in body.mesh.groups["strip"] if self.area[k] > 0.0 and not self.near[k]]
        for k in sorted(seen, key=lambda k: -self.depth[k]):
            s, y, material = body.outline[k]
            s2, y2, _ = body.outline[(k + 1) % len(body.outline)]
            size = math.hypot(s2 - s, y2 - y) or 1.0
            normal = frame.normal(-(y2 - y) / size, 0.0, (s2 - s) / size)
            tone = self.material(material, normal)
            if material != "glass":
                self.paint(k, tone, self.ident)
                continue
            # pillars show at both sides of a windscreen
            self.paint(k, self.material("paint", frame.normal(0.0, 0.0, 0.6)), self.ident)
            flat = self.flat[body.mesh.stops[k] : body.mesh.stops[k + 1]]
            inner = flat.mean(0) + (flat - flat.mean(0)) * 0.88
            self.canvas.paint(inner, tone)
            if self.fine > 0.8:
                shine = np.array([inner[0], inner[1], inner[1] * 0.6 + inner[2] * 0.4, inner[0]])
                self.canvas.paint(shine, mix(tone, self.canvas.light.sky[0], 0.25))

    def _plates(self) -> None:
        """Lamps, number plate, grille and the like at the end that is seen."""
        body, canvas = self.body, self.canvas
        for name, plates, forward in (("rear", body.rear, -1.0), ("front", body.front, 1.0)):
            normal = self.frame.normal(forward, 0.0, 0.0)
            for k, (t0, t1, y0, y1, material) in zip(body.mesh.groups[name], plates, strict=True):
                if self.near[k] or self.area[k] * -forward <= 0.0:
                    break
                if self.fine * 10 * max(t1 - t0, y1 - y0) > 0.7:
                    self.paint(k, self.material(material, normal), self.ident)
                if material in LAMPS and canvas.light.lamps:
                    lamp = (255.0, 244.0, 206.0) if material == "head" else (190.0, 20.0, 12.0)
                    size = 0.55 if material == "head" else 0.3
                    at = self.frame.world(np.array([forward * body.length / 2, (t0 + t1) / 2, (y0 + y1) / 2]))
                    canvas.glow(at, size, canvas.lamp_glow(lamp))

    def _flank(self) -> None:
        body, frame, groups = self.body, self.frame, self.body.mesh.groups
        for t, side in ((-1.0, "left"), (1.0, "right")):
            outline, skirt = groups[f"flank {side}"]
            if self.near[outline] or self.area[outline] * t <= 0.0:
                continue
            normal = frame.normal(0.0, t, 0.12)
            cargo_box = "cargo" in self.colours and not body.windows
            tone = self.material("cargo" if cargo_box else "paint", normal)
            self.paint(outline, tone, self.ident)
            self.paint(skirt, scale(tone, 0.82))
            glass = self.material("glass", frame.normal(0.0, t, 0.2))
            shine = mix(glass, self.canvas.light.sky[0], 0.16)
            for k in groups[f"pane {side}"] if self.fine > 0.2 else ():
                self.paint(k, glass)
                if self.fine > 0.8:
                    start = body.mesh.stops[k]
                    self.canvas.paint_fixed([self.fixed[start : start + 3]], shine)
            if self.fine > 0.35:
                for k, (_, _, _, _, material) in zip(groups[f"line {side}"], body.lines, strict=True):
                    self.paint(k, self.material(material, normal))
            if self.fine < 0.25:  # a metre below 2.5 pixels: wheels are part of the underside's dark
                continue
            arch = self.canvas.tone((14.0, 14.0, 16.0), normal, self.z)
            for k in groups[f"arch {side}"]:
                self.paint(k, arch)
            for k, size in zip(groups[f"disc {side}"], DISCS * len(body.wheels), strict=True):
                if size > 0.6 or self.fine > 0.8:
                    tone = self.canvas.tone(RIMS[size], normal, self.z)
                    self.paint(k, tone, self.ident if size == 1.0 else None)


def reach(canvas: Canvas, x: float, z: float, length: float) -> bool:
    """Whether a vehicle of this length at (x, z) is worth painting."""
    return canvas.sees(x, z, length / 2 + 1.2)


def car(canvas: Canvas, x: float, z: float, heading: float, kind: str, paint: Colour) -> None:
    ident = canvas.instance(CAR)
    if reach(canvas, x, z, 5.2):
        Painter(canvas, Frame(x, z, heading), BODIES[kind], {"paint": paint}, ident).run()


def bus(canvas: Canvas, x: float, z: float, heading: float, paint: Colour, stripe: Colour) -> None:
    colours = {"paint": paint, "stripe": stripe, "roof": mix(paint, (230.0, 230.0, 230.0), 0.6)}
    ident = canvas.instance(BUS)
    if reach(canvas, x, z, 11.8):
        Painter(canvas, Frame(x, z, heading), BODIES["bus"], colours, ident).run()


def truck(
    canvas: Canvas,
    x: float,
    z: float,
    heading: float,
    paint: Colour,
    box: Colour,
    stripe: Colour,
    length: float,
) -> None:
    """A cab and its box, the farther one first."""
    ident = canvas.instance(TRUCK)
    if not reach(canvas, x, z, length + 4.0):
        return
    colours = {"paint": paint, "cargo": box, "stripe": stripe}
    behind = Frame(x, z, heading).world(np.array([-1.15, 0.0, 0.0]))
    ahead = Frame(x, z, heading).world(np.array([length / 2, 0.0, 0.0]))
    parts = [
        (behind, cargo(length, 3.4)),
        (ahead, BODIES["cab"]),
    ]
    for place, body in sorted(parts, key=lambda part: -part[0][2]):
        Painter(canvas, Frame(float(place[0]), float(place[2]), heading), body, colours, ident).run()


def train(
    canvas: Canvas, x: float, z: float, heading: float, paint: Colour, stripe: Colour, cars: int, y: float
) -> None:
    """A tram in the street (y = 0), or a train up on its bank, of `cars` coaches from (x, z) backwards."""
    ident = canvas.instance(TRAIN)
    colours = {"paint": paint, "stripe": stripe, "roof": (150.0, 152.0, 156.0)}
    frames = []
    for k in range(cars):
        back = -k * 9.9
        fx, fz = x + back * math.sin(heading), z + back * math.cos(heading)
        if fz > NEAR + 4.0 and reach(canvas, fx, fz, 9.6):
            frames.append(Frame(fx, fz, heading, y))
    for frame in sorted(frames, key=lambda frame: -frame.z):
        Painter(canvas, frame, BODIES["tram"], colours, ident).run()
