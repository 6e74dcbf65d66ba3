"""People, riders, bicycles and motorcycles, made of rounded limbs in space, so that any heading is right."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from drawing.canvas import Canvas, Colour, mix, scale
from drawing.vehicles import Frame

PERSON, RIDER, MOTORCYCLE, BICYCLE = 24, 25, 32, 33


@dataclass(frozen=True)
class Look:
    skin: Colour
    hair: Colour
    top: Colour
    trousers: Colour
    shoes: Colour
    coat: bool
    bag: Colour | None
    size: float


class Limbs:
    """Draws balls and rods in a figure's own axes: s forward, t to its right, y up."""

    def __init__(self, canvas: Canvas, frame: Frame, ident: int | None, size: float = 1.0) -> None:
        self.canvas, self.frame, self.ident, self.size = canvas, frame, ident, size

    def draw(self, points: list[tuple[float, float, float]], radii: list[float], colour: Colour) -> None:
        local = np.array(points) * self.size
        facing = self.frame.normal(-0.3, 0.0, 0.4)
        tone = self.canvas.tone(colour, (facing[0], 0.3, -0.7), self.frame.z)
        self.canvas.hull(self.frame.world(local), np.array(radii) * self.size, tone, self.ident)


def person(
    canvas: Canvas, x: float, z: float, heading: float, look: Look, phase: float, umbrella: bool
) -> None:
    """A pedestrian walking along `heading`; `phase` is the step."""
    ident = canvas.instance(PERSON)
    if not canvas.sees(x, z, 1.4):
        return
    limbs = Limbs(canvas, Frame(x, z, heading), ident, look.size)
    fine = canvas.pixels(z) > 14
    # the limb on the far side first
    order = (-1, 1) if math.sin(heading) > 0 else (1, -1)
    swing = 0.62 * math.sin(phase)
    _leg(limbs, look, order[0], swing * order[0], fine)
    _arm(limbs, look, order[0], -swing * order[0], fine)
    _leg(limbs, look, order[1], swing * order[1], fine)
    if look.bag is not None and math.cos(heading) < 0:
        limbs.draw([(-0.17, 0, 1.18), (-0.17, 0, 1.38)], [0.15, 0.14], look.bag)
    hem = 0.62 if look.coat else 0.9
    limbs.draw(
        [(0, -0.16, 1.38), (0, 0.16, 1.38), (0, -0.1, hem), (0, 0.1, hem)],
        [0.085, 0.085, 0.1 if not look.coat else 0.13, 0.1 if not look.coat else 0.13],
        look.top,
    )
    if fine:  # the side away from the sun
        side = math.copysign(0.1, canvas.light.sun[0])
        turn = -side * math.cos(heading)
        limbs.draw([(0, turn * 1.3, 1.36), (0, turn * 1.2, hem)], [0.06, 0.06], scale(look.top, 0.82))
    if look.bag is not None and math.cos(heading) >= 0:
        limbs.draw([(-0.15, 0, 1.14), (-0.15, 0, 1.36)], [0.15, 0.14], look.bag)
    _arm(limbs, look, order[1], -swing * order[1], fine)
    head(limbs, look, 0.0, 1.62, fine)
    if umbrella:
        cloth = canvas.tone(look.bag or (150.0, 50.0, 60.0), (0, 0.9, -0.3), z)
        arc = np.linspace(0, math.pi, 12)
        dome = np.stack([x + 0.6 * np.cos(arc), 1.85 + 0.34 * np.sin(arc), 0 * arc + z], 1)
        canvas.fill(dome, cloth, limbs.ident)


def _leg(limbs: Limbs, look: Look, side: int, swing: float, fine: bool) -> None:
    knee = (0.42 * math.sin(swing) + 0.05, side * 0.09, 0.48)
    back = max(0.0, -swing) * 0.35
    foot = (0.86 * math.sin(swing) - back, side * 0.09, 0.07 + 0.25 * back)
    hip = (0.0, side * 0.085, 0.88)
    limbs.draw([hip, knee], [0.095, 0.07], look.trousers)
    limbs.draw([knee, foot], [0.068, 0.05], scale(look.trousers, 0.93))
    if fine:
        limbs.draw(
            [(foot[0] - 0.03, foot[1], 0.05), (foot[0] + 0.15, foot[1], 0.04)], [0.05, 0.04], look.shoes
        )


def _arm(limbs: Limbs, look: Look, side: int, swing: float, fine: bool) -> None:
    elbow = (0.26 * math.sin(swing), side * 0.27, 1.12)
    hand = (0.26 * math.sin(swing) + 0.12 + 0.1 * math.sin(swing), side * 0.25, 0.88)
    limbs.draw([(0, side * 0.22, 1.38), elbow], [0.062, 0.05], scale(look.top, 0.9))
    limbs.draw([elbow, hand], [0.05, 0.04], scale(look.top, 0.86))
    if fine:
        limbs.draw([hand], [0.045], look.skin)


def head(limbs: Limbs, look: Look, s: float, y: float, fine: bool, helmet: Colour | None = None) -> None:
    """A head on its neck: the face where it looks towards the viewer, hair behind and on top."""
    if fine:
        limbs.draw([(s, 0, y - 0.2), (s, 0, y - 0.05)], [0.05, 0.05], scale(look.skin, 0.85))
    if helmet is not None:
        limbs.draw([(s + 0.02, 0, y - 0.03)], [0.105], look.skin)
        limbs.draw([(s - 0.01, 0, y + 0.05), (s - 0.03, 0, y + 0.02)], [0.125, 0.12], helmet)
        return
    away = limbs.frame.cos > 0.3
    limbs.draw([(s, 0, y), (s + 0.01, 0, y - 0.04)], [0.108, 0.095], look.hair if away else look.skin)
    if not away:
        limbs.draw([(s - 0.03, 0, y + 0.06), (s - 0.05, 0, y + 0.02)], [0.1, 0.09], look.hair)
    if fine and limbs.frame.cos < -0.5 and limbs.canvas.pixels(limbs.frame.z) > 130:
        for t in (-0.04, 0.04):
            limbs.draw([(s + 0.1, t, y - 0.0)], [0.013], (30.0, 26.0, 26.0))


def wheel(limbs: Limbs, s: float, radius: float, thick: float, colour: Colour, spokes: bool) -> None:
    """A tyre standing in the figure's plane of travel, with its label over the whole disc."""
    turn = np.linspace(0, 2 * math.pi, 20, endpoint=False)
    canvas = limbs.canvas
    ring = np.stack([s + radius * np.cos(turn), 0 * turn, radius + radius * np.sin(turn)], 1)
    world = limbs.frame.world(ring)
    metre = canvas.pixels(limbs.frame.z)
    tone = canvas.tone(colour, (0, 0, -1), limbs.frame.z)
    flat = canvas.project(world)
    wide, tall = np.ptp(flat, axis=0)
    if wide < 0.3 * tall:  # seen from before or behind
        limbs.draw([(s, 0, 0.04), (s, 0, 2 * radius - 0.04)], [0.03, 0.03], colour)
    if wide < 1.5:
        return
    canvas.paint(flat, None, limbs.ident)
    if spokes:
        centre = limbs.frame.world(np.array([s, 0.0, radius]))
        if metre > 30:
            for k in range(0, 20, 4):
                canvas.hull(np.array([world[k], centre]), [0.006, 0.006], tone)
        width = max(1, round(thick * metre))
        fixed = np.rint(flat * 16).astype(np.int32)
        cv2.polylines(canvas.image, [fixed], True, tone, width, cv2.LINE_AA, 4)
    else:
        canvas.paint(flat, tone)
        core = flat.mean(0) + (flat - flat.mean(0)) * 0.55
        canvas.paint(core, canvas.tone((128.0, 130.0, 134.0), (0, 0, -1), limbs.frame.z))


def bicycle(canvas: Canvas, x: float, z: float, heading: float, paint: Colour) -> None:
    ident = canvas.instance(BICYCLE)
    if not canvas.sees(x, z, 1.4):
        return
    limbs = Limbs(canvas, Frame(x, z, heading), ident)
    wheel(limbs, -0.52, 0.34, 0.024, (34.0, 34.0, 36.0), True)
    wheel(limbs, 0.54, 0.34, 0.024, (34.0, 34.0, 36.0), True)
    crank, seat, head_low, head_top = (-0.05, 0, 0.3), (-0.22, 0, 0.86), (0.36, 0, 0.66), (0.33, 0, 0.9)
    rods = [
        (crank, seat),
        (crank, head_low),
        (seat, head_low),
        (crank, (-0.52, 0, 0.34)),
        (seat, (-0.52, 0, 0.34)),
    ]
    rods += [(head_top, (0.54, 0, 0.34))]
    for a, b in rods:
        limbs.draw([a, b], [0.02, 0.018], paint)
    limbs.draw([(0.3, -0.26, 0.98), (0.3, 0.26, 0.98)], [0.022, 0.022], (40.0, 40.0, 44.0))
    limbs.draw([(-0.32, 0, 0.93), (-0.14, 0, 0.93)], [0.05, 0.03], (30.0, 28.0, 28.0))


def motorcycle(canvas: Canvas, x: float, z: float, heading: float, paint: Colour) -> None:
    ident = canvas.instance(MOTORCYCLE)
    if not canvas.sees(x, z, 1.4):
        return
    limbs = Limbs(canvas, Frame(x, z, heading), ident)
    wheel(limbs, -0.68, 0.31, 0.1, (26.0, 26.0, 28.0), False)
    wheel(limbs, 0.7, 0.31, 0.1, (26.0, 26.0, 28.0), False)
    for s in (-0.68, 0.7):
        limbs.draw([(s, 0, 0.07), (s, 0, 0.55)], [0.07, 0.07], (26.0, 26.0, 28.0))
    steel = (96.0, 98.0, 104.0)
    limbs.draw([(-0.3, 0, 0.42), (0.25, 0, 0.42), (0.0, 0, 0.6)], [0.2, 0.18, 0.16], (52.0, 52.0, 56.0))
    limbs.draw([(0.7, 0, 0.32), (0.42, 0, 0.95)], [0.04, 0.045], steel)
    limbs.draw([(-0.68, 0.12, 0.3), (0.1, 0.12, 0.34)], [0.05, 0.04], steel)
    limbs.draw([(-0.75, 0, 0.84), (-0.1, 0, 0.8)], [0.1, 0.11], (34.0, 32.0, 34.0))
    limbs.draw([(-0.05, 0, 0.84), (0.32, 0, 0.92), (0.3, 0, 0.62)], [0.13, 0.12, 0.1], paint)
    limbs.draw([(-0.55, 0, 0.68), (-0.8, 0, 0.82)], [0.1, 0.06], paint)
    limbs.draw([(0.4, -0.36, 1.05), (0.4, 0.36, 1.05)], [0.03, 0.03], (36.0, 36.0, 40.0))
    for t in (-0.36, 0.36):
        limbs.draw([(0.42, t, 1.22)], [0.055], (44.0, 46.0, 50.0))
    lamps = canvas.light.lamps
    if limbs.frame.cos < 0:
        limbs.draw([(0.52, 0, 0.88)], [0.1], (252.0, 246.0, 216.0))
        if lamps:
            canvas.glow((x, 0.88, z), 0.45, canvas.lamp_glow((255.0, 244.0, 206.0)))
    else:
        limbs.draw([(-0.84, 0, 0.76)], [0.07], (214.0, 30.0, 26.0))


def cyclist(
    canvas: Canvas, x: float, z: float, heading: float, look: Look, paint: Colour, phase: float
) -> None:
    """A rider with a bicycle: the far leg, the bicycle, the rest of the rider."""
    ident = canvas.instance(RIDER)
    limbs = Limbs(canvas, Frame(x, z, heading), ident)
    far = -1 if math.sin(heading) > 0 else 1
    _pedal(limbs, look, far, phase)
    bicycle(canvas, x, z, heading, paint)
    _pedal(limbs, look, -far, phase + math.pi)
    _seated(limbs, look, (-0.22, 0.98), (0.3, 1.02), 0.3, (214.0, 54.0, 50.0) if look.bag is None else None)


def biker(canvas: Canvas, x: float, z: float, heading: float, look: Look, paint: Colour) -> None:
    """A rider on a motorcycle."""
    ident = canvas.instance(RIDER)
    limbs = Limbs(canvas, Frame(x, z, heading), ident)
    motorcycle(canvas, x, z, heading, paint)
    for t in (-0.2, 0.2):
        limbs.draw([(-0.25, t, 0.9), (0.15, t * 1.15, 0.72)], [0.11, 0.09], look.trousers)
        limbs.draw([(0.15, t * 1.15, 0.72), (-0.08, t * 1.2, 0.32)], [0.08, 0.065], look.trousers)
    _seated(limbs, look, (-0.28, 0.95), (0.38, 1.05), 0.22, mix(paint, (40.0, 40.0, 46.0), 0.4))


def _pedal(limbs: Limbs, look: Look, side: int, phase: float) -> None:
    foot = (-0.05 + 0.17 * math.cos(phase), side * 0.12, 0.3 + 0.17 * math.sin(phase))
    hip = (-0.2, side * 0.1, 0.95)
    knee = (0.2 + 0.08 * math.cos(phase), side * 0.12, 0.62 + 0.1 * math.sin(phase))
    limbs.draw([hip, knee], [0.1, 0.075], look.trousers)
    limbs.draw([knee, foot], [0.07, 0.05], scale(look.trousers, 0.92))
    limbs.draw([foot, (foot[0] + 0.13, foot[1], foot[2] - 0.02)], [0.05, 0.04], look.shoes)


def _seated(
    limbs: Limbs,
    look: Look,
    seat: tuple[float, float],
    hands: tuple[float, float],
    lean: float,
    helmet: Colour | None,
) -> None:
    """Torso, arms to the handlebar and head of somebody who rides."""
    s, y = seat
    top = (s + lean, y + 0.48)
    far = -1 if limbs.frame.sin > 0 else 1
    for side in (far, 0, -far):
        if side == 0:
            limbs.draw(
                [(s, -0.1, y), (s, 0.1, y), (top[0], -0.17, top[1]), (top[0], 0.17, top[1])],
                [0.12, 0.12, 0.09, 0.09],
                look.top,
            )
        else:
            elbow = ((top[0] + hands[0]) / 2 - 0.02, side * 0.28, (top[1] + hands[1]) / 2 - 0.06)
            limbs.draw([(top[0], side * 0.2, top[1]), elbow], [0.065, 0.055], scale(look.top, 0.9))
            limbs.draw([elbow, (hands[0], side * 0.24, hands[1])], [0.055, 0.045], scale(look.top, 0.86))
    fine = limbs.canvas.pixels(limbs.frame.z) > 14
    head(limbs, look, top[0] + 0.08, top[1] + 0.24, fine, helmet)
