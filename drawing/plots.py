"""What lines the street: rows of houses, gardens, walls, fences, parks; trees, lamps, signs on the pavement."""

import math
from functools import partial

import numpy as np

from drawing import building, furniture, greenery
from drawing.building import House
from drawing.canvas import Colour, mix
from drawing.plan import LEAVES, PAINTS, SIGNS, WALLS, Plan, Rng, choose, pick

REACH = 150.0  # metres; the skyline takes over behind
KINDS = {
    "city": (("block", 0.8), ("wall", 0.06), ("park", 0.06), ("yard", 0.08)),
    "suburb": (("garden", 0.74), ("block", 0.08), ("park", 0.1), ("wall", 0.08)),
    "avenue": (("block", 0.38), ("park", 0.34), ("wall", 0.12), ("garden", 0.16)),
    "outskirts": (("park", 0.36), ("yard", 0.24), ("wall", 0.2), ("garden", 0.2)),
}


def place(plan: Plan, rng: Rng, kind: str) -> None:
    for side in (-1, 1):
        _row(plan, rng, side, kind)
        _street_trees(plan, rng, side, kind)
        _lamps(plan, rng, side, kind)
        _signs(plan, rng, side)
    if plan.street.crossing is not None:
        _signals(plan, rng)
        _behind_crossing(plan, rng)
    _small_things(plan, rng)


def _row(plan: Plan, rng: Rng, side: int, kind: str) -> None:
    """Plots one after the other, with a gap where a street crosses."""
    road = plan.street
    front = road.frontage(side)
    z = float(rng.uniform(-14.0, 0.0))
    style = _style(rng, kind)
    joint = -1e9  # where the last block ended
    kinds = [name for name, _ in KINDS[kind]]
    chances = [share for _, share in KINDS[kind]]
    while z < REACH:
        use = choose(rng, kinds, chances)
        length = float(rng.uniform(9, 20) if use == "block" else rng.uniform(12, 30))
        end = z + length
        if road.crossing is not None:
            near, far = road.crossing - 3.4, road.crossing + road.crossing_width + 3.4
            if z < near and end > near - 3.0:
                end = near
            elif near <= z < far:
                z = far
                continue
        if end - z > 2.0 and end > 4.0:
            if use == "block":
                _block(plan, rng, front, z, end, style, joined=abs(z - joint) < 0.01)
                joint = end
            elif use == "garden":
                _garden(plan, rng, front, side, z, end)
            elif use == "park":
                _park(plan, rng, front, side, z, end)
            elif use == "wall":
                _walled(plan, rng, front, side, z, end)
            else:
                _yard(plan, rng, front, side, z, end)
        z = end


def _style(rng: Rng, kind: str) -> tuple[float, float]:
    """The usual height of a row's houses and how much it varies."""
    return (float(rng.uniform(11, 20)), 3.5) if kind == "city" else (float(rng.uniform(7, 12)), 2.5)


def _house(
    rng: Rng,
    x: float,
    z0: float,
    z1: float,
    height: float,
    roof: str,
    ground_floor: str,
    joined: bool = False,
) -> House:
    wall = pick(rng, WALLS)
    trim = mix(wall, (236.0, 232.0, 224.0), float(rng.uniform(0.45, 0.9)))
    if rng.random() < 0.2:
        trim = (86.0, 80.0, 76.0)
    tall = float(rng.uniform(1.4, 2.0))
    roofs: tuple[Colour, ...] = (
        (142.0, 72.0, 54.0),
        (92.0, 84.0, 84.0),
        (112.0, 76.0, 62.0),
        (78.0, 82.0, 90.0),
    )
    return House(
        x=x,
        z0=z0,
        z1=z1,
        height=height,
        depth=float(rng.uniform(9, 13)),
        floor=float(rng.uniform(3.0, 3.7)),
        bay=float(rng.uniform(2.1, 3.4)),
        window=(float(rng.uniform(0.95, 1.5)), tall),
        wall=wall,
        trim=trim,
        roof=roof,
        roof_colour=pick(rng, roofs),
        ground_floor=ground_floor,
        sign=pick(rng, PAINTS),
        awning=bool(rng.random() < 0.4),
        balconies=bool(rng.random() < 0.25),
        bands=bool(rng.random() < 0.5),
        joined=joined,
        lit=float(rng.uniform(0.15, 0.6)),
        seed=int(rng.integers(1 << 30)),
    )


def _block(
    plan: Plan, rng: Rng, front: float, z0: float, z1: float, style: tuple[float, float], joined: bool
) -> None:
    height = max(6.5, style[0] + float(rng.normal(0, style[1])))
    roof = choose(rng, ("flat", "mansard", "gable"), (0.45, 0.3, 0.25))
    ground_floor = choose(rng, ("shop", "door"), (0.55, 0.45))
    spec = _house(rng, front, z0, z1, height, roof, ground_floor, joined)
    _add_house(plan, spec)


def _add_house(plan: Plan, spec: House) -> None:
    side = math.copysign(1.0, spec.x)
    middle, half = (spec.z0 + spec.z1) / 2, (spec.z1 - spec.z0) / 2
    box = (spec.x + side * spec.depth / 2, middle, spec.depth / 2, half, spec.height, 0.0, 0.0)
    snowy = (232.0, 236.0, 242.0)
    if plan.snow:
        spec = House(**{**spec.__dict__, "roof_colour": snowy})
    plan.add(spec.z1, partial(building.house, spec=spec), box)


def _garden(plan: Plan, rng: Rng, front: float, side: int, z0: float, z1: float) -> None:
    """A house set back behind a hedge, a fence or a low wall."""
    back = float(rng.uniform(3.0, 7.0))
    _boundary(plan, rng, front, side, z0, z1 - 1.6, low=True)
    spec = _house(rng, front + side * back, z0 + 2.0, z1 - 2.0, float(rng.uniform(4.5, 7.5)), "gable", "door")
    if z1 - z0 > 8.0:
        _add_house(plan, spec)
    _lawn(plan, front, side, z0, z1)
    for _ in range(int(rng.integers(1, 4))):
        x = front + side * float(rng.uniform(1.0, back))
        _plant(plan, rng, x, float(rng.uniform(z0, z1)), float(rng.uniform(0.8, 4.5)))
    if rng.random() < 0.6:
        _plant(plan, rng, front + side * float(rng.uniform(9.0, 20.0)), z1, float(rng.uniform(6, 12)))


def _lawn(plan: Plan, front: float, side: int, z0: float, z1: float) -> None:
    plan.lawns.append((min(front, front + side * 60.0), max(front, front + side * 60.0), z0, z1))


def _boundary(plan: Plan, rng: Rng, front: float, side: int, z0: float, z1: float, low: bool) -> None:
    kind = choose(rng, ("hedge", "fence", "wall", "none"), (0.36, 0.34, 0.22, 0.08))
    if kind == "none" or z1 - z0 < 2.0:
        return
    far = min(z1, REACH)
    if kind == "hedge":
        height = float(rng.uniform(0.9, 1.9))
        draw = partial(
            greenery.hedge,
            x=front,
            z0=z0,
            z1=far,
            height=height,
            depth=0.8,
            colour=pick(rng, LEAVES[:5]),
            snow=plan.snow,
        )
    elif kind == "fence":
        style = choose(rng, ("picket", "rail", "mesh", "board"))
        colours: tuple[Colour, ...] = (
            (216.0, 212.0, 202.0),
            (70.0, 78.0, 74.0),
            (132.0, 98.0, 66.0),
            (96.0, 100.0, 104.0),
        )
        height = float(rng.uniform(1.0, 1.3) if low else rng.uniform(1.5, 2.2))
        draw = partial(
            furniture.fence, x=front, z0=z0, z1=far, height=height, colour=pick(rng, colours), kind=style
        )
    else:
        height = float(rng.uniform(0.7, 1.4) if low else rng.uniform(1.8, 2.8))
        draw = _wall_drawing(plan, rng, front, z0, far, height)
    plan.add(far - 0.01, draw, (front + side * 0.2, (z0 + far) / 2, 0.2, (far - z0) / 2, height, 0.0, 0.0))


def _wall_drawing(plan: Plan, rng: Rng, front: float, z0: float, z1: float, height: float) -> partial:
    colours: tuple[Colour, ...] = (
        (150.0, 92.0, 74.0),
        (158.0, 150.0, 138.0),
        (172.0, 172.0, 168.0),
        (138.0, 130.0, 122.0),
    )
    style = choose(rng, ("brick", "concrete"))
    colour = pick(rng, colours)
    return partial(
        furniture.wall, x=front, z0=z0, z1=z1, height=height, colour=colour, kind=style, snow=plan.snow
    )


def _plant(plan: Plan, rng: Rng, x: float, z: float, height: float) -> None:
    """A tree, or below 2.5 m a bush."""
    if z < 3.5:
        return
    colour = pick(rng, LEAVES)
    if height < 2.5:
        draw = partial(
            greenery.bush,
            x=x,
            z=z,
            height=height,
            width=height * 1.4,
            kind=int(rng.integers(2)),
            colour=colour,
            snow=plan.snow,
        )
        plan.add(z, draw, (x, z, height * 0.5, height * 0.4, height * 0.8, 0.0, 0.0))
        return
    kind = choose(rng, (0, 1, 2, 3, 4, 5, 6, 7), (0.2, 0.2, 0.17, 0.17, 0.07, 0.07, 0.06, 0.06))
    width = height * float(rng.uniform(0.62, 0.85)) * (0.55 if kind >= 4 else 1.0)
    draw = partial(
        greenery.tree, x=x, z=z, height=height, width=width, kind=kind, colour=colour, snow=plan.snow
    )
    plan.add(z, draw, (x, z, width * 0.3, width * 0.3, height * 0.9, 0.6, height * 0.4))
    plan.boxes.append((x, z, 0.15, 0.15, height * 0.5, 0.0, 0.0))


def _park(plan: Plan, rng: Rng, front: float, side: int, z0: float, z1: float) -> None:
    _lawn(plan, front, side, z0, z1)
    if rng.random() < 0.5:
        _boundary(plan, rng, front, side, z0, z1, low=True)
    for _ in range(max(2, int((z1 - z0) / 3.5))):
        x = front + side * (1.5 + 24.0 * float(rng.random()) ** 1.5)
        _plant(
            plan,
            rng,
            x,
            float(rng.uniform(z0, z1)),
            choose(rng, (1.2, 6.0, 8.0, 11.0)) * float(rng.uniform(0.8, 1.2)),
        )


def _walled(plan: Plan, rng: Rng, front: float, side: int, z0: float, z1: float) -> None:
    height = float(rng.uniform(1.6, 3.0))
    draw = _wall_drawing(plan, rng, front, z0, z1, height)
    plan.add(z1 - 0.01, draw, (front + side * 0.2, (z0 + z1) / 2, 0.2, (z1 - z0) / 2, height, 0.0, 0.0))
    for _ in range(max(1, int((z1 - z0) / 6))):
        _plant(
            plan,
            rng,
            front + side * float(rng.uniform(3, 10)),
            float(rng.uniform(z0, z1)),
            float(rng.uniform(5, 11)),
        )
    if rng.random() < 0.5 and z1 - z0 > 8:
        spec = _house(
            rng,
            front + side * float(rng.uniform(6, 10)),
            z0 + 1,
            z1 - 1,
            float(rng.uniform(7, 13)),
            "gable",
            "plain",
        )
        _add_house(plan, spec)


def _yard(plan: Plan, rng: Rng, front: float, side: int, z0: float, z1: float) -> None:
    """A works yard: a fence, a hall behind, some green."""
    colours: tuple[Colour, ...] = ((110.0, 116.0, 116.0), (66.0, 96.0, 80.0), (150.0, 150.0, 146.0))
    style = choose(rng, ("mesh", "rail", "board"))
    height = float(rng.uniform(1.6, 2.3))
    draw = partial(
        furniture.fence, x=front, z0=z0, z1=z1, height=height, colour=pick(rng, colours), kind=style
    )
    plan.add(z1 - 0.01, draw, x=front)
    if z1 - z0 > 8:
        x = front + side * float(rng.uniform(5, 14))
        _add_house(plan, _house(rng, x, z0 + 1, z1 - 1, float(rng.uniform(5, 9)), "flat", "plain"))
    _plant(plan, rng, front + side * 2.5, float(rng.uniform(z0, z1)), float(rng.uniform(1.0, 8.0)))


def _clear_of_crossing(plan: Plan, z: float, margin: float) -> bool:
    road = plan.street
    zebra = road.zebra
    if zebra is not None and zebra - margin / 2 < z < zebra + 3.0 + margin / 2:
        return False
    return (
        road.crossing is None or not road.crossing - margin < z < road.crossing + road.crossing_width + margin
    )


def _street_trees(plan: Plan, rng: Rng, side: int, kind: str) -> None:
    if rng.random() > {"city": 0.42, "suburb": 0.45, "avenue": 0.9, "outskirts": 0.5}[kind]:
        return
    road = plan.street
    k = 0 if side < 0 else 1
    verge = road.verge[k] > 0
    x = road.edges[k] + side * (road.pavement[k] + road.verge[k] / 2 if verge else 0.8)
    step, height = float(rng.uniform(8, 15)), float(rng.uniform(5.5, 9.5))
    shape, colour = int(rng.integers(0, 5)), pick(rng, LEAVES)
    for z in np.arange(float(rng.uniform(6, 12)), 110.0, step):
        at = float(z + rng.uniform(-0.8, 0.8))
        tall = height * float(rng.uniform(0.85, 1.15))
        if _clear_of_crossing(plan, at, 5.0):
            width = tall * 0.62 * (0.6 if shape >= 4 else 1.0)
            draw = partial(
                greenery.tree, x=x, z=at, height=tall, width=width, kind=shape, colour=colour, snow=plan.snow
            )
            plan.add(at, draw, (x, at, width * 0.3, width * 0.3, tall * 0.9, 0.6, tall * 0.4))


def _lamps(plan: Plan, rng: Rng, side: int, kind: str) -> None:
    if rng.random() < 0.3:
        return
    k = 0 if side < 0 else 1
    x = plan.street.edges[k] + side * 0.55
    height, step = float(rng.uniform(5.5, 9.0)), float(rng.uniform(18, 30))
    colour = pick(rng, ((110.0, 114.0, 116.0), (62.0, 70.0, 68.0), (140.0, 142.0, 142.0)))
    reach = -side * choose(rng, (0.05, 1.2, 2.0))
    for z in np.arange(float(rng.uniform(7, 24)), 130.0, step):
        if _clear_of_crossing(plan, float(z), 3.0):
            draw = partial(furniture.lamp_post, x=x, z=float(z), height=height, reach=reach, colour=colour)
            plan.add(float(z), draw, (x, float(z), 0.06, 0.06, height, 0.0, 0.0))


def _signs(plan: Plan, rng: Rng, side: int) -> None:
    k = 0 if side < 0 else 1
    for _ in range(int(rng.integers(0, 4 if side > 0 else 3))):
        z = float(rng.uniform(7.0, 48.0))
        x = plan.street.edges[k] + side * float(rng.uniform(0.4, 1.0))
        kind = choose(rng, SIGNS)
        size = float(rng.uniform(0.62, 0.85))
        if kind in ("guide", "board"):
            size *= float(rng.uniform(1.0, 1.9))
        if _clear_of_crossing(plan, z, 2.5):
            height = float(rng.uniform(2.0, 2.5))
            draw = partial(furniture.sign, x=x, z=z, kind=kind, height=height, size=size)
            plan.add(z, draw, (x, z, 0.05, 0.05, height + size, 0.0, 0.0))


def _signals(plan: Plan, rng: Rng) -> None:
    road = plan.street
    if road.stop is None or rng.random() > 0.85:
        return
    state = choose(rng, (0, 1, 2), (0.45, 0.1, 0.45))
    z = road.stop + 0.6
    arm = -float(rng.uniform(3.0, 4.4)) if rng.random() < 0.45 else 0.0
    left, right = road.edges
    for x, at, reach in (
        (right + 0.6, z, arm),
        (left - 0.6, z, 0.0),
        (right + 0.7, (road.crossing or z) + road.crossing_width + 1.2, 0.0),
    ):
        draw = partial(
            furniture.traffic_light, x=x, z=at, state=state, height=float(rng.uniform(2.2, 2.5)), arm=reach
        )
        plan.add(at, draw, (x, at, 0.1, 0.1, 3.4, 0.0, 0.0))


def _behind_crossing(plan: Plan, rng: Rng) -> None:
    """Houses and trees along the crossing street, seen through the gap."""
    road = plan.street
    if road.crossing is None:
        return
    z = road.crossing + road.crossing_width + 3.4
    for side in (-1, 1):
        x = road.frontage(side) + side * 14.0
        while abs(x) < 70.0:
            if rng.random() < 0.3:
                _plant(plan, rng, x, z + 0.5, float(rng.uniform(5, 9)))
            x += side * float(rng.uniform(6, 12))


def _small_things(plan: Plan, rng: Rng) -> None:
    for side, k in ((-1, 0), (1, 1)):
        edge = plan.street.edges[k]
        if rng.random() < 0.35:
            x, z = edge + side * float(rng.uniform(0.6, 1.6)), float(rng.uniform(7, 30))
            if _clear_of_crossing(plan, z, 3.0):
                colour = pick(rng, ((66.0, 88.0, 70.0), (90.0, 92.0, 96.0), (60.0, 66.0, 90.0)))
                plan.add(
                    z, partial(furniture.bin_, x=x, z=z, colour=colour), (x, z, 0.25, 0.25, 1.0, 0.0, 0.0)
                )
        if rng.random() < 0.2:
            start = float(rng.uniform(6, 20))
            for j in range(6):
                z = start + 1.8 * j
                if _clear_of_crossing(plan, z, 2.0):
                    x = edge + side * 0.4
                    plan.add(z, partial(furniture.bollard, x=x, z=z), (x, z, 0.07, 0.07, 0.9, 0.0, 0.0))
