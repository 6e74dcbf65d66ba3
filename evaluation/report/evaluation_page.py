"""The page of an evaluation: what it scored, what is confused with what, class by class, and images to look at."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from evaluation import measurement as measuring
from evaluation.measurement import Evaluation
from evaluation.metrics import percent
from evaluation.report import chart_images, rendering
from runtime.encoding import encoded
from runtime.figures import error_image
from runtime.image import colour
from runtime.strict_json import without_nan
from training.data.spec import DatasetSpec

CONFUSIONS = 15
LEAST_SHARE = 0.01  # of a class's true pixels, for a confusion to be worth a line
TILE_WIDTH = 480


class Looked(NamedTuple):
    """An image of the page: uint8 (H, W, 3), truth and prediction (H, W), and its mIoU over the classes it holds."""

    name: str
    miou: float
    rgb: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray


class Facts(NamedTuple):
    """What the page is made of; `before` is an earlier scores.json, `history` the rows of history.csv, `seconds`
    what an image took."""

    title: str
    evaluation: Evaluation
    result: dict[str, Any]
    before: dict[str, Any] | None
    history: Sequence[dict[str, float]]
    best: Sequence[Looked]
    worst: Sequence[Looked]


class Confusion(NamedTuple):
    """Pixels of class `truth` that are taken for `predicted`: their number, and as a share of all true pixels of the
    one, of all that is called the other, and of all wrong pixels."""

    truth: int
    predicted: int
    pixels: int
    of_truth: float
    of_predicted: float
    of_wrong: float


def confusions(matrix: np.ndarray) -> list[Confusion]:
    """The largest of a (C, C) matrix off its diagonal, by the share of the true class's pixels."""
    wrong = matrix.astype(np.float64)
    np.fill_diagonal(wrong, 0)
    share = wrong / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    called = np.maximum(1, matrix.sum(axis=0))
    order = np.argsort(-share, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [
        (int(truth), int(predicted))
        for truth, predicted in zip(*np.unravel_index(order, share.shape), strict=True)
    ]
    return [
        Confusion(
            *pair, int(wrong[pair]), share[pair], wrong[pair] / called[pair[1]], wrong[pair] / wrong.sum()
        )
        for pair in pairs
        if share[pair] >= LEAST_SHARE
    ]


def sentence(found: Confusion, names: Sequence[str]) -> str:
    """ "fence is taken for wall in 23% of its pixels"."""
    share = f"{100 * found.of_truth:.0f}%"
    return f"{names[found.truth]} is taken for {names[found.predicted]} in {share} of its pixels"


def charts(facts: Facts) -> dict[str, tuple[bytes, bytes]]:
    """The matrices as PNG, name -> (for the folder and for light pages, for dark pages)."""
    drawn = (facts.evaluation.matrix, facts.evaluation.spec.classes, facts.title)
    return {
        "confusion": chart_images.both(chart_images.confusion, *drawn),
        "confusion-counts": chart_images.both(chart_images.confusion, *drawn, counts=True),
    }


def bars(facts: Facts) -> bytes:
    """IoU of each class as a PNG, with what it was before; the page has the same as a table."""
    now, *before = (
        [float("nan") if value is None else value for value in _iou(one).values()]
        for one in (facts.result, facts.before)
        if one
    )
    names = list(facts.result["classes"])
    return chart_images.png(chart_images.bars(names, now, facts.title, before=before[0] if before else None))


def corruption_bars(facts: Facts) -> bytes:
    """Mean mIoU under each corruption as a PNG, with the clean images' first, and what both were before."""
    now, before = (_under_corruptions(one) if one else None for one in (facts.result, facts.before))
    assert now
    old = [before.get(name, float("nan")) for name in now] if before else None
    return chart_images.png(
        chart_images.bars(list(now), list(now.values()), facts.title, before=old, unit="mIoU, %")
    )


def _under_corruptions(scores: dict[str, Any]) -> dict[str, float]:
    """mIoU of the clean images and, as a mean of its severities, under each corruption; {} without corruptions."""
    found = without_nan(scores.get("corruptions"))
    return {"clean": scores["miou"], **found["means"]} if found else {}


def page(facts: Facts, drawn: dict[str, tuple[bytes, bytes]]) -> str:
    """index.html; `drawn` are the `charts`."""
    spec, result, before = facts.evaluation.spec, without_nan(facts.result), facts.before
    old = _iou(before) if before else {}
    return rendering.page(
        "evaluation.html",
        title=facts.title,
        palette=spec.palette,
        cards=_cards(facts, result),
        before=before and before.get("title", "an earlier evaluation"),
        confusions=[(one, sentence(one, spec.classes)) for one in confusions(facts.evaluation.matrix)],
        classes=[(name, result["classes"][name], old.get(name)) for name in spec.classes],
        corruptions=result.get("corruptions"),
        corruptions_before=_under_corruptions(before) if before else {},
        worst=_looked(facts.worst, spec),
        best=_looked(facts.best, spec),
        drawn=drawn,
        curves=[
            (chart_images.both(chart_images.curves, facts.history, [panel]), panel.label)
            for panel in chart_images.PANELS
            if facts.history
        ],
        scores=measuring.text(facts.result),
    )


def _cards(facts: Facts, result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What stands above all: what, value, and what is to be said of it."""
    interval, before = result.get("miou_interval"), facts.before
    spread = (
        f"95% of resamples: {percent(interval['low'], 1)} to {percent(interval['high'], 1)}"
        if interval
        else ""
    )
    cards = [("mIoU", percent(result["miou"], 1), spread)]
    if before:
        known = result["miou"] is not None and before["miou"] is not None
        change = f"{100 * (result['miou'] - before['miou']):+.2f}" if known else "-"
        cards.append(("change", change, f"points; before: {percent(before['miou'], 1)}"))
    count, milliseconds = len(facts.evaluation.names), 1000 * facts.evaluation.seconds
    return [
        *cards,
        ("pixel accuracy", percent(result["pixel_accuracy"], 1), ""),
        ("mean accuracy", percent(result["mean_accuracy"], 1), "recall, mean over classes"),
        ("images", f"{count}", f"{milliseconds:.1f} ms each (median)"),
    ]


def _looked(samples: Sequence[Looked], spec: DatasetSpec) -> list[tuple[str, float, list[tuple[str, bytes]]]]:
    """Name, mIoU and tiles (caption, file) of each."""
    return [
        (
            one.name,
            one.miou,
            [
                ("image", _tile(one.rgb, ".jpg")),
                ("truth", _tile(colour(one.truth, spec.palette), ".png")),
                ("prediction", _tile(colour(one.predicted, spec.palette), ".png")),
                ("errors in red", _tile(error_image(one.truth, one.predicted), ".png")),
            ],
        )
        for one in samples
    ]


def _tile(rgb: np.ndarray, suffix: str) -> bytes:
    height, width = rgb.shape[:2]
    if width > TILE_WIDTH:
        size = (TILE_WIDTH, max(1, round(TILE_WIDTH * height / width)))
        # Colours of classes must not be mixed; photographs must be.
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if suffix == ".jpg" else cv2.INTER_NEAREST)
    rgb = np.clip(rgb, 0, 255).astype(np.uint8)
    return encoded(rgb, suffix)


def _iou(result: dict[str, Any]) -> dict[str, float | None]:
    """Of each class; None where it does not exist."""
    return {name: row["iou"] for name, row in without_nan(result["classes"]).items()}
