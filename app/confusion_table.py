"""A confusion matrix as a table, in the colours of the page's theme and as large as its text."""

import html
from collections.abc import Sequence

import numpy as np

from app.words import class_name


def confusion_table(matrix: np.ndarray, names: Sequence[str]) -> str:
    """HTML of a (C, C) matrix of pixel counts, rows the truth: each row in per cent of its true pixels.

    Classes that are neither there nor predicted are left out, and so are numbers that round to 0%.
    """
    kept = np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1))
    counted = matrix[np.ix_(kept, kept)]
    shares = counted / np.maximum(1, counted.sum(axis=1, keepdims=True))
    shown = [html.escape(class_name(names[int(index)])) for index in kept]
    head = "".join(f'<th scope="col"><span>{name}</span></th>' for name in shown)
    rows = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(map(_cell, row))}</tr>'
        for name, row in zip(shown, shares, strict=True)
    )
    return scrolling(
        "Confusion matrix",
        '<table class="confusion">'
        "<caption>Rows: the truth. Columns: the prediction. Per cent of the true pixels.</caption>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>",
    )


def scrolling(label: str, table: str) -> str:
    """HTML of a table, which scrolls by itself where it is wider than the page, by keyboard too; `label` names it."""
    return f'<div class="scores-frame" tabindex="0" role="region" aria-label="{label}">{table}</div>'


def _cell(share: float) -> str:
    text = f"{100 * share:.0f}" if share >= 0.005 else ""
    return f'<td style="--share:{share:.3f}">{text}</td>'
