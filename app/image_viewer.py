"""The image that tells the class under the pointer, and the legend whose classes can be switched off.

Two components of our own in plain HTML, CSS and JavaScript; nothing is loaded for them. What they show was made by
`runtime`: JavaScript places images and reads one number of the map of ids.
"""

import json
from typing import Any

import streamlit as st

from app.frontend import address, registered
from app.words import class_name
from runtime.segmenter import Segmentation

_viewer = registered("viewer")
_legend = registered("legend")

OVERLAY, BESIDE, WIPE, OUTLINES = VIEWS = ("Overlay", "Side by side", "Before and after", "Outlines")


def sent(data: dict[str, Any]) -> bytes:
    """JSON as bytes, which Streamlit hands on as they are: for a dict it would import pandas, to look for a data frame
    in it, and the first visitor would wait a second for that."""
    return json.dumps(data).encode()


def show_image(
    screen: Segmentation,
    size: tuple[int, int],
    view: str,
    shown: tuple[Any, ...],
    token: str,
    told: str,
    key: str,
) -> None:
    """Show one or two images of `screen`'s size, and what is under the pointer or, as `told`, at the point that was
    clicked, in pixels of `size` (H, W): see `clicked`."""
    at = clicked(size, token, key)
    present = screen.shares()
    words = ("The image", "The mask") if view == BESIDE else (f"The image: {view.lower()}", "")
    _viewer(
        key=key,
        data=sent(
            {
                "image": token,
                "view": view,
                "words": words,
                "size": list(size),
                "first": address(shown[0]),
                "second": address(shown[1]) if len(shown) > 1 else None,
                "ids": address(screen.ids, ".png"),
                "classes": {
                    str(index): [
                        class_name(screen.name_of(index)),
                        "rgb({}, {}, {})".format(*screen.colour_of(index)),
                    ]
                    for index in present
                },
                "point": at,
                "told": told if at else "",
            }
        ),
        on_point_change=lambda: None,
    )


def clicked(size: tuple[int, int], token: str, key: str) -> tuple[int, int] | None:
    """The point (x, y) that was clicked on the image that `token` names, in pixels of `size` (H, W)."""
    point = _state(key, "point")
    if not point or point.get("image") != token:
        return None
    x, y = int(point["x"]), int(point["y"])
    return (x, y) if 0 <= x < size[1] and 0 <= y < size[0] else None


def hidden_classes(labels: tuple[str, ...], key: str) -> tuple[int, ...]:
    """The classes that the visitor has switched off; none where the labels are others than those switched."""
    switched = _state(key, "switched")
    if not switched or switched.get("labels") != _token(labels):
        return ()
    return tuple(sorted(index for index in map(int, switched.get("hidden", ())) if 0 <= index < 256))


def show_legend(rows: list[dict[str, Any]], labels: tuple[str, ...], key: str) -> None:
    """Colours, names and shares, a switch each: see `hidden_classes`."""
    rows = [{**row, "name": class_name(row["name"])} for row in rows]
    data = {"rows": rows, "labels": _token(labels), "hidden": list(hidden_classes(labels, key))}
    _legend(key=key, data=sent(data), on_switched_change=lambda: None)


def _token(labels: tuple[str, ...]) -> str:
    return f"{len(labels)}:{'|'.join(labels)}"


def _state(key: str, name: str) -> Any:
    """What a component has said, before it is shown in this run; None when it has said nothing."""
    state = st.session_state.get(key)
    return state.get(name) if state else None
