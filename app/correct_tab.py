"""The tab that mends a prediction by hand, and keeps image, prediction and corrected mask if it is told to."""

import dataclasses
from pathlib import Path

import streamlit as st

from app import common, feedback_folder, sources, told, views
from app.clickable_image import canvas
from app.doubtful import regions
from app.edits import Edit, Polygon, Region, Stroke, corrected
from app.painted import IGNORED
from app.plain_text import escaped
from app.words import class_name, counted, percent
from runtime import corrections
from runtime.errors import UserError
from runtime.segmenter import Segmentation

REGION, POLYGON, BRUSH = (
    "a region, by a click into it",
    "a polygon, corner by corner",
    "what a brush passes over",
)
MODES = {REGION: "point", POLYGON: "polygon", BRUSH: "brush"}
WIDEST = 200  # pixels, of the brush
PREVIEW_SIDE = 700  # pixels: of the map by which the browser shows the region under the pointer
HELP = (
    "Tab to the image; arrow keys move the cross (with Shift by ten), Enter clicks, Backspace takes back a corner, "
    "C closes the polygon."
)


def show() -> None:
    controls, middle, side = st.container(key="layout").columns([1.35, 2.5, 1.05], gap="medium")
    try:
        with controls:
            image = sources.choose_image("correct")
            method = common.choose_method("correct")
        if image is None:
            middle.info("Upload an image of a road to begin.")
            return
        result = common.segmented(*image, method)
        edits = edits_of(st.session_state["result_key"])
        with controls:
            way, width, class_id = ask_what_to_fill(result)
        mended = dataclasses.replace(result, ids=corrected(result.ids, edits))
        with middle:
            show_canvas(mended, edits, (way, width), class_id)
        with side:
            offer(result, mended, edits, class_id)
            st.html(told.legend_table(mended.legend()))
            show_result(result, mended, edits, image[1])
            show_keeping(result, mended, image[1], feedback_folder.predicted_by(method))
    except UserError as error:
        middle.error(escaped(str(error)))


def edits_of(key: object) -> list[Edit]:
    """What this visitor changed in this prediction; another image or method begins anew."""
    if st.session_state.get("correct_key") != key:
        st.session_state["correct_key"], st.session_state["correct_edits"] = key, []
    return st.session_state["correct_edits"]


def ask_what_to_fill(result: Segmentation) -> tuple[str, int, int | None]:
    """What a click fills, the brush's width in pixels, and with which class; None until the visitor has said one."""
    way = st.radio("Fill", tuple(MODES), key="correct_way")
    width = min(WIDEST, max(3, max(result.ids.shape) // 40))
    if way == BRUSH:
        width = st.slider("Width of the brush, in pixels", 1, WIDEST, width, key="correct_brush")
    options = [*range(min(len(result.labels), IGNORED)), IGNORED]
    class_id = st.selectbox(
        "with the class",
        options,
        index=None,
        placeholder="Choose the class first",
        format_func=lambda index: "ignored" if index == IGNORED else class_name(result.name_of(index)),
        key="correct_class",
    )
    return way, width, class_id


def show_canvas(mended: Segmentation, edits: list[Edit], tool: tuple[str, int], class_id: int | None) -> None:
    """`tool`: what is filled, and the width of the brush."""
    way, width = tool
    opacity = common.choose_opacity("correct")
    screen = common.for_the_screen(mended)
    drawn = canvas(
        screen.overlay(opacity),
        ids=views.for_a_screen(mended, PREVIEW_SIDE).ids if way == REGION else None,
        key="correct_canvas",
        mode=MODES[way],
        brush=(width, (255, 255, 255) if class_id is None else mended.colour_of(class_id)),
        label="The image with its classes. Click a region, draw a polygon, or paint, to fill it.",
        size=mended.ids.shape,
        serial=f"{st.session_state['correct_key']} {len(edits)}",
    )
    st.caption(HELP)
    with st.form("correct_form", border=False):
        typed, button = st.columns([3, 1], vertical_alignment="bottom")
        text = typed.text_input(
            "or type the points, x,y each: one for a region, three or more for a polygon, a line for the brush",
            placeholder="410,120 480,120 480,160",
            key="correct_points",
        )
        pressed = button.form_submit_button("Fill", width="stretch")
    try:
        points = points_of(text) if pressed else drawn
        if points and class_id is None:
            raise UserError("Choose the class to fill with, then click again.")
        if points and class_id is not None:
            edits.append(tried(points, class_id, mended, tool))
            st.rerun()
    except UserError as error:
        st.error(escaped(str(error)))


def offer(result: Segmentation, mended: Segmentation, edits: list[Edit], class_id: int | None) -> None:
    """What the model doubts most, a button a region, which fills it; nothing of a file that says nothing of it."""
    doubtful = regions(result.ids, result.confidence, mended.ids != result.ids)
    if not doubtful:
        return
    st.caption("The model doubts these most. Choose the right class, then click one to fill it.")
    for number, one in enumerate(doubtful, 1):
        name, where = class_name(result.name_of(one.class_id)), f"at {one.x},{one.y}"
        label = f"{escaped(name)} {where}: {percent(one.share)} of the image, {one.confidence:.0%} sure"
        if st.button(label, width="stretch", key=f"correct_doubt_{number}"):
            if class_id is None:
                raise UserError("Choose the class to fill with, then click again.")
            edits.append(tried([[one.x, one.y]], class_id, mended, (REGION, 1)))
            st.rerun()


def tried(points: list[list[int]], class_id: int, mended: Segmentation, tool: tuple[str, int]) -> Edit:
    """A stroke of the brush; else a region for one point, or a polygon; UserError when it cannot be filled."""
    way, width = tool
    line = tuple((x, y) for x, y in points)
    edit: Edit = Stroke(line, width, class_id) if way == BRUSH else Polygon(line, class_id)
    if way != BRUSH and len(points) == 1:
        ((x, y),) = points
        edit = Region(x, y, class_id)
    corrected(mended.ids, [edit])
    return edit


def points_of(text: str) -> list[list[int]]:
    """x,y pairs with spaces between; UserError when they are something else."""
    try:
        points = [[int(number) for number in pair.split(",")] for pair in text.replace(";", " ").split()]
    except ValueError:
        points = []
    if not points or any(len(point) != 2 for point in points):
        raise UserError(f"'{text}' is not points such as 410,120 480,120 480,160.")
    return points


def show_result(result: Segmentation, mended: Segmentation, edits: list[Edit], name: str) -> None:
    changed = float((result.ids != mended.ids).mean())
    st.caption(f"{counted(len(edits), 'correction')}, {percent(changed)} of the pixels changed")
    undo, clear = st.columns(2)
    if undo.button("Undo", disabled=not edits, width="stretch", key="correct_undo"):
        edits.pop()
        st.rerun()
    if clear.button("Undo all", disabled=not edits, width="stretch", key="correct_clear"):
        edits.clear()
        st.rerun()
    stem = Path(name).stem
    for label, end, make in (
        ("Corrected mask (class ids)", "corrected", mended.mask_png),
        ("Corrected mask (colours)", "corrected_colour", mended.colour_png),
    ):
        st.download_button(
            label,
            data=make,
            file_name=f"{stem}_{end}.png",
            mime="image/png",
            on_click="ignore",
            width="stretch",
        )


def show_keeping(result: Segmentation, mended: Segmentation, name: str, method: str) -> None:
    folder = feedback_folder.folder()
    if folder is None:
        st.caption(feedback_folder.NOT_HERE)
        return
    wanted = st.toggle(
        "Keep corrections", key="correct_keep", help="Off: nothing leaves the memory of this page."
    )
    st.caption(feedback_folder.told(folder) + ("" if wanted else ". Nothing is kept while this is off."))
    unchanged = bool((result.ids == mended.ids).all())
    if wanted and unchanged:
        st.caption("Correct something first: an unchanged prediction would be taken for the truth.")
    pressed = wanted and st.button(
        "Keep image and masks", disabled=unchanged, width="stretch", type="primary", key="correct_save"
    )
    if pressed and not unchanged:
        record = corrections.keep(folder, result, mended.ids, name, method)
        part = "set aside for testing" if record.held_out else "for training"
        st.success(f"Kept as number {record.id}, {part}.")
