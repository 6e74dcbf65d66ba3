"""The tab that compares a prediction with a mask that was brought along."""

import dataclasses
import hashlib
import html
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import streamlit as st

from app import common, painted, sources
from app.confusion_table import confusion_table, scrolling
from app.frontend import FOLDER
from app.painted import IGNORED, Legend, PaintedMask, Value
from app.plain_text import escaped
from app.words import class_name, percent
from evaluation import metrics
from runtime import figures, strict_json
from runtime.errors import UserError
from runtime.image import png
from runtime.segmenter import Segmentation

ROWS = 64  # values of a mask that get a row; the rest, rare ones, stay as they were suggested
COLUMNS = ("iou", "dice", "precision", "recall", "specificity", "share")
HEADS = {"iou": "IoU", "dice": "Dice"}
HEADLINES = (("Pixel accuracy", "pixel_accuracy"), ("mIoU", "miou"), ("Mean accuracy", "mean_accuracy"))


def show() -> None:
    st.html(FOLDER / "scores.css")
    controls, main = st.container(key="layout").columns([1.1, 3], gap="medium")
    try:
        with controls:
            pairs = example_pairs()
            image = sources.choose_image("truth", tuple(pairs))
            upload = st.file_uploader(
                "Its mask: a PNG of class ids or of colours", type=["png", "bmp"], key="truth_mask"
            )
            method = common.choose_method("truth")
        given = mask_of(upload, image, pairs)
        if image is None or given is None:
            main.info("Upload an image and its mask, of the same size, to see how right the model is.")
            return
        result = common.segmented(*image, method)
        with controls:
            known = known_legend(pairs, image) if upload is None else None
            mask, legend = ask_what_it_means(*given, result, known)
        painted.check_fits(mask, result.rgb, given[1], image[1])
    except UserError as error:
        main.error(escaped(str(error)))
        return
    truth = dataclasses.replace(result, ids=painted.to_ids(mask, legend))
    with main:
        if (truth.ids == IGNORED).all():
            st.info("Every value of the mask is ignored: say on the left what they stand for.")
            return
        matrix = metrics.confusion_matrix(truth.ids, result.ids, len(result.labels))
        show_images(truth, result)
        show_scores(matrix, truth, result, Path(image[1]).stem)


def example_pairs() -> dict[Path, Path]:
    """Images that ship with their masks, PNGs in the colours of the models that ship."""
    images = sorted((common.shipped() / "examples" / "masks").glob("*.jpg"))
    return {path: path.with_suffix(".png") for path in images if path.with_suffix(".png").is_file()}


def mask_of(upload: Any, image: common.Image | None, pairs: dict[Path, Path]) -> common.Image | None:
    """Bytes and name of the mask: the upload, or else what ships with the example that is chosen."""
    if upload is not None:
        return common.checked_upload(upload)
    for path, mask in pairs.items():
        if image and image[1] == path.name and image[0] == path.read_bytes():
            return mask.read_bytes(), mask.name
    return None


def known_legend(pairs: dict[Path, Path], image: common.Image) -> dict[str, Any] | None:
    """What ships beside an example's mask: a legend with the names that models of several label sets have."""
    path = next((mask for path, mask in pairs.items() if path.name == image[1]), Path()).with_suffix(".json")
    return strict_json.read(path) if path.is_file() else None


def ask_what_it_means(
    data: bytes, name: str, result: Segmentation, known: dict[str, Any] | None
) -> tuple[PaintedMask, Legend]:
    """The mask, and what the user says each of its values stands for; it begins with what is `known`."""
    loaded = st.file_uploader("A saved legend (JSON)", type=["json"], key="truth_legend")
    given: Legend = {}
    if loaded is not None:
        by, given = painted.read_legend(loaded.getvalue(), result.labels, loaded.name)
        if st.session_state.get("truth_loaded") != loaded.file_id:
            st.session_state["truth_by"], st.session_state["truth_loaded"] = by, loaded.file_id
    mask = read_once(data, name, st.session_state.get("truth_by"))
    if len(mask.kinds) > 1:
        st.session_state.setdefault("truth_by", mask.by)
        st.radio("The mask holds", mask.kinds, horizontal=True, key="truth_by")
        mask = read_once(data, name, st.session_state["truth_by"])
    start = {**painted.suggested(mask, result.palette), **given}
    if known is not None and not given:
        rows = [row for row in known["classes"] if row["name"] in result.labels]
        start |= painted.read_legend(json.dumps({**known, "classes": rows}).encode(), result.labels)[1]
    stamp = f"{hash(result.labels)}_{loaded.file_id if loaded else ''}"
    legend = dict(start)
    with st.container(height=420 if len(mask.values) > 7 else "content", key="truth_legend_rows"):
        for value, share in list(zip(mask.values, mask.shares, strict=True))[:ROWS]:
            legend[value] = ask_class(value, share, start.get(value, IGNORED), result, stamp)
    st.download_button(
        "Legend of the mask (JSON)",
        data=painted.legend_json(mask.by, legend, result.labels),
        file_name="legend.json",
        mime="application/json",
        on_click="ignore",
        width="stretch",
    )
    return mask, legend


def ask_class(value: Value, share: float, start: int, result: Segmentation, stamp: str) -> int:
    """A row of the legend: what the value looks like, and the class that is picked for it."""
    options = [*range(len(result.labels)), IGNORED] if len(result.labels) <= IGNORED else list(range(256))
    shown = f"id {value}" if isinstance(value, int) else "#{:02x}{:02x}{:02x}".format(*value)
    label = f"{shown} · {percent(share)}"
    swatch, choice = st.columns([1, 9], gap="small", vertical_alignment="bottom")
    colour = result.colour_of(value) if isinstance(value, int) else value
    swatch.html(
        '<span style="display:block;width:1.3rem;height:2.3rem;border-radius:0.2rem;background:rgb({},{},{});'
        'box-shadow:inset 0 0 0 1px rgba(128,128,128,0.7)"></span>'.format(*colour)
    )
    with choice:
        return st.selectbox(
            label,
            options,
            index=options.index(start),
            format_func=lambda index: "ignore" if index == IGNORED else class_name(result.name_of(index)),
            key=f"truth_map_{shown}_{stamp}",
        )


def read_once(data: bytes, name: str, by: str | None) -> PaintedMask:
    """The mask; the visitor's last one is not read again."""
    key = (hashlib.sha256(data).hexdigest(), name, by)
    if st.session_state.get("truth_mask_key") != key:
        kinds = painted.read_mask(data, name).kinds
        st.session_state["truth_mask_read"] = painted.read_mask(data, name, by if by in kinds else None)
        st.session_state["truth_mask_key"] = key
    return st.session_state["truth_mask_read"]


def show_images(truth: Segmentation, result: Segmentation) -> None:
    opacity = common.choose_opacity("truth")
    small_truth, small = common.for_the_screen(truth), common.for_the_screen(result)
    images: tuple[tuple[str, np.ndarray, Literal["JPEG", "PNG"]], ...] = (
        ("Truth", small_truth.overlay(opacity), "JPEG"),
        ("Prediction", small.overlay(opacity), "JPEG"),
        ("Error: red is wrong, white is ignored", figures.error_image(small_truth.ids, small.ids), "PNG"),
    )
    for column, (caption, image, kind) in zip(st.columns(3, gap="small"), images, strict=True):
        column.image(image, caption=caption, width="stretch", output_format=kind, alt=caption)


def show_scores(matrix: np.ndarray, truth: Segmentation, result: Segmentation, stem: str) -> None:
    scores = metrics.scores(matrix, result.labels)
    ignored = (truth.ids == IGNORED).mean()
    for column, (label, key) in zip(st.columns(4), HEADLINES, strict=False):
        column.metric(label, metrics.percent(scores[key], 1))
    st.caption(
        f"{scores['pixels']:,} pixels count, {ignored:.1%} are ignored. "
        "The means are over the classes that the mask has."
    )
    st.html(scores_table(scores))
    st.html('<h2 class="part">Confusion matrix</h2>')
    st.html(confusion_table(matrix, result.labels))
    files = (
        ("Scores (JSON)", f"{stem}_scores.json", "application/json", lambda: metrics.as_json(scores, matrix)),
        ("Scores (CSV)", f"{stem}_scores.csv", "text/csv", lambda: metrics.as_csv(scores)),
        (
            "Confusion matrix (PNG)",
            f"{stem}_confusion.png",
            "image/png",
            lambda: png(figures.confusion_image(matrix, result.labels)),
        ),
        (
            "Errors (PNG)",
            f"{stem}_errors.png",
            "image/png",
            lambda: png(figures.error_image(truth.ids, result.ids)),
        ),
        ("Truth (class ids)", f"{stem}_truth.png", "image/png", truth.mask_png),
    )
    with st.container(horizontal=True):
        for label, file_name, mime, make in files:
            st.download_button(label, data=make, file_name=file_name, mime=mime, on_click="ignore")


def scores_table(scores: dict) -> str:
    """The classes that are in the mask or were predicted; a dash where a score does not exist."""
    head = "".join(f"<th>{HEADS.get(column, column)}</th>" for column in ("class", *COLUMNS))
    rows = []
    for name, row in scores["classes"].items():
        if not np.isnan(row["iou"]):
            cells = "".join(
                f"<td>{'–' if np.isnan(row[column]) else percent(row[column])}</td>" for column in COLUMNS
            )
            rows.append(f"<tr><th>{html.escape(class_name(name))}</th>{cells}</tr>")
    table = f'<table class="scores"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return scrolling("Scores, class by class", table)
