"""Losses and their gradients against PyTorch's, segmentation_models_pytorch's, mmsegmentation's and Keras' own."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import references
from training.losses import LOSSES

CLASSES, VOID = 6, 255
WEIGHTS = [0.5, 1.0, 2.0, 4.0, 8.0, 0.25]


def batch(void: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Logits (3, 13, 17, 6) and label maps: class 5 is nowhere, the last map has two classes only."""
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 5, (3, 4, 5)), np.ones((1, 4, 4), int))[:, :13, :17]
    labels[2] = np.where(labels[2] < 2, 0, 4)
    labels[rng.random(labels.shape) < void] = VOID
    return (2 * rng.normal(size=(3, 13, 17, CLASSES))).astype(np.float32), labels.astype(np.uint8)


def compare(
    name: str, theirs: Callable[[Any, Any], Any], *, void: float = 0.2, weights: Any = None, **options: Any
):
    """Our value and gradient against those of `theirs(logits (B, C, H, W), labels (B, H, W))`, a torch scalar."""
    torch = references.torch()
    logits, labels = batch(void)
    x = torch.tensor(logits.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    expected = theirs(x, torch.tensor(labels.astype(np.int64)))
    expected.backward()
    reference = x.grad.numpy().transpose(0, 2, 3, 1)

    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = LOSSES[name].function({"logits": variable}, tf.constant(labels), weights, **options)
    assert expected.item() > 0.01
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)
    scale = np.abs(reference).max()
    assert scale > 0
    np.testing.assert_allclose(tape.gradient(loss, variable), reference, rtol=0, atol=2e-5 * scale)


def each_image(loss: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A reference that sums over the batch it is given, an image at a time."""
    return lambda x, y: sum(loss(x[i : i + 1], y[i : i + 1]) for i in range(len(x))) / len(x)


def present(y: Any) -> list[int]:
    return [int(c) for c in y.unique() if c != VOID]


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torch_s(weights: Any, smoothing: float) -> None:
    torch = references.torch()
    given = None if weights is None else torch.tensor(weights)

    def theirs(x: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(x, y, given, ignore_index=VOID, label_smoothing=smoothing)

    compare("cross_entropy", theirs, weights=weights, label_smoothing=smoothing)


def test_label_smoothing_is_smp_s() -> None:
    """Theirs divides by all pixels, void ones too."""
    smp = references.segmentation_models_pytorch()
    loss = smp.losses.SoftCrossEntropyLoss(smooth_factor=0.2, ignore_index=VOID)
    compare("cross_entropy", lambda x, y: loss(x, y) * y.numel() / (y != VOID).sum(), label_smoothing=0.2)


@pytest.mark.parametrize(
    ("weights", "void"), [(None, 0.2), (WEIGHTS, 0.0)]
)  # theirs looks 255 up in the weights
def test_cross_entropy_is_mmsegmentation_s(weights: Any, void: float) -> None:
    references.mmseg()
    from mmseg.models.losses import CrossEntropyLoss

    loss = CrossEntropyLoss(class_weight=weights, avg_non_ignore=True)
    compare("cross_entropy", lambda x, y: loss(x, y, ignore_index=VOID), weights=weights, void=void)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_keras_own_over_the_counted_pixels(smoothing: float) -> None:
    logits, labels = batch()
    variable, counted = tf.Variable(logits), labels != VOID
    reference = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    with tf.GradientTape(persistent=True) as tape:
        expected = reference(np.eye(CLASSES)[labels[counted]], tf.boolean_mask(variable, counted))
        got = LOSSES["cross_entropy"].function({"logits": variable}, labels, label_smoothing=smoothing)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    theirs = tf.convert_to_tensor(tape.gradient(expected, variable))
    np.testing.assert_allclose(tape.gradient(got, variable), theirs, atol=1e-8)


@pytest.mark.parametrize(
    ("thresh", "min_kept", "weights", "void"),
    [(0.7, 10, None, 0.2), (0.02, 60, None, 0.2), (0.2, 10**6, None, 0.2), (0.3, 20, WEIGHTS, 0.0)],
)
def test_ohem_is_mmsegmentation_s(thresh: float, min_kept: int, weights: Any, void: float) -> None:
    references.mmseg()
    from mmseg.models.losses import CrossEntropyLoss
    from mmseg.structures.sampler import OHEMPixelSampler

    loss = CrossEntropyLoss(class_weight=weights, avg_non_ignore=True)
    sampler = OHEMPixelSampler(SimpleNamespace(ignore_index=VOID), thresh=thresh, min_kept=min_kept)

    def theirs(x: Any, y: Any) -> Any:
        kept = [sampler.sample(x[i : i + 1], y[i : i + 1, None]) for i in range(len(x))]
        kept = references.torch().cat(kept)
        assert 0 < kept.sum() < (y != VOID).sum()
        return loss(x, y, weight=kept, ignore_index=VOID)

    compare("ohem", theirs, weights=weights, void=void, thresh=thresh, min_kept=min_kept)


def test_the_hardest_alone_are_mmsegmentation_s_without_a_threshold() -> None:
    references.mmseg()
    from mmseg.models.losses import CrossEntropyLoss
    from mmseg.structures.sampler import OHEMPixelSampler

    loss = CrossEntropyLoss(avg_non_ignore=True)
    sampler = OHEMPixelSampler(SimpleNamespace(ignore_index=VOID, loss_decode=loss), min_kept=25)

    def theirs(x: Any, y: Any) -> Any:
        kept = references.torch().cat(
            [sampler.sample(x[i : i + 1], y[i : i + 1, None]) for i in range(len(x))]
        )
        return loss(x, y, weight=kept, ignore_index=VOID)

    compare("ohem", theirs, thresh=0.0, min_kept=25)


def test_a_share_of_the_pixels_is_kept() -> None:
    logits, labels = batch()
    share = LOSSES["ohem"].function({"logits": logits}, labels, thresh=0.0, min_kept=0.1)
    expected = 0.0
    for image, truth in zip(logits, labels, strict=True):
        counted = truth != VOID
        log_p = tf.nn.log_softmax(image).numpy()[counted][np.arange(counted.sum()), truth[counted]]
        expected -= np.sort(log_p)[: int(0.1 * counted.sum())].sum()
    np.testing.assert_allclose(share, expected / (labels != VOID).sum(), rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 3.5])
def test_focal_is_smp_s_softmax_form(gamma: float) -> None:
    references.segmentation_models_pytorch()
    from segmentation_models_pytorch.losses import _functional

    def theirs(x: Any, y: Any) -> Any:
        counted = y != VOID
        rows = x.permute(0, 2, 3, 1)[counted]
        return _functional.softmax_focal_loss_with_logits(rows, y[counted], gamma=gamma)

    compare("focal", theirs, gamma=gamma)


def test_focal_is_keras_own() -> None:
    logits, labels = batch()
    variable, counted = tf.Variable(logits), labels != VOID
    reference = keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=2.0, from_logits=True)
    with tf.GradientTape(persistent=True) as tape:
        expected = reference(np.eye(CLASSES)[labels[counted]], tf.boolean_mask(variable, counted))
        got = LOSSES["focal"].function({"logits": variable}, labels, gamma=2.0)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    theirs = tf.convert_to_tensor(tape.gradient(expected, variable)).numpy()
    np.testing.assert_allclose(tape.gradient(got, variable), theirs, rtol=0, atol=2e-5 * np.abs(theirs).max())


def test_focal_without_gamma_is_cross_entropy() -> None:
    logits, labels = batch()
    values = [
        LOSSES[name].function({"logits": logits}, labels, WEIGHTS, **options)
        for name, options in (("focal", {"gamma": 0.0}), ("cross_entropy", {}))
    ]
    np.testing.assert_allclose(*values, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_sigmoid_focal_is_smp_s(gamma: float) -> None:
    smp = references.segmentation_models_pytorch()
    loss = smp.losses.FocalLoss("multiclass", alpha=0.25, gamma=gamma, ignore_index=VOID)
    compare("sigmoid_focal", loss, gamma=gamma, alpha=0.25)


def test_sigmoid_focal_is_mmsegmentation_s() -> None:
    """Theirs keeps void in the mean: given no void."""
    references.mmseg()
    from mmseg.models.losses.focal_loss import py_sigmoid_focal_loss

    def theirs(x: Any, y: Any) -> Any:
        rows, truth = x.permute(0, 2, 3, 1).reshape(-1, CLASSES), y.reshape(-1)
        one_hot = references.torch().nn.functional.one_hot(truth, CLASSES)
        return py_sigmoid_focal_loss(rows, one_hot, one_hot, valid_mask=None, gamma=2.0, alpha=0.25)

    compare("sigmoid_focal", theirs, void=0.0, gamma=2.0, alpha=0.25)


@pytest.mark.parametrize("smooth", [0.0, 3.0])
def test_dice_is_smp_s(smooth: float) -> None:
    """Over the classes that are present; theirs adds its constant to half of both sums."""
    smp = references.segmentation_models_pytorch()

    def theirs(x: Any, y: Any) -> Any:
        return smp.losses.DiceLoss("multiclass", present(y), smooth=smooth / 2, ignore_index=VOID)(x, y)

    compare("dice", each_image(theirs), smooth=smooth)


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.7), (0.9, 0.2)])
def test_tversky_is_smp_s(alpha: float, beta: float) -> None:
    smp = references.segmentation_models_pytorch()

    def theirs(x: Any, y: Any) -> Any:
        loss = smp.losses.TverskyLoss(
            "multiclass", present(y), smooth=1.0, ignore_index=VOID, alpha=alpha, beta=beta
        )
        return loss(x, y)

    compare("tversky", each_image(theirs), alpha=alpha, beta=beta, smooth=1.0)


def test_tversky_is_mmsegmentation_s() -> None:
    """A class at a time, of those that are present."""
    references.mmseg()
    from mmseg.models.losses.tversky_loss import binary_tversky_loss

    def theirs(x: Any, y: Any) -> Any:
        p, valid = x.softmax(dim=1), (y != VOID).long()
        each = [binary_tversky_loss(p[:, c], (y == c).long(), valid_mask=valid, smooth=1) for c in present(y)]
        return sum(each) / len(each)

    compare("tversky", each_image(theirs), smooth=1.0)


def test_lovasz_is_smp_s_and_mmsegmentation_s() -> None:
    smp = references.segmentation_models_pytorch()
    references.mmseg()
    from mmseg.models.losses import LovaszLoss

    compare("lovasz", smp.losses.LovaszLoss("multiclass", per_image=True, ignore_index=VOID))
    loss = LovaszLoss(per_image=True)
    compare("lovasz", lambda x, y: loss(x, y, ignore_index=VOID))


@pytest.mark.parametrize(("width", "reach"), [(1, 2), (2, 3)])
def test_boundary_is_the_paper_s_formulas(width: int, reach: int) -> None:
    """Those of arXiv:1905.07852 in PyTorch, over the classes that have a boundary; there is no void."""
    torch = references.torch()

    def pool(x: Any, by: int) -> Any:
        return torch.nn.functional.max_pool2d(x, 2 * by + 1, stride=1, padding=by)

    def theirs(x: Any, y: Any) -> Any:
        p = x.softmax(dim=1)
        truth = torch.nn.functional.one_hot(y, CLASSES).permute(0, 3, 1, 2).float()
        b_true, b_found = pool(1 - truth, width) - (1 - truth), pool(1 - p, width) - (1 - p)
        there = b_true.sum((0, 2, 3)) > 0
        b_true, b_found = b_true[0, there], b_found[0, there]
        precision = (b_found * pool(b_true, reach)).sum((1, 2)) / b_found.sum((1, 2))
        recall = (b_true * pool(b_found, reach)).sum((1, 2)) / b_true.sum((1, 2))
        return (1 - 2 * precision * recall / (precision + recall)).mean()

    compare("boundary", each_image(theirs), void=0.0, width=width, reach=reach)


def test_void_makes_no_boundary() -> None:
    """A frame of void around an image, with whatever logits, changes neither the loss nor the gradient."""
    logits, labels = batch(void=0.0)
    framed = np.full((3, 21, 25), VOID, np.uint8)
    framed[:, 4:-4, 4:-4] = labels
    around = np.random.default_rng(1).normal(size=(*framed.shape, CLASSES)).astype(np.float32)
    around[:, 4:-4, 4:-4] = logits
    found = []
    for x, y in ((logits, labels), (around, framed)):
        variable = tf.Variable(x)
        with tf.GradientTape() as tape:
            loss = LOSSES["boundary"].function({"logits": variable}, tf.constant(y))
        found.append((float(loss), tape.gradient(loss, variable).numpy()))
    (plain, gradient), (inside, wide) = found
    assert plain == pytest.approx(inside, rel=1e-6)
    np.testing.assert_allclose(wide[:, 4:-4, 4:-4], gradient, atol=1e-8)


def test_a_boundary_may_be_off_by_its_reach() -> None:
    """Two columns deep: at three columns off and a reach of two, half of it is found, of class 0 and of class 1."""
    labels = np.zeros((1, 16, 16), np.uint8)
    labels[:, :, 8:] = 1

    def loss(shift: int) -> float:
        found = np.zeros_like(labels)
        found[:, :, 8 + shift :] = 1
        logits = 60.0 * tf.one_hot(found, 2)
        return float(LOSSES["boundary"].function({"logits": logits}, tf.constant(labels), width=2, reach=2))

    expected = {0: 0.0, 1: 0.0, 2: 0.0, 3: 0.5, 4: 1.0}
    assert {shift: loss(shift) for shift in expected} == pytest.approx(expected, abs=1e-5)
