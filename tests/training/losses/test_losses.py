"""What holds of every loss in the table, of terms that are combined, and of bad input."""

import inspect
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runtime.errors import UserError
from training import losses
from training.losses import mask_loss
from training.runs.recipe import Recipe

CLASSES = 5
WEIGHTS = [0.5, 1.0, 2.0, 4.0, 8.0]
SEED = (3, 4)
PIXELWISE = [name for name, row in losses.LOSSES.items() if row.reads == losses.LOGITS]
# What a model gives for four images of 12 x 10: 5 classes, 7 queries, 2 prompts.
SHAPES = {
    "logits": (4, 12, 10, 5), "teacher_logits": (4, 12, 10, 5), "query_logits": (4, 7, 6), "mask_logits": (4, 7, 6, 5),
    "masks": (4, 2, 3, 6, 5), "iou": (4, 2, 3), "single_mask": (4, 2, 1, 6, 5), "single_iou": (4, 2, 1),
    "boundary_logits": (4, 12, 10, 1), "detail_logits": (4, 12, 10, 1),
}  # fmt: skip


def label_maps() -> np.ndarray:
    """Four maps: no void, half void, one class and a little void, all void."""
    coarse = np.random.default_rng(1).integers(0, CLASSES, (4, 4, 5)).astype(np.uint8)
    maps = np.kron(coarse, np.ones((1, 3, 2), np.uint8))
    maps[1, :, :5] = 255
    maps[2] = 3
    maps[2, :2, :2] = 255
    maps[3] = 255
    return maps


def targets(name: str, maps: np.ndarray) -> Any:
    """The label maps, or SAM's regions: one prompt of one element, one of several."""
    if name != "sam":
        return tf.constant(maps)
    region = np.where(maps == 255, 255, maps == 1).astype(np.uint8)[:, None, ::2, ::2]
    several = np.tile([[False, True]], (len(maps), 1))
    return {"region": tf.constant(np.concatenate([region, region], axis=1)), "several": tf.constant(several)}


def outputs(name: str, scale: float = 1.0, dtype: Any = tf.float32) -> dict[str, tf.Tensor]:
    shapes = {key: SHAPES[key] for key in losses.LOSSES[name].reads}
    drawn = {key: tf.random.stateless_normal(shape, [7, len(key)]) for key, shape in shapes.items()}
    factor = {key: 1.0 if "iou" in key else scale for key in drawn}  # SAM's expected IoU is no logit
    return {key: tf.cast(factor[key] * value, dtype) for key, value in drawn.items()}


def weights_of(name: str) -> list[float] | None:
    return WEIGHTS if any(term.loss.weighted for term in losses.parse(name)) else None


def graded(name: str, read: dict[str, tf.Tensor], labels: Any, **changes: Any) -> tuple[tf.Tensor, Any]:
    """The loss, and its gradient by everything that it learns from."""
    learnt = {key: value for key, value in read.items() if key != "teacher_logits"}
    with tf.GradientTape() as tape:
        tape.watch(learnt)
        values = {"auxiliary_weight": 0.4, "seed": SEED, **changes}
        loss = losses.training_loss(losses.parse(name), read | learnt, labels, weights_of(name), **values)
    return loss, tape.gradient(loss, learnt)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_the_table_says_what_the_function_takes(name: str) -> None:
    row = losses.LOSSES[name]
    parameters = inspect.signature(row.function).parameters.values()
    own = {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY and one.name != "seed"}
    assert set(own) == set(row.options)
    for option, default in own.items():
        given = losses.parse(name, {option: default})  # refuses a value that is out of range
        assert given[0].options == {option: default}


@pytest.mark.parametrize(
    ("scale", "dtype"),
    [(scale, dtype) for scale in (1.0, 1e4, 1e30) for dtype in (tf.float32, tf.bfloat16)]
    + [(scale, tf.float16) for scale in (1.0, 1e4)],  # which ends at 65504
)
@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_loss_is_finite_and_reaches_what_it_reads(name: str, scale: float, dtype: Any) -> None:
    loss, gradients = graded(name, outputs(name, scale, dtype), targets(name, label_maps()))
    assert loss.dtype == tf.float32 and loss.shape == () and np.isfinite(float(loss))
    for key, gradient in gradients.items():
        assert gradient.dtype == dtype
        values = tf.cast(gradient, tf.float32).numpy()
        assert np.isfinite(values).all(), key
        assert scale > 1.0 or np.any(values != 0.0), key


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_batch_that_is_all_void_teaches_nothing(name: str) -> None:
    labels = targets(name, np.full((4, 12, 10), 255, np.uint8))
    loss, gradients = graded(name, outputs(name), labels)
    if name == "mask2former":  # its queries learn "no object"
        assert np.all(gradients.pop("query_logits") != 0.0)
    else:
        assert float(loss) == 0.0
    assert all(np.all(gradient.numpy() == 0.0) for gradient in gradients.values())
    share = losses.normalisers(losses.parse(name), outputs(name), labels, weights_of(name))[0]
    assert np.asarray(share).flat[-1] == 0.0


@pytest.mark.parametrize("name", PIXELWISE)
def test_a_image_that_is_all_void_is_no_part_of_the_mean(name: str) -> None:
    maps, read = label_maps(), outputs(name)
    assert (maps[3] == 255).all()
    without, _ = graded(name, {"logits": read["logits"][:3]}, tf.constant(maps[:3]))
    np.testing.assert_allclose(graded(name, read, tf.constant(maps))[0], without, rtol=1e-6)


@pytest.mark.parametrize("name", [*PIXELWISE, "distillation"])
def test_what_lies_in_void_does_not_count(name: str) -> None:
    maps = label_maps()
    read = outputs(name)
    void = tf.constant(maps == 255)[..., None]
    other = {key: tf.where(void, 50.0 - value, value) for key, value in read.items()}
    loss, gradients = graded(name, read, targets(name, maps))
    again, _ = graded(name, other, targets(name, maps))
    np.testing.assert_allclose(again, loss, rtol=1e-6)
    assert np.all(gradients["logits"].numpy()[maps == 255] == 0.0)


@pytest.mark.parametrize("name", PIXELWISE)
def test_half_precision_counts_in_float32(name: str) -> None:
    rounded = outputs(name, dtype=tf.bfloat16)
    wide = {key: tf.cast(value, tf.float32) for key, value in rounded.items()}
    labels = targets(name, label_maps())
    assert float(graded(name, rounded, labels)[0]) == float(graded(name, wide, labels)[0])


@pytest.mark.parametrize("cut", [1, 2, 3])
@pytest.mark.parametrize("name", losses.LOSSES)
def test_parts_sum_to_the_whole(name: str, cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and gradients of a batch in two parts, whose void, classes and sizes differ, by their shares."""
    grid = np.random.default_rng(0).random(
        (90, 2), np.float32
    )  # the same points for every mask, however split
    monkeypatch.setattr(
        mask_loss, "random_points", lambda shape, seed: tf.broadcast_to(tf.constant(grid)[: shape[-2]], shape)
    )
    terms, read, labels = losses.parse(name), outputs(name), targets(name, label_maps())
    whole, expected = graded(name, read, labels)
    parts = [tf.nest.map_structure(lambda x, s=s: x[s], (read, labels)) for s in (slice(cut), slice(cut, 4))]
    held = [losses.normalisers(terms, *part, weights_of(name)) for part in parts]
    totals = [a + b for a, b in zip(*held, strict=True)]
    found = [graded(name, *part, totals=totals) for part in parts]
    np.testing.assert_allclose(sum(loss for loss, _ in found), whole, rtol=1e-5)
    for key, gradient in expected.items():
        joined = np.concatenate([gradients[key] for _, gradients in found])
        np.testing.assert_allclose(joined, gradient, rtol=1e-4, atol=1e-7, err_msg=key)
    assert float(found[0][0]) != 0.0
    mean = sum(float(graded(name, *part)[0]) for part in parts) / 2
    assert cut == 2 or abs(mean / float(whole) - 1.0) > 5e-5  # the plain mean of both is another number


def test_in_a_graph_of_free_shape() -> None:
    name = "ohem+lovasz+boundary"  # those that sort or slide over what has no static size
    spec = [tf.TensorSpec((None, None, None, CLASSES)), tf.TensorSpec((None, None, None), tf.uint8)]

    @tf.function(input_signature=spec)
    def loss(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return graded(name, {"logits": logits}, labels)

    read, labels = outputs("dice"), tf.constant(label_maps())
    (got, gradients), (value, expected) = loss(read["logits"], labels), graded(name, read, labels)
    np.testing.assert_allclose(got, value, rtol=1e-5)
    np.testing.assert_allclose(gradients["logits"], expected["logits"], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("text", ["ce", "ce+0.5*dice"])
def test_auxiliary_heads_add_their_weighted_loss(text: str) -> None:
    """The sum that mmsegmentation and torchvision take, and the gradient that follows from it; any number of heads."""
    terms, labels = losses.parse(text), tf.constant(label_maps())
    read = outputs("cross_entropy")["logits"]
    heads = {"logits": read, "aux_logits": -read, "aux_logits_p3": 2.0 * read}

    def taken(outputs: dict[str, tf.Tensor]) -> tf.Tensor:
        return losses.training_loss(terms, outputs, labels, WEIGHTS, auxiliary_weight=0.4, seed=SEED)

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(heads)
        total = taken(heads)
        alone = {key: taken({"logits": head}) for key, head in heads.items()}
    np.testing.assert_allclose(
        total, alone["logits"] + 0.4 * (alone["aux_logits"] + alone["aux_logits_p3"]), rtol=1e-6
    )
    for key, factor in (("logits", 1.0), ("aux_logits", 0.4), ("aux_logits_p3", 0.4)):
        expected = factor * tape.gradient(alone[key], heads[key])
        np.testing.assert_allclose(tape.gradient(total, heads[key]), expected, rtol=1e-4, atol=1e-9)
    assert set(losses.main_outputs(heads)) == {"logits"}


def test_terms_are_summed_by_their_weights() -> None:
    read, labels = outputs("dice"), targets("dice", label_maps())
    rows = losses.LOSSES
    expected = 2.0 * rows["cross_entropy"].function(read, labels, WEIGHTS, label_smoothing=0.1)
    expected += 0.5 * rows["dice"].function(read, labels) + rows["lovasz"].function(read, labels)
    terms = losses.parse("2*ce + 0.5*dice+lovasz", {"ce.label_smoothing": 0.1})
    got = losses.training_loss(terms, read, labels, WEIGHTS, auxiliary_weight=0.4, seed=SEED)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert losses.written(terms) == "2.0*cross_entropy+0.5*dice+lovasz"
    assert losses.parse(losses.written(terms), {"ce.label_smoothing": 0.1}) == terms


def test_an_option_without_a_prefix_is_every_term_s_that_has_it() -> None:
    terms = losses.parse("ce+dice+tversky+focal", {"dice.smooth": 2.0, "smooth": 1, "gamma": 0.5})
    assert [term.options for term in terms] == [{}, {"smooth": 2.0}, {"smooth": 1}, {"gamma": 0.5}]


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("ce+0.5*dise", {}, ["unknown loss 'dise'", "did you mean dice?"]),
        ("cros_entropy", {}, ["did you mean cross_entropy?"]),
        ("ce+", {}, ["unknown loss ''", "one of cross_entropy, ohem"]),
        ("dice*2", {}, ["'dice*2' is not WEIGHT*LOSS"]),
        ("-1*dice", {}, ["weight above 0"]),
        ("ce+cross_entropy", {}, ["cross_entropy twice"]),
        ("dice", {"smoth": 1}, ["dice has no option 'smoth'", "did you mean smooth?"]),
        ("lovasz", {"smooth": 1}, ["lovasz has no option 'smooth'", "it takes none"]),
        ("ce", {"dice.smooth": 1}, ["dice.smooth", "cross_entropy"]),
        ("ce", {"label_smoothing": 1.5}, ["label_smoothing is 1.5", "0 to 1"]),
        ("focal", {"gamma": "two"}, ["gamma is two", "a number"]),
        ("boundary", {"width": 1.5}, ["width is 1.5", "a whole number in 1 to 15"]),
    ],
)
def test_bad_input_is_one_sentence(text: str, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        Recipe.of(model="deeplabv3plus", data="scenes", loss=text, loss_options=options)
    message = str(refused.value)
    assert "\n" not in message and ". " not in message
    for word in words:
        assert word in message


def test_a_recipe_writes_its_loss_in_one_spelling() -> None:
    made = [
        Recipe.of(model="deeplabv3plus", data="scenes", loss=loss)
        for loss in ("ce + 1*dice", "cross_entropy+dice")
    ]
    assert made[0] == made[1] and made[0].loss.terms == "cross_entropy+dice"
    assert Recipe.of(model="deeplabv3plus", data="scenes").loss.terms == "cross_entropy"
    assert Recipe.of(model="mask2former", data="scenes").loss.terms == "mask2former"


def test_a_loss_that_the_model_does_not_serve_is_refused() -> None:
    losses.check(losses.parse("ce+dice"), {"logits": None, "aux_logits": None})
    with pytest.raises(UserError, match="mask2former needs query_logits and mask_logits"):
        losses.check(losses.parse("dice+mask2former"), {"logits": None})
