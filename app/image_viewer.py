"""The image with its classes, and the legend beside it: one component of our own, in plain HTML, CSS and JavaScript.

The browser gets the image, its ids, the borders between classes and how sure the model is once; the views, the
opacity, which classes are seen, zoom and the class at a point are drawn from these there, and nothing is sent again.
What is set is told to the page (`looks`), for the files and for the address.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import streamlit as st

from app import chosen, views
from app.common import OPACITY
from app.frontend import address, registered, sent
from app.words import class_name, percent
from runtime.segmenter import Segmentation

_viewer = registered("viewer", "viewer_ids", "viewer_panes", "viewer_keys")

OVERLAY, BESIDE, WIPE, OUTLINES, SURENESS = VIEWS = (
    "Overlay", "Side by side", "Before and after", "Outlines", views.SURENESS,
)  # fmt: skip
LONGEST = 256  # of a class's name as a browser may send it, and of how many there may be


@dataclass(frozen=True)
class Looks:
    """The view, the opacity of the colours, 0..1, and the names of the classes that are switched off."""

    view: str = OVERLAY
    opacity: float = OPACITY
    hidden: tuple[str, ...] = ()

    def hidden_ids(self, labels: tuple[str, ...]) -> tuple[int, ...]:
        """The ids of those that are switched off, of a model of these labels."""
        return tuple(index for index, label in enumerate(labels) if label in self.hidden)


def looks() -> Looks:
    """What is set, in any tab or by the address."""
    return Looks(chosen.get("view", OVERLAY), chosen.get("opacity", OPACITY), chosen.get("hidden", ()))


def show(
    result: Segmentation, screen: Segmentation, token: str, key: str, step: Callable[[int], None]
) -> None:
    """The image and its legend; `screen` is `result` as large as a screen shows it, `token` tells the image from
    others, and `step` is called with 1 or -1 when the visitor wants the next image or the one before."""
    state = st.session_state.get(key)
    if not (state and state.get("looks")):  # shown for the first time in this tab: it begins with what is set
        st.session_state[f"{key}_start"] = asdict(looks())
    confidence = screen.confidence
    sure = result.mean_confidence
    _viewer(
        key=key,
        data=sent(
            {
                "image": token,
                "size": list(result.ids.shape),
                "rgb": address(screen.rgb),
                "ids": address(screen.ids, ".png"),
                "borders": address(
                    views.borders(screen.ids, max(1, round(max(screen.ids.shape) / 450))), ".png"
                ),
                "heat": None if confidence is None else address(views.heat(confidence, screen.rgb)),
                "sure": None if sure is None else percent(sure),
                "rows": [{**row, "shown": class_name(row["name"])} for row in result.legend()],
                "classes": len(result.palette),
                "labels": result.labels,
                "views": [view for view in VIEWS if view != SURENESS or confidence is not None],
                "first": asdict(Looks()),
                "start": st.session_state[f"{key}_start"],
            }
        ),
        on_looks_change=lambda: _take(st.session_state[key].get("looks")),
        on_step_change=lambda: step(1 if st.session_state[key].get("step") == 1 else -1),
    )


def _take(said: Any) -> None:
    """Keep what the browser says is set, where it can be right: anybody may send anything."""
    if not isinstance(said, dict):
        return
    if said.get("view") in VIEWS:
        chosen.keep("view", said["view"])
    opacity: Any = said.get("opacity")
    if type(opacity) in (int, float) and math.isfinite(opacity):
        chosen.keep("opacity", round(min(1.0, max(0.0, float(opacity))), 2))
    hidden = said.get("hidden")
    if isinstance(hidden, list) and len(hidden) <= LONGEST and all(isinstance(name, str) for name in hidden):
        chosen.keep("hidden", tuple(sorted({name[:LONGEST] for name in hidden})))
