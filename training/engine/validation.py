"""How a model is validated while it trains, by what it learns to do: a table of tasks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from evaluation import confusion_counts, metrics
from training.data.pipeline import DecodedCache, evaluation_batches
from training.data.spec import DatasetSpec
from training.distributed import ALONE, Cluster
from training.engine import prompts
from training.losses import main_outputs


class Validator:
    """Runs the validation split through the model; one confusion matrix, at each image's own size.

    `scale` is what the model sees the images at, in multiples of their size: its scores are brought back, bilinearly.

    The loss is that of the main outputs, without auxiliary heads and earlier layers; what it draws at random is
    the same every time. Of several workers, each takes its share of the images; all get the scores of the whole.
    """

    def __init__(
        self,
        model: keras.Model,
        spec: DatasetSpec,
        cache: DecodedCache,
        loss: Callable[..., tf.Tensor],
        cluster: Cluster = ALONE,
        scale: float = 1.0,
    ) -> None:
        self.spec, self.cache, self.cluster = spec, cache, cluster

        @tf.function(reduce_retracing=True)
        def predict(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            size, seen = tf.shape(labels)[1:], labels
            if scale != 1:
                larger = tf.cast(tf.round(tf.cast(size, tf.float32) * scale), tf.int32)
                images = tf.image.resize(tf.cast(images, tf.float32), larger)
                seen = tf.image.resize(labels[..., None], larger, "nearest")[..., 0]
            outputs = model(images, training=False)
            logits = outputs["logits"] if scale == 1 else tf.image.resize(outputs["logits"], size)
            ids = tf.argmax(logits, axis=-1, output_type=tf.int32)
            return tf.cast(ids, tf.uint8), loss(main_outputs(outputs), seen)

        self.predict = predict

    def __call__(self) -> tuple[dict[str, Any], float, list[tuple[np.ndarray, ...]]]:
        classes, examples, cluster = len(self.spec.classes), self.cache.examples, self.cluster
        matrix = np.zeros((classes, classes), np.int64)
        losses: list[float] = []
        previews: dict[int, tuple[np.ndarray, ...]] = {}
        shown = sorted({round(part * (len(examples) - 1) / 3) for part in range(4)})
        part = range(cluster.index, len(examples), cluster.size)
        for index, image, label in evaluation_batches(examples, cache=self.cache, indices=part):
            ids, loss = self.predict(image, label)
            truth, predicted = label.numpy()[0], ids.numpy()[0]
            matrix += confusion_counts.confusion_matrix(truth, predicted, classes)
            losses.append(float(loss))
            if int(index) in shown:
                previews[int(index)] = (image.numpy()[0], truth, predicted)
        if cluster.chief:  # who draws the previews; another worker has counted these images
            for index in shown:
                if index not in previews:
                    previews[index] = self._preview(index)
        matrix = np.sum([np.array(counts) for counts in cluster.exchange(matrix.tolist())], axis=0)
        loss_mean = float(np.mean(cluster.interleaved(losses)))
        return (
            metrics.scores(matrix, self.spec.classes),
            loss_mean,
            [previews[key] for key in sorted(previews)],
        )

    def _preview(self, index: int) -> tuple[np.ndarray, ...]:
        rgb, truth = self.cache.read(index)
        ids, _ = self.predict(tf.constant(rgb[None]), tf.constant(truth[None]))
        return rgb, truth, ids.numpy()[0]


@dataclass(frozen=True)
class Task:
    """How a model learns: `preparation(model)` gives what turns an augmented sample, (image, label, seed), into
    inputs and targets, None where they are what they are; `validator(model, spec, cache, loss, cluster,
    scale)`, called, gives scores with miou and pixel_accuracy, the mean loss, and previews (rgb, truth ids, predicted
    ids)."""

    preparation: Callable[[keras.Model], Callable[..., Any]] | None
    validator: Callable[..., Any]


TASKS = {
    "semantic": Task(None, Validator),
    "prompted": Task(prompts.preparation, prompts.Validator),
}
# The task of a model that is not a semantic segmenter.
MODEL_TASKS = {"sam": "prompted"}


def task_of(model: str) -> Task:
    """The task of a row of zoo.MODELS."""
    return TASKS[MODEL_TASKS.get(model, "semantic")]
