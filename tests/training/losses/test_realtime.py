"""The losses of PIDNet and STDC against mmsegmentation's own, and their formulas."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from runtime.errors import UserError
from tests import references
from training import losses
from training.losses.detail import detail_truth
from training.losses.pidnet_loss import boundary_truth
from training.runs.recipe import Recipe

CLASSES = 5
WEIGHTS = [0.5, 1.0, 2.0, 4.0, 8.0]


def label_map(void: bool, height: int = 24, width: int = 32) -> np.ndarray:
    """One map of blocks of classes, some of them void."""
    coarse = np.random.default_rng(2).integers(0, CLASSES + void, (1, height // 4, width // 4))
    return np.kron(np.where(coarse == CLASSES, 255, coarse), np.ones((1, 4, 4), int)).astype(np.uint8)


def drawn(channels: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (1, 24, 32, channels)).astype(np.float32)


def to_torch(x: np.ndarray) -> Any:
    return references.torch().from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def test_the_boundary_is_mmsegmentation_s() -> None:
    references.mmseg()
    from mmseg.datasets.transforms import GenerateEdge

    labels = label_map(void=True)
    found = GenerateEdge(edge_width=4).transform({"img_shape": (24, 32), "gt_seg_map": labels[0]})
    truth = boundary_truth(tf.constant(labels)).numpy()
    assert 0.1 < truth.mean() < 0.9
    np.testing.assert_array_equal(truth[0], found["gt_edge_map"] == 1)


def test_pidnet_s_loss_is_the_sum_of_mmsegmentation_s_four() -> None:
    """Of one image without void, where a batch's threshold, mean and balance are the image's."""
    references.mmseg()
    from mmseg.models.losses import BoundaryLoss, CrossEntropyLoss, OhemCrossEntropy

    torch, labels = references.torch(), label_map(void=False)
    logits, auxiliary, boundary = drawn(CLASSES, 3), drawn(CLASSES, 4), drawn(1, 5)
    truth = torch.from_numpy(labels.astype(np.int64))
    hard = OhemCrossEntropy(thres=0.3, min_kept=200, class_weight=WEIGHTS)
    edge = torch.from_numpy(boundary_truth(tf.constant(labels)).numpy().astype(np.uint8))
    near = torch.where(torch.sigmoid(to_torch(boundary)[:, 0]) > 0.8, truth, torch.full_like(truth, 255))
    expected = (
        0.4 * CrossEntropyLoss(class_weight=WEIGHTS)(to_torch(auxiliary), truth)
        + hard(to_torch(logits), truth)
        + BoundaryLoss(loss_weight=20.0)(to_torch(boundary), edge)
        + hard(to_torch(logits), near)
    )
    read = {"logits": logits, "aux_logits": auxiliary, "boundary_logits": boundary}
    read = {key: tf.constant(value) for key, value in read.items()}
    options = {"thresh": 0.3, "min_kept": 200}
    found = losses.LOSSES["pidnet"].function(read, tf.constant(labels), WEIGHTS, **options)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    # in validation, auxiliary heads are left out
    main = losses.LOSSES["pidnet"].function(
        losses.main_outputs(read), tf.constant(labels), WEIGHTS, **options
    )
    left = 0.4 * CrossEntropyLoss(class_weight=WEIGHTS)(to_torch(auxiliary), truth)
    assert float(found - main) == pytest.approx(float(left), rel=1e-4)


def test_details_are_mmsegmentation_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """The truth that its STDCHead makes, caught where it hands it to its losses."""
    references.mmseg()
    from mmseg.models.decode_heads import FCNHead, STDCHead

    kept = []
    monkeypatch.setattr(FCNHead, "loss_by_feat", lambda self, logits, samples: kept.extend(samples))
    head = STDCHead(in_channels=4, channels=4, num_classes=2, num_convs=1)
    labels = label_map(void=True)
    tensor = references.torch().from_numpy(labels.astype(np.int64))
    head.loss_by_feat(None, [SimpleNamespace(gt_sem_seg=SimpleNamespace(data=tensor))])
    truth = detail_truth(tf.constant(labels)).numpy()
    assert 0.1 < truth.mean() < 0.9
    np.testing.assert_array_equal(truth[0], kept[0].gt_sem_seg.data.numpy().squeeze() == 1)


def test_the_detail_loss_is_its_two_equations() -> None:
    labels, logits = label_map(void=True), drawn(1, 6)
    counted = labels != 255
    truth = detail_truth(tf.constant(labels)).numpy()[counted].astype(np.float64)
    p = 1 / (1 + np.exp(-logits[..., 0].astype(np.float64)[counted]))
    entropy = -(truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean()
    dice = 1 - (2 * (p * truth).sum() + 1) / ((p**2).sum() + (truth**2).sum() + 1)
    found = losses.LOSSES["detail"].function({"detail_logits": tf.constant(logits)}, tf.constant(labels))
    assert float(found) == pytest.approx(entropy + dice, rel=1e-5)


def test_these_models_are_trained_by_them_unless_told_otherwise() -> None:
    assert Recipe.of(model="pidnet", data="scenes").loss.terms == "pidnet"
    assert Recipe.of(model="stdc", data="scenes").loss.terms == "ohem+detail"
    with pytest.raises(UserError, match="pidnet needs boundary_logits"):
        losses.check(losses.parse("pidnet"), {"logits": None})
