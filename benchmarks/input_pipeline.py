"""Images a second of our input pipeline beside KerasCV's augmentation and plain TFDS, and how long training waits.

    python -m benchmarks.input_pipeline
    python -m benchmarks.input_pipeline --data camvid --data-dir DIR

The same images, crop, batch and number of workers for all; the runs alternate, and the median of each is
shown. Two groups are compared, because no peer has a pipeline with all of our operations in one piece:

- everything: scale, crop, rotation, flip, brightness, contrast, saturation, hue and blur, against KerasCV's
  layers that move label maps along (JitteredResize, RandomRotation, RandomFlip, RandomColorJitter and
  RandomGaussianBlur). KerasCV blurs every image: its RandomApply does not run inside tf.data.
- crop and flip only, against a TFDS data set with tf.image: what its documentation shows.

Each from PNG files (TFDS: from its records of the same PNG bytes) and from memory (tf.data's cache for the
peers). The files are written to a temporary folder first.
"""

import argparse
import dataclasses
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from runtime.errors import UserError, exit_on_user_error
from runtime.files import write_whole
from runtime.image import png
from training import data
from training.data import pipeline
from training.data.augmentation import NONE, Augmentation
from training.data.labels import label_maps
from training.data.spec import Example

Maker = Callable[[], tf.data.Dataset]


def main() -> None:
    options = parse()
    tf.keras.utils.disable_interactive_logging()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    split = {"count": options.images} if options.data == "scenes" else {}
    spec, examples = data.load(options.data, "train", options.data_dir, **split)
    examples = examples[: options.images]
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder) / "png", examples)
        makers = candidates(files, Path(folder) / "tfds", options, classes=len(spec.classes))
        rates = measure(makers, batch=options.batch, batches=options.batches, rounds=options.rounds)
        print_rates(rates)
        if options.steps:
            print_wait(makers["Kerbside, everything, memory"], len(spec.classes), options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="scenes", choices=list(data.DATASETS))
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=64, help="how many images (default 64)")
    parser.add_argument("--crop", type=int, default=320, help="side of the square crop (default 320)")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--batches", type=int, default=24, help="batches a run (default 24)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each pipeline (default 5)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--backbone", default="mobilenet_v2", help="of the DeepLabV3+ that is trained")
    parser.add_argument("--steps", type=int, default=20, help="training steps timed; 0 leaves them out")
    options = parser.parse_args()
    if min(options.images, options.crop, options.batch, options.batches, options.rounds, options.workers) < 1:
        raise UserError("--images, --crop, --batch, --batches, --rounds and --workers have to be 1 or more.")
    return options


def write_files(folder: Path, examples: list[Example]) -> list[tuple[Path, Path]]:
    """Every example as a PNG image and a PNG of train ids; the pairs of paths."""
    folder.mkdir()
    pairs = []
    for index, example in enumerate(examples):
        image, label = example.read()
        pair = folder / f"{index}.png", folder / f"{index}_ids.png"
        write_whole(pair[0], png(image))
        write_whole(pair[1], png(label))
        pairs.append(pair)
    return pairs


def candidates(
    files: list[tuple[Path, Path]], tfds_folder: Path, options: argparse.Namespace, *, classes: int
) -> dict[str, Maker]:
    """Name -> a function that makes an endless dataset of batches."""
    everything = Augmentation()
    crop_flip = dataclasses.replace(NONE, flip=0.5)
    same = np.arange(256, dtype=np.uint8)
    allowed = frozenset(range(256))
    examples = [label_maps.pair(str(i), *pair, table=same, allowed=allowed) for i, pair in enumerate(files)]
    caches = {
        "files": pipeline.DecodedCache(examples, limit_bytes=0),
        "memory": pipeline.DecodedCache(examples, limit_bytes=10**10),
    }

    def ours(augmentation: Augmentation, source: str) -> tf.data.Dataset:
        return pipeline.training_batches(
            examples,
            seed=0,
            batch=options.batch,
            crop=(options.crop, options.crop),
            augmentation=augmentation,
            cache=caches[source],
            workers=options.workers,
        )

    records = tfds_records(tfds_folder, files)
    layers = keras_cv_layers(options.crop, classes)
    decoded = {
        "files": png_files(files, options.workers),
        "memory": png_files(files, options.workers).cache(),
    }
    stored = {"files": records(options.workers), "memory": records(options.workers).cache()}
    made: dict[str, Maker] = {}
    for source in ("files", "memory"):
        made[f"Kerbside, everything, {source}"] = partial(ours, everything, source)
        made[f"KerasCV, everything, {source}"] = partial(keras_cv, decoded[source], layers, options)
        made[f"Kerbside, crop and flip, {source}"] = partial(ours, crop_flip, source)
        made[f"TFDS, crop and flip, {source}"] = partial(plain, stored[source], options)
    return made


def png_files(files: list[tuple[Path, Path]], workers: int) -> tf.data.Dataset:
    """(image, ids) decoded by TensorFlow from PNG files."""

    def decode(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rgb = tf.io.decode_png(tf.io.read_file(image), channels=3)
        return rgb, tf.io.decode_png(tf.io.read_file(label), channels=1)

    names = [[str(path) for path in column] for column in zip(*files, strict=True)]
    return tf.data.Dataset.from_tensor_slices(tuple(names)).map(decode, num_parallel_calls=workers)


def tfds_records(folder: Path, files: list[tuple[Path, Path]]) -> Callable[[int], tf.data.Dataset]:
    """The files as a TFDS data set on disk; call it to read (image, ids) through TFDS' own decoding."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "label": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
        }
    )

    def rows() -> Any:
        for image, label in files:
            yield {"image": label_maps.read_rgb(image), "label": label_maps.read_ids(label)[..., None]}

    signature = {
        "image": tf.TensorSpec((None, None, 3), tf.uint8),
        "label": tf.TensorSpec((None, None, 1), tf.uint8),
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="pictures",
        version="1.0.0",
        data_dir=str(folder),
        features=features,
        split_datasets={"train": tf.data.Dataset.from_generator(rows, output_signature=signature)},
    )

    def read(workers: int) -> tf.data.Dataset:
        config = tfds.ReadConfig(num_parallel_calls_for_decode=workers, try_autocache=False)
        dataset = tfds.load("pictures", split="train", data_dir=str(folder), read_config=config)
        return dataset.map(lambda row: (row["image"], row["label"]))

    return read


def plain(dataset: tf.data.Dataset, options: argparse.Namespace) -> tf.data.Dataset:
    """Shuffle, random crop and flip with tf.image, batch."""
    side = options.crop

    def change(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        both = tf.concat([image, label], axis=-1)
        room = tf.maximum(side - tf.shape(both)[:2], 0)
        both = tf.pad(both, [[0, room[0]], [0, room[1]], [0, 0]], constant_values=255)
        both = tf.image.random_flip_left_right(tf.image.random_crop(both, (side, side, 4)))
        return both[..., :3], both[..., 3]

    dataset = dataset.repeat().shuffle(64).map(change, num_parallel_calls=options.workers)
    return dataset.batch(options.batch, drop_remainder=True).prefetch(2)


def keras_cv_layers(side: int, classes: int) -> list[Any]:
    """KerasCV's layers that come nearest to our operations, with our default ranges."""
    import keras_cv

    ours, layers = Augmentation(), keras_cv.layers
    return [
        layers.JitteredResize(target_size=(side, side), scale_factor=ours.scale),
        layers.RandomFlip("horizontal", rate=ours.flip),
        layers.RandomRotation(ours.rotation / 360, fill_mode="constant", segmentation_classes=classes),
        layers.RandomColorJitter(
            value_range=(0, 255),
            brightness_factor=ours.brightness,
            contrast_factor=ours.contrast,
            saturation_factor=ours.saturation,
            hue_factor=ours.hue,
        ),
        layers.RandomGaussianBlur(kernel_size=9, factor=ours.blur_sigma),
    ]


def keras_cv(dataset: tf.data.Dataset, layers: list[Any], options: argparse.Namespace) -> tf.data.Dataset:
    """JitteredResize image by image (sizes may differ), then the others on whole batches: its fastest way."""

    def resize(image: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
        return layers[0]({"images": tf.cast(image, tf.float32), "segmentation_masks": label})

    def rest(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        for layer in layers[1:]:
            batch = layer(batch)
        return batch["images"], tf.cast(batch["segmentation_masks"], tf.uint8)

    dataset = dataset.repeat().shuffle(64).map(resize, num_parallel_calls=options.workers)
    dataset = dataset.batch(options.batch, drop_remainder=True)
    return dataset.map(rest, num_parallel_calls=options.workers).prefetch(2)


class Rate(NamedTuple):
    """Images a second by the clock, and processor milliseconds an image over all threads."""

    images: float
    cpu: float


def measure(makers: dict[str, Maker], *, batch: int, batches: int, rounds: int) -> dict[str, Rate]:
    """The median of `rounds` runs of each, which take turns."""
    iterators = {name: iter(make()) for name, make in makers.items()}
    seen: dict[str, list[Rate]] = {name: [] for name in makers}
    for iterator in iterators.values():
        for _ in range(batches):  # fills the caches
            next(iterator)
    for _ in range(rounds):
        for name, iterator in iterators.items():
            # What was prefetched while the others ran must not count.
            for _ in range(4):
                next(iterator)
            begin, cpu = time.perf_counter(), time.process_time()
            for _ in range(batches):
                next(iterator)
            count = batch * batches
            spent = 1000 * (time.process_time() - cpu) / count
            seen[name].append(Rate(count / (time.perf_counter() - begin), spent))
    return {name: Rate(*map(statistics.median, zip(*runs, strict=True))) for name, runs in seen.items()}


def print_rates(rates: dict[str, Rate]) -> None:
    """The table; processor time is the fairer figure where the machine does other work as well."""
    print(f"{'pipeline':34}{'images/s':>10}{'ratio':>8}{'CPU ms/image':>15}{'ratio':>8}")
    for name, rate in rates.items():
        ours = rates["Kerbside, " + name.split(", ", 1)[1]]
        row = f"{name:34}{rate.images:10.0f}{ours.images / rate.images:8.2f}"
        print(row + f"{rate.cpu:15.2f}{rate.cpu / ours.cpu:8.2f}")
    print("ratio: Kerbside's images a second to this row's; this row's processor time to Kerbside's.")


def print_wait(maker: Maker, classes: int, options: argparse.Namespace) -> None:
    """Train DeepLabV3+ for a few steps and say which share of the time went into waiting for the next batch."""
    import keras

    import zoo

    model = zoo.build("deeplabv3plus", classes=classes, backbone=options.backbone)
    optimizer = keras.optimizers.AdamW(1e-3)
    optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)

    @tf.function(reduce_retracing=True)
    def step(images: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = loss(truth, model(images, training=True)["logits"])
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return value

    iterator, waits, steps = iter(maker()), [], []
    for number in range(options.steps + 3):
        begin = time.perf_counter()
        images, truth = next(iterator)
        waited = time.perf_counter() - begin
        step(images, truth).numpy()  # .numpy() waits until the step is done
        if number >= 3:  # the first ones trace the graph
            waits.append(waited)
            steps.append(time.perf_counter() - begin)
    share = sum(waits) / sum(steps)
    print(
        f"\nDeepLabV3+ {options.backbone}, batch {options.batch} at {options.crop}x{options.crop}: "
        f"{1000 * statistics.median(steps):.0f} ms a step, {1000 * sum(waits) / len(waits):.1f} ms of it waiting "
        f"for data: {100 * share:.1f}%"
    )


if __name__ == "__main__":
    raise SystemExit(exit_on_user_error(main))
