"""Who is in the street: vehicles in their lanes, parked and crossing, people, riders, a train now and then."""

import math
from functools import partial

from drawing import furniture, people, vehicles
from drawing.canvas import Colour, mix
from drawing.people import Look
from drawing.plan import CLOTHES, HAIRS, PAINTS, SKINS, Plan, Rng, choose, pick
from drawing.vehicles import BODIES

CARS = ("hatchback", "sedan", "estate", "suv", "minivan", "van")
CAR_CHANCES = (0.3, 0.22, 0.18, 0.16, 0.08, 0.06)


def place(plan: Plan, rng: Rng, kind: str) -> None:
    busy = choose(rng, (0.35, 0.8, 1.3))
    taken: list[tuple[float, float, float]] = []  # x, z, half length of what stands in a lane
    _trains(plan, rng, kind, taken)
    _lanes(plan, rng, busy, taken)
    _parked(plan, rng, kind)
    _crossing(plan, rng, busy)
    _walkers(plan, rng, kind)
    _riders(plan, rng)
    _standing_bicycles(plan, rng)


def _box(x: float, z: float, width: float, length: float, height: float, heading: float) -> tuple[float, ...]:
    return (x, z, width / 2, length / 2, height, heading, 0.0)


def vehicle(plan: Plan, rng: Rng, x: float, z: float, heading: float, kind: str) -> float:
    """Add a vehicle of this kind; returns half its length."""
    paint = pick(rng, PAINTS)
    if kind == "bus":
        paint = pick(
            rng,
            (
                (196.0, 40.0, 42.0),
                (226.0, 196.0, 70.0),
                (52.0, 96.0, 160.0),
                (232.0, 232.0, 228.0),
                (70.0, 130.0, 90.0),
            ),
        )
        stripe = mix(paint, (246.0, 246.0, 246.0), 0.65)
        plan.add(
            z,
            partial(vehicles.bus, x=x, z=z, heading=heading, paint=paint, stripe=stripe),
            _box(x, z, 2.5, 11.8, 3.0, heading),
            vehicle=True,
        )
        return 5.9
    if kind == "truck":
        length = float(rng.uniform(4.5, 7.0))
        white = mix(pick(rng, PAINTS), (232.0, 232.0, 230.0), 0.6)
        draw = partial(
            vehicles.truck,
            x=x,
            z=z,
            heading=heading,
            paint=paint,
            box=white,
            stripe=pick(rng, PAINTS),
            length=length,
        )
        plan.add(z, draw, _box(x, z, 2.5, length + 2.3, 3.3, heading), vehicle=True)
        return length / 2 + 1.2
    body = BODIES[kind]
    draw = partial(vehicles.car, x=x, z=z, heading=heading, kind=kind, paint=paint)
    plan.add(z, draw, _box(x, z, body.width, body.length, body.height * 0.9, heading), vehicle=True)
    return body.length / 2


def _kind(rng: Rng) -> str:
    draw = rng.random()
    if draw < 0.055:
        return "bus"
    if draw < 0.14:
        return "truck"
    return choose(rng, CARS, CAR_CHANCES)


def _lane_centres(plan: Plan) -> list[tuple[float, float]]:
    """(x, heading) of the middle of each lane."""
    road = plan.street
    left, right = road.edges[0] + road.bays[0], road.edges[1] - road.bays[1]
    cuts = [left, *road.lanes, right]
    out = []
    for a, b in zip(cuts[:-1], cuts[1:], strict=True):
        middle = (a + b) / 2
        oncoming = road.centre is not None and middle < road.centre
        out.append((middle, math.pi if oncoming else 0.0))
    return out


def _lanes(plan: Plan, rng: Rng, busy: float, taken: list[tuple[float, float, float]]) -> None:
    road = plan.street
    for x, heading in _lane_centres(plan):
        own = abs(x) < 1.2
        z = float(rng.uniform(13, 40) if own else rng.uniform(7, 40))
        while z < 140.0:
            kind = _kind(rng)
            half = {"bus": 6.0, "truck": 5.0}.get(kind, 2.4)
            at = z + half
            free = all(abs(x - tx) > 2.4 or abs(at - tz) > half + th + 2.0 for tx, tz, th in taken)
            blocked = road.zebra is not None and abs(at - road.zebra - 1.5) < half + 2.2
            blocked = blocked or (
                road.crossing is not None
                and road.crossing - half < at < road.crossing + road.crossing_width + half
            )
            if free and not blocked:
                vehicle(
                    plan, rng, x + float(rng.normal(0, 0.15)), at, heading + float(rng.normal(0, 0.015)), kind
                )
            z = at + half + 3.0 + float(rng.exponential(22.0 / busy))


def _parked(plan: Plan, rng: Rng, kind: str) -> None:
    """Cars along the kerb: full in a city, sparse elsewhere."""
    road = plan.street
    for side, k in ((-1, 0), (1, 1)):
        if not road.bays[k]:
            continue
        x = road.edges[k] - side * (road.bays[k] / 2 - 0.05)
        full = float(rng.uniform(0.4, 0.95))
        away = 0.0 if side > 0 or road.centre is None else math.pi
        z = float(rng.uniform(5.0, 9.0))
        while z < 110.0:
            near = (
                road.crossing is not None
                and road.crossing - 8.0 < z < road.crossing + road.crossing_width + 8.0
            )
            zebra = road.zebra is not None and road.zebra - 5.0 < z < road.zebra + 8.0
            if not near and not zebra and rng.random() < full:
                heading = away + (math.pi if rng.random() < 0.06 else 0.0) + float(rng.normal(0, 0.02))
                style = choose(rng, CARS, CAR_CHANCES)
                if rng.random() < 0.05:
                    _park_motorcycle(plan, rng, x, z)
                else:
                    vehicle(plan, rng, x, z, heading, style)
            z += float(rng.uniform(5.4, 6.4))


def _park_motorcycle(plan: Plan, rng: Rng, x: float, z: float) -> None:
    heading = float(rng.uniform(-2.4, 2.4))
    draw = partial(people.motorcycle, x=x, z=z, heading=heading, paint=pick(rng, PAINTS))
    plan.add(z, draw, _box(x, z, 0.5, 1.9, 1.0, heading))


def _crossing(plan: Plan, rng: Rng, busy: float) -> None:
    """Vehicles on the crossing street, seen from the side."""
    road = plan.street
    if road.crossing is None:
        return
    for share, heading in ((0.27, math.pi / 2), (0.73, -math.pi / 2)):
        z = road.crossing + road.crossing_width * (share if heading > 0 else share)
        x = float(rng.uniform(-40, -10))
        while x < 40.0:
            if rng.random() < 0.45 * busy:
                kind = _kind(rng)
                vehicle(plan, rng, x, z, heading + float(rng.normal(0, 0.03)), kind)
                x += {"bus": 12.0, "truck": 10.0}.get(kind, 5.0)
            x += float(rng.uniform(3, 16))


def _look(rng: Rng) -> Look:
    return Look(
        skin=pick(rng, SKINS),
        hair=pick(rng, HAIRS),
        top=pick(rng, CLOTHES),
        trousers=pick(rng, CLOTHES[:6] + CLOTHES[8:9]),
        shoes=(34.0, 30.0, 30.0),
        coat=bool(rng.random() < 0.3),
        bag=pick(rng, CLOTHES) if rng.random() < 0.3 else None,
        size=choose(rng, (1.0, 1.04, 0.96, 0.92, 0.66), (0.35, 0.25, 0.2, 0.14, 0.06)),
    )


def _person(plan: Plan, rng: Rng, x: float, z: float, heading: float) -> None:
    look = _look(rng)
    umbrella = plan.light.weather == "rain" and rng.random() < 0.5
    draw = partial(
        people.person,
        x=x,
        z=z,
        heading=heading,
        look=look,
        phase=float(rng.uniform(0, 2 * math.pi)),
        umbrella=bool(umbrella),
    )
    plan.add(z, draw, (x, z, 0.2, 0.16, 1.7 * look.size, heading, 0.0))


def _walkers(plan: Plan, rng: Rng, kind: str) -> None:
    """People on both pavements, alone or in pairs, and on the zebra crossing."""
    road = plan.street
    crowd = {"city": 7.0, "suburb": 2.0, "avenue": 3.5, "outskirts": 1.0}[kind] * choose(rng, (0.4, 1.0, 1.6))
    for side, k in ((-1, 0), (1, 1)):
        for _ in range(int(rng.poisson(crowd / 2))):
            z = 6.5 + 45.0 * float(rng.random()) ** 1.3
            x = road.edges[k] + side * float(rng.uniform(0.9, max(1.2, road.pavement[k] - 0.3)))
            heading = choose(rng, (0.0, math.pi)) + float(rng.normal(0, 0.35))
            _person(plan, rng, x, z, heading)
            if rng.random() < 0.3:
                _person(plan, rng, x + side * 0.62, z + float(rng.uniform(-0.3, 0.3)), heading)
    if road.zebra is not None and rng.random() < 0.6:
        for _ in range(int(rng.integers(1, 5))):
            x = float(rng.uniform(road.edges[0], road.edges[1]))
            z = road.zebra + float(rng.uniform(0.4, 2.6))
            _person(plan, rng, x, z, choose(rng, (-1, 1)) * math.pi / 2 + float(rng.normal(0, 0.15)))
    if rng.random() < 0.12:
        x = float(rng.uniform(road.edges[0] + 1, road.edges[1] - 1))
        z = float(rng.uniform(16, 34))
        _person(plan, rng, x, z, choose(rng, (-1, 1)) * math.pi / 2)


def _riders(plan: Plan, rng: Rng) -> None:
    road = plan.street
    for _ in range(choose(rng, (0, 1, 2), (0.62, 0.3, 0.08))):
        side, k = (1, 1) if rng.random() < 0.7 else (-1, 0)
        heading = 0.0 if side > 0 or road.centre is None else math.pi
        x = road.edges[k] - side * (road.bays[k] + float(rng.uniform(0.5, 0.9)))
        z = float(rng.uniform(8, 34))
        if rng.random() < 0.15 and road.crossing is not None:
            heading, z, x = math.pi / 2, road.crossing + 1.2, float(rng.uniform(-7, 7))
        draw = partial(
            people.cyclist, x=x, z=z, heading=heading + float(rng.normal(0, 0.12)), look=_look(rng),
            paint=pick(rng, PAINTS), phase=float(rng.uniform(0, 6.28)),
        )  # fmt: skip
        plan.add(z, draw, _box(x, z, 0.4, 1.5, 1.6, heading))
    if rng.random() < 0.13:
        x, heading = _lane_centres(plan)[int(rng.integers(len(_lane_centres(plan))))]
        x += float(rng.uniform(-0.7, 0.7))
        z = float(rng.uniform(9, 30))
        draw = partial(
            people.biker,
            x=x,
            z=z,
            heading=heading + float(rng.normal(0, 0.06)),
            look=_look(rng),
            paint=pick(rng, PAINTS),
        )
        plan.add(z, draw, _box(x, z, 0.6, 2.0, 1.5, heading))


def _standing_bicycles(plan: Plan, rng: Rng) -> None:
    """Bicycles leaning in a row on the pavement."""
    road = plan.street
    if rng.random() > 0.36:
        return
    side, k = (-1, 0) if rng.random() < 0.5 else (1, 1)
    z = float(rng.uniform(7, 24))
    x = road.edges[k] + side * (road.pavement[k] - 0.6 if rng.random() < 0.6 else 0.7)
    heading = choose(rng, (0.5, 1.2, 1.57, -1.1))
    for _ in range(int(rng.integers(1, 6))):
        turn = heading + float(rng.normal(0, 0.12))
        plan.add(
            z,
            partial(people.bicycle, x=x, z=z, heading=turn, paint=pick(rng, PAINTS)),
            _box(x, z, 0.3, 1.6, 0.9, turn),
        )
        z += float(rng.uniform(0.5, 0.9))


def _trains(plan: Plan, rng: Rng, kind: str, taken: list[tuple[float, float, float]]) -> None:
    """A tram on its rails, or a train on a bank or a viaduct across the view."""
    road = plan.street
    paint: Colour = pick(
        rng, ((206.0, 44.0, 46.0), (232.0, 228.0, 214.0), (238.0, 196.0, 60.0), (60.0, 116.0, 140.0))
    )
    stripe = mix(paint, (60.0, 64.0, 74.0), 0.6) if sum(paint) > 500 else (238.0, 236.0, 230.0)
    if road.rails is not None:
        if rng.random() < 0.75:
            z, cars = float(rng.uniform(14, 46)), int(rng.integers(2, 4))
            heading = math.pi
            middle = z + 9.9 * (cars - 1) / 2
            draw = partial(
                vehicles.train,
                x=road.rails,
                z=z,
                heading=heading,
                paint=paint,
                stripe=stripe,
                cars=cars,
                y=0.0,
            )
            plan.add(z + 4.8, draw, _box(road.rails, middle, 2.4, 9.9 * cars, 3.3, heading), vehicle=True)
            taken.append((road.rails, middle, 5.0 * cars + 2.0))
        return
    if rng.random() < (0.07 if kind == "city" else 0.14):
        z = float(rng.uniform(75, 130))
        height = float(rng.uniform(5.5, 7.5))
        x = float(rng.uniform(-20, 45))
        stone = road.centre is None or rng.random() < 0.7
        draw = partial(
            furniture.bank, x0=-190.0, x1=190.0, z=z, height=height, grass=road.grass, stone=bool(stone)
        )
        plan.add(z + 0.5, draw)
        cars = int(rng.integers(3, 7))
        ride = partial(
            vehicles.train,
            x=x,
            z=z + 1.3,
            heading=math.pi / 2,
            paint=paint,
            stripe=stripe,
            cars=cars,
            y=height,
        )
        plan.add(z + 0.4, ride)
