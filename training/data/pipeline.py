"""Decode, augment, batch: tf.data pipelines whose batches depend on nothing but (seed, step).

`training_batches` begins at any step and gives bit for bit what an uninterrupted run would have given there:
the order of an epoch is NumPy's `default_rng([seed, epoch]).permutation`, of more or fewer samples than there are
images where these are weighted, and augmentation is keyed on (seed, sample number). That is why tf.data's own
shuffle and cache are not used.

Iterate inside `with read_errors():`, which turns an image that cannot be read into its one sentence.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from runtime.errors import UserError
from runtime.image import resize_rgb
from training.data import augment, free_memory
from training.data.augmentation import Augmentation
from training.data.spec import Example

# A UserError passes through TensorFlow as text: these mark where its sentence begins and ends.
_BEGIN, _END = (
    "\N{LEFT-POINTING DOUBLE ANGLE QUOTATION MARK}user error: ",
    "\N{RIGHT-POINTING DOUBLE ANGLE QUOTATION MARK}",
)


# One device takes whole batches: the first of one, and there is one in all.
ONE_REPLICA = (0, 1, 1)


def steps_per_epoch(count: int, batch: int) -> int:
    """Whole batches in `count` samples; 1 when there are fewer samples than a batch takes."""
    return max(1, count // batch)


def samples(examples: Sequence[Example]) -> int:
    """How many samples an epoch takes: as many as there are examples, where none is weighted."""
    return sum(_share(examples, part) for part in _parts(examples).values())


def epoch_order(seed: int, epoch: int, examples: Sequence[Example], batch: int) -> np.ndarray:
    """Sample indices of an epoch, int64 (steps * batch,).

    An example of weight 2 comes twice; of a part of weight 0.5 every epoch takes another half, drawn by the seed.
    The remainder that fills no batch is dropped; fewer samples than a batch takes are repeated.
    """
    generator = np.random.default_rng([seed, epoch])
    if all(example.weight == 1 for example in examples):
        order = generator.permutation(len(examples))
    else:
        taken = [
            np.resize(np.random.default_rng([seed, epoch, number]).permutation(part), _share(examples, part))
            for number, part in enumerate(_parts(examples).values())
        ]
        order = generator.permutation(np.concatenate(taken))
    return np.resize(order, steps_per_epoch(len(order), batch) * batch)


def _parts(examples: Sequence[Example]) -> dict[str, list[int]]:
    """The indices of the examples of each data set of a mixture; of all of them, where it is none."""
    found: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        found.setdefault(example.part, []).append(index)
    return found


def _share(examples: Sequence[Example], part: list[int]) -> int:
    """How many samples a part gives an epoch: its examples' weights summed, and rounded."""
    return max(1, round(sum(examples[index].weight for index in part)))


def _decoded_bytes(example: Example) -> int:
    return sum(array.nbytes for array in example.read())


class DecodedCache:
    """Reads examples by index and keeps them decoded, when all of them fit into `limit_bytes`.

    What they would take is estimated from the first one, in a mixture the first of each data set. `limit_bytes` is
    a quarter of the available memory unless given; 0 keeps nothing.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        limit_bytes: int | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        if not examples:
            raise UserError("There are no images to read; check the data folder and the split.")
        self.examples = examples
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._lock = threading.Lock()
        limit = free_memory.available() // 4 if limit_bytes is None else limit_bytes
        needed = sum(len(part) * _decoded_bytes(examples[part[0]]) for part in _parts(examples).values())
        self.enabled = needed <= limit
        if say:
            amounts = f"{len(examples)} decoded images take {needed / 1e9:.2f} GB"
            verdict = "fits: they are kept in memory" if self.enabled else "does not fit: each is read again"
            say(f"{amounts}, which {verdict} (limit {limit / 1e9:.2f} GB).")

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """RGB uint8 (H, W, 3) and train ids uint8 (H, W) of one example."""
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        pair = self.examples[index].read()
        if self.enabled:
            with self._lock:
                self._kept[index] = pair
        return pair


def training_batches(
    examples: Sequence[Example],
    *,
    seed: int,
    batch: int,
    crop: tuple[int, int],
    augmentation: Augmentation,
    start_step: int = 0,
    replicas: tuple[int, int, int] = ONE_REPLICA,
    cache: DecodedCache | None = None,
    cache_bytes: int | None = None,
    workers: int = 2,
    prepare: Callable[..., Any] | None = None,
    say: Callable[[str], None] | None = None,
) -> tf.data.Dataset:
    """Endless (images uint8 (B, h, w, 3), labels uint8 (B, h, w)) from `start_step` on; `crop` is (h, w).

    With `replicas`, (first, count, total), each batch is taken by `total` devices, and this process has `count` of
    them, from `first` on: it reads their samples only, and gives B / total for one of them after the other.

    `prepare(image, label, seed)` may make something else of each sample: (inputs, targets), nested as they like.

    The images are cached in `cache`, or in a new one of at most `cache_bytes` (see DecodedCache).
    """
    kept = cache or DecodedCache(examples, limit_bytes=cache_bytes, say=say)
    steps = steps_per_epoch(samples(examples), batch)
    order = functools.lru_cache(maxsize=4)(lambda epoch: epoch_order(seed, epoch, examples, batch))

    first, mine, total = replicas
    part = batch // total

    def global_number(local: tf.Tensor) -> tf.Tensor:
        """Which of all samples, counted from the start of the run, is this process's next one."""
        element = local // part
        return (element // mine * total + first + element % mine) * part + local % part

    def read(number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        epoch, position = divmod(int(number), steps * batch)
        return _read_marked(kept, int(order(epoch)[position]))

    def sample(local: tf.Tensor) -> tuple[Any, Any]:
        number = global_number(local)
        image, label = _numpy_pair(read, number)
        seed_pair = tf.stack([tf.constant(seed, tf.int64), number])
        image, label = augment.apply(image, label, seed_pair, crop, augmentation)
        return prepare(image, label, seed_pair) if prepare else (image, label)

    numbers = tf.data.Dataset.range(start_step * mine * part, tf.int64.max)
    # Told that it never ends, tf.distribute need not ask all workers at each batch whether they have one.
    numbers = numbers.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    dataset = numbers.map(sample, num_parallel_calls=workers, deterministic=True)
    dataset = dataset.batch(part, drop_remainder=True).prefetch(1 + mine)
    return dataset.with_options(_options(workers))


def evaluation_batches(
    examples: Sequence[Example],
    *,
    size: tuple[int, int] | None = None,
    workers: int = 2,
    cache: DecodedCache | None = None,
    indices: range | None = None,
) -> tf.data.Dataset:
    """In order, once: (index int64, image uint8 (1, H, W, 3), label uint8 (1, H, W)), nothing augmented.

    All images, or those of `indices`. With `size` (height, width) the image is resized to it; the label keeps its
    own size.
    """
    kept = cache or DecodedCache(examples, limit_bytes=0)

    def read(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image, label = _read_marked(kept, int(index))
        return (resize_rgb(image, size) if size else image), label

    def sample(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        image, label = _numpy_pair(read, index)
        if size:
            image = tf.ensure_shape(image, (*size, 3))
        return index, image[None], label[None]

    chosen = range(len(examples)) if indices is None else indices
    numbers = tf.data.Dataset.range(chosen.start, chosen.stop, chosen.step)
    dataset = numbers.map(sample, num_parallel_calls=workers, deterministic=True).prefetch(2)
    return dataset.with_options(_options(workers))


@contextlib.contextmanager
def read_errors() -> Iterator[None]:
    """Around the iteration of one of our datasets: an image that cannot be read raises its UserError."""
    try:
        yield
    except tf.errors.OpError as error:
        text = error.message
        if _BEGIN not in text or _END not in text:
            raise
        sentence = text.split(_BEGIN, 1)[1].split(_END, 1)[0]
        raise UserError(sentence) from None


def _read_marked(kept: DecodedCache, index: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        return kept.read(index)
    except UserError as error:
        raise ValueError(f"{_BEGIN}{error}{_END}") from None


def _numpy_pair(
    read: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], number: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    # stateful=False: tf.data runs stateful functions one at a time under enable_op_determinism.
    image, label = tf.numpy_function(read, [number], [tf.uint8, tf.uint8], stateful=False)
    return tf.ensure_shape(image, (None, None, 3)), tf.ensure_shape(label, (None, None))


def _options(workers: int) -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.threading.private_threadpool_size = workers
    options.threading.max_intra_op_parallelism = 1
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options
