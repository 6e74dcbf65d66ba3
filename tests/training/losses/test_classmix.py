"""ClassMix by arithmetic: which classes are pasted, what lies upon what, and the weight of what the teacher says."""

import numpy as np
import pytest
import tensorflow as tf

from training.losses import classmix


def columns(*classes: int) -> np.ndarray:
    """(1, 4, len): a column of each class."""
    return np.tile(np.array(classes, np.int32), (1, 4, 1))


def pasted(ids: np.ndarray, seed: int, inside: np.ndarray | None = None, classes: int = 8) -> np.ndarray:
    there = np.ones(ids.shape, bool) if inside is None else inside
    return classmix.class_mask(tf.constant(ids), tf.constant(there), (seed, 1), classes).numpy()


@pytest.mark.parametrize(
    ("classes", "half"), [((0, 3, 5, 6), 2), ((0, 3, 5, 6, 7), 2), ((2,), 0), ((2, 4), 1)]
)
def test_half_of_the_classes_that_are_there_are_pasted_whole(classes, half):
    """Half rounded down, as the reference code's (n - n % 2) / 2; each class all of it or nothing."""
    ids, seen = columns(*classes), set()
    for seed in range(20):
        mask = pasted(ids, seed)
        assert (mask == mask[:, :1]).all()  # a column is one class
        chosen = frozenset(np.array(classes)[mask[0, 0]].tolist())
        assert len(chosen) == half
        seen.add(chosen)
    assert len(seen) > 1 or half == 0  # other seeds, other classes
    np.testing.assert_array_equal(pasted(ids, 5), pasted(ids, 5))


def test_what_lies_outside_an_image_is_no_class_of_it_and_is_not_pasted():
    ids = columns(0, 1, 1, 1)
    inside = np.zeros(ids.shape, bool)
    inside[..., 1:] = True
    assert not any(
        pasted(ids, seed, inside).any() for seed in range(10)
    )  # one class is there: half of it is none
    inside[..., 0] = True
    inside[:, 0] = False
    assert not any(pasted(ids, seed, inside)[:, 0].any() for seed in range(10))


def test_each_image_lies_upon_the_next_and_the_last_upon_the_first():
    images = np.arange(3)[:, None, None, None] * np.ones((3, 2, 2, 3), np.uint8)
    mask = np.zeros((3, 2, 2), bool)
    mask[0, 0, 0] = mask[2, 1, 1] = True
    mixed = classmix.mix(tf.constant(images), tf.constant(mask)).numpy()
    assert mixed[..., 0].tolist() == [[[0, 1], [1, 1]], [[2, 2], [2, 2]], [[0, 0], [0, 2]]]
    ids = classmix.mix(tf.constant(images[..., 0]), tf.constant(mask)).numpy()
    np.testing.assert_array_equal(ids, mixed[..., 0])


def test_the_loss_by_numpy():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    ids, sure, inside = (
        rng.integers(0, 5, (2, 3, 4)),
        rng.random((2, 3, 4)) < 0.6,
        rng.random((2, 3, 4)) < 0.8,
    )
    total = 0.0
    for image in range(2):
        share = np.sum(sure[image] & inside[image]) / 12
        for place in np.argwhere(inside[image]):
            scores = logits[image, *place].astype(np.float64)
            total += share * (np.log(np.exp(scores).sum()) - scores[ids[image, *place]])
    found = classmix.consistency(
        tf.constant(logits), tf.constant(ids, tf.int32), tf.constant(sure), tf.constant(inside)
    )
    assert float(found) == pytest.approx(total / 24, rel=1e-5)
    parts = [
        classmix.consistency(
            *(tf.constant(one[place : place + 1]) for one in (logits, ids.astype(np.int32), sure, inside))
        )
        for place in range(2)
    ]
    assert float(sum(parts)) / 2 == pytest.approx(total / 24, rel=1e-5)  # parts of a batch add up


def test_nothing_sure_teaches_nothing():
    logits = tf.random.normal((2, 3, 4, 5), seed=1)
    nothing, all_of_it = tf.zeros((2, 3, 4), tf.bool), tf.ones((2, 3, 4), tf.bool)
    assert float(classmix.consistency(logits, tf.zeros((2, 3, 4), tf.int32), nothing, all_of_it)) == 0.0
