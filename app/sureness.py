"""A doubt of the model on an image, and what it is not for: what stands under the picture."""

from typing import Any

import streamlit as st

from app.common import BINARY, OTSU, load_segmenter
from app.plain_text import escaped
from app.words import data_of, not_for
from runtime.segmenter import Segmentation


def show(result: Segmentation, method: tuple[Any, ...]) -> None:
    """A doubt where there is one, which a phone shows next to the picture, and what the model is not for."""
    if result.doubt:
        with st.container(key="doubt"):
            st.warning(escaped(result.doubt))
    if method[0] not in (BINARY, OTSU):
        note = load_segmenter(str(method[0]), method[1]).bundle
        st.caption(not_for(method[0].stem, data_of(note.facts) if note else ""))
