"""Splits by ratio and seed: nothing lost, nothing twice, groups whole, and the counts that were asked for."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import UserError
from training import data
from training.data.files import random_splits

RATIOS = [
    (0.8, 0.1, 0.1),
    (0.5, 0.5),
    (0.85, 0.075, 0.075),
    (0.6, 0.4),
    (1 / 3, 1 / 3, 1 / 3),
    (0.9, 0.0, 0.1),
]


def some_names(generator: np.random.Generator, count: int) -> list[str]:
    return [f"{value:09d}" for value in generator.choice(10**9, count, replace=False)]


@pytest.mark.parametrize("ratios", RATIOS)
def test_parts_are_disjoint_complete_sized_and_independent_of_the_order(ratios):
    generator = np.random.default_rng(1)
    for seed in range(20):
        names = some_names(generator, int(generator.integers(20, 200)))
        parts = random_splits.divide(names, ratios, seed=seed)
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(names)))
        for part, ratio in zip(parts, ratios, strict=True):
            assert abs(len(part) - ratio * len(names)) < len(ratios)
            assert np.array_equal(part, np.sort(part))
        shuffled = [names[index] for index in generator.permutation(len(names))]
        for part, again in zip(parts, random_splits.divide(shuffled, ratios, seed=seed), strict=True):
            assert {names[index] for index in part} == {shuffled[index] for index in again}


def test_another_seed_is_another_split_and_the_same_seed_the_same():
    names = some_names(np.random.default_rng(2), 300)
    first, again, other = (random_splits.divide(names, (0.7, 0.3), seed=seed) for seed in (4, 4, 5))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1])
    # Of 90 drawn at random from 300, 27 come again on average, with a deviation of 3.6.
    assert 10 < len(set(first[1]) & set(other[1])) < 45


def test_the_comparison_projects_counts():
    names = some_names(np.random.default_rng(3), 3475)
    for ratios in ((2953, 261, 261), (0.85, 0.075, 0.075)):
        assert [len(part) for part in random_splits.divide(names, ratios, seed=0)] == [2953, 261, 261]


def test_shares_are_rounded_as_scikit_learn_rounds():
    selection = pytest.importorskip("sklearn.model_selection", reason="scikit-learn: requirements-parity.txt")
    for total in (10, 11, 37, 99, 100, 367, 3475):
        for share in (0.05, 0.07, 0.1, 0.15, 0.29, 1 / 3, 0.5):
            if abs(total * share - round(total * share)) < 1e-6:
                continue  # scikit-learn makes 8 of 7.000000000000001; here 7% of 100 are 7
            train, held_out = selection.train_test_split(np.arange(total), test_size=share)
            assert random_splits.counts(total, (1 - share, share)) == [len(train), len(held_out)]


@pytest.mark.parametrize("ratios", RATIOS)
def test_groups_stay_whole_and_no_split_is_empty(ratios):
    generator = np.random.default_rng(5)
    for seed in range(30):
        sizes = generator.integers(1, 40, int(generator.integers(len(ratios), 25)))
        groups = [f"city{index}" for index, size in enumerate(sizes) for _ in range(size)]
        if len(groups) < 10:
            continue
        names = some_names(generator, len(groups))
        parts = random_splits.divide(names, ratios, seed=seed, groups=groups)
        held = [{groups[index] for index in part} for part in parts]
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(names)))
        assert sum(map(len, held)) == len(set(groups))  # no group in two parts
        for part, ratio in zip(parts, ratios, strict=True):
            assert bool(len(part)) == bool(ratio)
            if len(sizes) > 10:
                assert abs(len(part) - ratio * len(names)) <= 1 + sizes.max()


def test_few_large_groups_leave_none_empty():
    groups = ["a"] * 100 + ["b"] * 100 + ["c"] * 100
    parts = random_splits.divide([f"{i:03d}" for i in range(300)], (0.8, 0.1, 0.1), seed=0, groups=groups)
    assert [len(part) for part in parts] == [100, 100, 100]
    with pytest.raises(UserError, match="2 groups cannot be divided into 3 splits"):
        random_splits.divide([f"{i:03d}" for i in range(200)], (0.8, 0.1, 0.1), seed=0, groups=groups[:200])


def test_another_seed_takes_other_groups():
    groups = [f"city{index}" for index in range(20) for _ in range(5 + index)]
    names = [f"{i:03d}" for i in range(len(groups))]
    held = set()
    for seed in range(10):
        train, val = random_splits.divide(names, (0.8, 0.2), seed=seed, groups=groups)
        assert abs(len(val) - 0.2 * len(names)) <= 2
        held.add(frozenset(groups[index] for index in val))
    assert len(held) == 10


def test_equal_groups_come_exactly():
    groups = [f"drive{index // 10}" for index in range(100)]
    parts = random_splits.divide([f"{i:03d}" for i in range(100)], (80, 10, 10), seed=1, groups=groups)
    assert [len(part) for part in parts] == [80, 10, 10]


def test_overlap_is_one_sentence_with_names():
    random_splits.refuse_overlap({"train": ["a", "b"], "val": ["c"], "test": []})
    with pytest.raises(
        UserError, match=r"train and test overlap in 4 images \(b, c, d and 1 more\)"
    ) as caught:
        random_splits.refuse_overlap({"train": list("abcde"), "val": ["x"], "test": list("edcb")})
    assert "\n" not in str(caught.value)


# Through data.load


def cities(root: Path, **counts: int) -> Path:
    """Cityscapes' layout: keyword SPLIT_CITY = number of images."""
    for key, count in counts.items():
        split, city = key.split("_")
        for index in range(count):
            stem = f"{city}_{index:06d}_000019"
            image, label = root / "leftImg8bit" / split / city, root / "gtFine" / split / city
            image.mkdir(parents=True, exist_ok=True)
            label.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (3, 2)).save(image / f"{stem}_leftImg8bit.png")
            Image.new("L", (3, 2), 7).save(label / f"{stem}_gtFine_labelIds.png")
    return root


def loaded(root: Path, split: str, **options):
    return [example.name for example in data.load("cityscapes", split, root, **options)[1]]


def test_cityscapes_is_divided_anew_without_its_test_split(tmp_path):
    root = cities(tmp_path, train_aachen=6, train_bonn=4, val_ulm=5, test_berlin=3)
    parts = {split: loaded(root, split, ratios=(11, 2, 2), seed=3) for split in random_splits.NAMES}
    assert {split: len(part) for split, part in parts.items()} == {"train": 11, "val": 2, "test": 2}
    together = sorted(sum(parts.values(), []))
    assert len(set(together)) == 15 and not any("berlin" in name for name in together)
    said: list[str] = []
    loaded(root, "val", ratios=(0.6, 0.4), seed=0, group="^[a-z]+", say=said.append)
    assert said == ["cityscapes: 15 images split with seed 0, whole groups by ^[a-z]+: train 9, val 6."]
    by_city = {split: loaded(root, split, ratios=(0.6, 0.4), group="folder") for split in ("train", "val")}
    assert by_city["train"] == loaded(root, "train", ratios=(0.6, 0.4), group="^[a-z]+")
    towns = [{name.split("_")[0] for name in names} for names in by_city.values()]
    assert not towns[0] & towns[1]
    assert len(loaded(root, "test", ratios=(0.6, 0.4))) == 3  # the official one, left alone
    assert len(loaded(root, "train", ratios=(2, 1), pool="test")) == 2


def test_a_group_that_straddles_the_datas_own_splits_is_refused(tmp_path):
    root = cities(tmp_path, train_aachen=2, val_bonn=1, test_ulm=1)
    assert len(loaded(root, "train", group="folder")) == 2
    cities(tmp_path, val_aachen=1)
    with pytest.raises(UserError, match=r"train and val overlap in 1 group \(aachen\)"):
        loaded(root, "train", group="folder")


@pytest.mark.parametrize(
    "options, words",
    [
        ({"ratios": (8, 1, 1)}, ["8,1,1", "sum to 1", "6 images"]),
        ({"ratios": (0.8, 0.1)}, ["0.8,0.1", "0.9"]),
        ({"ratios": 0.8}, ["ratios=0.8", "two or three"]),
        ({"ratios": "most,rest"}, ["two or three"]),
        ({"ratios": (-0.2, 1.2)}, ["two or three"]),
        ({"ratios": (0.999, 0.001), "pool": "val"}, ["no image", "1 images"]),
        ({"ratios": (0.8, 0.2), "seed": 1.5}, ["seed=1.5"]),
        ({"ratios": (0.8, 0.2), "group": "("}, ["not a regular expression"]),
        ({"ratios": (0.8, 0.2), "group": r"drive\d"}, [r"drive\d", "finds nothing", "aachen_0"]),
        ({"ratios": (0.8, 0.2), "pool": ("train", "extra")}, ["extra", "train, val, test"]),
        ({"seed": 3}, ["seed=3", "add ratios"]),
        ({"speed": 3}, ["no option speed", "ratios, pool, seed, group"]),
    ],
)
def test_bad_options_are_one_sentence(tmp_path, options, words):
    root = cities(tmp_path, train_aachen=5, val_bonn=1)
    with pytest.raises(UserError) as caught:
        loaded(root, "train", **options)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_drawn_scenes_have_splits_of_their_own():
    with pytest.raises(UserError, match="no option ratios"):
        data.load("scenes", "train", ratios=(0.5, 0.5))
