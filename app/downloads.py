"""The files of what was found. Each is made when its button is pressed, not at every move of a slider."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from app import archive, common, palettes, views
from app.common import Image
from app.plain_text import escaped
from app.words import counted
from runtime.errors import UserError
from runtime.image import checked_bytes, png
from runtime.segmenter import Segmentation


def button(label: str, make: Callable[[], bytes] | bytes, file_name: str, mime: str, key: str) -> None:
    st.download_button(
        label,
        data=make,
        file_name=file_name,
        mime=mime,
        key=key,
        on_click="ignore",
        width="stretch",
        icon=":material/download:",
    )


def show(
    result: Segmentation,
    shown: Image,
    images: list[Image],
    method: tuple[Any, ...],
    looks: dict[str, Any],
) -> None:
    """`shown` is the one of the images that was segmented; `looks`: colours, opacity and hidden, as they were set."""
    name, opacity, hidden = shown[1], looks["opacity"], looks["hidden"]
    own = archive.own_names([image[1] for image in images])
    # Two images of one name are told apart here as in the ZIP.
    stem = archive.safe_stem(next(mine for mine, one in zip(own, images, strict=True) if one is shown))

    def overlay() -> bytes:
        return png(views.overlay(result, opacity, hidden))

    files = (
        ("Mask (class ids)", f"{stem}_mask.png", "image/png", result.mask_png),
        ("Mask (colours)", f"{stem}_colour.png", "image/png", result.colour_png),
        ("Overlay (as shown)", f"{stem}_overlay.png", "image/png", overlay),
        ("Legend (JSON)", f"{stem}.json", "application/json", lambda: archive.legend_json(result, name)),
        (
            "Polygons (JSON)",
            f"{stem}_polygons.json",
            "application/json",
            lambda: archive.polygons_json(result, name),
        ),
    )
    column = st.container(horizontal=True, gap="xsmall")
    for number, (label, file_name, mime, make) in enumerate(files):
        with column:
            button(label, make, file_name, mime, f"segment_download_{number}")
    bad = [name for data, name in images if not readable(data)]
    many = (
        f"Everything of {counted(len(images) - len(bad), 'image')} (ZIP)"
        if len(images) > 1
        else "Everything (ZIP)"
    )

    def everything() -> bytes:
        def segment(image: Image) -> Callable[[], Segmentation]:
            return lambda: palettes.recoloured(common.segment(*image, method), looks["colours"])

        jobs = [(image[1], segment(image)) for image in images]
        if len(images) == 1:
            jobs = [(name, lambda: result)]
        return archive.zipped(jobs, opacity, hidden, {"method": common.method_name(method)})

    with column:
        button(many, everything, "kerbside.zip", "application/zip", "segment_download_zip")
        if bad:
            st.caption(f"Left out, because not read: {', '.join(map(escaped, bad))}")


def readable(data: bytes) -> bool:
    """Whether an image's header says that it is one that is read here."""
    try:
        checked_bytes(data)
    except UserError:
        return False
    return True
