"""Mask2Former's loss and matching against Hugging Face's, on the same points; and that a model learns by it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from runtime.errors import UserError
from tests import references
from tests.tiny import REPOSITORY, environment
from tests.tiny_training import SPEC, examples
from training.data.augmentation import NONE
from training.data.pipeline import DecodedCache
from training.losses import mask_loss
from training.runs.recipe import Recipe

POINTS = 120
CLASSES, QUERIES = 5, 9


def predictions(seed: int, lead: tuple[int, ...], queries: int = QUERIES) -> tuple[np.ndarray, np.ndarray]:
    """Random query logits and mask logits on a 10 x 13 grid."""
    rng = np.random.default_rng(seed)
    return (
        (2 * rng.normal(size=(*lead, queries, CLASSES + 1))).astype(np.float32),
        (3 * rng.normal(size=(*lead, queries, 10, 13))).astype(np.float32),
    )


def label_maps() -> np.ndarray:
    """Three maps of 37 x 50 with void in them; the last has two classes only."""
    coarse = np.random.default_rng(5).integers(0, CLASSES, (3, 8, 10)).astype(np.uint8)
    maps = np.kron(coarse, np.ones((1, 5, 5), np.uint8))[:, :37, :50]
    maps[0][maps[0] == 2] = 255
    maps[1, :10] = 255
    maps[2] = np.where(maps[2] == 1, 1, 3)
    return maps


@pytest.fixture
def shared_points(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], np.ndarray]:
    """Makes both implementations draw the same points: the same ones for every mask, whatever their order."""
    torch = references.torch()
    drawn: dict[int, np.ndarray] = {}

    def points(shape: Any) -> np.ndarray:
        count = int(shape[-2])
        drawn.setdefault(count, np.random.default_rng(count).random((count, 2), np.float32))
        return np.broadcast_to(drawn[count], [int(size) for size in shape]).copy()

    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.tensor(points(shape)))
    monkeypatch.setattr(mask_loss, "random_points", lambda shape, seed: tf.constant(points(shape)))
    return points


def hugging_face() -> Any:
    references.transformers()
    from transformers.models.mask2former import modeling_mask2former

    return modeling_mask2former


def targets(maps: np.ndarray) -> tuple[list[Any], list[Any]]:
    """Label maps as the reference wants them: one mask a class, void left out."""
    torch = references.torch()
    ids = [np.unique(one[one != 255]) for one in maps]
    masks = [
        torch.tensor(np.stack([one == i for i in here])).float() for one, here in zip(maps, ids, strict=True)
    ]
    return masks, [torch.tensor(here.astype(np.int64)) for here in ids]


@pytest.mark.parametrize("layers", [0, 2])
def test_loss_and_gradients_are_the_reference_s(shared_points, layers: int) -> None:
    hf, torch = hugging_face(), references.torch()
    from transformers import Mask2FormerConfig

    arrays = [*predictions(0, (3,)), *predictions(1, (3, layers))]
    theirs = [torch.tensor(array, requires_grad=True) for array in arrays]
    config = Mask2FormerConfig(num_labels=CLASSES, train_num_points=POINTS)
    earlier = [
        {"class_queries_logits": theirs[2][:, layer], "masks_queries_logits": theirs[3][:, layer]}
        for layer in range(layers)
    ]
    parts = hf.Mask2FormerLoss(config, {})(theirs[1], theirs[0], *targets(label_maps()), earlier or None)
    weights = {
        "loss_cross": config.class_weight,
        "loss_mask_": config.mask_weight,
        "loss_dice_": config.dice_weight,
    }
    expected = sum(weights[f"{name}_"[:10]] * value for name, value in parts.items())
    assert len(parts) == 3 * (1 + layers)
    expected.backward()

    ours = [tf.Variable(array) for array in arrays]
    keys = ("query_logits", "mask_logits", "aux_query_logits", "aux_mask_logits")[: 4 if layers else 2]
    with tf.GradientTape() as tape:
        outputs = dict(zip(keys, ours, strict=False))
        loss = tf.reduce_sum(mask_loss.mask2former(outputs, tf.constant(label_maps()), points=POINTS))
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)
    for key, gradient, reference in zip(keys, tape.gradient(loss, ours), theirs, strict=False):
        reference = reference.grad.numpy()
        scale = np.abs(reference).max()
        assert scale > 0
        np.testing.assert_allclose(gradient, reference, rtol=0, atol=1e-5 * scale, err_msg=key)


@pytest.mark.parametrize("queries", [QUERIES, 3])
def test_matching_is_the_reference_s(shared_points, queries: int) -> None:
    """With three queries and five classes, two classes get none."""
    hf, torch = hugging_face(), references.torch()
    query_logits, mask_logits = predictions(2, (3,), queries)
    matcher = hf.Mask2FormerHungarianMatcher(cost_class=2.0, cost_mask=5.0, cost_dice=5.0, num_points=POINTS)
    masks, classes = targets(label_maps())
    matched = matcher(torch.tensor(mask_logits), torch.tensor(query_logits), masks, classes)
    expected = np.full((3, queries), CLASSES)
    for image, (chosen, columns) in enumerate(matched):
        expected[image, chosen.numpy()] = classes[image].numpy()[columns.numpy()]

    labels = tf.constant(label_maps())
    cost = mask_loss.matching_cost(tf.constant(query_logits), tf.constant(mask_logits), labels, None, POINTS)
    given = mask_loss.match(cost, mask_loss.present_classes(labels, CLASSES))
    np.testing.assert_array_equal(given, expected)
    assert (expected < CLASSES).sum() == sum(min(queries, len(here)) for here in classes)


def test_matching_survives_what_is_not_finite() -> None:
    cost = np.ones((1, 3, 2), np.float32)
    cost[0, 0] = np.nan
    cost[0, 1, 1] = cost[0, 2, 0] = np.inf
    given = mask_loss.match(tf.constant(cost), tf.constant([[True, True]]))
    np.testing.assert_array_equal(given, [[2, 0, 1]])


def test_present_classes() -> None:
    labels = tf.constant([[[0, 255], [2, 2]], [[255, 255], [255, 255]]], tf.uint8)
    np.testing.assert_array_equal(mask_loss.present_classes(labels, 3), [[True, False, True], [False] * 3])


def test_a_image_that_is_all_void_teaches_no_object_only() -> None:
    query_logits, mask_logits = (tf.Variable(array) for array in predictions(3, (2,)))
    with tf.GradientTape() as tape:
        outputs = {"query_logits": query_logits, "mask_logits": mask_logits}
        loss = tf.reduce_sum(mask_loss.mask2former(outputs, tf.fill((2, 37, 50), tf.constant(255, tf.uint8))))
    log_p = tf.nn.log_softmax(query_logits)[..., -1]
    np.testing.assert_allclose(loss, -2.0 * np.mean(log_p), rtol=1e-6)
    to_queries, to_masks = tape.gradient(loss, [query_logits, mask_logits])
    assert np.all(np.isfinite(to_queries)) and np.any(to_queries != 0.0)
    assert np.all(np.asarray(to_masks) == 0.0)


def test_bilinear_look_up_is_grid_sample() -> None:
    """At, between and beyond the pixels' centres, with zeros outside the map."""
    torch = references.torch()
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 1, 4, 7)).astype(np.float32)
    where = np.concatenate([rng.random((2, 40, 2)), [[[0, 0], [1, 1], [0, 1], [0.5, 0.02]]] * 2], axis=1)
    where = where.astype(np.float32)
    expected = torch.nn.functional.grid_sample(
        torch.tensor(maps), torch.tensor(2 * where - 1)[:, :, None], align_corners=False
    )[:, 0, :, 0]
    positions, weights = mask_loss.neighbours(tf.constant(where), tf.range(2), tf.constant([4, 7]))
    got = tf.reduce_sum(weights * tf.gather(maps.reshape(-1), positions), axis=-1)
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-5)


def test_three_of_four_points_are_where_the_mask_is_least_sure() -> None:
    """On a ramp, a quarter of uniform points (0.75 P of 3 P) is at most an eighth of the width off the middle."""
    ramp = tf.tile(tf.linspace(-1.0, 1.0, 400)[None, None, None], [1, 1, 30, 1])
    points = mask_loss.uncertain_points(ramp, tf.zeros(1, tf.int32), tf.constant([1, 2]), tf.constant(1000))
    assert points.shape == (1, 1000, 2)
    assert 0.0 <= float(tf.reduce_min(points)) and float(tf.reduce_max(points)) <= 1.0
    far = np.abs(points[0, :, 0].numpy() - 0.5)
    # Within half a pixel of the rim the map fades to 0, as grid_sample has it, and looks unsure for that.
    inside = np.abs(points[0, :750, 1].numpy() - 0.5) < 0.5 - 0.5 / 30
    assert inside.mean() > 0.9 and np.all(far[:750][inside] < 0.14)
    assert 0.65 < np.mean(far[750:] > 0.14) < 0.8
    assert 0.45 < float(tf.reduce_mean(points[..., 1])) < 0.55


def test_the_seed_decides_the_points() -> None:
    labels = tf.constant(label_maps())
    outputs = dict(zip(("query_logits", "mask_logits"), map(tf.constant, predictions(4, (3,))), strict=True))
    one, again, other = (
        float(sum(mask_loss.mask2former(outputs, labels, seed=s))) for s in ((1, 2), (1, 2), (1, 3))
    )
    assert one == again != other
    assert abs(one - other) < 0.1 * one


def test_what_does_not_fit_is_refused_in_one_sentence() -> None:
    common = {"model": "deeplabv3plus", "data": "scenes", "loss": "mask2former"}
    with pytest.raises(UserError, match="loss mask2former takes no class weights"):
        Recipe.of(**common, class_weights="inverse_log")
    with pytest.raises(ValueError, match="takes no class weights"):
        mask_loss.mask2former({}, tf.zeros((1, 2, 2)), [1.0, 1.0])


def stand_in() -> keras.Model:
    """What Mask2Former gives, from as little as possible: six learned queries over a stride of four."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((None, None, 3), name="image")
    x = layers.Conv2D(16, 4, 4, activation="relu", name="stem")(image / 255.0)
    pooled = layers.GlobalAveragePooling2D(name="pool")(layers.Dropout(0.05)(x))
    found = {}
    for prefix in ("aux_", ""):
        masks = layers.Conv2D(6, 1, dtype="float32", name=f"{prefix}masks")(x)
        queries = layers.Dense(6 * 4, dtype="float32", name=f"{prefix}queries")(pooled)
        found[f"{prefix}query_logits"] = layers.Reshape((6, 4), name=f"{prefix}per_query")(queries)
        found[f"{prefix}mask_logits"] = keras.ops.transpose(masks, (0, 3, 1, 2))
    shares = keras.ops.expand_dims(keras.ops.softmax(found["query_logits"])[..., :3], 1)
    scores = keras.ops.matmul(keras.ops.sigmoid(masks), shares)  # (B, h, w, 6) x (B, 1, 6, 3)
    found["logits"] = layers.UpSampling2D(4, dtype="float32", name="logits")(scores)
    for key in ("query_logits", "mask_logits"):
        found[f"aux_{key}"] = keras.ops.expand_dims(found[f"aux_{key}"], 1)
    return keras.Model(image, found)


def run(folder: Path, callbacks: tuple[Any, ...] = (), **changes: Any) -> Any:
    from training.engine import loop

    values = {"model": "deeplabv3plus", "data": "camvid", "data_dir": "d", "loss": "mask2former", "crop": (32, 32),
              "batch": 4, "epochs": 6, "learning_rate": 0.03, "warmup_epochs": 0.0, "ema": 0.5,
              "augmentation": NONE, **changes}  # fmt: skip
    recipe = Recipe.of(**values)
    keras.mixed_precision.set_global_policy(recipe.optimisation.precision)
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    try:
        with strategy.scope():
            model = stand_in()
        folder.mkdir(exist_ok=True)  # whoever calls the loop has claimed it
        return loop.train(recipe, model, SPEC, DecodedCache(examples(32, 0)), DecodedCache(examples(4, 1)), folder,
                          strategy=strategy, callbacks=callbacks, say=lambda line: None)  # fmt: skip
    finally:
        keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_model_learns_by_it(tmp_path: Path, precision: str) -> None:
    progress = run(tmp_path, precision=precision)
    first, last = progress.history[0], progress.history[-1]
    assert progress.skipped == 0
    assert last["loss"] < 0.6 * first["loss"]
    assert last["val_loss"] < 0.6 * last["loss"]  # of the last layer only: no deep supervision in it
    assert last["val_miou"] > 0.8


RESUMED = """
import sys, numpy as np, tensorflow as tf, keras
from pathlib import Path
from tests.training.losses.test_mask_loss import run
from training.runs import checkpoints
tf.config.experimental.enable_op_determinism()

class StopAfter(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        self.seen = getattr(self, "seen", 0) + 1
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 1

whole, parts = Path(sys.argv[1], "whole"), Path(sys.argv[1], "parts")
precision = sys.argv[2]
run(whole, epochs=4, precision=precision)
run(parts, (StopAfter(),), epochs=4, precision=precision)
assert (parts / "history.csv").read_text() != (whole / "history.csv").read_text()
run(parts, epochs=4, precision=precision)
assert (parts / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()
(one, one_meta), (two, two_meta) = (checkpoints.latest(f / "checkpoints", print) for f in (whole, parts))
assert one.keys() == two.keys() and one_meta == two_meta
assert all(np.array_equal(one[key], two[key]) for key in one), "weights"
print("the same bits", len(one))
"""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_resumed_run_gives_the_same_bits(tmp_path: Path, precision: str) -> None:
    """With deterministic ops, as in training: the matching is allowed there, and points are drawn again."""
    done = subprocess.run(
        [sys.executable, "-c", RESUMED, str(tmp_path), precision],
        cwd=REPOSITORY, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert "the same bits" in done.stdout, done.stderr[-3000:]


def test_shares_are_what_both_means_are_over() -> None:
    """The reference's denominators: the weights of all queries, 1 or 0.1, and the number of masks."""
    for queries in (QUERIES, 3):
        query_logits, _ = predictions(0, (3,), queries)
        per_image = [len(np.unique(one[one != 255])) for one in label_maps()]
        given = sum(min(queries, count) for count in per_image)
        expected = [given + 0.1 * (3 * queries - given), sum(per_image)]
        outputs = {"query_logits": tf.constant(query_logits)}
        got = mask_loss.mask2former_normalisers(outputs, tf.constant(label_maps()), None)
        np.testing.assert_allclose(got, expected, rtol=1e-6)
