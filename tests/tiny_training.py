"""The smallest things that train: a network of two convolutions, images of three colours, a recipe, a teacher."""

import keras
import numpy as np
import tensorflow as tf

from training.data.spec import DatasetSpec, Example
from training.runs.recipe import Recipe

SPEC = DatasetSpec(
    "three", ("a", "b", "c"), ((255, 0, 0), (0, 255, 0), (0, 0, 255)), ("train", "val"), (32, 32)
)


def examples(count: int, seed: int) -> list[Example]:
    def make(index: int) -> Example:
        def read() -> tuple[np.ndarray, np.ndarray]:
            rng = np.random.default_rng([seed, index])
            ids = np.kron(rng.integers(0, 3, (4, 4)), np.ones((8, 8))).astype(np.uint8)
            image = np.array(SPEC.palette)[ids] * 0.8 + rng.normal(0, 5, (32, 32, 3))
            return np.clip(image, 0, 255).astype(np.uint8), ids

        return Example(f"{index}", read)

    return [make(index) for index in range(count)]


def small_model(norm: bool = True) -> keras.Model:
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3), name="image")
    inner = keras.Input((None, None, 3))
    y = keras.layers.Conv2D(4, 3, padding="same")(inner)
    backbone = keras.Model(inner, keras.layers.BatchNormalization()(y) if norm else y, name="backbone")
    x = keras.layers.ReLU()(backbone(keras.layers.Rescaling(1 / 255)(image)))
    x = keras.layers.Dropout(0.2)(x) if norm else x
    return keras.Model(image, {"logits": keras.layers.Conv2D(3, 1, name="head")(x)})


def recipe(**changes) -> Recipe:
    values = {"model": "deeplabv3plus", "data": "camvid", "data_dir": "d", "warmup_epochs": 0.0, "epochs": 10}
    return Recipe.of(**{**values, **changes})


def batch() -> tuple[tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, (4, 8, 8)).astype(np.uint8)
    images = labels[..., None] * 80.0 + rng.normal(0, 5, (4, 8, 8, 3))
    return tf.constant(images, tf.float32), tf.constant(labels)


def uneven() -> tuple[tf.Tensor, tf.Tensor]:
    """`batch` with void that lies unevenly: all of the first image, half of the second, none of the others."""
    images, labels = batch()
    void = np.zeros((4, 8, 8), bool)
    void[0], void[1, :4] = True, True
    return images, tf.where(void, tf.constant(255, tf.uint8), labels)


def wise(images: tf.Tensor) -> tf.Tensor:
    """A teacher that is sure of the class that `batch` draws an image's colour from."""
    level = tf.reduce_mean(tf.cast(images, tf.float32), -1, keepdims=True) / 80.0
    return -3.0 * (level - tf.constant([0.0, 1.0, 2.0])) ** 2


def snapshot(train_state) -> dict[str, np.ndarray]:
    return {
        name: np.array(keras.ops.convert_to_numpy(value)) for name, value in train_state.variables().items()
    }


class Recorder(keras.callbacks.Callback):
    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.rows: list[dict] = []
        self.stop_after = stop_after

    def on_train_begin(self, logs=None) -> None:
        self.calls.append("train begin")

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.calls.append(f"batch {batch}")

    def on_epoch_end(self, epoch, logs=None) -> None:
        self.calls.append(f"epoch {epoch}")
        self.rows.append(dict(logs))
        if self.stop_after == epoch:
            self.model.stop_training = True

    def on_train_end(self, logs=None) -> None:
        self.calls.append("train end")
