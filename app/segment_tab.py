"""The tab that segments images, or a short video, and shows what came out."""

from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import (
    address,
    chosen,
    common,
    downloads,
    grid,
    image_viewer,
    palettes,
    sources,
    sureness,
    told,
    video_clip,
)
from app.plain_text import escaped
from runtime.errors import UserError
from runtime.segmenter import Segmentation


def show() -> None:
    controls, middle = st.container(key="layout").columns([1.2, 3.6], gap="medium")
    try:
        with controls:
            source = chosen.one_of(
                st.segmented_control,
                "Source",
                sources.SOURCES,
                "source",
                "segment_source",
                required=True,
                wrap=True,
            )
            images, image = choose(source, middle)
            method_place, folded = st.container(), st.expander("More settings")
            with method_place:
                method = common.choose_method("segment", folded)
            with folded:
                colours = common.choose_colours("segment")
        if method[0] in (common.BINARY, common.OTSU) and not common.model_files():
            middle.info(common.HOW_TO_GET_A_MODEL)
        if source == sources.VIDEO:
            with folded:
                opacity = common.choose_opacity("segment")
            with middle:
                video_clip.show(method, {"colours": colours, "opacity": opacity})
            address.write()
            return
        if image is None:
            middle.info(
                "Take an image." if source == sources.CAMERA else "Upload an image of a road to begin."
            )
            return
        result = palettes.recoloured(common.segmented(*image, method), colours)
        with middle:
            show_result(result, image, method)
            seen = image_viewer.looks()
            hidden = seen.hidden_ids(result.labels)
            looks = {"colours": colours, "opacity": seen.opacity, "hidden": hidden}
            grid.show(images, method, looks)
    except UserError as error:
        middle.error(escaped(str(error)))
        return
    finally:
        address.write(st.session_state.get("labels", ()))
    with st.container(key="downloads"):
        downloads.show(result, image, images, method, looks)


def choose(source: str, middle: DeltaGenerator) -> tuple[list[sources.Image], sources.Image | None]:
    """All images, and the one that is looked at; a camera's has the width of its place, so it gets the wide one."""
    if source == sources.VIDEO:
        return [], None
    if source == sources.CAMERA:
        with middle:
            images = sources.camera_image("segment")
        return images, images[0] if images else None
    images = sources.choose_images("segment")
    return images, sources.choose_one(images) if images else None


def show_result(result: Segmentation, image: sources.Image, method: tuple[Any, ...]) -> None:
    """The image in the view that is chosen, its legend, and a line about both."""
    st.session_state["labels"] = result.labels
    image_viewer.show(
        result, common.for_the_screen(result), sources.token(image), "segment_viewer", sources.step
    )
    sureness.show(result, method)
    st.markdown(told.about(result, method, image[1]))
    if said := told.how_good(method):
        st.caption(said)
