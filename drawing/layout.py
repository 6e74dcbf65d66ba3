"""Choosing a scene: weather and light, the camera, the street's width, and what the horizon shows.

A plan is made from one random generator and does not know the size of the image, so that the same scene
can be drawn at any size.
"""

import math

import numpy as np

from drawing import plots, traffic
from drawing.canvas import Colour, Light, View, scale
from drawing.lens import Camera
from drawing.plan import PAINTS, WALLS, Plan, Rng, choose, pick
from drawing.street import Street

WEATHERS = ("clear", "overcast", "rain", "fog", "dusk", "night", "snow")
CHANCES = (0.5, 0.2, 0.07, 0.05, 0.09, 0.06, 0.03)


def plan(rng: Rng) -> Plan:
    """One scene."""
    weather = choose(rng, WEATHERS, CHANCES)
    light = _light(rng, weather)
    place = choose(rng, ("city", "suburb", "avenue", "outskirts"), (0.5, 0.22, 0.16, 0.12))
    road = _street(rng, place)
    snow = weather == "snow"
    scene = Plan(
        view=_view(rng, road),
        light=light,
        street=road,
        camera=_camera(rng, weather),
        cover=choose(rng, (0.25, 0.45, 0.6, 0.75)) if weather in ("clear", "dusk") else 0.9,
        cloud=(float(rng.random()), float(rng.random())),
        snow=snow,
        wet=float(rng.uniform(0.5, 1.0)) if weather == "rain" else 0.0,
        ridge=_ridge(rng, place),
        blocks=_blocks(rng, place),
        tints=[pick(rng, WALLS) for _ in range(6)],
    )
    plots.place(scene, rng, place)
    traffic.place(scene, rng, place)
    return scene


def _light(rng: Rng, weather: str) -> Light:
    side, height = choose(rng, (-1.0, 1.0)), float(rng.uniform(0.5, 1.2))
    across, ahead = float(rng.uniform(0.35, 1.0)), float(rng.uniform(-0.9, 0.55))
    if weather == "dusk" or rng.random() < 0.12:  # a low sun before the camera, often in the image
        across, height, ahead = float(rng.uniform(0.02, 0.5)), float(rng.uniform(0.08, 0.24)), 1.0
    raw = np.array([side * across, height, ahead])
    raw /= np.linalg.norm(raw)
    sun = (float(raw[0]), float(raw[1]), float(raw[2]))
    none: Colour = (0.0, 0.0, 0.0)
    rows: dict[str, tuple[Colour, Colour, Colour, float, bool, tuple[Colour, Colour]]] = {
        "clear": (
            (0.64, 0.67, 0.74), (0.7, 0.65, 0.54), (206.0, 216.0, 228.0), 520.0, False,
            ((84.0, 138.0, 206.0), (196.0, 214.0, 230.0)),
        ),
        "overcast": (
            (0.9, 0.91, 0.92), none, (202.0, 206.0, 210.0), 260.0, False,
            ((176.0, 182.0, 190.0), (214.0, 217.0, 220.0)),
        ),
        "rain": (
            (0.68, 0.7, 0.73), none, (164.0, 170.0, 177.0), 130.0, True,
            ((128.0, 135.0, 144.0), (172.0, 178.0, 184.0)),
        ),
        "fog": (
            (0.86, 0.87, 0.89), none, (204.0, 207.0, 210.0), 48.0, False,
            ((196.0, 200.0, 204.0), (205.0, 208.0, 211.0)),
        ),
        "dusk": (
            (0.42, 0.38, 0.44), (0.62, 0.38, 0.2), (222.0, 164.0, 124.0), 330.0, True,
            ((78.0, 84.0, 132.0), (246.0, 176.0, 116.0)),
        ),
        "night": (
            (0.27, 0.27, 0.33), none, (32.0, 34.0, 48.0), 190.0, True,
            ((14.0, 18.0, 36.0), (48.0, 46.0, 58.0)),
        ),
        "snow": (
            (0.76, 0.79, 0.84), none, (212.0, 217.0, 224.0), 110.0, False,
            ((190.0, 197.0, 206.0), (214.0, 219.0, 226.0)),
        ),
    }  # fmt: skip
    ambient, direct, haze, clear, lamps, sky = rows[weather]
    lift = float(rng.uniform(0.92, 1.08))
    return Light(
        weather=weather,
        sun=sun,
        ambient=(ambient[0] * lift, ambient[1] * lift, ambient[2] * lift),
        direct=direct,
        haze=haze,
        clear=clear * float(rng.uniform(0.75, 1.3)),
        lamps=lamps,
        sky=(scale(sky[0], lift), scale(sky[1], lift)),
    )


def _view(rng: Rng, road: Street) -> View:
    bend = 0.0 if rng.random() < 0.4 else float(choose(rng, (-1, 1)) * rng.uniform(1 / 900, 1 / 260))
    if road.crossing is not None:
        bend *= 0.35
    return View(
        height=float(rng.uniform(1.2, 1.6)),
        horizon=float(rng.uniform(0.39, 0.48)),
        zoom=float(rng.uniform(0.9, 1.12)),
        shift=float(rng.uniform(-0.05, 0.05)),
        bend=bend,
        yaw=float(rng.uniform(-0.05, 0.05)) - bend * 18.0,
    )


def _camera(rng: Rng, weather: str) -> Camera:
    exposure = float(rng.uniform(0.9, 1.12))
    warm = float(rng.uniform(-0.04, 0.04))
    count = {"rain": 240, "snow": 420}.get(weather, 0)
    return Camera(
        gain=(exposure * (1 + warm), exposure, exposure * (1 - warm)),
        gamma=float(rng.uniform(0.84, 1.06)),
        noise=float(rng.uniform(1.0, 3.0)) + (4.0 if weather == "night" else 0.0),
        vignette=float(rng.uniform(0.03, 0.13)),
        motion=float(rng.uniform(0.003, 0.008)) if rng.random() < 0.16 else 0.0,
        motion_angle=float(rng.normal(0.0, 0.35)),
        defocus=float(rng.uniform(0.0, 0.0011)),
        drops=rng.random((count, 4)),
        snow=weather == "snow",
        bonnet=pick(rng, PAINTS) if rng.random() < 0.55 else None,
        bonnet_height=float(rng.uniform(0.03, 0.085)),
        seed=int(rng.integers(1 << 31)),
    )


def _street(rng: Rng, place: str) -> Street:
    lane = float(rng.uniform(3.0, 3.5))
    ours = 2 if rng.random() < (0.5 if place == "avenue" else 0.22) else 1
    theirs = choose(rng, (0, 1, 2), (0.12, 0.62, 0.26))
    own = int(rng.integers(ours))  # which of our lanes the camera is in, from the middle outwards
    bays = tuple(
        2.2 if rng.random() < (0.45 if place in ("city", "suburb") else 0.15) else 0.0 for _ in range(2)
    )
    middle = -lane * (own + 0.5)
    lines = [middle + lane * k for k in range(-theirs + 1, ours) if k != 0]
    left = middle - lane * theirs - bays[0]
    right = middle + lane * ours + bays[1]
    centre = middle if theirs else None
    if centre is not None:
        lines.append(middle)
    crossing = float(rng.uniform(16.0, 46.0)) if rng.random() < 0.58 else None
    zebra = stop = None
    if crossing is not None and rng.random() < 0.75:
        zebra = crossing - 5.4
        stop = zebra - 1.4 if rng.random() < 0.8 else None
    elif crossing is None and rng.random() < 0.18:
        zebra = float(rng.uniform(10.0, 34.0))
    grey = float(rng.uniform(84.0, 124.0))
    pale = float(rng.uniform(132.0, 172.0))
    green = float(rng.uniform(-12.0, 12.0))
    wide = {"city": (2.4, 5.0), "suburb": (1.6, 2.6), "avenue": (2.4, 4.0), "outskirts": (1.4, 2.4)}[place]
    has_verge = {"city": 0.08, "suburb": 0.35, "avenue": 0.7, "outskirts": 0.8}[place]
    patches = []
    for _ in range(int(rng.integers(0, 6))):
        x = float(rng.uniform(left, right - 1.0))
        z = float(rng.uniform(4, 50))
        patches.append(
            (x, z, float(rng.uniform(0.8, 2.4)), float(rng.uniform(1.5, 12.0)), float(rng.uniform(0.82, 1.1)))
        )
    covers = [
        (float(rng.uniform(left + 1, right - 1)), float(rng.uniform(5, 40)))
        for _ in range(int(rng.integers(0, 4)))
    ]
    rails = middle - lane * 0.5 if place in ("city", "avenue") and theirs and rng.random() < 0.24 else None
    return Street(
        edges=(left, right),
        pavement=(float(rng.uniform(*wide)), float(rng.uniform(*wide))),
        verge=tuple(float(rng.uniform(1.2, 3.5)) if rng.random() < has_verge else 0.0 for _ in range(2)),  # type: ignore[arg-type]
        lanes=tuple(sorted(lines)),
        centre=centre,
        bays=(bays[0], bays[1]),
        crossing=crossing,
        crossing_width=float(rng.uniform(7.0, 11.0)),
        zebra=zebra,
        stop=stop,
        rails=rails,
        asphalt=(grey, grey * 1.005, grey * 1.03),
        paving=(pale * 1.02, pale, pale * 0.95),
        slab=choose(rng, (0.5, 0.8, 1.2)),
        grass=(98.0 + green, 122.0 + green * 0.6, 66.0),
        patches=tuple(patches),
        covers=tuple(covers),
    )


def _ridge(rng: Rng, place: str) -> np.ndarray:
    """Heights of a wooded ridge far away, metres."""
    steps = np.linspace(0.0, 1.0, 48)
    high = {"city": 6.0, "suburb": 14.0, "avenue": 9.0, "outskirts": 18.0}[place]
    out = np.full(48, high)
    for octave in (2, 5, 11, 23):
        out += high * 0.9 / octave * np.sin(2 * math.pi * (octave * steps + rng.random()))
    return np.maximum(out + rng.uniform(0, 0.8, 48), 1.0)


def _blocks(rng: Rng, place: str) -> np.ndarray:
    """Far houses and trees: share of the width, width m, height m, distance m, kind."""
    count = {"city": 26, "suburb": 26, "avenue": 22, "outskirts": 14}[place]
    trees = {"city": 0.35, "suburb": 0.6, "avenue": 0.65, "outskirts": 0.7}[place]
    rows = []
    for _ in range(count):
        wooded = rng.random() < trees
        kind = float(rng.uniform(0.5, 1.0)) if wooded else float(rng.uniform(0.0, 0.5))
        high = rng.uniform(7, 13) if wooded else rng.uniform(8, 24 if place == "city" else 12)
        wide = rng.uniform(7, 12) if wooded else rng.uniform(9, 22)
        rows.append((rng.random(), wide, high, rng.uniform(130, 260), kind))
    return np.array(rows, np.float64)
