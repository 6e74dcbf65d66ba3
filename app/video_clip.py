"""A short video, segmented frame by frame."""

from pathlib import Path
from typing import Any

import streamlit as st

from app import common, downloads
from app.archive import safe_stem
from app.plain_text import escaped
from runtime.confined_video import Made, segment_safely
from runtime.video import SUFFIXES

MOST_FRAMES = 750  # half a minute at 25 frames a second
MOST_PIXELS = 4096 * 2304


def show(method: tuple[Any, ...], opacity: float) -> None:
    upload = st.file_uploader(
        f"Your video (up to {common.UPLOAD_MB} MB and {MOST_FRAMES} frames)",
        type=[suffix[1:] for suffix in SUFFIXES],
        key="segment_film",
        max_upload_size=common.UPLOAD_MB,
    )
    if method[0] in (common.BINARY, common.OTSU):
        st.info("A video wants a model; a threshold segments images.")
        return
    smooth = st.slider("Frames that a new class waits, against flicker", 1, 9, 1, key="segment_smooth")
    if upload is None:
        st.info("Upload a short video to begin; it is segmented frame by frame, without its sound.")
        return
    key = (upload.file_id, method, opacity, smooth)
    if st.button("Segment the video", type="primary", key="segment_film_start"):
        st.session_state["video"] = None
        st.session_state["video"] = (key, *segmented(upload, method, opacity, smooth))
    kept = st.session_state.get("video")
    if not kept or kept[0][0] != upload.file_id:
        return
    if kept[0] != key:
        st.caption("Settings have changed since this was made.")
    _, video, report, facts = kept
    st.video(video, format="video/webm", width="stretch")
    st.markdown(
        f"**{facts['frames']} frames** of {facts['size'][1]}×{facts['size'][0]} in {facts['seconds']:.1f} s · "
        f"{facts['frames_per_second']:.1f} frames/s"
        + ("" if facts["complete"] else f" · stopped after {facts['frames']} frames")
    )
    st.html(common.legend_table(facts["classes"]))
    stem = safe_stem(upload.name)
    downloads.button("Video (WebM)", video, f"{stem}_overlay.webm", "video/webm", "segment_film_file")
    downloads.button("Legend (JSON)", report, f"{stem}.json", "application/json", "segment_film_report")


def segmented(upload: object, method: tuple[Any, ...], opacity: float, smooth: int) -> Made:
    """The video as WebM, its report as JSON, and the report; made in another process, see `runtime.confined_video`."""
    data, name = common.checked_upload(upload)
    limits = {"most_frames": MOST_FRAMES, "most_pixels": MOST_PIXELS}
    line = st.empty()
    options = {**limits, "opacity": opacity, "smooth": smooth, "fit": common.fit_of(method)}

    def say(text: str) -> None:
        line.caption(escaped(text))

    made = segment_safely(Path(str(method[0])), data, name, options, say)
    line.empty()
    return made
