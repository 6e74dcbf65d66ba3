"""Cars, vans, trucks, buses and trams: a side profile drawn out across its width, with lamps and windows.

Local axes in metres: s forward, t to the vehicle's right, y up, the origin on the ground under its middle;
heading 0 drives away from the camera, pi towards it, and a quarter turn to the right.
"""

import math

import numpy as np

from training.data.drawing.bodies import BODIES, Body, cargo
from training.data.drawing.canvas import NEAR, Canvas, Colour, mix, scale

CAR, TRUCK, BUS, TRAIN = 26, 27, 28, 31
GLASS: Colour = (46.0, 54.0, 64.0)
DARK: Colour = (30.0, 31.0, 34.0)
TYRE: Colour = (26.0, 26.0, 28.0)


class Frame:
    """A vehicle's place: local (s, t, y) to world."""

    def __init__(self, x: float, z: float, heading: float, y: float = 0.0) -> None:
        self.x, self.y, self.z = x, y, z
        self.sin, self.cos = math.sin(heading), math.cos(heading)

    def world(self, local: np.ndarray) -> np.ndarray:
        s, t, y = local[..., 0], local[..., 1], local[..., 2]
        x = self.x + s * self.sin + t * self.cos
        return np.stack([x, y + self.y, self.z + s * self.cos - t * self.sin], -1)

    def normal(self, s: float, t: float, y: float) -> tuple[float, float, float]:
        return (s * self.sin + t * self.cos, y, s * self.cos - t * self.sin)


def area(flat: np.ndarray) -> float:
    """Signed area of a polygon in pixels."""
    x, y = flat[:, 0], flat[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


class Painter:
    """Paints one body in one place; `colours` gives paint, cargo, stripe."""

    def __init__(
        self, canvas: Canvas, frame: Frame, body: Body, colours: dict[str, Colour], ident: int
    ) -> None:
        self.canvas, self.frame, self.body, self.ident = canvas, frame, body, ident
        self.colours = colours
        self.z = frame.z
        self.fine = canvas.pixels(self.z) * 0.1

    def material(self, name: str, normal: tuple[float, float, float]) -> Colour:
        canvas = self.canvas
        if name in ("paint", "roof", "cargo", "stripe", "door"):
            base = self.colours.get(name, self.colours["paint"])
            if name == "door":
                base = mix(GLASS, self.colours["paint"], 0.25)
            tone = canvas.tone(base, normal, self.z)
            if name != "cargo" and normal[1] > 0.25:  # lacquer shows the sky
                tone = mix(tone, canvas.light.sky[0], 0.22 * normal[1])
            return tone
        if name == "glass":
            if canvas.light.lamps and self.body.height > 2.9:
                return canvas.glow_tone((226.0, 214.0, 170.0), self.z)
            return mix(
                canvas.tone(GLASS, normal, self.z), canvas.light.sky[0], 0.1 + 0.25 * max(0.0, normal[1])
            )
        if name == "head":
            return (
                canvas.glow_tone((255.0, 250.0, 226.0), self.z)
                if canvas.light.lamps
                else canvas.tone((226.0, 230.0, 234.0), normal, self.z)
            )
        if name == "tail":
            return (
                canvas.glow_tone((250.0, 40.0, 30.0), self.z)
                if canvas.light.lamps
                else canvas.tone((178.0, 26.0, 26.0), normal, self.z)
            )
        if name == "display":
            return canvas.glow_tone((250.0, 172.0, 50.0), self.z)
        flat = {
            "bumper": mix(DARK, self.colours["paint"], 0.35),
            "plate": (226.0, 226.0, 220.0),
            "dark": DARK,
        }
        flat |= {"grille": (40.0, 42.0, 46.0), "seam": scale(self.colours["paint"], 0.55)}
        return canvas.tone(flat[name], normal, self.z)

    def run(self) -> None:
        self._under()
        self._strips()
        self._flank()

    def _under(self) -> None:
        """The dark below the body, and tyres seen from before or behind."""
        body, half = self.body, self.body.width / 2
        s0, s1 = body.wheels[0][0], body.wheels[-1][0]
        dark = self.canvas.tone((16.0, 16.0, 18.0), (0, 0, 0), self.z)
        for s in (s0, s1) if self.frame.cos < 0 else (s1, s0):
            box = [
                [s, -half + 0.12, 0.05],
                [s, half - 0.12, 0.05],
                [s, half - 0.12, 0.7],
                [s, -half + 0.12, 0.7],
            ]
            self.canvas.fill(self.frame.world(np.array(box)), dark, self.ident)
        tyre = self.canvas.tone(TYRE, (0, 0, -1), self.z)
        turn = np.linspace(0, 2 * math.pi, 12, endpoint=False)
        for s, radius in body.wheels:
            for t in (-1, 1):
                rings = [
                    np.stack([s + radius * np.cos(turn), 0 * turn + at, radius + radius * np.sin(turn)], 1)
                    for at in (t * (half - 0.27), t * (half - 0.02))
                ]
                world = self.frame.world(np.concatenate(rings))
                self.canvas.hull(world, np.zeros(len(world)), tyre, self.ident)

    def _strips(self) -> None:
        """The faces across the vehicle: rear, glass, roof, bonnet, front."""
        body, frame = self.body, self.frame
        parts = []
        points = body.outline
        for k, (s, y, material) in enumerate(points):
            s2, y2, _ = points[(k + 1) % len(points)]
            a, b = body.half(y), body.half(y2)
            world = frame.world(np.array([[s, -a, y], [s2, -b, y2], [s2, b, y2], [s, a, y]]))
            if world[:, 2].min() < NEAR:
                continue
            flat = self.canvas.project(world)
            if area(flat) <= 0.0:
                continue
            size = math.hypot(s2 - s, y2 - y) or 1.0
            normal = frame.normal(-(y2 - y) / size, 0.0, (s2 - s) / size)
            parts.append((float(world[:, 2].mean()), k, flat, self.material(material, normal), material, b))
        for _, k, flat, tone, material, _ in sorted(parts, key=lambda part: -part[0]):
            if material == "glass":  # pillars show at both sides of a windscreen
                s, y, _ = points[k]
                s2, y2, _ = points[(k + 1) % len(points)]
                normal = frame.normal(0.0, 0.0, 0.6)
                self.canvas.paint(flat, self.material("paint", normal), self.ident)
                inner = flat.mean(0) + (flat - flat.mean(0)) * 0.88
                self.canvas.paint(inner, tone)
                if self.fine > 0.8:
                    shine = np.array([inner[0], inner[1], inner[1] * 0.6 + inner[2] * 0.4, inner[0]])
                    self.canvas.paint(shine, mix(tone, self.canvas.light.sky[0], 0.25))
            else:
                self.canvas.paint(flat, tone, self.ident)
        self._plates()

    def _plates(self) -> None:
        body, frame = self.body, self.frame
        s = [point[0] for point in body.outline]
        for plates, end, forward in ((body.rear, min(s) - 0.01, -1.0), (body.front, max(s) + 0.01, 1.0)):
            normal = frame.normal(forward, 0.0, 0.0)
            for t0, t1, y0, y1, material in plates:
                world = frame.world(np.array([[end, t0, y0], [end, t0, y1], [end, t1, y1], [end, t1, y0]]))
                if world[:, 2].min() < NEAR:
                    continue
                flat = self.canvas.project(world)
                if area(flat) * -forward <= 0.0:
                    break
                if np.ptp(flat, axis=0).max() > 0.7:
                    self.canvas.paint(flat, self.material(material, normal), self.ident)
                if material in ("head", "tail") and self.canvas.light.lamps:
                    lamp = (255.0, 244.0, 206.0) if material == "head" else (190.0, 20.0, 12.0)
                    size = 0.55 if material == "head" else 0.3
                    self.canvas.glow(world.mean(0), size, self.canvas.lamp_glow(lamp))

    def _flank(self) -> None:
        body, frame = self.body, self.frame
        for t in (-1.0, 1.0):
            outline = np.array([[s, t * body.half(y), y] for s, y, _ in body.outline])
            world = frame.world(outline)
            if world[:, 2].min() < NEAR:
                continue
            flat = self.canvas.project(world)
            if area(flat) * t <= 0.0:
                continue
            normal = frame.normal(0.0, t, 0.12)
            tone = self.material("cargo" if "cargo" in self.colours and not body.windows else "paint", normal)
            self.canvas.paint(flat, tone, self.ident)
            low = frame.world(
                np.array(
                    [
                        [s, t * body.half(y), min(y, 0.28 + 0.3 * (body.belt - 0.28))]
                        for s, y, _ in body.outline
                    ]
                )
            )
            self.canvas.paint(self.canvas.project(low), scale(tone, 0.82))
            for pane in body.windows:
                glass = np.array([[s, t * (body.half(y) + 0.005), y] for s, y in pane])
                self.canvas.fill(frame.world(glass), self.material("glass", frame.normal(0.0, t, 0.2)))
                if self.fine > 0.8:
                    shine = glass[[0, 1, 2]]
                    self.canvas.fill(
                        frame.world(shine),
                        mix(self.material("glass", normal), self.canvas.light.sky[0], 0.16),
                    )
            if self.fine > 0.35:
                for s0, s1, y0, y1, material in body.lines:
                    side = t * (body.half((y0 + y1) / 2) + 0.01)
                    plate = np.array([[s0, side, y0], [s0, side, y1], [s1, side, y1], [s1, side, y0]])
                    self.canvas.fill(frame.world(plate), self.material(material, normal))
            self._wheels(t)

    def _wheels(self, t: float) -> None:
        turn = np.linspace(0, 2 * math.pi, 18, endpoint=False)
        arch = np.linspace(0, math.pi, 10)
        normal = self.frame.normal(0.0, t, 0.0)
        side = t * (self.body.width / 2 + 0.012)
        for s, radius in self.body.wheels:
            gap = np.stack(
                [s + 1.2 * radius * np.cos(arch), 0 * arch + side, radius + 1.2 * radius * np.sin(arch)], 1
            )
            if self.body.height < 4:
                self.canvas.fill(self.frame.world(gap), self.canvas.tone((14.0, 14.0, 16.0), normal, self.z))
            for size, colour in (
                (1.0, TYRE),
                (0.66, (150.0, 152.0, 156.0)),
                (0.5, (104.0, 106.0, 112.0)),
                (0.16, DARK),
            ):
                if size < 0.6 and self.fine < 0.8:
                    continue
                disc = np.stack(
                    [
                        s + size * radius * np.cos(turn),
                        0 * turn + side,
                        radius + size * radius * np.sin(turn),
                    ],
                    1,
                )
                ident = self.ident if size == 1.0 else None
                self.canvas.fill(self.frame.world(disc), self.canvas.tone(colour, normal, self.z), ident)


def car(canvas: Canvas, x: float, z: float, heading: float, kind: str, paint: Colour) -> None:
    ident = canvas.instance(CAR)
    Painter(canvas, Frame(x, z, heading), BODIES[kind], {"paint": paint}, ident).run()


def bus(canvas: Canvas, x: float, z: float, heading: float, paint: Colour, stripe: Colour) -> None:
    colours = {"paint": paint, "stripe": stripe, "roof": mix(paint, (230.0, 230.0, 230.0), 0.6)}
    Painter(canvas, Frame(x, z, heading), BODIES["bus"], colours, canvas.instance(BUS)).run()


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
        if fz > NEAR + 4.0:
            frames.append(Frame(fx, fz, heading, y))
    for frame in sorted(frames, key=lambda frame: -frame.z):
        Painter(canvas, frame, BODIES["tram"], colours, ident).run()
