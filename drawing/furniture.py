"""What stands along a street: lamp posts, signs, traffic lights, walls, fences, bins, a railway bank."""

import math
from functools import lru_cache

import numpy as np

from drawing.canvas import NEAR, Canvas, Colour, mix, scale

STATIC, WALL, FENCE, BRIDGE, POLE, LIGHT, SIGN, TERRAIN = 4, 12, 13, 15, 17, 19, 20, 22
STEEL: Colour = (118.0, 122.0, 126.0)
TOWARD = (0.0, 0.0, -1.0)


def rod(canvas: Canvas, a: tuple[float, ...], b: tuple[float, ...], width: float, colour: Colour) -> None:
    """A pole or an arm; with a lit side when it is thick enough to have one."""
    tone = canvas.tone(colour, (0.3, 0.1, -0.6), (a[2] + b[2]) / 2)
    canvas.hull([a, b], [width / 2, width / 2 * 0.8], tone, POLE)
    if canvas.pixels(a[2]) * width > 3.5:
        off = math.copysign(width * 0.22, canvas.light.sun[0])
        canvas.hull(
            [(a[0] + off, a[1], a[2]), (b[0] + off, b[1], b[2])], [width * 0.16] * 2, scale(tone, 1.22)
        )


def lamp_post(canvas: Canvas, x: float, z: float, height: float, reach: float, colour: Colour) -> None:
    """A street lamp whose arm reaches over the road."""
    rod(canvas, (x, 0, z), (x, height * 0.96, z), 0.15, colour)
    tip = (x + reach, height, z)
    rod(canvas, (x, height * 0.95, z), tip, 0.09, colour)
    box = [[tip[0] - 0.35, height - 0.04, z], [tip[0] + 0.35, height - 0.04, z]]
    box += [[tip[0] + 0.28, height + 0.1, z], [tip[0] - 0.28, height + 0.1, z]]
    lamps = canvas.light.lamps
    tone = (
        canvas.glow_tone((255.0, 226.0, 160.0), z) if lamps else canvas.tone((176.0, 178.0, 180.0), TOWARD, z)
    )
    canvas.fill(box, tone, POLE)
    if lamps:
        canvas.glow((tip[0], height, z), 1.2, canvas.lamp_glow((255.0, 190.0, 96.0)))


def _disc(x: float, y: float, z: float, radius: float, corners: int, turn: float = 0.0) -> np.ndarray:
    return _ring(corners, turn) * radius + (x, y, z)


@lru_cache(maxsize=16)
def _ring(corners: int, turn: float) -> np.ndarray:
    angle = np.linspace(0, 2 * math.pi, corners, endpoint=False) + turn
    return np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)


def sign(canvas: Canvas, x: float, z: float, kind: str, height: float, size: float) -> None:
    """A traffic sign facing the camera on its own pole."""
    rod(canvas, (x, 0, z), (x, height + size, z), 0.08, STEEL)
    sign_plate(canvas, x, height + size * 0.5, z - 0.06, kind, size)


def sign_plate(canvas: Canvas, x: float, y: float, z: float, kind: str, size: float) -> None:
    """The plate itself; `size` is its height in metres."""
    red, blue, white = (196.0, 30.0, 34.0), (26.0, 82.0, 170.0), (238.0, 238.0, 236.0)
    yellow, black = (242.0, 196.0, 40.0), (34.0, 34.0, 36.0)
    half = size / 2

    def put(points: np.ndarray, colour: Colour) -> None:
        canvas.fill(points, canvas.tone(scale(colour, 1.06), (0.0, 0.2, -0.9), z), SIGN)

    def box(w: float, h: float, dx: float = 0.0, dy: float = 0.0) -> np.ndarray:
        left, right, low, high = x + dx - w, x + dx + w, y + dy - h, y + dy + h
        return np.array([[left, low, z], [right, low, z], [right, high, z], [left, high, z]])

    if kind == "limit":
        put(_disc(x, y, z, half, 20), red)
        put(_disc(x, y, z, half * 0.76, 20), white)
        put(box(half * 0.14, half * 0.34, -half * 0.26), black)
        put(box(half * 0.22, half * 0.34, half * 0.26), black)
        put(box(half * 0.09, half * 0.2, half * 0.26), white)
    elif kind == "no_entry":
        put(_disc(x, y, z, half, 20), red)
        put(box(half * 0.66, half * 0.17), white)
    elif kind == "yield":
        put(_disc(x, y, z, half * 1.15, 3, -math.pi / 2), red)
        put(_disc(x, y, z, half * 0.7, 3, -math.pi / 2), white)
    elif kind == "warning":
        put(_disc(x, y - half * 0.2, z, half * 1.15, 3, math.pi / 2), red)
        put(_disc(x, y - half * 0.2, z, half * 0.74, 3, math.pi / 2), white)
        put(box(half * 0.09, half * 0.26, 0.0, -half * 0.12), black)
    elif kind == "priority":
        put(_disc(x, y, z, half * 1.1, 4), white)
        put(_disc(x, y, z, half * 0.78, 4), yellow)
    elif kind == "crossing":
        put(box(half, half), blue)
        put(_disc(x, y - half * 0.1, z, half * 0.85, 3, math.pi / 2), white)
        put(box(half * 0.1, half * 0.28, 0.0, -half * 0.15), black)
    elif kind == "arrow":
        put(_disc(x, y, z, half, 20), blue)
        put(box(half * 0.13, half * 0.5, 0.0, -half * 0.15), white)
        put(_disc(x, y + half * 0.42, z, half * 0.4, 3, math.pi / 2), white)
    elif kind == "stop":
        put(_disc(x, y, z, half * 1.05, 8, math.pi / 8), red)
        put(box(half * 0.7, half * 0.2), white)
    elif kind == "parking":
        put(box(half, half), blue)
        put(box(half * 0.1, half * 0.6, -half * 0.25), white)
        put(_disc(x + half * 0.05, y + half * 0.25, z, half * 0.36, 12), white)
        put(_disc(x + half * 0.05, y + half * 0.25, z, half * 0.16, 12), blue)
    else:  # a direction board
        put(box(half * 1.9, half * 0.72), yellow if kind == "board" else blue)
        ink = black if kind == "board" else white
        for row in (0.3, -0.28):
            put(box(half * 1.0, half * 0.12, -half * 0.3, half * row), ink)
        put(_disc(x + half * 1.3, y, z, half * 0.4, 3, 0.0), ink)


def traffic_light(canvas: Canvas, x: float, z: float, state: int, height: float, arm: float) -> None:
    """A signal on a pole, 0 red, 1 amber, 2 green; with `arm` != 0 a second one hangs over the road."""
    rod(canvas, (x, 0, z), (x, height + 0.9, z), 0.13, (74.0, 80.0, 78.0))
    _signal(canvas, x, height, z - 0.15, state, 1.0)
    if arm:
        top = 5.6
        rod(canvas, (x, height, z), (x, top, z), 0.15, (96.0, 100.0, 102.0))
        rod(canvas, (x, top, z), (x + arm, top + 0.1, z), 0.11, (96.0, 100.0, 102.0))
        _signal(canvas, x + arm, top - 0.75, z - 0.15, state, 1.15)


def _signal(canvas: Canvas, x: float, y: float, z: float, state: int, size: float) -> None:
    half, tall = 0.17 * size, 0.95 * size
    case = canvas.tone((30.0, 32.0, 32.0), (0.0, 0.2, -0.6), z)
    points = [[x - half, y, z], [x + half, y, z], [x + half, y + tall, z], [x - half, y + tall, z]]
    canvas.fill(points, case, LIGHT)
    bright = ((255.0, 48.0, 36.0), (255.0, 186.0, 40.0), (60.0, 240.0, 130.0))
    for k, colour in enumerate(bright):
        level = y + tall * (0.82 - 0.32 * k)
        on = k == state
        tone = canvas.glow_tone(colour, z) if on else canvas.tone(scale(colour, 0.22), TOWARD, z)
        if canvas.pixels(z) * half > 0.8 or on:
            canvas.fill(_disc(x, level, z - 0.01, 0.115 * size, 12), tone)
        if on:
            strength = 0.5 if canvas.light.lamps else 0.14
            canvas.glow((x, level, z), 0.6, scale(colour, strength))


def bin_(canvas: Canvas, x: float, z: float, colour: Colour) -> None:
    """A litter bin; the label is `static`."""
    tone = canvas.tone(colour, (0.2, 0.1, -0.7), z)
    body = [[x - 0.24, 0, z], [x + 0.24, 0, z], [x + 0.28, 0.85, z], [x - 0.28, 0.85, z]]
    canvas.fill(body, tone, STATIC)
    canvas.hull([(x - 0.2, 0.92, z), (x + 0.2, 0.92, z)], [0.09, 0.09], scale(tone, 0.8), STATIC)


def bollard(canvas: Canvas, x: float, z: float) -> None:
    rod(canvas, (x, 0, z), (x, 0.9, z), 0.13, (84.0, 84.0, 88.0))
    canvas.hull([(x, 0.72, z), (x, 0.78, z)], [0.065, 0.065], canvas.tone((224.0, 224.0, 220.0), TOWARD, z))


def wall(
    canvas: Canvas, x: float, z0: float, z1: float, height: float, colour: Colour, kind: str, snow: bool
) -> None:
    """A wall along the street: brick, stone or concrete panels under a coping."""
    z0 = max(z0, NEAR + 0.3)
    side = math.copysign(1.0, x)
    middle = (z0 + min(z1, z0 + 30)) / 2
    normal = (-side, 0.0, 0.0)
    for a, b in _spans(z0, z1, 12.0):
        tone = canvas.tone(colour, normal, (a + b) / 2)
        canvas.fill([[x, 0, a], [x, 0, b], [x, height, b], [x, height, a]], tone, WALL)
    end = canvas.tone(colour, TOWARD, z0)
    canvas.fill(
        [[x, 0, z0], [x + side * 0.3, 0, z0], [x + side * 0.3, height, z0], [x, height, z0]], end, WALL
    )
    if kind == "concrete":
        z = np.arange(math.ceil(z0 / 3.0) * 3.0, z1, 3.0)
        canvas.fill_many(
            _upright(x, z, z + 0.08, 0.0, height), canvas.tone(scale(colour, 0.7), normal, middle)
        )
    elif canvas.pixels(z0) * 0.12 > 1.2:
        reach = min(z1, z0 + 18.0)
        rows = np.arange(0.0, height - 0.1, 0.24)
        tone = canvas.tone(scale(colour, 0.84), normal, middle)
        for y in rows:
            canvas.fill_many(_upright(x, np.array([z0]), np.array([reach]), float(y), float(y) + 0.03), tone)
        for k, y in enumerate(rows):
            z = np.arange(z0 + 0.4 * (k % 2), min(reach, z0 + 8.0), 0.8)
            canvas.fill_many(_upright(x, z, z + 0.03, float(y), float(y) + 0.24), tone)
    cap = canvas.tone((236.0, 238.0, 242.0) if snow else scale(colour, 1.16), (-side * 0.5, 0.6, 0.0), middle)
    lip = x - side * 0.06
    canvas.fill(
        [[lip, height, z0], [lip, height, z1], [lip, height + 0.12, z1], [lip, height + 0.12, z0]], cap, WALL
    )


def _spans(z0: float, z1: float, step: float) -> list[tuple[float, float]]:
    count = max(1, math.ceil((z1 - z0) / step))
    cuts = np.linspace(z0, z1, count + 1)
    return [(float(a), float(b)) for a, b in reversed(list(zip(cuts[:-1], cuts[1:], strict=True)))]


def _upright(x: float, z0: np.ndarray, z1: np.ndarray, y0: float, y1: float) -> np.ndarray:
    """Rectangles standing along the street, (M, 4, 3)."""
    out = np.empty((len(z0), 4, 3))
    out[:, :, 0] = x
    out[:, :2, 1], out[:, 2:, 1] = y0, y1
    out[:, 0, 2] = out[:, 3, 2] = z0
    out[:, 1, 2] = out[:, 2, 2] = z1
    return out


def fence(canvas: Canvas, x: float, z0: float, z1: float, height: float, colour: Colour, kind: str) -> None:
    """A fence along the street; the label covers it whole, gaps included, as in Cityscapes."""
    z0 = max(z0, NEAR + 0.3)
    side = math.copysign(1.0, x)
    normal = (-side * 0.8, 0.2, -0.4)
    for a, b in _spans(z0, z1, 10.0):
        if not canvas.sees(x, (a + b) / 2, (b - a) / 2):
            continue
        quad = np.array([[x, 0, a], [x, 0, b], [x, height, b], [x, height, a]])
        canvas.fill(quad, None, FENCE)
        tone = canvas.tone(colour, normal, (a + b) / 2)
        pitch, width = {
            "picket": (0.16, 0.1),
            "rail": (0.14, 0.028),
            "mesh": (0.12, 0.02),
            "board": (0.2, 0.19),
        }[kind]
        metre = canvas.pixels((a + b) / 2)
        # The share of a step along z that shows sideways: far pickets melt into a veil.
        seen = abs(x) / max((a + b) / 2, 1.0) * metre * pitch
        if seen > 0.9:
            z = np.arange(math.ceil(a / pitch) * pitch, b, pitch)
            canvas.fill_many(_upright(x, z, z + width, 0.04, height), tone)
        else:
            _veil(canvas, quad, tone, min(1.0, 0.25 + 0.75 * width / pitch))
        for y in (0.12, height - 0.14) if metre > 6.0 else ():
            canvas.fill(_upright(x, np.array([a]), np.array([b]), y, y + 0.07)[0], tone)
    z = np.arange(math.ceil(z0 / 2.5) * 2.5, z1, 2.5)[::-1]
    for post in z[-24:]:
        if canvas.pixels(post) < 6.0 or not canvas.sees(x, post, 0.2):
            continue
        tone = canvas.tone(scale(colour, 0.85), TOWARD, float(post))
        canvas.hull([(x, 0, post), (x, height + 0.08, post)], [0.05, 0.05], tone, FENCE)


def _veil(canvas: Canvas, quad: np.ndarray, tone: Colour, cover: float) -> None:
    """Paint a quad half transparent."""
    flat = canvas.project(quad)
    left, top = np.floor(flat.min(0)).astype(int)
    right, bottom = np.ceil(flat.max(0)).astype(int) + 1
    left, top = max(0, left), max(0, top)
    right, bottom = min(canvas.width, right), min(canvas.height, bottom)
    if right <= left or bottom <= top:
        return
    before = canvas.image[top:bottom, left:right].copy()
    canvas.paint(flat, tone)
    after = canvas.image[top:bottom, left:right].astype(np.float32)
    blend = before + (after - before) * np.float32(cover)
    canvas.image[top:bottom, left:right] = blend.astype(np.uint8)


def bank(canvas: Canvas, x0: float, x1: float, z: float, height: float, grass: Colour, stone: bool) -> None:
    """A railway bank or viaduct across the view at distance z, for a train to stand on."""
    if stone:
        tone = canvas.tone((150.0, 138.0, 124.0), TOWARD, z)
        canvas.fill([[x0, 0, z], [x1, 0, z], [x1, height, z], [x0, height, z]], tone, BRIDGE)
        arch = np.linspace(0, math.pi, 14)
        for x in np.arange(x0 + 5, x1 - 4, 9.0):
            hole = np.stack([x + 3.2 * np.cos(arch), height - 4.2 + 3.0 * np.sin(arch), 0 * arch + z], 1)
            hole = np.concatenate([[[x + 3.2, 0, z]], hole, [[x - 3.2, 0, z]]])
            canvas.fill(hole, mix(canvas.light.haze, tone, 0.5), BRIDGE)
        parapet = [[x0, height - 0.3, z], [x1, height - 0.3, z], [x1, height + 0.4, z], [x0, height + 0.4, z]]
        canvas.fill(parapet, scale(tone, 1.12), BRIDGE)
    else:
        tone = canvas.tone(grass, (0.0, 0.7, -0.7), z)
        foot = z - height * 1.2
        slope = [[x0, 0, foot], [x1, 0, foot], [x1, height, z], [x0, height, z]]
        canvas.fill(slope, tone, TERRAIN)
        ballast = [
            [x0, height - 0.05, z],
            [x1, height - 0.05, z],
            [x1, height + 0.3, z],
            [x0, height + 0.3, z],
        ]
        canvas.fill(ballast, canvas.tone((128.0, 120.0, 112.0), TOWARD, z), TERRAIN)
