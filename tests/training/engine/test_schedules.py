"""Schedules beside those of torch, mmengine and Keras: the same rates at every step."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runtime.errors import UserError
from tests import references
from training.engine import schedules

STEPS, BASE = 40, 0.02


def ours(name: str, *, warmup: int = 0, steps: int = STEPS, **options: Any) -> np.ndarray:
    """The rate at every step of a run, (steps,)."""
    at = tf.range(steps)
    given: np.ndarray = schedules.learning_rate(
        name, at, base=BASE, warmup=warmup, steps=steps, options=options
    ).numpy()
    return given


def theirs(make: Callable[[Any, Any], Any], steps: int = STEPS) -> np.ndarray:
    """The rate at every step under a scheduler of torch or mmengine, `make(its module's optimizer)`."""
    torch = references.torch()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE, momentum=0.9)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(rates)


def milestones(*parts: float) -> list[int]:
    return [round(part * STEPS) for part in parts]


# Ours, and torch's of the same meaning.
TORCH: dict[str, tuple[str, dict[str, Any], Callable[[Any, Any], Any]]] = {
    "poly": ("poly", {}, lambda lr, o: lr.PolynomialLR(o, STEPS, power=0.9)),
    "poly, power 2": ("poly", {"power": 2.0}, lambda lr, o: lr.PolynomialLR(o, STEPS, power=2.0)),
    "linear": ("linear", {}, lambda lr, o: lr.LinearLR(o, 1.0, 0.0, STEPS)),
    "linear, floor": ("linear", {"floor": 0.1}, lambda lr, o: lr.LinearLR(o, 1.0, 0.1, STEPS)),
    "cosine": ("cosine", {}, lambda lr, o: lr.CosineAnnealingLR(o, STEPS)),
    "cosine, floor": ("cosine", {"floor": 0.05}, lambda lr, o: lr.CosineAnnealingLR(o, STEPS, BASE * 0.05)),
    "step": ("step", {}, lambda lr, o: lr.MultiStepLR(o, milestones(0.6, 0.8))),
    "step, one": (
        "step",
        {"milestones": 0.35, "gamma": 0.5},
        lambda lr, o: lr.MultiStepLR(o, milestones(0.35), gamma=0.5),
    ),
    "constant": ("constant", {}, lambda lr, o: lr.ConstantLR(o, 1.0)),
}


@pytest.mark.parametrize("row", TORCH)
def test_it_is_torchs(row: str) -> None:
    name, options, make = TORCH[row]
    np.testing.assert_allclose(ours(name, **options), theirs(make), rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("shape", ["cosine", "linear"])
@pytest.mark.parametrize("three_phases", [False, True])
def test_one_cycle_is_torchs(shape: str, three_phases: bool) -> None:
    """torch counts to its last step, ours to the one after it, and torch's phases end a step early: with one step
    more, and a share that puts the peak on the same step, both are the same curve."""
    peak = 0.25
    share = (peak * STEPS + 1) / (STEPS + 1)
    rates = theirs(
        lambda lr, optimizer: lr.OneCycleLR(
            optimizer,
            BASE,
            total_steps=STEPS + 1,
            pct_start=share,
            anneal_strategy="cos" if shape == "cosine" else "linear",
            three_phase=three_phases,
        )
    )
    found = ours("one_cycle", peak=peak, shape=shape, three_phases=three_phases)
    np.testing.assert_allclose(found, rates, rtol=2e-5, atol=1e-8)
    assert found.argmax() == peak * STEPS and found.max() == pytest.approx(BASE)


def test_one_cycle_takes_other_divisors() -> None:
    share = (0.3 * STEPS + 1) / (STEPS + 1)
    rates = theirs(
        lambda lr, o: lr.OneCycleLR(
            o, BASE, total_steps=STEPS + 1, pct_start=share, div_factor=10, final_div_factor=100
        )
    )
    np.testing.assert_allclose(ours("one_cycle", start=0.1, end=0.001), rates, rtol=2e-5, atol=1e-8)


@pytest.mark.parametrize("row", TORCH)
def test_the_warm_up_is_torchs(row: str) -> None:
    """LinearLR up to the full rate, then the schedule over the remaining steps."""
    name, options, make = TORCH[row]
    warmup = 8
    rest = theirs(make)
    up = theirs(lambda lr, o: lr.LinearLR(o, 1 / warmup, 1.0, warmup - 1), warmup)
    found = ours(name, warmup=warmup, steps=STEPS + warmup, **options)
    np.testing.assert_allclose(found, np.concatenate([up, rest]), rtol=2e-5, atol=1e-9)


def test_one_cycle_warms_up_to_its_own_start() -> None:
    found = ours("one_cycle", warmup=4)
    np.testing.assert_allclose(found[:4], BASE * 0.04 * np.array([0.25, 0.5, 0.75, 1.0]), rtol=1e-6)
    assert found[4] == pytest.approx(BASE * 0.04) and np.all(np.diff(found[4:14]) > 0)


def test_poly_with_a_warm_up_is_mmsegmentations() -> None:
    """The schedule of its SegFormer: LinearLR by iterations, then PolyLR to eta_min. mmengine reaches the end on the
    last step and ours after it, so its `end` is one step later."""
    references.mmseg()
    from mmengine.optim import scheduler

    torch = references.torch()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE)
    warmup = 6
    both = [
        scheduler.LinearLR(optimizer, start_factor=1 / warmup, begin=0, end=warmup, by_epoch=False),
        scheduler.PolyLR(
            optimizer, eta_min=BASE * 0.01, power=0.9, begin=warmup, end=STEPS + 1, by_epoch=False
        ),
    ]
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for one in both:
            one.step()
    np.testing.assert_allclose(ours("poly", warmup=warmup, floor=0.01), rates, rtol=1e-4)


def test_poly_and_cosine_are_keras() -> None:
    from keras.optimizers import schedules as keras_schedules

    at = range(STEPS)
    poly = keras_schedules.PolynomialDecay(BASE, STEPS, BASE * 0.1, power=0.9)
    np.testing.assert_allclose(ours("poly", floor=0.1), [float(poly(step)) for step in at], rtol=1e-5)
    cosine = keras_schedules.CosineDecay(BASE, STEPS, alpha=0.1)
    np.testing.assert_allclose(ours("cosine", floor=0.1), [float(cosine(step)) for step in at], rtol=1e-5)
    cut = milestones(0.6, 0.8)  # Keras' boundary is the last step of the old rate
    steps = keras_schedules.PiecewiseConstantDecay([cut[0] - 1, cut[1] - 1], [BASE, BASE * 0.1, BASE * 0.01])
    np.testing.assert_allclose(ours("step"), [float(steps(step)) for step in at], rtol=1e-5)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_every_schedule_stays_within_its_base_and_is_never_negative(name: str) -> None:
    for warmup in (0, 1, 5, STEPS, 2 * STEPS):  # a warm-up longer than the run never ends
        found = ours(name, warmup=warmup)
        assert np.isfinite(found).all() and (found >= 0).all() and (found <= BASE * (1 + 1e-6)).all()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("poly", {"gamma": 0.1}, ["poly", "gamma", "power"]),
        ("constant", {"floor": 0.1}, ["constant", "none"]),
        ("step", {"milestones": (0.5, 60)}, ["milestones", "0 to 1"]),
        ("step", {"gamma": "small"}, ["gamma", "small"]),
        ("poly", {"power": float("nan")}, ["power", "nan"]),
        ("one_cycle", {"shape": "sine"}, ["sine", "cosine or linear"]),
        ("one_cycle", {"three_phases": True, "peak": 0.6}, ["peak", "0.5"]),
        ("cosine", {"floor": True}, ["floor", "True"]),
    ],
)
def test_an_option_that_makes_no_sense_is_one_sentence(name: str, options: dict, words: list[str]) -> None:
    with pytest.raises(UserError) as refusal:
        schedules.check(name, options)
    for word in words:
        assert word in str(refusal.value)
