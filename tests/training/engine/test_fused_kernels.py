"""The fused kernels of a training step against Keras' own layers and optimizers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_training import recipe
from training.engine.fused_norms import fuse_norms
from training.engine.optimizers import build_optimizer

MAPS = np.random.default_rng(0).normal(3, 2, (3, 5, 4, 6)).astype(np.float32)


def norm_model(dtype: str = "float32", **options) -> keras.Model:
    image = keras.Input((None, None, 6))
    layer = keras.layers.BatchNormalization(momentum=0.8, dtype=dtype, name="norm", **options)
    model = keras.Model(image, layer(image))
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in model.weights])
    return model


def trained(model: keras.Model, maps: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Output, gradients of the input and the trainable variables, and new statistics of one pass."""
    x = tf.constant(maps)
    weights = [tf.convert_to_tensor(variable.value) for variable in model.trainable_variables]
    state = [tf.convert_to_tensor(variable.value) for variable in model.non_trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch([x, *weights])
        y, state = model.stateless_call(weights, state, x, training=True)
        loss = tf.reduce_sum(tf.sin(tf.cast(y, tf.float32)))
    gradients = tape.gradient(loss, [x, *weights])
    return y.numpy(), [part.numpy() for part in gradients], [np.array(part) for part in state]


@pytest.mark.parametrize(
    ("dtype", "options", "tolerance"),
    [
        ("float32", {}, 1e-5),
        ("float32", {"scale": False, "epsilon": 1e-5}, 2e-5),
        ("float32", {"center": False}, 1e-5),
        ("mixed_bfloat16", {}, 2e-2),
    ],
)
@pytest.mark.parametrize("shape", [(3, 5, 4), (1, 1, 2)])  # of two values n / (n - 1) is 2
def test_norms_train_as_keras_trains_them(dtype, options, tolerance, shape) -> None:
    maps = MAPS[: shape[0], : shape[1], : shape[2]]
    plain, fused = norm_model(dtype, **options), norm_model(dtype, **options)
    fuse_norms(fused)
    expected, found = trained(plain, maps), trained(fused, maps)
    assert found[0].dtype == expected[0].dtype
    for ours, keras_own in zip(
        [found[0], *found[1], *found[2]], [expected[0], *expected[1], *expected[2]], strict=True
    ):
        scale = max(1.0, float(np.abs(keras_own.astype(np.float32)).max()))
        np.testing.assert_allclose(
            ours.astype(np.float32), keras_own.astype(np.float32), atol=tolerance * scale
        )


def test_norms_predict_and_stay_frozen_as_before() -> None:
    model = norm_model()
    expected = model(MAPS, training=False).numpy()
    fuse_norms(model)
    np.testing.assert_array_equal(model(MAPS, training=False), expected)
    model.get_layer("norm").trainable = False
    before = [np.array(weight) for weight in model.get_weights()]
    np.testing.assert_array_equal(model(MAPS, training=True), expected)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_trained_norm_is_one_fused_operation() -> None:
    def operations(model: keras.Model) -> set[str]:
        graph = tf.function(lambda x: model(x, training=True)).get_concrete_function(tf.constant(MAPS)).graph
        return {operation.type for operation in graph.get_operations()}

    fused = norm_model()
    fuse_norms(fused)
    assert "FusedBatchNormV3" in operations(fused) and "FusedBatchNormV3" not in operations(norm_model())


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_optimizers_do_what_keras_own_do(kind) -> None:
    """Ten steps, with decay of the kernel only; and a variable at a quarter of the rate moves as by a lower rate."""
    made = recipe(optimizer=kind, learning_rate=0.05, weight_decay=0.1, schedule="constant")
    rates = (1.0, 1.0, 0.25)
    start = [np.random.default_rng(seed).normal(0, 1, (4, 3)).astype(np.float32) for seed in range(3)]
    names = ("kernel", "bias", "slow_kernel")

    def variables() -> list[keras.Variable]:
        return [keras.Variable(value, name=name) for value, name in zip(start, names, strict=True)]

    ours = variables()
    fused = build_optimizer(made.optimisation, 10, rates)
    fused.build(ours)
    theirs = variables()
    decays = (0.1, 0.0, 0.1)

    def reference(rate: float, decay: float) -> keras.optimizers.Optimizer:
        if kind == "sgd":
            return keras.optimizers.SGD(0.05 * rate, momentum=0.9, nesterov=True, weight_decay=decay or None)
        return keras.optimizers.AdamW(0.05 * rate, weight_decay=decay)

    references = [reference(rate, decay) for rate, decay in zip(rates, decays, strict=True)]
    for step in range(10):
        gradients = [
            np.random.default_rng([step, place]).normal(0, 1, (4, 3)).astype(np.float32) for place in range(3)
        ]
        fused.apply([tf.constant(gradient) for gradient in gradients], ours)
        for optimizer, gradient, variable in zip(references, gradients, theirs, strict=True):
            optimizer.apply([tf.constant(gradient)], [variable])
    for name, one, other in zip(names, ours, theirs, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-5, err_msg=name)
