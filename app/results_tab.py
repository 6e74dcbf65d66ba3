"""The tab of the models that ship: a table, mIoU against latency, and each model's card."""

import html
import re
from pathlib import Path
from typing import Any

import streamlit as st

from app import common
from app.confusion_table import scrolling
from app.frontend import FOLDER
from app.plain_text import escaped
from app.words import class_name, model_name, zero_shot_miou
from runtime import shipped_files
from runtime.errors import UserError
from runtime.image import read_rgb

HEADING = re.compile(r"^(#+ )", re.MULTILINE)  # a card's begin at the top, and here they stand below others
# To a file of the repository, which the page does not serve.
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:)[^)]*\)")
IMAGE = re.compile(r"!\[[^\]]*\]\([^)]*\)|<img[^>]*>")  # a card's images lie elsewhere


def show() -> None:
    st.html(FOLDER / "scores.css")
    folder = common.shipped() / "models"
    rows = shipped_files.rows(folder)
    if not rows:
        st.info(common.HOW_TO_GET_A_MODEL)
        return
    kept = shipped_files.latencies(common.shipped() / "docs" / "models" / "latency.json")
    times, source = kept.get("milliseconds", {}), told(kept)
    here = st.session_state.get("results_here")
    if here:
        times, source = here, "Latency as measured on this server just now."
    st.html('<h2 class="part">The models that ship</h2>')
    table = [columns(row, number, times) for number, row in enumerate(rows, 1)]
    st.dataframe(table, hide_index=True, width="stretch")
    st.caption(f"mIoU as measured at export, on the split that is named. {source}")
    try:
        measure(folder)
    except UserError as error:
        st.error(escaped(str(error)))
    show_float(rows)
    plot(rows, times)
    show_cards(common.shipped() / "docs" / "models")


def told(kept: dict[str, Any]) -> str:
    if not kept:
        return "Latency was not measured: the button does it."
    note = f", {kept['note']}" if kept.get("note") else ""
    return escaped(
        f"Latency: whole path, median of {kept.get('runs')} runs on {kept.get('threads')} threads, "
        f"{kept.get('machine')}{note}, {kept.get('date')}."
    )


def columns(row: dict[str, Any], number: int, times: dict[str, float]) -> dict[str, Any]:
    """A row of the table, in the words and units in which it is read."""
    height, width = row["input"] or (None, None)
    stem = row["file"].removesuffix(".tflite")
    return {
        "no.": number,
        "name": model_name(stem),
        "file": stem,
        "model": row["model"],
        "data": measured_on(row),
        "classes": row["classes"],
        "precision": row["precision"],
        "input": f"{width}×{height}" if height else None,
        "MB": round(row["bytes"] / 1e6, 2),
        "mIoU, %": per_cent(row["miou"]),
        "pixel accuracy, %": per_cent(row["pixel_accuracy"]),
        "latency, ms": times.get(row["file"]),
    }


def measured_on(row: dict[str, Any]) -> str | None:
    """Data set and split of its mIoU, and whether they are none that it has learnt from."""
    parts = [part for part in (row["data"], row["split"]) if part]
    return " ".join([*parts, "(never seen)"] if parts and not_learnt(row) else parts) or None


def not_learnt(row: dict[str, Any]) -> bool:
    return zero_shot_miou(row["file"].removesuffix(".tflite")) is not None


def per_cent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def show_float(rows: list[dict[str, Any]]) -> None:
    """What each file has beside the same weights in float, as its export measured it, and class by class."""
    told = [row for row in rows if row["miou"] is not None and row["float_miou"] is not None]
    if not told:
        return
    st.html('<h2 class="part">Float beside what ships</h2>')
    table = [
        {
            "name": short(row),
            "precision": row["precision"],
            "mIoU in float, %": per_cent(row["float_miou"]),
            "mIoU of the file, %": per_cent(row["miou"]),
            "points lost": round(100 * (row["float_miou"] - row["miou"]), 2),
            "pixels on which both agree, %": per_cent(row["pixel_agreement"]),
        }
        for row in told
    ]
    st.dataframe(table, hide_index=True, width="stretch", key="results_float")
    st.caption(
        "The weights in float and the file that ships, on the same images at export. Less than nothing lost: the file "
        "was the better one by so much."
    )
    with_classes = {short(row): row for row in told if row["class_iou"] and not not_learnt(row)}
    if with_classes:
        chosen = st.selectbox("IoU, class by class, of", list(with_classes), key="results_classes")
        st.html(float_table(with_classes[chosen]))


def short(row: dict[str, Any]) -> str:
    return model_name(row["file"].removesuffix(".tflite"))


def float_table(row: dict[str, Any]) -> str:
    """HTML: a class a row, its IoU in float, of the file, and the points between them."""
    lines = (
        f'<tr><th scope="row">{html.escape(class_name(name))}</th><td>{100 * exact:.1f}</td><td>{100 * own:.1f}</td>'
        f"<td>{100 * (own - exact):+.1f}</td></tr>"
        for name, (exact, own) in row["class_iou"].items()
    )
    head = "".join(
        f'<th scope="col">{word}</th>'
        for word in ("Class", "float, %", f"{html.escape(row['precision'] or 'file')}, %", "points")
    )
    return scrolling(
        "IoU in float and of the file",
        f'<table class="scores"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>',
    )


def measure(folder: Path) -> None:
    """Time every file on an example, when the visitor asks for it."""
    images = common.examples()
    if images and st.button("Measure the latency on this server", key="results_measure"):
        with st.spinner("Measuring"):
            st.session_state["results_here"] = shipped_files.measured(
                sorted(folder.glob("*.tflite")), read_rgb(images[0]), runs=10
            )
        st.rerun()


def plot(rows: list[dict[str, Any]], times: dict[str, float]) -> None:
    """mIoU against latency, a point a file, under its number; nothing where either was not measured."""
    points = [
        {
            "number": str(number),
            "file": row["file"].removesuffix(".tflite"),
            "latency, ms": times[row["file"]],
            "mIoU, %": round(100 * row["miou"], 2),
            "data": row["data"] or "unknown",
        }
        for number, row in enumerate(rows, 1)
        if row["miou"] is not None and row["file"] in times
    ]
    if not points:
        return
    import altair
    import pandas

    scores, slowest = [point["mIoU, %"] for point in points], max(point["latency, ms"] for point in points)
    across = altair.Scale(domain=[0, slowest * 1.1], nice=False)
    up = altair.Scale(domain=[max(0, min(scores) - 5), min(100, max(scores) + 5)])
    points.sort(key=lambda point: point["mIoU, %"], reverse=True)
    for number, point in enumerate(points):
        point["below"] = number % 2 == 1  # the numbers of neighbours, one above its dot and one below
    base = altair.Chart(pandas.DataFrame(points)).encode(
        x=altair.X("latency, ms:Q", scale=across),
        y=altair.Y("mIoU, %:Q", scale=up, axis=altair.Axis(format=".0f")),
        tooltip=["file", "data", "latency, ms", "mIoU, %"],
    )
    colours = altair.Scale(range=["#0072b2", "#d55e00", "#009e73", "#cc79a7"])
    dots = base.mark_point(size=140, filled=True, opacity=1).encode(
        color=altair.Color("data:N", scale=colours, legend=altair.Legend(orient="bottom")), shape="data:N"
    )
    name: dict[str, Any] = {"fontSize": 14, "dx": 12, "color": "#808080"}
    above = base.transform_filter("!datum.below").mark_text(dy=-8, **name).encode(text="number")
    below = base.transform_filter("datum.below").mark_text(dy=10, **name).encode(text="number")
    st.html('<h2 class="part">mIoU against latency</h2>')
    st.caption("The numbers are those of the first table.")
    st.altair_chart(dots + above + below, width="stretch")


def show_cards(folder: Path) -> None:
    """The models' cards, one at a time."""
    files = [path.stem for path in (common.shipped() / "models").glob("*.tflite")]
    cards = {title(path, files): path for path in sorted(folder.glob("*.md"))}
    if not cards:
        return
    st.html('<h2 class="part">Model cards</h2>')
    chosen = st.selectbox("Card", list(cards), key="results_card")
    with st.container(border=True):
        st.markdown(fitted(cards[chosen].read_text(encoding="utf-8")))


def fitted(card: str) -> str:
    """A card as it can stand on the page."""
    return HEADING.sub(r"##\1", LINK.sub(r"\1", IMAGE.sub("", card)))


def title(path: Path, files: list[str]) -> str:
    """The names of the files (stems) that a card is of, else its first heading, else the name of its file."""
    names = {stem: model_name(stem) for stem in sorted(files) if stem.startswith(path.stem)}
    if any(name != stem for stem, name in names.items()):
        return "; ".join(names.values())
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            return line.lstrip("# ").strip()
    return path.stem
