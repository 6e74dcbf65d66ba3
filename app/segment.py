"""The tab that segments one picture and shows what came out."""

import json
from pathlib import Path

import streamlit as st

from app import common
from runtime.errors import UserError
from runtime.segmenter import Segmentation


def show() -> None:
    controls, middle, side = st.columns([1.1, 2.5, 1.1], gap="medium")
    with controls:
        picture = common.choose_picture("segment")
        method = common.choose_method("segment")
        opacity = st.slider("Opacity of the colours", 0.0, 1.0, 0.55, 0.05, key="segment_opacity")
    if method[0] in (common.BINARY, common.OTSU) and not common.model_files():
        middle.info(common.HOW_TO_GET_A_MODEL)
    if picture is None:
        middle.info("Upload a picture of a road to begin.")
        return
    data, name = picture
    try:
        result = common.segmented(data, name, method)
        line = common.about(result, method)
    except UserError as error:
        middle.error(str(error))
        return
    screen = common.for_the_screen(result)
    with middle:
        st.image(screen.overlay(opacity), width="stretch", output_format="JPEG")
        st.markdown(line)
    with side:
        st.html(common.legend_table(result.legend()))
        show_downloads(result, name)
    left, right = st.columns(2, gap="medium")
    left.image(screen.rgb, caption="Picture", width="stretch", output_format="JPEG")
    right.image(screen.colour(), caption="Mask", width="stretch", output_format="PNG")


def show_downloads(result: Segmentation, name: str) -> None:
    """The files are made when a button is pressed, not at every move of a slider."""
    stem = Path(name).stem
    report = {"image": name, **result.report()}
    files = (
        ("Mask (class ids)", f"{stem}_mask.png", "image/png", result.mask_png),
        ("Mask (colours)", f"{stem}_colour.png", "image/png", result.colour_png),
        ("Legend (JSON)", f"{stem}.json", "application/json", lambda: json.dumps(report, indent=2).encode()),
    )
    for label, file_name, mime, make in files:
        st.download_button(
            label,
            data=make,
            file_name=file_name,
            mime=mime,
            on_click="ignore",
            width="stretch",
            icon=":material/download:",
        )
