"""The page of an evaluation: what it scored, what is confused with what, class by class, and images to look at."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from evaluation import measurement as measuring
from evaluation.measurement import Evaluation
from evaluation.report import chart_images, html
from runtime.encoding import encoded
from runtime.figures import error_image
from runtime.image import colour
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


def confusions(matrix: np.ndarray, count: int = CONFUSIONS) -> list[Confusion]:
    """The largest of a (C, C) matrix off its diagonal, by the share of the true class's pixels."""
    wrong = matrix.astype(np.float64)
    np.fill_diagonal(wrong, 0)
    share = wrong / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    called = np.maximum(1, matrix.sum(axis=0))
    order = np.argsort(-share, axis=None, kind="stable")[:count]
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
    names, matrix, title = facts.evaluation.spec.classes, facts.evaluation.matrix, facts.title
    return {
        "confusion": _both(lambda theme: chart_images.confusion(matrix, names, title, theme=theme)),
        "confusion-counts": _both(
            lambda theme: chart_images.confusion(matrix, names, title, counts=True, theme=theme)
        ),
    }


def bars(facts: Facts) -> bytes:
    """IoU of each class as a PNG, with what it was before; the page has the same as a table."""
    before = _iou(facts.before) if facts.before else None
    return chart_images.png(
        chart_images.bars(list(facts.result["classes"]), _iou(facts.result), facts.title, before=before)
    )


def _both(draw: Callable[[chart_images.Theme], Any]) -> tuple[bytes, bytes]:
    return chart_images.png(draw(chart_images.LIGHT)), chart_images.png(draw(chart_images.DARK))


def page(facts: Facts, drawn: dict[str, tuple[bytes, bytes]]) -> str:
    """index.html; `drawn` are the `charts`."""
    spec = facts.evaluation.spec
    return html.page(
        facts.title,
        [
            _overview(facts),
            _confused(facts),
            _classes(facts),
            html.section("Worst images", *_looked(facts.worst, spec)),
            html.section("Best images", *_looked(facts.best, spec), _legend(spec)),
            html.section(
                "Confusion matrix",
                html.note("In per cent of each class's true pixels; an empty row has no true pixels here."),
                html.chart(*drawn["confusion"], "confusion matrix, normalised", scroll=True),
                html.details(
                    "in pixels",
                    html.chart(*drawn["confusion-counts"], "confusion matrix, counts", scroll=True),
                ),
            ),
            _training(facts.history),
            html.section("Every score", html.lines(measuring.text(facts.result))),
        ],
    )


def _training(history: Sequence[dict[str, float]]) -> str:
    if not history:
        return ""
    panels = []
    for panel in chart_images.PANELS:
        light, dark = (
            chart_images.png(chart_images.curves(history, [panel], theme=theme))
            for theme in (chart_images.LIGHT, chart_images.DARK)
        )
        panels.append(html.chart(light, dark, panel.label))
    return html.section("Training", html.beside(panels))


def _overview(facts: Facts) -> str:
    result, before = facts.result, facts.before
    interval = result.get("miou_interval")
    more = (
        ""
        if not interval
        else f"95% of resamples: {_per_cent(interval['low'])} to {_per_cent(interval['high'])}"
    )
    cards = [("mIoU", _per_cent(result["miou"]), more)]
    if before:
        points = 100 * (result["miou"] - _number(before["miou"]))
        change = "-" if np.isnan(points) else f"{points:+.2f}"
        cards.append(("change", change, f"points; before: {_per_cent(before['miou'])}"))
    cards += [
        ("pixel accuracy", _per_cent(result["pixel_accuracy"]), ""),
        ("mean accuracy", _per_cent(result["mean_accuracy"]), "recall, mean over classes"),
        (
            "images",
            f"{len(facts.evaluation.names)}",
            f"{1000 * facts.evaluation.seconds:.1f} ms each (median)",
        ),
    ]
    said = f"Before is {before.get('title', 'an earlier evaluation')}." if before else ""
    return html.cards(cards) + (html.note(said) if said else "")


def _confused(facts: Facts) -> str:
    spec = facts.evaluation.spec
    found = confusions(facts.evaluation.matrix)
    if not found:
        return html.section(
            "What is confused with what", html.note("No class loses 1% of its pixels to another.")
        )
    head = (("", ""), ("pixels", "n wide"), ("of what is called so", "n wide"), ("of all errors", "n"))
    rows = [
        (
            html.chip(spec.palette[one.truth])
            + html.chip(spec.palette[one.predicted])
            + html.plain(sentence(one, spec.classes)),
            f"{one.pixels:,}",
            f"{100 * one.of_predicted:.0f}%",
            f"{100 * one.of_wrong:.1f}%",
        )
        for one in found
    ]
    return html.section("What is confused with what", html.table(head, rows))


def _classes(facts: Facts) -> str:
    spec, before = facts.evaluation.spec, _iou(facts.before) if facts.before else None
    head = [("class", ""), ("IoU", "n"), ("", ""), ("change", "n"), ("precision", "n wide"), ("recall", "n wide"),
            ("of the pixels", "n wide")]  # fmt: skip
    rows = []
    for index, name in enumerate(spec.classes):
        row, old = facts.result["classes"][name], before[index] if before else float("nan")
        iou = _number(row["iou"])
        rows.append(
            [
                html.chip(spec.palette[index]) + html.plain(name),
                _per_cent(iou),
                "" if np.isnan(iou) else html.bar(iou, None if np.isnan(old) else old),
                "" if np.isnan(iou - old) else html.change(100 * (iou - old)),
                _per_cent(row["precision"]),
                _per_cent(row["recall"]),
                _per_cent(row["share"]),
            ]
        )
    if before is None:
        head, rows = [*head[:3], *head[4:]], [[*row[:3], *row[4:]] for row in rows]
    said = html.note("The mark on a bar is the IoU before.") if before else ""
    return html.section("Class by class", said, html.table(head, rows))


def _looked(samples: Sequence[Looked], spec: DatasetSpec) -> list[str]:
    if not samples:
        return [html.note("There are too few images with labels.")]
    return [
        html.note(f"{one.name}: mIoU {_per_cent(one.miou)} over the classes it holds")
        + html.tiles(
            [
                ("image", _tile(one.rgb, ".jpg")),
                ("truth", _tile(colour(one.truth, spec.palette), ".png")),
                ("prediction", _tile(colour(one.predicted, spec.palette), ".png")),
                ("errors in red", _tile(error_image(one.truth, one.predicted), ".png")),
            ]
        )
        for one in samples
    ]


def _legend(spec: DatasetSpec) -> str:
    items = " &ensp; ".join(
        f'<span class="key">{html.chip(shade)}{html.plain(name)}</span>'
        for name, shade in zip(spec.classes, spec.palette, strict=True)
    )
    return html.details("colours of the classes", f"<p>{items}</p>")


def _tile(rgb: np.ndarray, suffix: str) -> bytes:
    height, width = rgb.shape[:2]
    if width > TILE_WIDTH:
        size = (TILE_WIDTH, max(1, round(TILE_WIDTH * height / width)))
        # Colours of classes must not be mixed; photographs must be.
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if suffix == ".jpg" else cv2.INTER_NEAREST)
    rgb = np.clip(rgb, 0, 255).astype(np.uint8)
    return encoded(rgb, suffix)


def _iou(result: dict[str, Any]) -> list[float]:
    return [_number(row["iou"]) for row in result["classes"].values()]


def _number(value: float | None) -> float:
    """A score as scores.json has it: null where it does not exist."""
    return float("nan") if value is None else float(value)


def _per_cent(fraction: float | None) -> str:
    value = _number(fraction)
    return "-" if np.isnan(value) else f"{100 * value:.1f}%"
