"""The training step: what it assigns, what it refuses to assign, and that two devices do what one does."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from runtime.errors import UserError
from tests import references
from tests.small import COUNTED, SMALL, TINY_SAM
from tests.tiny import REPOSITORY, environment
from tests.tiny_training import batch, recipe, small_model, snapshot, uneven
from training import train
from training.engine.gradients import check_logits, check_parts
from training.engine.optimizers import build_optimizer, rate_factors
from training.engine.train_step import make_train_state, make_train_step
from training.runs.recipe import Recipe


@pytest.fixture
def strategy() -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy("/cpu:0")


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_steps_lower_the_loss_and_move_everything(strategy, optimizer, precision) -> None:
    made = recipe(optimizer=optimizer, precision=precision, learning_rate=0.02)
    keras.mixed_precision.set_global_policy(precision)
    try:
        train_state = make_train_state(small_model(), made.optimisation, 10)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    step = make_train_step(train_state, made, strategy, None)
    before = snapshot(train_state)
    losses = [float(step(*batch())[0]) for _ in range(20)]
    assert np.mean(losses[-3:]) < 0.7 * losses[0]
    after = snapshot(train_state)
    moved = [name for name in before if not np.array_equal(before[name], after[name])]
    for weight in range(len(train_state.model.weights)):
        assert f"ema/{weight:04d}" in moved


def test_a_step_that_is_not_finite_assigns_nothing(strategy) -> None:
    made = recipe()
    train_state = make_train_state(small_model(), made.optimisation, 10)
    step = make_train_step(train_state, made, strategy, None)
    images, labels = batch()
    step(images, labels)
    before = snapshot(train_state)
    loss, finite = step(images + tf.constant(np.nan, tf.float32), labels)
    assert not bool(finite) and not np.isfinite(float(loss))
    after = snapshot(train_state)
    for name, value in before.items():  # weights, BatchNorm statistics, dropout seeds, optimizer, average
        np.testing.assert_array_equal(value, after[name], err_msg=name)
    assert bool(step(images, labels)[1])


def test_the_backbone_learns_at_its_own_rate(strategy) -> None:
    """Plain SGD without momentum effects on the first step: an update at a third of the rate is a third."""
    moves = {}
    for factor in (1.0, 0.25):
        made = recipe(optimizer="sgd", learning_rate=0.1, backbone_rate=factor, ema=0.0, weight_decay=1e-2)
        train_state = make_train_state(small_model(), made.optimisation, 10)
        before = snapshot(train_state)
        make_train_step(train_state, made, strategy, None)(*batch())
        after = snapshot(train_state)
        moves[factor] = [after[name] - before[name] for name in before if name.startswith("model/")]
        factors = rate_factors(train_state.model, {"backbone": factor})
        assert factors.count(factor) == (4 if factor != 1.0 else len(factors))
    kernel, head = 0, -2
    names = [variable.path for variable in small_model().variables]
    assert "head" not in names[kernel]
    np.testing.assert_allclose(moves[0.25][kernel], 0.25 * moves[1.0][kernel], rtol=1e-3, atol=1e-7)
    same = [np.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(moves[0.25], moves[1.0], strict=True)]
    assert any(same) and not all(same), head


def test_the_average_is_the_exponential_one(strategy) -> None:
    made = recipe(ema=0.5, optimizer="sgd", learning_rate=0.1)
    train_state = make_train_state(small_model(), made.optimisation, 10)
    step = make_train_step(train_state, made, strategy, None)
    expected = [np.array(weight) for weight in train_state.model.get_weights()]
    for taken in (1, 2, 3):
        step(*batch())
        decay = min(0.5, (1 + taken) / (10 + taken))
        weights = train_state.model.get_weights()
        expected = [decay * e + (1 - decay) * w for e, w in zip(expected, weights, strict=True)]
    for shadow, value in zip(train_state.ema, expected, strict=True):
        np.testing.assert_allclose(shadow.numpy(), value, rtol=1e-5, atol=1e-6)


def after_steps(strategy, made: Recipe, model: keras.Model, steps: int = 3, **kwargs) -> tuple:
    """Losses, weights and averages after a few steps on `uneven`."""
    train_state = make_train_state(model, made.optimisation, 10)
    step = make_train_step(train_state, made, strategy, [1.0, 2.0, 0.5], **kwargs)
    losses = [float(step(*uneven())[0]) for _ in range(steps)]
    return losses, model.get_weights(), [shadow.numpy() for shadow in train_state.ema]


@pytest.mark.parametrize("changes", [{}, {"loss": "ce+dice", "precision": "mixed_float16"}])
def test_a_batch_in_parts_is_the_whole_batch(strategy, changes) -> None:
    """Without BatchNorm. Half of one part is void and all of another: the mean of the parts' means is another one."""
    made = recipe(batch=4, learning_rate=0.05, optimizer="sgd", **changes)
    whole, weights, averages = after_steps(strategy, made, small_model(norm=False))
    for parts in (2, 4):
        parted = made.changed(accumulate=parts)
        losses, found, shadows = after_steps(strategy, parted, small_model(norm=False))
        np.testing.assert_allclose(losses, whole, rtol=1e-5)
        for one, other in zip(weights + averages, found + shadows, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_batch_norm_and_dropout_go_on_from_part_to_part(strategy) -> None:
    """Two parts move the moving mean twice, by their own statistics (docs/how-to/training.md)."""
    made = recipe(batch=4, accumulate=2, learning_rate=1e-9)
    model = small_model()
    norm = model.get_layer("backbone").layers[-1]
    norm.momentum = 0.5
    features = model.get_layer("backbone").layers[1](batch()[0] / 255.0)
    means = [tf.reduce_mean(features[part : part + 2], (0, 1, 2)).numpy() for part in (0, 2)]
    seeds = [np.array(variable) for variable in model.non_trainable_variables if "seed" in variable.path]
    after_steps(strategy, made, model, steps=1)
    np.testing.assert_allclose(norm.moving_mean, 0.5 * 0.5 * means[0] + 0.5 * means[1], rtol=1e-4, atol=1e-5)
    later = [np.array(variable) for variable in model.non_trainable_variables if "seed" in variable.path]
    assert seeds and not np.array_equal(seeds, later)


def test_a_batch_that_cannot_be_parted_is_one_sentence(strategy) -> None:
    with pytest.raises(UserError, match="a batch of 8 cannot be taken in 3 parts of one size"):
        recipe(accumulate=3)
    with pytest.raises(UserError, match="a batch of 6 cannot be shared by 2 devices in 2 parts each"):
        check_parts(recipe(batch=6, accumulate=2).optimisation, 2)


def test_the_command_line_says_it_all() -> None:
    flags = "--accumulate 2 --lr-mult backbone/Conv1=0.1 head=2 --freeze backbone encoder --freeze-bn all"
    curve = "--schedule step --schedule-set gamma=0.5 milestones=0.5,0.75"
    made = train.assemble(train.parser().parse_args(["deeplabv3plus", *flags.split(), *curve.split()]))
    how = made.optimisation
    assert (how.accumulate, how.freeze, how.freeze_bn) == (2, ("backbone", "encoder"), "all")
    assert how.rates == {"backbone/Conv1": 0.1, "head": 2}
    assert how.schedule_options == {"gamma": 0.5, "milestones": (0.5, 0.75)}
    again = Recipe.of(**{**made.as_dict(), "augmentation": made.data.augmentation, "freeze": how.freeze})
    assert not made.differences(again) and made.sha256() == again.sha256()
    with pytest.raises(UserError, match="rates is {'head': 'fast'}, .*each value is a number"):
        recipe(rates={"head": "fast"})
    with pytest.raises(UserError, match="--lr-mult head is 101: it must lie in 0.0 to 100.0"):
        recipe(rates={"head": 101})
    with pytest.raises(UserError, match="the schedule step has no option power: it takes milestones, gamma"):
        recipe(schedule="step", schedule_options={"power": 2})


def torch_groups(torch, model: keras.Model, rate: float, factors: dict[str, float], decay: float) -> tuple:
    """The two convolutions of `small_model(norm=False)` in torch, one parameter group a rate and decay."""
    first, head = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 3, 1)
    kernels = model.get_weights()
    with torch.no_grad():
        for layer, (kernel, bias) in zip((first, head), (kernels[:2], kernels[2:]), strict=True):
            layer.weight.copy_(torch.tensor(kernel.transpose(3, 2, 0, 1)))
            layer.bias.copy_(torch.tensor(bias))
    groups = [
        {"params": [parameter], "lr": rate * factors[name], "weight_decay": decay * (kind == "weight")}
        for name, layer in (("backbone", first), ("head", head))
        for kind, parameter in layer.named_parameters()
    ]
    return torch.nn.Sequential(first, torch.nn.ReLU(), head), groups


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_rates_by_layer_and_decay_are_torchs_parameter_groups(strategy, optimizer) -> None:
    """Every layer at its own rate, kernels decayed and biases not, the gradient's norm not clipped."""
    torch = references.torch()
    decay = 0.1 if optimizer == "adamw" else 0.0  # torch's SGD adds decay to the gradient, ours is decoupled
    made = recipe(
        optimizer=optimizer, learning_rate=0.01, schedule="constant", weight_decay=decay, clip_norm=0.0,
        ema=0.0, rates={"backbone": 0.1, "head": 2.0},
    )  # fmt: skip
    model = small_model(norm=False)
    network, groups = torch_groups(torch, model, 0.01, {"backbone": 0.1, "head": 2.0}, decay)
    if optimizer == "adamw":
        theirs = torch.optim.AdamW(groups)
    else:
        theirs = torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True)
    images, labels = batch()
    pixels = torch.tensor(images.numpy().transpose(0, 3, 1, 2) / 255.0)
    step = make_train_step(make_train_state(model, made.optimisation, 10), made, strategy, None)
    for taken in range(1, 6):
        loss = float(step(images, labels)[0])
        theirs.zero_grad()
        expected = torch.nn.functional.cross_entropy(network(pixels), torch.tensor(labels.numpy()).long())
        expected.backward()
        for (
            group
        ) in theirs.param_groups:  # Keras adds epsilon, 1e-7, before it corrects the second moment's bias
            group["eps"] = 1e-7 / (1 - 0.999**taken) ** 0.5
        theirs.step()
        assert loss == pytest.approx(expected.item(), rel=1e-5)
    for layer, kernel, bias in zip(
        network[::2], model.get_weights()[::2], model.get_weights()[1::2], strict=True
    ):
        np.testing.assert_allclose(kernel.transpose(3, 2, 0, 1), layer.weight.detach().numpy(), atol=1e-6)
        np.testing.assert_allclose(bias, layer.bias.detach().numpy(), atol=1e-6)


def test_the_longest_prefix_decides_a_rate_and_one_of_no_layer_is_refused() -> None:
    model = small_model()
    inner = model.get_layer("backbone").layers[1]
    factors = rate_factors(model, {"backbone": 0.1, f"backbone/{inner.name}": 0.5})
    assert factors == [0.5, 0.5, 0.1, 0.1, 1.0, 1.0]
    with pytest.raises(
        UserError, match="--lr-mult decoder: no layer's path begins so; this model has backbone, head"
    ):
        rate_factors(model, {"decoder": 2.0})


@pytest.mark.parametrize(
    ("changes", "moves"),
    [
        ({"freeze": ("backbone",)}, {"kernel"}),
        ({"freeze_bn": "backbone"}, {"kernel", "bias"}),
        ({"freeze_bn": "all"}, {"kernel", "bias"}),
    ],
)
def test_what_is_frozen_stays_to_the_bit(strategy, changes, moves) -> None:
    """Weights, BatchNorm's statistics and the averages of both; and no optimizer slot is kept for them."""
    made = recipe(batch=4, accumulate=2, learning_rate=0.05, ema=0.9, **changes)
    model = small_model()
    before = {variable.path: np.array(variable) for variable in model.weights}
    train_state = make_train_state(model, made.optimisation, 10)
    step = make_train_step(train_state, made, strategy, None)
    for _ in range(3):
        assert bool(step(*uneven())[1])
    names = [variable.path for variable in model.weights]
    after = dict(zip(names, model.get_weights(), strict=True))
    averages = {name: shadow.numpy() for name, shadow in zip(names, train_state.ema, strict=True)}
    backbone = {variable.path for variable in model.get_layer("backbone").weights}
    norms = {
        name for name in names if name.split("/")[-1] in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    frozen = backbone if "freeze" in changes else norms
    for name in names:
        same = before[name].tobytes() == after[name].tobytes() == averages[name].tobytes()
        assert same == (name in frozen), name
    slots = [variable.path for variable in train_state.optimizer.variables]
    assert not any(name.replace("/", "_") in slot for name in frozen for slot in slots)


def test_a_frozen_norm_runs_in_inference_mode(strategy) -> None:
    """The first loss is that of the model as it predicts, and not one of the batch's own statistics."""
    made = recipe(batch=4, freeze_bn="all", clip_norm=0.0)
    model = small_model()
    model.layers[-2].rate = 0.0  # no dropout
    images, labels = batch()
    logits = model(images, training=False)["logits"]
    expected = tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(labels, tf.int32), logits)
    )
    loss, _ = make_train_step(make_train_state(model, made.optimisation, 10), made, strategy, None)(
        images, labels
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_freezing_what_is_not_there_or_everything_is_one_sentence() -> None:
    with pytest.raises(UserError, match="--freeze encoder: no layer's path begins so"):
        make_train_state(small_model(), recipe(freeze=("encoder",)).optimisation, 10)
    with pytest.raises(UserError, match="--freeze backbone head leaves nothing to train"):
        make_train_state(small_model(), recipe(freeze=("backbone", "head")).optimisation, 10)
    with pytest.raises(UserError, match="--freeze-bn all finds no BatchNorm"):
        make_train_state(small_model(norm=False), recipe(freeze_bn="all").optimisation, 10)
    with pytest.raises(UserError, match="unknown frozen BatchNorm 'some'"):
        recipe(freeze_bn="some")


# Every name that a trainable variable of the zoo has, and whether it decays.
DECAYS = {"kernel": True, "gamma": False, "beta": False, "bias": False}
LEARNED_ROWS = {
    "mask2former": {
        "weight",
        "relative_position_bias_table",
    },  # queries, their positions, levels; Swin's biases
    "sam": {"pos_embed", "rel_pos_h", "rel_pos_w", "kinds", "empty", "iou_token", "mask_tokens", "no_mask"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in zoo.names() if name not in COUNTED])
def test_only_kernels_decay_in_every_model_of_the_zoo(name) -> None:
    options = TINY_SAM if name == "sam" else {"classes": 3, "image_size": (64, 64), **SMALL[name]}
    model = zoo.build(name, **options)
    optimizer = build_optimizer(recipe().optimisation, 10)
    optimizer.build(model.trainable_variables)
    decays = {}
    for variable in model.trainable_variables:
        decays.setdefault(variable.name, set()).add(bool(optimizer._use_weight_decay(variable)))
    expected = {**DECAYS, **{row: False for row in LEARNED_ROWS.get(name, ())}}
    assert decays == {variable: {expected[variable]} for variable in decays}
    assert set(decays) >= {"kernel", "bias", *LEARNED_ROWS.get(name, ())}


TWO_DEVICES = """
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from tests.tiny_training import recipe, small_model, uneven, wise
from training.engine.train_step import make_train_step, make_train_state
results = []
for strategy in (tf.distribute.OneDeviceStrategy("/cpu:0"), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    mirrored = strategy.num_replicas_in_sync > 1
    made = recipe(optimizer="sgd", learning_rate=0.1, batch=4, accumulate=2 if mirrored else 1, teacher_weight=0.5)
    with strategy.scope():
        model = small_model(norm=False)
        train_state = make_train_state(model, made.optimisation, 10)
    step = make_train_step(train_state, made, strategy, [1.0, 2.0, 0.5], wise)
    data = tf.data.Dataset.from_tensors(uneven()).repeat().unbatch().batch(4)
    feed = iter(strategy.experimental_distribute_dataset(data))
    losses = [float(step(*next(feed))[0]) for _ in range(4)]
    results.append((losses, [np.array(w) for w in model.get_weights()], [e.numpy() for e in train_state.ema]))
(one_losses, one, one_ema), (two_losses, two, two_ema) = results
np.testing.assert_allclose(one_losses, two_losses, rtol=1e-5)
for a, b in zip(one + one_ema, two + two_ema):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
with strategy.scope():  # replicas meet in each part's BatchNorm
    model = small_model()
    model.get_layer("backbone").layers[-1].synchronized = True
    train_state = make_train_state(model, made.optimisation, 10)
assert bool(make_train_step(train_state, made, strategy, None)(*next(feed))[1])
print("the same on", len(results), "strategies")
"""


def test_two_mirrored_devices_do_what_one_does() -> None:
    """With void on one of them only, each in two parts, with a teacher."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES], cwd=REPOSITORY, env=environment(), capture_output=True, text=True
    )
    assert "the same on 2 strategies" in done.stdout, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("changes", "classes", "replicas", "way_out"),
    [
        ({"batch": 4, "crop": (1024, 1024)}, 511, 1, ""),  # 2**31 - 2**22
        ({"batch": 4, "crop": (1024, 1024)}, 512, 1, "2,147,483,648 logits.*--accumulate 2$"),
        ({"batch": 4, "crop": (1024, 1024)}, 512, 2, ""),
        ({"batch": 4, "crop": (1024, 1024), "accumulate": 2}, 512, 1, ""),
        (
            {"batch": 6, "crop": (1024, 1024)},
            1024,
            1,
            "--accumulate 6$",
        ),  # one crop has 2**30, two have one too many
        ({"batch": 1, "crop": (4096, 4096)}, 150, 1, "choose a smaller --crop$"),
    ],
)
def test_more_logits_than_32_bits_count_are_refused(changes, classes, replicas, way_out) -> None:
    recipe = Recipe.of(model="deeplabv3plus", data="camvid", data_dir="d", **changes)
    if not way_out:
        check_logits(recipe.optimisation, recipe.data.crop, classes, replicas)
        return
    with pytest.raises(UserError, match=way_out):
        check_logits(recipe.optimisation, recipe.data.crop, classes, replicas)
