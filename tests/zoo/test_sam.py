"""SAM's contract: what is fed, what comes out, what training and export rely on; prompts; loss."""

from functools import cache

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from tests import references
from tests.small import SAM_SIZE, TINY_SAM
from training.data.spec import VOID_ID
from training.engine import prompts
from training.losses import prompt_loss
from zoo.backbones.vit import cut_windows, join_windows
from zoo.prompt_encoder import BACKGROUND, FOREGROUND, NO_BOX, UNUSED
from zoo.sam import PADDING


@cache
def built() -> keras.Model:
    keras.utils.set_random_seed(3)
    return zoo.build("sam", **TINY_SAM)


def batch(count: int = 2, prompts_each: int = 3) -> dict[str, np.ndarray]:
    """Images with points and boxes, the last prompt of each without a box, the first without points."""
    rng = np.random.default_rng(4)
    points = rng.uniform(0, 32, (count, prompts_each, 2, 2)).astype(np.float32)
    labels = rng.choice([FOREGROUND, BACKGROUND], (count, prompts_each, 2)).astype(np.int32)
    labels[:, 0], labels[:, 1, 1] = UNUSED, UNUSED
    boxes = np.tile(np.array([4, 5, 30, 20], np.float32), (count, prompts_each, 1))
    boxes[:, -1] = NO_BOX
    return {
        "image": references.images(*SAM_SIZE, count=count),
        "points": points,
        "point_labels": labels,
        "boxes": boxes,
    }


def arrays(outputs) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in outputs.items()}


def test_what_goes_in_and_what_comes_out():
    model = built()
    found = arrays(model(batch()))
    shapes = {
        "masks": (2, 3, 3, 16, 24),
        "iou": (2, 3, 3),
        "single_mask": (2, 3, 1, 16, 24),
        "single_iou": (2, 3, 1),
    }
    assert {name: array.shape for name, array in found.items()} == shapes
    assert {array.dtype for array in found.values()} == {np.dtype("float32")}
    assert all(np.isfinite(array).all() and array.std() > 0 for array in found.values())
    assert model.output["masks"].shape == (None, None, 3, 16, 24)
    # the two halves make the whole, and each is a model by itself
    given = batch()
    embedding = model.get_layer("image_encoder")(given.pop("image").astype(np.float32))
    again = model.get_layer("prompt_decoder")({"image_embedding": np.asarray(embedding), **given})
    for name, array in arrays(again).items():
        np.testing.assert_allclose(array, found[name], atol=1e-5)


def test_prompts_do_not_know_of_each_other():
    given = batch()
    together = arrays(built()(given))
    alone = {name: value if name == "image" else value[:, 1:2] for name, value in given.items()}
    for name, array in arrays(built()(alone)).items():
        np.testing.assert_allclose(array, together[name][:, 1:2], atol=1e-5)


def test_a_slot_that_is_not_used_changes_nothing_and_what_is_used_counts():
    given = batch()
    expected = arrays(built()(given))
    slots = given["point_labels"] == UNUSED
    moved = {**given, "points": np.where(slots[..., None], 99.0, given["points"]).astype(np.float32)}
    more = {
        **given,
        "points": np.pad(given["points"], ((0, 0), (0, 0), (0, 3), (0, 0))),
        "point_labels": np.pad(given["point_labels"], ((0, 0), (0, 0), (0, 3)), constant_values=UNUSED),
    }
    for other in (moved, more):
        for name, array in arrays(built()(other)).items():
            np.testing.assert_allclose(array, expected[name], atol=1e-5)
    flipped = {**given, "point_labels": np.where(slots, UNUSED, 1 - given["point_labels"]).astype(np.int32)}
    change = np.abs(arrays(built()(flipped))["masks"] - expected["masks"]).max(axis=(0, 2, 3, 4))
    assert change[0] < 1e-5 < 1e-3 < change[1:].min()  # prompt 0 has no point


def test_padding_is_what_the_normalisation_turns_into_nothing():
    image = np.tile(np.array(PADDING, np.float32), (1, *SAM_SIZE, 1))
    model = built()
    first = model.get_layer("image_encoder").get_layer("patch_embedding")
    probe = keras.Model(model.get_layer("image_encoder").input, first.input)
    assert np.abs(np.asarray(probe(image))).max() < 1e-6


def test_inference_is_inference_however_it_is_called():
    model, given = built(), batch()
    expected = arrays(model(given, training=False))
    for outputs in (
        model(given),
        model.predict(given, verbose=0),
        model(given, training=True),
    ):  # no dropout, no BN
        for name, array in arrays(outputs).items():
            np.testing.assert_allclose(array, expected[name], atol=1e-4 * np.abs(expected[name]).max())


def test_gradients_reach_every_trainable_variable():
    model, given = built(), batch()
    with tf.GradientTape() as tape:
        outputs = model(given, training=True)
        loss = sum(tf.reduce_mean(tf.sin(value)) for value in outputs.values())
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        gradient = np.asarray(tf.convert_to_tensor(gradient))
        assert np.isfinite(gradient).all(), variable.path
        # A key's bias shifts all of a query's scores alike, which the softmax takes out again.
        if not variable.path.endswith("key/bias"):
            assert np.abs(gradient).max() > 0, variable.path
    frozen = [variable.path for variable in model.non_trainable_variables]
    assert frozen == ["prompt_encoder/positions"]


def targets() -> dict[str, np.ndarray]:
    region = np.zeros((2, 3, 16, 24), np.uint8)
    region[:, 0, 2:9, 3:15] = region[:, 1, 8:, 10:] = region[:, 2, :5] = 1
    region[:, :, :, :1] = VOID_ID
    return {"region": region, "several": np.array([[False, True, False]] * 2)}


def test_a_few_steps_lower_the_loss_on_one_batch():
    keras.utils.set_random_seed(5)
    model, given, wanted = zoo.build("sam", **TINY_SAM), batch(), targets()
    optimizer = keras.optimizers.AdamW(2e-3)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = prompt_loss.sam(model(given, training=True), wanted)
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        pairs = zip(gradients, model.trainable_variables, strict=True)
        optimizer.apply_gradients([pair for pair in pairs if pair[0] is not None])
        return loss

    losses = [float(step()) for _ in range(40)]
    assert losses[-1] < 0.6 * losses[0]


def test_weights_and_configuration_make_the_round_trip(tmp_path):
    model = built()
    model.save_weights(tmp_path / "sam.weights.h5")
    again = zoo.build("sam", **TINY_SAM)
    again.load_weights(tmp_path / "sam.weights.h5")
    for ours, expected in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, expected)
    copy = keras.Model.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    expected = arrays(model(batch()))
    for name, array in arrays(copy(batch())).items():
        np.testing.assert_allclose(array, expected[name], atol=1e-5)
    paths = [variable.path for variable in model.weights]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_computes_in_half_and_answers_in_float32(policy):
    keras.config.set_dtype_policy(policy)
    try:
        half = zoo.build("sam", **TINY_SAM)
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(built().get_weights())
    expected, found = arrays(built()(batch())), half(batch())
    assert {value.dtype for value in found.values()} == {tf.float32}
    assert {variable.dtype for variable in half.trainable_variables} == {"float32"}
    inner = half.get_layer("prompt_decoder").get_layer("decoder_block0_ffn0")
    assert inner.compute_dtype == policy.removeprefix("mixed_")
    for name, array in arrays(found).items():
        assert np.abs(array - expected[name]).max() < 0.1 * np.abs(expected[name]).max(), name


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("image_size", None),
        ("image_size", (30, 48)),
        ("patch", 0),
        ("encoder_width", 25),
        ("encoder_heads", 5),
        ("global_blocks", (2,)),
        ("global_blocks", 1),
        ("window", 0),
        ("width", 20),
        ("decoder_heads", 3),
        ("decoder_blocks", 0),
        ("attention_downsampling", 0),
        ("iou_layers", 1.5),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(argument, value):
    with pytest.raises(ValueError, match=argument.split("_")[-1]):
        zoo.build("sam", **{**TINY_SAM, argument: value})


def test_windows_are_cut_and_joined_where_they_were():
    x = np.arange(2 * 4 * 7 * 3, dtype=np.float32).reshape(2, 4, 7, 3)
    windows = np.asarray(cut_windows(x, 3))
    assert windows.shape == (2 * 2 * 3, 3, 3, 3)
    np.testing.assert_array_equal(windows[1], x[0, :3, 3:6])
    np.testing.assert_array_equal(windows[3, 0], x[0, 3, :3])
    assert not windows[3, 1:].any() and not windows[2, :, 1:].any()  # what was added is zero
    np.testing.assert_array_equal(join_windows(windows, (4, 7)), x)


def label_map() -> np.ndarray:
    """Two pieces of class 1 and one of class 2 on class 0; a stripe is void, and one piece is too small."""
    label = np.zeros((40, 60), np.uint8)
    label[5:15, 5:15] = label[25:38, 30:50] = 1
    label[2:12, 40:55] = 2
    label[30:33, 2:5] = 3
    label[:, :2] = VOID_ID
    return label


def test_a_prompt_asks_for_a_connected_piece_of_one_class():
    label, seen = label_map(), set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        prompt = prompts.draw(label, rng, more=0.5)
        inside = prompt.region == prompts.INSIDE
        assert cv2.connectedComponents(inside.astype(np.uint8))[0] == 2
        assert set(label[inside]) == {prompt.class_id} and inside.sum() >= prompts.LEAST_AREA
        np.testing.assert_array_equal(prompt.region == VOID_ID, label == VOID_ID)
        for (x, y), kind in zip(prompt.points, prompt.labels, strict=True):
            if kind != UNUSED:
                assert inside[int(y), int(x)] == (kind == FOREGROUND) and label[int(y), int(x)] != VOID_ID
        has_box = prompt.box[2] >= prompt.box[0]
        assert prompt.several == (int(has_box) + int((prompt.labels != UNUSED).sum()) > 1)
        if has_box:
            columns, rows = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
            true = np.array([columns[0], rows[0], columns[-1], rows[-1]])
            assert np.abs(prompt.box - true).max() <= prompts.MOST_JITTER
        seen.add((prompt.class_id, int(inside.sum())))
    assert seen == {(0, int((label == 0).sum())), (1, 100), (1, 260), (2, 150)}
    assert prompts.draw(np.full((40, 60), VOID_ID, np.uint8), np.random.default_rng(0)) is None


def test_training_prompts_depend_on_the_sample_alone_and_lie_where_their_regions_do():
    prepare = prompts.preparation(built())
    label = cv2.resize(label_map(), SAM_SIZE[::-1], interpolation=cv2.INTER_NEAREST)
    image = tf.zeros((*SAM_SIZE, 3), tf.uint8)
    drawn = [
        prepare(image, tf.constant(label), tf.constant(seed, tf.int64)) for seed in ((0, 7), (0, 7), (0, 8))
    ]
    flat = [tf.nest.flatten(one) for one in drawn]
    assert all(np.array_equal(a, b) for a, b in zip(flat[0], flat[1], strict=True))
    assert not np.array_equal(drawn[0][0]["points"], drawn[2][0]["points"])
    inputs, wanted = drawn[0]
    assert wanted["region"].shape == (prompts.PROMPTS, 16, 24)
    for points, labels, region in zip(
        inputs["points"], inputs["point_labels"], wanted["region"], strict=True
    ):
        for (x, y), kind in zip(points.numpy(), labels.numpy(), strict=True):
            if kind == FOREGROUND:  # a mask is half as fine as the image here
                near = region.numpy()[max(0, int(y / 2) - 1) :, max(0, int(x / 2) - 1) :]
                assert (near[:3, :3] == 1).any()
    void = prepare(image, tf.fill(SAM_SIZE, tf.constant(VOID_ID, tf.uint8)), tf.constant((0, 7), tf.int64))
    assert (void[1]["region"].numpy() == VOID_ID).all()
    outputs = built()(tf.nest.map_structure(lambda tensor: tensor[None], void[0]))
    assert float(prompt_loss.sam(outputs, tf.nest.map_structure(lambda tensor: tensor[None], void[1]))) == 0.0


def test_the_loss_is_the_papers_arithmetic():
    rng = np.random.default_rng(0)
    logits, expected = rng.normal(0, 2, (1, 2, 3, 6, 5)), rng.uniform(0, 1, (1, 2, 3))
    single, single_iou = rng.normal(0, 2, (1, 2, 1, 6, 5)), rng.uniform(0, 1, (1, 2, 1))
    region = rng.integers(0, 2, (1, 2, 6, 5)).astype(np.uint8)
    region[0, :, 0] = VOID_ID

    def of_mask(x, t):  # over the pixels that count
        p = 1 / (1 + np.exp(-x))
        true = np.where(t == 1, p, 1 - p)
        focal = (np.where(t == 1, 0.25, 0.75) * (1 - true) ** 2 * -np.log(true)).mean()
        dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
        return 20 * focal + dice, ((x > 0) & (t == 1)).sum() / ((x > 0) | (t == 1)).sum()

    counted = region[0, 0] != VOID_ID
    three = [of_mask(logits[0, 0, index][counted], region[0, 0][counted]) for index in range(3)]
    errors = [(e - i) ** 2 for e, (_, i) in zip(expected[0, 0], three, strict=True)]
    first = min(loss for loss, _ in three) + np.mean(errors)
    loss, iou = of_mask(single[0, 1, 0][counted], region[0, 1][counted])
    second = loss + (single_iou[0, 1, 0] - iou) ** 2
    outputs = {"masks": logits, "iou": expected, "single_mask": single, "single_iou": single_iou}
    outputs = {name: tf.constant(value, tf.float32) for name, value in outputs.items()}
    found = prompt_loss.sam(outputs, {"region": region, "several": np.array([[False, True]])})
    assert float(found) == pytest.approx((first + second) / 2, rel=1e-5)


def test_only_the_best_of_three_masks_is_trained():
    masks = tf.Variable(np.random.default_rng(1).normal(size=(1, 1, 3, 6, 5)).astype(np.float32))
    region = np.ones((1, 1, 6, 5), np.uint8)
    single = {"single_mask": tf.zeros((1, 1, 1, 6, 5)), "single_iou": tf.zeros((1, 1, 1))}
    with tf.GradientTape() as tape:
        outputs = {"masks": masks, "iou": tf.zeros((1, 1, 3)), **single}
        loss = prompt_loss.sam(outputs, {"region": region, "several": np.array([[False]])})
    moved = np.abs(tape.gradient(loss, masks)).max(axis=(0, 1, 3, 4)) > 0
    best = prompt_loss.mask_loss(masks, tf.ones((1, 1, 1, 6, 5)), tf.ones((1, 1, 1, 6, 5)))
    assert moved.sum() == 1 and moved[int(np.argmin(best[0, 0]))]
