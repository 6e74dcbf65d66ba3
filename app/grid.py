"""Several images at once: each small with its most frequent classes, the shares of all as a table and as one CSV."""

import csv
import hashlib
import html
import io
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import archive, common, downloads, palettes, views
from app.confusion_table import scrolling
from app.frontend import FOLDER
from app.plain_text import escaped
from app.words import class_name, percent
from runtime.errors import UserError
from runtime.segmenter import Segmentation

SIDE = 480  # pixels: of a small image
COLUMNS = 3
NAMED = 3  # classes below a small image


@dataclass(frozen=True)
class Found:
    """What is kept of an image: its name, its mask made small, its own size (H, W), and its legend, which is exact."""

    name: str
    small: Segmentation
    size: tuple[int, int]
    legend: list[dict[str, Any]]


def show(images: list[common.Image], method: tuple[Any, ...], looks: dict[str, Any]) -> None:
    """A switch, and behind it the grid; `looks`: colours, opacity and hidden, as set. Nothing for one image."""
    if len(images) < 2:
        return
    with st.container(key="all_images"):
        if st.toggle(f"All {len(images)} images side by side", key="segment_grid"):
            _show(images, method, looks)


def _show(images: list[common.Image], method: tuple[Any, ...], looks: dict[str, Any]) -> None:
    st.html(FOLDER / "scores.css")
    found, bad = all_found(images, method)
    for start in range(0, len(found), COLUMNS):
        row = found[start : start + COLUMNS]
        for column, one in zip(st.columns(COLUMNS, gap="small"), row, strict=False):
            small = palettes.recoloured(one.small, looks["colours"])
            drawn = views.overlay(small, looks["opacity"], looks["hidden"])
            column.image(drawn, width="stretch", output_format="JPEG", alt=one.name)
            most = ", ".join(
                f"{class_name(row['name'])} {percent(row['share'])}" for row in one.legend[:NAMED]
            )
            column.caption(f"**{escaped(one.name)}** {escaped(most)}")
    if bad:
        st.caption("Left out: " + " ".join(map(escaped, bad)))
    if found:
        st.html(shares_table(found))
        data = as_csv(found)
        downloads.button("Shares of all (CSV)", data, "kerbside_shares.csv", "text/csv", "segment_grid_csv")


def all_found(images: list[common.Image], method: tuple[Any, ...]) -> tuple[list[Found], list[str]]:
    """Each image that can be read, and a sentence on each that cannot; the visitor's last ones are remembered."""
    kept: dict[Any, Found] = st.session_state.get("segment_grid_found", {})
    now: dict[Any, Found] = {}
    bad = []
    progress = st.empty()
    for number, (name, (data, _)) in enumerate(
        zip(archive.own_names([name for _, name in images]), images, strict=True)
    ):
        key = (name, hashlib.sha256(data).hexdigest(), method)
        try:
            if key not in kept:
                progress.progress(number / len(images), text=f"Image {number + 1} of {len(images)}")
                result = common.segment(data, name, method)
                small = views.for_a_screen(result, SIDE)
                kept[key] = Found(name, small, (result.ids.shape[0], result.ids.shape[1]), result.legend())
            now[key] = kept[key]
        except UserError as error:
            bad.append(str(error))
    progress.empty()
    st.session_state["segment_grid_found"] = now
    return list(now.values()), bad


def classes_of(found: list[Found]) -> list[str]:
    """The names of the classes that any of the images has, the one with most pixels' share first."""
    sums: dict[str, float] = {}
    for one in found:
        for row in one.legend:
            sums[row["name"]] = sums.get(row["name"], 0.0) + row["share"]
    return sorted(sums, key=lambda name: -sums[name])


def shares_of(one: Found, names: list[str]) -> list[float]:
    """Of the classes of these names, 0..1; two of one name are one."""
    return [sum((row["share"] for row in one.legend if row["name"] == name), 0.0) for name in names]


def shares_table(found: list[Found]) -> str:
    """HTML: an image a row, a class a column, and the mean of all images at the bottom."""
    names = classes_of(found)
    shares = [shares_of(one, names) for one in found]
    means = [sum(column) / len(found) for column in zip(*shares, strict=True)]
    rows = (
        f'<tr><th scope="row">{html.escape(name)}</th>'
        f"{''.join(f'<td>{html.escape(percent(share))}</td>' for share in row)}</tr>"
        for name, row in zip([*(one.name for one in found), "Mean"], [*shares, means], strict=True)
    )
    head = "".join(f'<th scope="col">{html.escape(class_name(name))}</th>' for name in names)
    table = f'<table class="scores"><thead><tr><th scope="col">Image</th>{head}</tr></thead>'
    return scrolling("Shares of all images", f"{table}<tbody>{''.join(rows)}</tbody></table>")


def as_csv(found: list[Found]) -> bytes:
    """An image a row: name, width, height, and the share, 0..1, of each class that any of them has."""
    names = classes_of(found)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "width", "height", *names])
    for one in found:
        height, width = one.size
        writer.writerow([one.name, width, height, *(round(share, 6) for share in shares_of(one, names))])
    return text.getvalue().encode()
