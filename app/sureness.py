"""How sure the model is of an image, and what it is not for: what stands under the picture."""

from typing import Any

import streamlit as st

from app.common import BINARY, OTSU, load_segmenter
from app.plain_text import escaped
from app.views import SURENESS
from app.words import data_of, not_for, percent
from runtime.segmenter import Segmentation


def show(result: Segmentation, method: tuple[Any, ...]) -> None:
    """A doubt where there is one, the mean confidence, and what a model is not for."""
    if result.doubt:
        st.warning(escaped(result.doubt))
    if result.mean_confidence is not None:
        st.caption(
            f'How sure: mean confidence {percent(result.mean_confidence)}. The view "{SURENESS}" shows where it is '
            "less: purple, orange, yellow."
        )
    if method[0] not in (BINARY, OTSU):
        note = load_segmenter(str(method[0]), method[1]).bundle
        st.caption(not_for(data_of(note.facts) if note else ""))
