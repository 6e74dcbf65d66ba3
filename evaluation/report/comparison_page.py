"""A comparison for people to read: text, Markdown, JSON, one plot, and a page that stands alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evaluation.metrics import percent
from evaluation.report import chart_images, rendering
from runtime.files import write_json, write_whole

Interval = dict[str, Any] | None


class Row(NamedTuple):
    """One subject. `scores` are metrics.scores; intervals those of metrics.bootstrap, None where there is none;
    `difference` is the mIoU above the first's, 0..1; `milliseconds` the median of an image."""

    label: str
    path: str
    scores: dict[str, Any]
    interval: Interval
    difference: float
    difference_interval: Interval
    parameters: int | None
    bytes: int
    milliseconds: float


# Head, and the cell of a row.
COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("mIoU %", lambda row: percent(row.scores["miou"], unit="")),
    ("95% interval", lambda row: _range(row.interval)),
    ("to the first", lambda row: f"{100 * row.difference:+.2f}" if row.difference_interval else "-"),
    ("its interval", lambda row: _range(row.difference_interval, "+")),
    ("pixel accuracy %", lambda row: percent(row.scores["pixel_accuracy"], unit="")),
    ("parameters", lambda row: "-" if row.parameters is None else f"{row.parameters / 1e6:.2f}M"),
    ("file", lambda row: f"{row.bytes / 1e6:.2f} MB"),
    ("an image", lambda row: f"{row.milliseconds:.1f} ms"),
)
SAID = (
    "Intervals are percentile bootstraps over the images; that of a difference draws the same images for both. "
    "Where it holds 0, these images cannot tell the two apart. Times are medians, all in turn in one process."
)


def _range(interval: Interval, sign: str = "") -> str:
    if interval is None:
        return "-"
    return f"{100 * interval['low']:{sign}.2f} to {100 * interval['high']:{sign}.2f}"


def text(rows: Sequence[Row]) -> str:
    """The table for a terminal."""
    lines = [["", *(head for head, _ in COLUMNS)], *([row.label, *_cells(row)] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    return "\n".join("  ".join(_padded(line, widths)) for line in lines)


def _padded(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Names to the left, numbers to the right."""
    numbers = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
    return [line[0].ljust(widths[0]), *numbers]


def _cells(row: Row) -> list[str]:
    return [cell(row) for _, cell in COLUMNS]


def write(folder: Path, rows: Sequence[Row], what: str, classes: Sequence[str]) -> None:
    """index.html, comparison.png, comparison.json and comparison.md; `what` says on which images."""
    names, panels = [row.label for row in rows], _panels(rows)
    write_whole(folder / "comparison.png", chart_images.png(chart_images.intervals(names, panels)))
    content = {"on": what, "subjects": [row._asdict() for row in rows]}
    write_json(folder / "comparison.json", content)
    write_whole(folder / "comparison.md", _markdown(rows, what, classes).encode())
    page = rendering.page(
        "comparison.html",
        title=f"Comparison on {what}",
        columns=[(name, "n") for name, _ in COLUMNS],
        scores=[(row.label, _cells(row)) for row in rows],
        said=SAID,
        charts=[(chart_images.both(chart_images.intervals, names, [panel]), panel[0]) for panel in panels],
        predictors=[(name, "n") for name in names],
        classes=[(name, _marked([_iou(row, name) for row in rows])) for name in classes],
    )
    write_whole(folder / "index.html", page.encode())


def _panels(rows: Sequence[Row]) -> list[chart_images.Interval]:
    bounds = [_bounds(row.interval) for row in rows]
    apart = [_bounds(row.difference_interval) for row in rows]
    return [
        ("mIoU, %", [100 * row.scores["miou"] for row in rows], bounds),
        ("above the first, points", [100 * row.difference for row in rows], apart),
    ]


def _bounds(interval: Interval) -> tuple[float, float] | None:
    return None if interval is None else (100 * interval["low"], 100 * interval["high"])


def _iou(row: Row, name: str) -> float:
    return 100 * float(row.scores["classes"][name]["iou"])


def _marked(values: Sequence[float]) -> list[tuple[str, bool]]:
    """The values of a class as text, and whether each is the best; none is where all are equal."""
    shown = [_one_digit(value) for value in values]
    best = max((value for value in values if not np.isnan(value)), default=np.nan)
    return [(text, len(set(shown)) > 1 and value == best) for text, value in zip(shown, values, strict=True)]


def _one_digit(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.1f}"


def _markdown(rows: Sequence[Row], what: str, classes: Sequence[str]) -> str:
    def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
        lines = [["", *head], ["---", *("---:" for _ in head)], *body]
        return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]

    each = [[name, *(_one_digit(_iou(row, name)) for row in rows)] for name in classes]
    parts = [
        f"# Comparison on {what}",
        "",
        *table([head for head, _ in COLUMNS], [[row.label, *_cells(row)] for row in rows]),
        "",
        SAID,
        "",
        "![intervals](comparison.png)",
        "",
        "IoU class by class, %:",
        "",
        *table([row.label for row in rows], each),
        "",
    ]
    return "\n".join(parts)
