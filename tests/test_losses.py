"""Losses, class weights and schedules against Keras' own and against arithmetic."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from runtime.errors import UserError
from training import losses, schedules


@pytest.fixture
def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (2, 7, 9)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.2] = 255
    return rng.normal(size=(2, 7, 9, 5)).astype(np.float32), labels


def test_cross_entropy_is_keras_own_over_the_counted_pixels(batch) -> None:
    logits, labels = batch
    counted = labels != 255
    per_pixel = keras.losses.sparse_categorical_crossentropy(
        labels[counted].astype(int), logits[counted], from_logits=True
    )
    got = losses.cross_entropy({"logits": tf.constant(logits)}, tf.constant(labels))
    np.testing.assert_allclose(got, np.mean(per_pixel), rtol=1e-6)


def test_class_weights_give_the_weighted_mean(batch) -> None:
    logits, labels = batch
    weights = [0.5, 1.0, 2.0, 4.0, 8.0]
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    total = weight_sum = 0.0
    for position in np.argwhere(labels != 255):
        c = labels[tuple(position)]
        total -= weights[c] * log_p[(*position, c)]
        weight_sum += weights[c]
    got = losses.cross_entropy({"logits": tf.constant(logits)}, tf.constant(labels), weights)
    np.testing.assert_allclose(got, total / weight_sum, rtol=1e-5)


# What a model gives for one picture of 4 x 4: 3 classes, 5 queries, 2 prompts.
SHAPES = {
    "logits": (1, 4, 4, 3), "query_logits": (1, 5, 4), "mask_logits": (1, 5, 2, 2),
    "masks": (1, 2, 3, 4, 4), "iou": (1, 2, 3), "single_mask": (1, 2, 1, 4, 4), "single_iou": (1, 2, 1),
}  # fmt: skip


def targets(name: str, value: int) -> Any:
    """The picture's label map, or SAM's regions: one prompt of one element, one of several."""
    if name == "sam":
        region = tf.fill((1, 2, 4, 4), tf.constant(value, tf.uint8))
        return {"region": region, "several": tf.constant([[False, True]])}
    return tf.fill((1, 4, 4), tf.constant(value, tf.uint8))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, tf.float32) for name in losses.LOSSES]
    + [(name, dtype) for name in ("cross_entropy", "mask2former") for dtype in (tf.bfloat16, tf.float16)],
)
@pytest.mark.parametrize("void", [True, False])
def test_every_loss_is_finite_and_reaches_what_it_reads(name, dtype, void) -> None:
    read = {
        key: tf.Variable(tf.random.stateless_normal(SHAPES[key], [1, 2])) for key in losses.LOSSES[name].reads
    }
    label = targets(name, 255 if void else 1)
    with tf.GradientTape() as tape:
        outputs = {key: tf.cast(value, dtype) for key, value in read.items()}
        loss = tf.reduce_sum(losses.LOSSES[name].function(outputs, label, None, seed=tf.constant([3, 4])))
    assert loss.dtype == tf.float32 and np.isfinite(float(loss))
    gradients = tape.gradient(loss, read)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients.values())
    assert void or all(np.any(np.asarray(gradient) != 0.0) for gradient in gradients.values())


def test_a_picture_that_is_all_void_teaches_pixels_nothing() -> None:
    logits = tf.Variable(tf.random.stateless_normal((1, 4, 4, 3), [1, 2]))
    with tf.GradientTape() as tape:
        loss = losses.cross_entropy({"logits": logits}, tf.fill((1, 4, 4), tf.constant(255, tf.uint8)))
    assert float(loss) == 0.0
    assert np.all(tape.gradient(loss, logits).numpy() == 0.0)


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 4.0, 8.0]])
def test_an_auxiliary_head_adds_its_weighted_loss(batch, weights) -> None:
    """The sum that mmsegmentation and torchvision take, and the gradient that follows from it."""
    logits, labels = tf.constant(batch[0]), tf.constant(batch[1])
    auxiliary = tf.Variable(-logits)
    with tf.GradientTape(persistent=True) as tape:
        both = {"logits": logits, "aux_logits": auxiliary}
        total = losses.training_loss(
            losses.parse("ce"), both, labels, weights, auxiliary_weight=0.4, seed=tf.constant([0, 0])
        )
        alone = losses.cross_entropy({"logits": auxiliary}, labels, weights)
    main = losses.cross_entropy({"logits": logits}, labels, weights)
    np.testing.assert_allclose(total, main + 0.4 * alone, rtol=1e-6)
    np.testing.assert_allclose(
        tape.gradient(total, auxiliary), 0.4 * tape.gradient(alone, auxiliary), rtol=1e-5
    )
    assert set(losses.main_outputs(both)) == {"logits"}


def test_a_loss_that_the_model_does_not_serve_is_refused() -> None:
    losses.check(losses.parse("cross_entropy"), {"logits": None, "aux_logits": None})
    with pytest.raises(UserError, match="mask2former needs query_logits and mask_logits"):
        losses.check(losses.parse("mask2former"), {"logits": None})


def test_inverse_log_weights() -> None:
    frequencies = losses.class_frequencies([np.array([[0, 0, 0, 1, 255]], np.uint8)], 3)
    np.testing.assert_allclose(frequencies, [0.75, 0.25, 0.0])
    weights = losses.CLASS_WEIGHTS["inverse_log"](frequencies)
    np.testing.assert_allclose(weights, [1 / np.log(1.85), 1 / np.log(1.35), 1 / np.log(1.10)])


def test_poly_with_warm_up() -> None:
    def rate(step: int) -> float:
        return float(schedules.learning_rate("poly", tf.constant(step), base=0.01, warmup=10, steps=110))

    assert rate(0) == pytest.approx(0.001)
    assert rate(9) == pytest.approx(0.01)
    assert rate(10) == pytest.approx(0.01)
    assert rate(60) == pytest.approx(0.01 * 0.5**0.9)
    assert rate(110) == 0.0


def test_cosine_is_keras_own() -> None:
    reference = keras.optimizers.schedules.CosineDecay(0.1, 200)
    for step in (0, 50, 100, 199):
        got = schedules.learning_rate("cosine", tf.constant(step), base=0.1, warmup=0, steps=200)
        np.testing.assert_allclose(got, reference(step), rtol=1e-5, atol=1e-9)
