"""How a model is validated while it trains, by what it learns to do: a table of tasks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from training import metrics, prompts
from training.data.pipeline import DecodedCache, evaluation_batches
from training.data.spec import DatasetSpec
from training.losses import main_outputs


class Validator:
    """Runs the validation split through the model at each picture's own size; one confusion matrix.

    The loss is that of the main outputs, without auxiliary heads and earlier layers; what it draws at random is
    the same every time.
    """

    def __init__(
        self,
        model: keras.Model,
        spec: DatasetSpec,
        cache: DecodedCache,
        loss: Callable[..., tf.Tensor],
    ) -> None:
        self.spec, self.cache = spec, cache

        @tf.function(reduce_retracing=True)
        def predict(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            outputs = model(images, training=False)
            ids = tf.argmax(outputs["logits"], axis=-1, output_type=tf.int32)
            return tf.cast(ids, tf.uint8), loss(main_outputs(outputs), labels)

        self.predict = predict

    def __call__(self) -> tuple[dict[str, Any], float, list[tuple[np.ndarray, ...]]]:
        classes = len(self.spec.classes)
        matrix = np.zeros((classes, classes), np.int64)
        losses: list[float] = []
        previews: list[tuple[np.ndarray, ...]] = []
        last = len(self.cache.examples) - 1
        shown = {round(part * last / 3) for part in range(4)}
        for index, image, label in evaluation_batches(self.cache.examples, cache=self.cache):
            ids, loss = self.predict(image, label)
            truth, predicted = label.numpy()[0], ids.numpy()[0]
            matrix += metrics.confusion_matrix(truth, predicted, classes)
            losses.append(float(loss))
            if int(index) in shown:
                previews.append((image.numpy()[0], truth, predicted))
        return metrics.scores(matrix, self.spec.classes), float(np.mean(losses)), previews


@dataclass(frozen=True)
class Task:
    """How a model learns: `preparation(model)` gives what turns an augmented sample, (image, label, seed), into
    inputs and targets, None where they are what they are; `validator(model, spec, cache, loss)`, called, gives
    scores with miou and pixel_accuracy, the mean loss, and previews (rgb, truth ids, predicted ids)."""

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
