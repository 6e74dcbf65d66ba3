"""Class weights: counting, the published formulas by hand, and bad input."""

from typing import Any

import numpy as np
import pytest

from runtime.errors import UserError
from training.data.labels.class_counts import Occurrence, counted
from training.losses.weighting import CLASS_WEIGHTS, class_weights
from training.runs.recipe import Recipe

# Class 0 is in all three images, class 1 in one, class 2 in two, class 3 in none.
MAPS = [
    np.array([[0, 0, 0, 1], [0, 0, 255, 255]], np.uint8),
    np.array([[0, 2, 2, 2], [0, 0, 0, 0]], np.uint8),
    np.array([[2, 0, 255, 255], [255, 255, 255, 255]], np.uint8),
]
NAMES = ("road", "bus", "sky", "train")


def occurrence(maps: list[np.ndarray]) -> Occurrence:
    found = Occurrence()
    for labels in maps:
        found.add(counted(labels))
    return found


def weigh(asked: str, **options: Any) -> list[float] | None:
    return class_weights(
        asked, {f"class_weights.{key}": value for key, value in options.items()}, NAMES, occurrence(MAPS)
    )


def test_occurrence() -> None:
    found = occurrence(MAPS).of(4)
    np.testing.assert_array_equal(found.pixels, [11, 1, 4, 0])
    np.testing.assert_array_equal(found.images, [3, 1, 2, 0])
    np.testing.assert_array_equal(found.around, [6 + 8 + 2, 6, 8 + 2, 0])
    np.testing.assert_allclose(found.frequencies(), np.array([11, 1, 4, 0]) / 16)


def test_inverse_log() -> None:
    shares = np.array([11, 1, 4, 0]) / 16
    np.testing.assert_allclose(weigh("inverse_log"), 1 / np.log(1.10 + shares))
    np.testing.assert_allclose(weigh("inverse_log", constant=1.02), 1 / np.log(1.02 + shares))


def test_median_frequency() -> None:
    """Frequencies 11/16, 1/6 and 4/10 of the images that hold the class: the median is 4/10."""
    np.testing.assert_allclose(weigh("median_frequency"), [0.4 / (11 / 16), 0.4 / (1 / 6), 1.0, 0.0])


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.999])
def test_effective_number(beta: float) -> None:
    """n effective is 1 + beta + ... + beta^(n - 1), the sum that the paper's closed form is of."""
    raw = np.array([1 / sum(beta**k for k in range(n)) for n in (3, 1, 2)])
    np.testing.assert_allclose(weigh("effective_number", beta=beta), [*(raw / raw.mean()), 0.0], rtol=1e-9)
    np.testing.assert_allclose(weigh("effective_number"), weigh("effective_number", beta=0.999))


@pytest.mark.parametrize("name", CLASS_WEIGHTS)
def test_all_void_and_no_data_give_finite_weights(name: str) -> None:
    for maps in ([], [np.full((2, 2), 255, np.uint8)]):
        weights = class_weights(name, {}, NAMES, occurrence(maps))
        assert weights is not None and np.isfinite(weights).all()


def test_given_numbers_and_none_need_no_count() -> None:
    assert class_weights("0.5,1, 2,0", {}, NAMES, Occurrence()) == [0.5, 1.0, 2.0, 0.0]
    assert class_weights("none", {}, NAMES, Occurrence()) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_weights": "median"}, ["unknown class weights 'median'", "did you mean median_frequency?"]),
        ({"class_weights": "1,2"}, ["2 numbers", "11 classes", "Sky, Building"]),
        ({"class_weights": "1,x"}, ["unknown class weights '1,x'", "such as 0.5,1,2"]),
        ({"class_weights": ",".join(["1"] * 10 + ["-1"])}, ["a number from 0 on"]),
        ({"class_weights": ",".join(["0"] * 11)}, ["not all of them 0"]),
        ({"class_weights": ",".join(["nan"] * 11)}, ["a number from 0 on"]),
        ({"class_weights": "inverse_log", "loss": "dice"}, ["the loss dice takes no class weights"]),
        (
            {"class_weights": "inverse_log", "loss_options": {"class_weights.beta": 0.9}},
            ["'beta'", "constant"],
        ),
        ({"class_weights": "effective_number", "loss_options": {"class_weights.beta": 1}}, ["beta is 1"]),
        ({"loss_options": {"class_weights.beta": 0.9}}, ["--class-weights none has no option 'beta'"]),
    ],
)
def test_bad_input_is_one_sentence(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        Recipe.of(model="deeplabv3plus", data="camvid", data_dir="d", **changes)
    for word in words:
        assert word in str(refused.value)


def test_weights_may_go_with_a_loss_that_takes_none_beside_one_that_does() -> None:
    Recipe.of(model="deeplabv3plus", data="scenes", loss="ce+dice", class_weights="inverse_log")
