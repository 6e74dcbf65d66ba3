"""Batches depend on nothing but seed and step: not on the cache, the workers, or where a run began."""

import subprocess
import sys
from functools import partial
from itertools import islice

import numpy as np
import pytest
import tensorflow as tf

from runtime.errors import UserError
from tests.tiny import REPOSITORY
from training.data import free_memory, pipeline
from training.data.augmentation import NONE, Augmentation
from training.data.spec import Example


class Counted:
    """Examples whose pixels say their index, and how often each was read."""

    def __init__(self, count: int, size: tuple[int, int] = (20, 24)) -> None:
        self.reads = [0] * count
        self.size = size
        self.examples = [Example(str(index), partial(self.read, index)) for index in range(count)]

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        self.reads[index] += 1
        image = np.random.default_rng(index).integers(0, 256, (*self.size, 3), np.uint8)
        return image, np.full(self.size, index, np.uint8)


def take(count: int, examples, **options) -> list[tuple[np.ndarray, np.ndarray]]:
    settings = dict(seed=3, batch=4, crop=(16, 16), augmentation=Augmentation(), cache_bytes=0) | options
    dataset = pipeline.training_batches(examples, **settings)
    return [(images.numpy(), labels.numpy()) for images, labels in islice(dataset, count)]


def same(left, right) -> bool:
    return len(left) == len(right) and all(
        np.array_equal(a, b)
        for one, two in zip(left, right, strict=True)
        for a, b in zip(one, two, strict=True)
    )


@pytest.mark.parametrize("start", [1, 3, 7, 11])
def test_starting_anywhere_gives_what_an_uninterrupted_run_would_have_given(start):
    """Eleven images in batches of four: epochs of two steps, with a remainder that is dropped."""
    counted = Counted(11)
    whole = take(14, counted.examples)
    assert same(take(14 - start, counted.examples, start_step=start), whole[start:])


@pytest.mark.parametrize("options", [{"cache_bytes": 10**9}, {"workers": 1}, {"workers": 4}])
def test_cache_and_workers_change_no_pixel(options):
    examples = Counted(11).examples
    assert same(take(9, examples, **options), take(9, examples))


def test_another_seed_gives_other_batches():
    examples = Counted(11).examples
    one, two = take(3, examples), take(3, examples, seed=4)
    assert not any(np.array_equal(a[0], b[0]) for a, b in zip(one, two, strict=True))


def test_the_order_is_numpys_permutation_of_each_epoch():
    examples = Counted(11).examples
    batches = take(6, examples, augmentation=NONE, seed=5)
    seen = [int(label[0, 0]) for _, labels in batches for label in labels]
    expected = [np.random.default_rng([5, epoch]).permutation(11)[:8].tolist() for epoch in range(3)]
    assert seen == sum(expected, [])


def test_fewer_images_than_a_batch_takes_are_repeated():
    batches = take(3, Counted(3).examples, augmentation=NONE, batch=8)
    for _, labels in batches:
        counts = np.bincount(labels[:, 0, 0], minlength=3)
        assert counts.sum() == 8 and counts.min() >= 2


def test_shapes_and_types_are_static():
    dataset = pipeline.training_batches(
        Counted(8).examples, seed=0, batch=2, crop=(10, 12), augmentation=Augmentation()
    )
    images, labels = dataset.element_spec
    assert images.shape == (2, 10, 12, 3) and images.dtype == tf.uint8
    assert labels.shape == (2, 10, 12) and labels.dtype == tf.uint8


def test_a_cache_that_fits_reads_each_image_once_and_says_so():
    counted, said = Counted(6), []
    cache = pipeline.DecodedCache(counted.examples, limit_bytes=10**6, say=said.append)
    take(8, counted.examples, batch=3, cache=cache)
    # The first is also read for the estimate, and two workers may meet over one image.
    assert max(counted.reads) <= 3 and sum(counted.reads) <= 10
    assert len(said) == 1 and "kept in memory" in said[0] and "6 decoded images" in said[0]


def test_a_cache_that_does_not_fit_reads_again_and_says_so():
    counted, said = Counted(6), []
    cache = pipeline.DecodedCache(counted.examples, limit_bytes=6 * 20 * 24 * 4 - 1, say=said.append)
    take(8, counted.examples, batch=3, cache=cache)
    assert sum(counted.reads) >= 24
    assert "does not fit" in said[0]


def test_the_limit_is_a_quarter_of_the_memory_at_hand():
    free = free_memory.available()
    assert 10**8 < free < 10**14
    said: list[str] = []
    pipeline.DecodedCache(Counted(2).examples, say=said.append)
    shown = float(said[0].split("limit ")[1].split(" GB")[0])
    assert shown == pytest.approx(free / 4e9, rel=0.3)


def broken() -> tuple[np.ndarray, np.ndarray]:
    raise UserError("holiday.png is a truncated or damaged PNG file; copy or export it again.")


@pytest.mark.parametrize("evaluation", [False, True])
def test_an_unreadable_image_ends_in_its_own_sentence(evaluation):
    examples = [*Counted(5).examples, Example("bad", broken)]
    if evaluation:
        dataset = pipeline.evaluation_batches(examples)
    else:
        dataset = pipeline.training_batches(
            examples, seed=0, batch=6, crop=(8, 8), augmentation=NONE, cache_bytes=0
        )
    with pytest.raises(UserError) as caught, pipeline.read_errors():
        for _ in islice(dataset, 6):
            pass
    assert str(caught.value) == "holiday.png is a truncated or damaged PNG file; copy or export it again."


def test_other_errors_are_not_dressed_up():
    with pytest.raises(tf.errors.OpError), pipeline.read_errors():
        tf.reshape(tf.zeros([3]), [2])


def test_no_images_at_all():
    with pytest.raises(UserError, match="no images"):
        take(1, [])


def test_evaluation_keeps_order_and_sizes():
    sizes = [(9, 7), (12, 30), (9, 8)]
    examples = [Counted(3, size).examples[index] for index, size in enumerate(sizes)]
    for (index, image, label), size, example in zip(
        pipeline.evaluation_batches(examples), sizes, examples, strict=True
    ):
        assert examples[int(index)] is example
        assert np.array_equal(image.numpy()[0], example.read()[0])
        assert np.array_equal(label.numpy()[0], example.read()[1])
        assert image.shape == (1, *size, 3)
    for (_, image, label), size in zip(
        pipeline.evaluation_batches(examples, size=(5, 6)), sizes, strict=True
    ):
        assert image.shape == (1, 5, 6, 3) and label.shape == (1, *size)


def test_evaluation_reads_from_a_given_cache():
    counted = Counted(4)
    cache = pipeline.DecodedCache(counted.examples, limit_bytes=10**6)
    for _ in range(3):
        assert len(list(pipeline.evaluation_batches(counted.examples, cache=cache))) == 4
    assert sum(counted.reads) <= 5


def test_reading_stays_parallel_with_deterministic_ops():
    """enable_op_determinism makes tf.data run stateful functions one by one; ours must not be held up."""
    code = """
import time, numpy as np, tensorflow as tf
tf.config.experimental.enable_op_determinism()
from training.data import pipeline
from training.data.augmentation import NONE
from training.data.spec import Example
def read():
    time.sleep(0.1)
    return np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8)
data = pipeline.training_batches([Example("a", read)] * 8, seed=0, batch=8, crop=(4, 4), augmentation=NONE,
                                 cache_bytes=0, workers=4)
batches = iter(data)
next(batches)
begin = time.perf_counter()
for _ in range(4): next(batches)
print(time.perf_counter() - begin)
del batches  # Python may hang at its end while TensorFlow still reads ahead
"""
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=120
    )
    assert float(found.stdout.split()[-1]) < 4 * 8 * 0.1 * 0.6  # one by one it takes all of 3.2 s
