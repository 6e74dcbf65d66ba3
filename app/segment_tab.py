"""The tab that segments images, or a short video, and shows what came out."""

from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import common, downloads, image_viewer, palettes, sources, told, video_clip, views
from app.plain_text import escaped
from app.words import class_name, percent
from runtime.errors import UserError
from runtime.segmenter import Segmentation

NOT_TINTED = (image_viewer.BESIDE, image_viewer.OUTLINES)


def show() -> None:
    controls, middle, side = st.container(key="layout").columns([1.35, 2.5, 1.05], gap="medium")
    try:
        with controls:
            source = st.segmented_control(
                "Source", sources.SOURCES, default=sources.FILES, required=True, key="segment_source"
            )
            images, image = choose(source, middle)
            method = common.choose_method("segment")
            colours = common.choose_colours("segment")
            opacity = st.slider(
                "Opacity of the colours",
                min_value=0.0,
                max_value=1.0,
                value=0.55,
                step=0.05,
                key="segment_opacity",
                disabled=source != sources.VIDEO and st.session_state.get("segment_view") in NOT_TINTED,
            )
        if method[0] in (common.BINARY, common.OTSU) and not common.model_files():
            middle.info(common.HOW_TO_GET_A_MODEL)
        if source == sources.VIDEO:
            with middle:
                video_clip.show(method, {"colours": colours, "opacity": opacity})
            return
        if image is None:
            middle.info(
                "Take an image." if source == sources.CAMERA else "Upload an image of a road to begin."
            )
            return
        result = palettes.recoloured(common.segmented(*image, method), colours)
        hidden = image_viewer.hidden_classes(result.labels, "segment_legend")
        with middle:
            show_result(result, image, opacity, hidden)
            st.markdown(told.about(result, method, image[1]))
            if said := told.how_good(method):
                st.caption(said)
    except UserError as error:
        middle.error(escaped(str(error)))
        return
    with side:
        image_viewer.show_legend(result.legend(), result.labels, "segment_legend")
        looks = {"colours": colours, "opacity": opacity, "hidden": hidden}
        downloads.show(result, image, images, method, looks)


def choose(source: str, middle: DeltaGenerator) -> tuple[list[sources.Image], sources.Image | None]:
    """All images, and the one that is looked at; a camera's has the width of its place, so it gets the wide one."""
    if source == sources.VIDEO:
        return [], None
    if source == sources.CAMERA:
        with middle:
            images = sources.camera_image("segment")
    else:
        images = sources.choose_images("segment")
    return images, sources.choose_one(images, "segment") if images else None


def show_result(result: Segmentation, image: sources.Image, opacity: float, hidden: tuple[int, ...]) -> None:
    """The image in the view that is chosen, and the class at the point that was clicked."""
    view = st.segmented_control(
        "View",
        image_viewer.VIEWS,
        default=image_viewer.OVERLAY,
        required=True,
        key="segment_view",
        label_visibility="collapsed",
        wrap=True,
    )
    screen = common.for_the_screen(result)
    height, width = result.ids.shape
    token = sources.token(image)
    point = image_viewer.clicked((height, width), token, "segment_viewer")
    at = views.at(result, *point) if point else {}
    said = (
        f"{class_name(at['name'])} (class {at['id']}), in a region of {at['region']:,} pixels; "
        f"{percent(at['share'])} of the image is of this class."
        if at
        else ""
    )
    pictures = shown(screen, view, opacity, hidden)
    image_viewer.show_image(screen, (height, width), view, pictures, token, said, "segment_viewer")


def shown(screen: Segmentation, view: str, opacity: float, hidden: tuple[int, ...]) -> tuple[Any, ...]:
    """What the view shows, one image or two."""
    if view == image_viewer.BESIDE:
        return screen.rgb, views.colour(screen, hidden)
    if view == image_viewer.WIPE:
        return screen.rgb, views.overlay(screen, opacity, hidden)
    if view == image_viewer.OUTLINES:
        return (views.outlines(screen, hidden, thickness=max(1, round(max(screen.ids.shape) / 450))),)
    return (views.overlay(screen, opacity, hidden),)
