"""The tab of what was kept: look at it, delete it, export it, and score models on the part that is set aside."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import streamlit as st

from app import common, feedback_folder
from app.confusion_table import confusion_table
from app.frontend import FOLDER
from app.plain_text import escaped
from app.words import counted, percent
from evaluation import metrics
from runtime import corrections, figures
from runtime.corrections import Record
from runtime.errors import UserError
from runtime.image import overlay

EMPTY = "Nothing is kept here yet. The tab Correct keeps an image with its corrected mask, if you tell it to."


def show() -> None:
    folder = feedback_folder.folder()
    if folder is None:
        st.info(feedback_folder.NOT_HERE)
        return
    st.caption(feedback_folder.told(folder))
    try:
        records = corrections.records(folder)
        if not records:
            st.info(EMPTY)
            return
        show_records(folder, records)
        show_scores(folder, records)
    except UserError as error:
        st.error(escaped(str(error)))


def show_records(folder: Path, records: list[Record]) -> None:
    newest = records[::-1]
    st.dataframe(
        [
            {
                "number": record.id,
                "kept": record.kept.replace("T", " ").removesuffix("Z"),
                "image": record.name,
                "size": f"{record.width}×{record.height}",
                "predicted by": record.model,
                "changed": percent(record.changed),
                "part": "set aside for testing" if record.held_out else "training",
            }
            for record in newest
        ],
        width="stretch",
        height=min(320, 38 + 35 * len(newest)),
        hide_index=True,
        key="kept_table",
    )
    numbers = {record.id: record for record in newest}
    number = st.selectbox(
        "Look at", list(numbers), format_func=lambda n: f"{n} · {numbers[n].name}", key="kept_number"
    )
    record = numbers[number]
    rgb, predicted, corrected = corrections.images(folder, record)
    images = (
        ("Image", rgb),
        ("Prediction", overlay(rgb, predicted, record.palette, 0.7)),
        ("Corrected", overlay(rgb, corrected, record.palette, 0.7)),
        ("Red: what was corrected", figures.error_image(corrected, predicted)),
    )
    for column, (caption, image) in zip(st.columns(4, gap="small"), images, strict=True):
        column.image(image, caption=caption, width="stretch", output_format="JPEG", alt=caption)
    show_actions(folder, record, newest)


def show_actions(folder: Path, record: Record, records: list[Record]) -> None:
    same = [other.id for other in records if other.labels == record.labels]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.download_button(
            f"Export the {len(same)} of these classes (zip)",
            data=lambda: corrections.exported(folder, same),
            file_name="feedback.zip",
            mime="application/zip",
            on_click="ignore",
        )
        sure = st.checkbox("I am sure:", key="kept_sure")
        if st.button(f"Delete number {record.id}", disabled=not sure, key="kept_delete"):
            corrections.delete(folder, [record.id])
            del st.session_state["kept_sure"], st.session_state["kept_number"]
            st.rerun()
        if st.button(f"Delete all {len(records)}", disabled=not sure, key="kept_delete_all"):
            corrections.delete(folder, [other.id for other in records])
            del st.session_state["kept_sure"], st.session_state["kept_number"]
            st.rerun()


def show_scores(folder: Path, records: list[Record]) -> None:
    """Two models on the held-out part: the one before fine-tuning, and the one after."""
    st.html('<h2 class="part">Before and after</h2>')
    st.caption(
        "Two models on the images that are set aside for testing, which no training on these corrections sees."
    )
    files = {common.below(path): path for path in common.model_files()}
    held = [record for record in records if record.held_out]
    if not files or not held:
        st.info(
            f"{counted(len(records), 'image')} saved, {len(held)} of them set aside for testing, "
            f"{counted(len(files), 'model')}: a score needs one of each. Set aside is every fifth, from the second on."
        )
        return
    names = list(files)
    usual = next((record.model for record in held if record.model in files), names[0])
    columns = st.columns(2, gap="medium")
    for column, title, start in zip(columns, ("Before", "After"), (usual, names[-1]), strict=True):
        with column:
            key = f"kept_{title.lower()}"
            name = st.selectbox(
                title, names, index=names.index(start), format_func=common.short_name, key=key
            )
            if not st.session_state.get("kept_scored"):
                continue
            show_score(folder, held, files[name])
    if not st.session_state.get("kept_scored") and st.button("Score both", key="kept_score"):
        st.session_state["kept_scored"] = True
        st.rerun()


def show_score(folder: Path, held: list[Record], path: Path) -> None:
    segmenter = common.load_segmenter(str(path), path.stat().st_mtime_ns)
    usable = [record for record in held if record.labels == segmenter.labels]
    if not usable:
        st.info("No image set aside for testing has the classes of this model.")
        return

    matrix = matrix_of(folder, usable, path)
    scores = metrics.scores(matrix, segmenter.labels)
    first, second = st.columns(2)
    first.metric("mIoU", metrics.percent(scores["miou"], 1))
    second.metric("Pixel accuracy", metrics.percent(scores["pixel_accuracy"], 1))
    st.caption(f"{counted(len(usable), 'image')} set aside for testing")
    st.html(FOLDER / "scores.css")
    st.html(confusion_table(matrix, segmenter.labels))


def matrix_of(folder: Path, records: list[Record], path: Path) -> np.ndarray:
    """The confusion matrix of a model over these records; what this visitor has seen before is not counted again."""
    changed = path.stat().st_mtime_ns
    key = (str(path), changed, tuple((record.id, record.kept, record.changed) for record in records))
    known = st.session_state.setdefault("kept_matrices", {})
    if key not in known:
        segmenter = common.load_segmenter(str(path), changed)

        def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for record in records:
                rgb, _, corrected = corrections.images(folder, record)
                yield corrected, segmenter.segment(rgb).ids

        with st.spinner("Scoring"):
            known[key] = metrics.total_matrix(pairs(), len(segmenter.labels))
    return known[key]
