"""What a scene's plan holds, in metres, and the colours that things come in."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from drawing import street
from drawing.canvas import Canvas, Colour, Light, View
from drawing.lens import Camera

Rng = np.random.Generator
T = TypeVar("T")

WALLS: tuple[Colour, ...] = (
    (196.0, 184.0, 160.0),
    (206.0, 176.0, 136.0),
    (158.0, 96.0, 78.0),
    (178.0, 124.0, 98.0),
    (188.0, 186.0, 180.0),
    (152.0, 156.0, 158.0),
    (214.0, 206.0, 190.0),
    (172.0, 160.0, 138.0),
    (198.0, 150.0, 118.0),
    (142.0, 130.0, 120.0),
    (184.0, 196.0, 190.0),
    (216.0, 196.0, 140.0),
)
PAINTS: tuple[Colour, ...] = (
    (206.0, 208.0, 210.0),
    (44.0, 46.0, 50.0),
    (132.0, 136.0, 140.0),
    (172.0, 176.0, 180.0),
    (168.0, 32.0, 34.0),
    (34.0, 66.0, 132.0),
    (60.0, 92.0, 76.0),
    (222.0, 222.0, 218.0),
    (84.0, 88.0, 94.0),
    (196.0, 168.0, 60.0),
    (96.0, 134.0, 176.0),
    (112.0, 84.0, 66.0),
)
CLOTHES: tuple[Colour, ...] = (
    (38.0, 42.0, 60.0),
    (60.0, 62.0, 66.0),
    (150.0, 44.0, 48.0),
    (196.0, 190.0, 180.0),
    (54.0, 86.0, 126.0),
    (96.0, 110.0, 74.0),
    (206.0, 160.0, 60.0),
    (120.0, 78.0, 110.0),
    (30.0, 30.0, 34.0),
    (164.0, 132.0, 100.0),
    (226.0, 110.0, 60.0),
    (74.0, 140.0, 140.0),
)
SKINS: tuple[Colour, ...] = (
    (228.0, 186.0, 158.0),
    (206.0, 160.0, 128.0),
    (158.0, 112.0, 82.0),
    (102.0, 70.0, 54.0),
)
HAIRS: tuple[Colour, ...] = (
    (40.0, 30.0, 26.0),
    (84.0, 58.0, 38.0),
    (160.0, 124.0, 76.0),
    (120.0, 118.0, 116.0),
)
SIGNS = (
    "limit",
    "no_entry",
    "yield",
    "warning",
    "priority",
    "crossing",
    "arrow",
    "stop",
    "parking",
    "guide",
    "board",
)
LEAVES: tuple[Colour, ...] = (
    (86.0, 116.0, 58.0),
    (70.0, 102.0, 54.0),
    (104.0, 124.0, 62.0),
    (72.0, 96.0, 66.0),
    (120.0, 122.0, 58.0),
    (176.0, 128.0, 52.0),
)


@dataclass(frozen=True)
class Item:
    """Something to draw: the distance it counts as, its x, the stretch of street it covers."""

    z: float
    x: float
    near: float
    far: float
    drawing: Callable[[Canvas], None]
    vehicle: bool


@dataclass
class Plan:
    """Everything that `scenes.draw` needs."""

    view: View
    light: Light
    street: street.Street
    camera: Camera
    cover: float
    cloud: tuple[float, float]
    snow: bool
    wet: float
    ridge: np.ndarray
    blocks: np.ndarray
    tints: list[Colour]
    lawns: list[tuple[float, float, float, float]] = field(default_factory=list)  # x0, x1, z0, z1
    items: list[Item] = field(default_factory=list)
    boxes: list[tuple[float, ...]] = field(default_factory=list)  # what casts shadows, see street.cast

    def add(
        self,
        z: float,
        drawing: Callable[[Canvas], None],
        box: tuple[float, ...] | None = None,
        *,
        x: float = 0.0,
        vehicle: bool = False,
    ) -> None:
        """Something to draw at distance z; `box` (see street.cast) gives its place and its shadow."""
        if box is None:
            self.items.append(Item(z, x, z, z, drawing, vehicle))
            return
        reach = abs(box[3] * math.cos(box[5])) + abs(box[2] * math.sin(box[5]))
        self.items.append(Item(z, box[0], box[1] - reach, box[1] + reach, drawing, vehicle))
        self.boxes.append(box)

    def ordered(self) -> list[Callable[[Canvas], None]]:
        """The drawings from far to near.

        A vehicle reaches over a stretch of the street. What is beside it nearer to the middle hides it, what is
        beyond it is hidden: so a vehicle counts as far as its far end, and what stands beyond comes before.
        """
        items = self.items
        keys = np.array([item.far if item.vehicle else item.z for item in items])
        x, z = np.array([item.x for item in items]), np.array([item.z for item in items])
        vehicles = [k for k, item in enumerate(items) if item.vehicle]
        for k in sorted(vehicles, key=lambda k: abs(items[k].x)):
            front = items[k]
            beyond = (x * front.x > 0) & (np.abs(x) > abs(front.x) + 0.9)
            beyond &= (z > front.near) & (keys > front.near) & (keys <= keys[k])
            keys[beyond] = keys[k] + 1e-3 * (z[beyond] - front.near) / (front.far - front.near + 1.0)
        return [items[k].drawing for k in np.argsort(-keys, kind="stable")]


def choose(rng: Rng, options: Sequence[T], shares: Sequence[float] | None = None) -> T:
    """One of the options; `shares` add up to 1. (Generator.choice is ten times slower.)"""
    draw = float(rng.random())
    if shares is None:
        return options[int(draw * len(options))]
    for option, share in zip(options, shares, strict=True):
        draw -= share
        if draw < 0.0:
            return option
    return options[-1]


def pick(rng: Rng, table: tuple[Colour, ...]) -> Colour:
    """A colour of a table, slightly changed."""
    colour = table[int(rng.random() * len(table))]
    lift, red, green, blue = rng.random(4).tolist()
    lift = 0.88 + 0.24 * lift
    tint = (16.0 * red - 8.0, 16.0 * green - 8.0, 16.0 * blue - 8.0)
    r, g, b = (min(max(c * lift + t, 8.0), 250.0) for c, t in zip(colour, tint, strict=True))
    return (r, g, b)
