"""How sure the model is of an image, and what it is not for: what stands under the picture."""

from typing import Any

import cv2
import numpy as np
import streamlit as st

from app.common import BINARY, OTSU, for_the_screen
from app.plain_text import escaped
from app.words import percent
from runtime.segmenter import Segmentation

NOT_FOR = (
    "Not for anything that steers a vehicle or warns a driver.  \n"
    "What it learnt from is few streets by day: elsewhere, and at night, it is wrong more often."
)


def show(result: Segmentation, method: tuple[Any, ...]) -> None:
    """A doubt where there is one, the mean confidence with a heat map to unfold, and what a model is not for."""
    if result.doubt:
        st.warning(escaped(result.doubt))
    if result.mean_confidence is not None:
        with st.expander(f"How sure: mean confidence {percent(result.mean_confidence)}"):
            confidence = for_the_screen(result).confidence
            if confidence is not None:
                st.image(heat(confidence), caption="Dark: sure; bright: unsure.", width="stretch")
    if method[0] not in (BINARY, OTSU):
        st.caption(NOT_FOR)


def heat(confidence: np.ndarray) -> np.ndarray:
    """Confidence, float32 (H, W), 0..1 -> uint8 RGB (H, W, 3): the less sure, the brighter, in OpenCV's inferno."""
    unsure = np.rint(255 * (1 - np.clip(confidence, 0, 1))).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(unsure, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
