"""What is told of a result: the line under it, how good its model is, and its legend as a table."""

import html
from typing import Any

from app.common import BINARY, OTSU, fit_of, load_segmenter
from app.plain_text import escaped
from app.words import class_name, data_of, percent, unseen_miou, zero_shot_miou
from runtime.segmenter import Segmentation
from runtime.threshold_segmenter import multi_otsu_values, otsu_value

FITTED = {"letterbox": "letterboxed", "stretch": "stretched", "tiles": "in tiles"}


def about(result: Segmentation, method: tuple[Any, ...], name: str) -> str:
    """One line under the overlay: whose it is, time, sizes, and where the model comes from."""
    height, width = result.ids.shape
    parts = [escaped(name), f"**{result.seconds * 1e3:.1f} ms**", f"image {width}×{height}"]
    if method[0] == OTSU:
        cuts = (otsu_value(result.rgb),) if method[2] == 2 else multi_otsu_values(result.rgb, method[2])
        return " · ".join([*parts, f"threshold {', '.join(map(str, cuts))}"])
    if method[0] == BINARY:
        return " · ".join(parts)
    segmenter, facts = load_segmenter(str(method[0]), method[1]), []
    facts.append(f"model input {segmenter.size[1]}×{segmenter.size[0]}")
    if height * segmenter.size[1] != width * segmenter.size[0]:
        facts.append(FITTED[segmenter.placing((height, width), fit_of(method)).fit])
    note = segmenter.bundle
    if note is not None:
        learnt = data_of(note.facts)
        facts += [escaped(fact) for fact in (method[0].stem, learnt, note.precision) if fact]
    return f"{' · '.join(parts)} :small[· {' · '.join(facts)}]"


def how_good(method: tuple[Any, ...]) -> str:
    """How often the model is right, in plain words; "" where its file does not say."""
    if method[0] in (BINARY, OTSU):
        return ""
    note = load_segmenter(str(method[0]), method[1]).bundle
    if note is None or note.miou is None:
        return ""
    elsewhere, unseen = zero_shot_miou(method[0].stem), unseen_miou(method[0].stem)
    if elsewhere:
        said = (
            f"On streets of another city {elsewhere:.0%} average overlap with the truth, in common classes."
        )
    else:
        said = f"On similar streets {note.miou:.0%} average overlap with the truth"
        said += f", on an unseen drive {unseen:.0%}." if unseen else "."
    return f"{said} (mIoU: intersection over union, the mean of all classes.)"


def legend_table(legend: list[dict]) -> str:
    """Swatch, name, bar and share of each class of 0.1% or more, and how many are below; names come out of model
    files, so they are escaped."""
    few = [row for row in legend if row["share"] < 0.0005]
    largest = max(row["share"] for row in legend)
    rows = []
    for row in legend:
        if row in few:
            continue
        colour = "rgb({}, {}, {})".format(*row["colour"])
        rows.append(
            f'<tr><td style="width:1.6rem"><span class="swatch" style="background:{colour}"></span></td>'
            f'<td class="name">{html.escape(class_name(row["name"]))}</td>'
            f'<td class="bar"><span style="width:{row["share"] / largest:.1%};background:{colour}"></span></td>'
            f'<td class="share">{html.escape(percent(row["share"]))}</td></tr>'
        )
    if few:
        rows.append(f'<tr><td></td><td class="name" colspan="3">{len(few)} more, below 0.1%</td></tr>')
    return f'<table class="legend">{"".join(rows)}</table>'
