"""Buildings: facades of bays and floors with windows, shops, doors, balconies and roofs."""

import math
from dataclasses import dataclass

import numpy as np

from drawing.canvas import NEAR, Canvas, Colour, mix, scale

BUILDING = 11


@dataclass(frozen=True)
class House:
    """A block along the street; lengths in metres. `x` is its facade (signed), `depth` reaches outwards."""

    x: float
    z0: float
    z1: float
    height: float
    depth: float
    floor: float
    bay: float
    window: tuple[float, float]
    wall: Colour
    trim: Colour
    roof: str  # flat, mansard, gable
    roof_colour: Colour
    ground_floor: str  # shop, door, plain
    sign: Colour
    awning: bool
    balconies: bool
    bands: bool
    joined: bool  # to a house before it, which hides the near end's wall
    lit: float  # share of lit windows at night
    seed: int


Span = np.ndarray | float


def rect(a0: Span, a1: Span, y0: Span, y1: Span) -> np.ndarray:
    """Rectangles in facade coordinates, (M, 4, 2)."""
    many = [len(v) for v in (a0, a1, y0, y1) if isinstance(v, np.ndarray)]
    out = np.empty((min(many) if many else 1, 4, 2))
    out[:, 0, 0] = out[:, 3, 0] = a0
    out[:, 1, 0] = out[:, 2, 0] = a1
    out[:, 0, 1] = out[:, 1, 1] = y0
    out[:, 2, 1] = out[:, 3, 1] = y1
    return out


@dataclass(frozen=True)
class Face:
    """A wall: origin and direction on the ground, length, outward normal, and mean distance."""

    canvas: Canvas
    origin: tuple[float, float]
    along: tuple[float, float]
    length: float
    normal: tuple[float, float, float]
    distance: float

    @property
    def start(self) -> float:
        """Where along the wall it comes into view; it may begin behind the camera."""
        return max(0.0, (NEAR + 0.01 - self.origin[1]) / self.along[1]) if self.along[1] else 0.0

    def world(self, flat: np.ndarray, out: float = 0.0) -> np.ndarray:
        """(..., 2) of (along, up) -> (..., 3) world, `out` metres before the wall."""
        a = flat[..., 0]
        world = np.empty(flat.shape[:-1] + (3,))
        world[..., 0] = a * self.along[0] + (self.origin[0] + self.normal[0] * out)
        world[..., 1] = flat[..., 1]
        world[..., 2] = a * self.along[1] + (self.origin[1] + self.normal[2] * out)
        return world

    def tone(self, colour: Colour) -> Colour:
        return self.canvas.tone(colour, self.normal, self.distance)

    def fill(self, flat: np.ndarray, colour: Colour | None, ident: int | None = None) -> None:
        self.canvas.fill(self.world(flat), colour, ident)

    def many(self, flat: np.ndarray, colour: Colour, out: float = 0.0) -> None:
        if len(flat):
            self.canvas.fill_many(self.world(flat, out), colour)


def faces(canvas: Canvas, house: House) -> list[Face]:
    """The walls a viewer on the road can see: the far end never, the near end, the front."""
    side = math.copysign(1.0, house.x)
    middle = (max(house.z0, 0.0) + house.z1) / 2
    front = Face(
        canvas, (house.x, house.z0), (0.0, 1.0), house.z1 - house.z0, (-side, 0.0, 0.0), min(middle, 300.0)
    )
    if house.z0 < 3.0:
        return [front]
    end = Face(canvas, (house.x, house.z0), (side, 0.0), house.depth, (0.0, 0.0, -1.0), house.z0)
    return [end, front]


def house(canvas: Canvas, spec: House) -> None:
    side = math.copysign(1.0, spec.x)
    _roof(canvas, spec, side)
    for face in faces(canvas, spec):
        front = face.along[1] != 0.0
        _wall(face, spec, front)


def _roof(canvas: Canvas, spec: House, side: float) -> None:
    z0, z1, h = max(spec.z0, 1.5), spec.z1, spec.height
    if spec.roof == "flat" or z1 <= z0:
        return
    rise = 0.55 * min(spec.depth / 2, 6.0) if spec.roof == "gable" else 2.6
    run = spec.depth / 2 if spec.roof == "gable" else 1.4
    ridge = spec.x + side * run
    middle = (z0 + z1) / 2
    tone = canvas.tone(spec.roof_colour, (-side * 0.5, 0.8, 0.0), middle)
    eave = spec.x - side * 0.35
    slope = [[eave, h, z0], [eave, h, z1], [ridge, h + rise, z1], [ridge, h + rise, z0]]
    if spec.roof == "gable":
        far = spec.x + side * spec.depth
        end = canvas.tone(spec.wall, (0, 0, -1), z0)
        canvas.fill([[spec.x, h, z0], [far, h, z0], [ridge, h + rise, z0]], end, BUILDING)
        stack = spec.x + side * run * 0.7
        zc = z0 + 0.3 * (z1 - z0)
        top = h + rise + 0.9
        brick = canvas.tone((132.0, 84.0, 70.0), (0, 0, -1), zc)
        if zc > 3:
            base = h + rise * 0.6
            box = [
                [stack - 0.4, base, zc],
                [stack + 0.4, base, zc],
                [stack + 0.4, top, zc],
                [stack - 0.4, top, zc],
            ]
            canvas.fill(box, brick, BUILDING)
    if spec.roof == "mansard":
        far = spec.x + side * spec.depth
        gable = [[spec.x, h, z0], [ridge, h + rise, z0], [far - side * run, h + rise, z0], [far, h, z0]]
        canvas.fill(gable, canvas.tone(scale(spec.roof_colour, 0.9), (0, 0, -1), z0), BUILDING)
    canvas.fill(slope, tone, BUILDING)
    if spec.roof == "mansard" and canvas.pixels(middle) > 6:
        count = max(1, int((z1 - z0) / spec.bay))
        z = z0 + (np.arange(count) + 0.5) * (z1 - z0) / count
        corner = [(h + 0.5, -0.5), (h + 0.5, 0.5), (h + 2.0, 0.5), (h + 2.0, -0.5)]
        boxes = np.stack(
            [np.stack([0 * z + spec.x + side * 0.2, 0 * z + y, z + d], -1) for y, d in corner], 1
        )
        canvas.fill_many(boxes, canvas.tone(spec.trim, (-side, 0, 0), middle))
        boxes[:, :, 2] = z[:, None] + (boxes[:, :, 2] - z[:, None]) * 0.7
        canvas.fill_many(boxes, canvas.tone((58.0, 66.0, 78.0), (-side, 0, 0), middle))


def _detail(face: Face, height: float, bays: int) -> float:
    """The size in pixels of a bay of this wall, or of half a storey if that is less; 0 out of sight."""
    corners = face.canvas.project(face.world(rect(face.start, face.length, 0.0, height))[0])
    left, right = corners[:, 0].min(), corners[:, 0].max()
    if right < 0 or left > face.canvas.width or corners[:, 1].max() < 0:
        return 0.0
    return float(min((right - left) / bays, np.ptp(corners[:, 1]) / height * 1.6)) + 1e-3


def _wall(face: Face, spec: House, front: bool) -> None:
    length, height = face.length, spec.height
    wall = spec.wall if front else scale(spec.wall, 0.94)
    bays = max(1, int((length - 0.6) / spec.bay))
    near = _detail(face, height, bays)
    if near == 0.0:
        return
    face.fill(rect(face.start, length, 0.0, height)[0], face.tone(wall), BUILDING)
    if near < 1.5 or (spec.joined and not front):
        return
    ground = 3.8 if spec.ground_floor == "shop" else 3.2
    floors = int((height - ground - 0.5) / spec.floor)
    if spec.bands and floors and near > 4.0:
        y = ground + np.arange(floors) * spec.floor - 0.1
        face.many(rect(face.start, length, y, y + 0.22), face.tone(scale(wall, 1.1)))
    face.many(rect(face.start, length, height - 0.45, height), face.tone(spec.trim))
    face.many(rect(face.start, length, 0.0, 0.6), face.tone(scale(wall, 0.72)))
    pitch = length / bays
    columns = (np.arange(bays) + 0.5) * pitch
    columns = columns[columns > face.start]
    if not front and spec.seed % 3 == 0:
        floors = 0  # a blank gable
    if floors > 0:
        gx, gy = (g.ravel() for g in np.meshgrid(columns, ground + 0.75 + np.arange(floors) * spec.floor))
        _windows(face, spec, gx, gy, near)
        if spec.balconies and front and near > 3.0:
            _balconies(face, spec, columns[::2], ground, floors)
    if not front:
        return
    if spec.ground_floor == "shop":
        _shop(face, spec, bays, pitch, near)
    elif len(columns):
        _street_level(face, spec, columns, near)


def _windows(face: Face, spec: House, x: np.ndarray, y: np.ndarray, near: float) -> None:
    """A grid of windows: frame, glass, a reflection, curtains, lit ones at night."""
    w, h = spec.window
    random = np.random.default_rng([spec.seed, 1]).random(len(x))
    light = face.canvas.light
    if near > 5.0:
        face.many(rect(x - w / 2 - 0.12, x + w / 2 + 0.12, y - 0.1, y + h + 0.12), face.tone(spec.trim))
    glass = mix(face.tone((52.0, 60.0, 72.0)), light.sky[1], 0.12)
    box = rect(x - w / 2, x + w / 2, y, y + h)
    face.many(box, glass)
    bright = mix(glass, light.sky[0], 0.42)
    split = random < (0.6 if near > 3.0 else 0.0)
    upper = rect(x - w / 2, x + w / 2, y + h * 0.45, y + h)[split]
    upper[:, 1, 1] += h * 0.25
    face.many(upper, bright)
    drawn = (random > 0.3) & (random < 0.5)
    curtain = rect(x - w / 2, x + w / 2, y + h * 0.35, y + h)[drawn]
    face.many(curtain, face.tone(mix(spec.trim, (214.0, 206.0, 192.0), 0.7)))
    if light.lamps:
        warm = face.canvas.glow_tone((255.0, 208.0, 132.0), face.distance)
        cold = face.canvas.glow_tone((222.0, 226.0, 236.0), face.distance)
        on = random < spec.lit
        face.many(box[on & (random < spec.lit * 0.75)], warm)
        face.many(box[on & (random >= spec.lit * 0.75)], cold)
    if near > 14.0:
        bar = 0.035
        face.many(rect(x - bar, x + bar, y, y + h), face.tone(spec.trim))
        face.many(rect(x - w / 2, x + w / 2, y + h * 0.68, y + h * 0.68 + bar * 2), face.tone(spec.trim))
        sill = rect(x - w / 2 - 0.18, x + w / 2 + 0.18, y - 0.2, y - 0.08)
        face.many(sill, face.tone(scale(spec.trim, 0.85)))


def _balconies(face: Face, spec: House, x: np.ndarray, ground: float, floors: int) -> None:
    gx, gy = (g.ravel() for g in np.meshgrid(x, ground + 0.35 + np.arange(1, floors) * spec.floor))
    half = spec.window[0] / 2 + 0.45
    face.many(rect(gx - half, gx + half, gy - 0.15, gy + 0.05), face.tone(scale(spec.trim, 0.8)), 0.7)
    face.many(rect(gx - half, gx + half, gy + 0.05, gy + 0.95), face.tone(scale(spec.wall, 0.62)), 0.7)
    face.many(rect(gx - half, gx + half, gy + 0.9, gy + 1.02), face.tone(spec.trim), 0.7)


def _shop(face: Face, spec: House, bays: int, pitch: float, near: float) -> None:
    """Show windows under a fascia, doors now and then, an awning."""
    random = np.random.default_rng([spec.seed, 2])
    lamps = face.canvas.light.lamps
    face.many(rect(face.start, face.length, 0.0, 3.8), face.tone(mix(spec.wall, spec.sign, 0.25)))
    bay = np.arange(bays) * pitch
    bay = bay[bay >= face.start]
    left, right = bay + 0.25, bay + pitch - 0.25
    wide = pitch - 0.5
    pane = mix(face.tone((44.0, 52.0, 62.0)), face.canvas.light.sky[1], 0.18)
    if lamps:
        pane = face.canvas.glow_tone((250.0, 222.0, 168.0), face.distance)
    face.many(rect(left, right, 0.55, 2.85), pane)
    fascia = face.canvas.glow_tone(spec.sign, face.distance) if lamps else face.tone(spec.sign)
    face.many(rect(face.start + 0.1, face.length - 0.1, 2.95, 3.55), fascia, 0.08)
    if near > 5.0:
        goods = [(206.0, 120.0, 84.0), (98.0, 140.0, 176.0), (214.0, 198.0, 140.0), (120.0, 150.0, 104.0)]
        for colour in goods:
            x = (left[:, None] + random.random((len(bay), 2)) * (wide - 0.4)).ravel()
            top = 0.7 + random.random(len(x)) * 1.1
            face.many(rect(x, x + 0.4, 0.6, top), face.tone(colour) if not lamps else colour)
        sheen = rect(left, left + wide * 0.3, 0.55, 2.85)
        sheen[:, 2:, 0] += wide * 0.25
        face.many(sheen, mix(pane, face.canvas.light.sky[0], 0.3))
        doors = (left + right)[random.random(len(bay)) < 0.35] / 2
        face.many(rect(doors - 0.5, doors + 0.5, 0.05, 2.4), face.tone(scale(spec.sign, 0.55)))
        face.many(rect(doors - 0.36, doors + 0.36, 0.9, 2.25), mix(pane, (20.0, 24.0, 30.0), 0.3))
        jitter = random.random((len(bay), 5))
        x = (left[:, None] + (np.arange(5) + jitter * 0.4) * (wide / 6.5)).ravel()
        text = (246.0, 244.0, 236.0) if sum(spec.sign) < 420 else (40.0, 40.0, 48.0)
        letters = rect(x, x + pitch * 0.07, 3.1, 3.3 + 0.12 * jitter.ravel())
        face.many(letters, text if lamps else face.tone(text), 0.1)
    if spec.awning:
        _awning(face, spec, left, right)


def _awning(face: Face, spec: House, left: np.ndarray, right: np.ndarray) -> None:
    chosen = np.random.default_rng([spec.seed, 4]).random(len(left)) < 0.6
    for stripe in range(6):
        a = left + (right - left) * stripe / 6
        b = left + (right - left) * (stripe + 1) / 6
        top = face.world(rect(a, b, 2.9, 2.95))
        low = face.world(rect(a, b, 2.3, 2.35), 1.3)
        cloth = np.stack([top[:, 0], top[:, 1], low[:, 1], low[:, 0]], 1)[chosen]
        colour = spec.sign if stripe % 2 else (232.0, 228.0, 218.0)
        tone = face.canvas.tone(colour, (face.normal[0] * 0.6, 0.8, face.normal[2] * 0.6), face.distance)
        if len(cloth):
            face.canvas.fill_many(cloth, tone, BUILDING)


def _street_level(face: Face, spec: House, columns: np.ndarray, near: float) -> None:
    """Windows, a door with steps, perhaps a garage gate."""
    random = np.random.default_rng([spec.seed, 3]).random(len(columns))
    door = random > 0.78
    if not door.any() and len(columns) > 1:
        door[len(columns) // 2] = True
    if spec.ground_floor == "door":
        x = columns[~door]
        _windows(face, spec, x, np.full(len(x), 1.05), near)
    x = columns[door]
    face.many(rect(x - 0.7, x + 0.7, 0.0, 2.55), face.tone(spec.trim))
    face.many(rect(x - 0.52, x + 0.52, 0.12, 2.2), face.tone(scale(spec.sign, 0.6)))
    face.many(rect(x - 0.52, x + 0.52, 2.2, 2.45), face.tone((60.0, 68.0, 80.0)))
    if near > 20.0:
        face.many(rect(x - 0.36, x + 0.36, 1.2, 2.0), face.tone(scale(spec.sign, 0.8)))
