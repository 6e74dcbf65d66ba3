"""A short video, segmented frame by frame."""

import time
from pathlib import Path
from typing import Any

import streamlit as st

from app import common, downloads, palettes, sample_video, timeline, told, video_job
from app.archive import safe_stem
from app.plain_text import escaped
from runtime.confined_video import Made
from runtime.errors import UserError
from runtime.video import SUFFIXES

MOST_FRAMES = 750  # half a minute at 25 frames a second
MOST_PIXELS = 4096 * 2304
LONGER = (
    f"Longer videos, and files of more than {common.UPLOAD_MB} MB: on a machine where Kerbside is installed, "
    "`kerbside run MODEL.tflite VIDEO.mp4 --out OUT.mp4`."
)
FILM = "segment_film_shown"  # the key of the place where the video is
Clip = tuple[str, bytes, str]  # what tells it from others, bytes and name


def show(method: tuple[Any, ...], looks: dict[str, Any]) -> None:
    """`looks`: colours and opacity, as they are set."""
    upload = st.file_uploader(
        f"Your video (up to {common.UPLOAD_MB} MB and {MOST_FRAMES} frames)",
        type=[suffix[1:] for suffix in SUFFIXES],
        key="segment_film",
        max_upload_size=common.UPLOAD_MB,
    )
    if method[0] in (common.BINARY, common.OTSU):
        st.info("A video wants a model; a threshold segments images.")
        return
    smooth = st.slider("Steadiness (1 = off)", 1, 9, 1, key="segment_smooth")
    st.caption(LONGER)
    clip = given(upload)
    if clip is None:
        st.info("Upload a short video to begin; it is segmented frame by frame, without its sound.")
        return
    key = (clip[0], method, looks["colours"], looks["opacity"], smooth)
    job = st.session_state.get("video_job")
    if job is not None and job.running:
        watch(job)
        return
    if st.button("Segment the video", type="primary", key="segment_film_start"):
        st.session_state["video_job"] = begun(key, clip)
        st.rerun()
    if job is None or job.key[0] != clip[0]:
        return
    if job.error:
        raise UserError(job.error)
    if job.key != key:
        st.caption("Settings have changed since this was made.")
    show_made(job.made, safe_stem(clip[2]))


def given(upload: Any) -> Clip | None:
    """The upload, else the sample; None where there is neither."""
    if upload is not None:
        return (upload.file_id, *common.checked_upload(upload))
    images = common.examples()
    if not images:
        return None
    st.caption("No video is chosen: the sample is taken, a slow zoom into the drawn examples.")
    return (sample_video.NAME, sample(tuple(map(str, images))), sample_video.NAME)


@st.cache_resource(max_entries=1, show_spinner="Making the sample video")
def sample(images: tuple[str, ...]) -> bytes:
    """One for all visitors."""
    return sample_video.made([Path(image) for image in images])


@st.fragment(run_every=0.7)
def watch(job: video_job.Job) -> None:
    """How far it is, and a button that ends it with what there is by then."""
    job.seen = time.monotonic()
    if not job.running:
        st.rerun()
    st.progress(job.share, text=escaped(job.line))
    if st.button("Stop and keep what there is", disabled=job.stop, key="segment_film_stop"):
        job.stop = True


def show_made(made: Made, stem: str) -> None:
    """The video, its legend and its files."""
    video, report, facts = made
    with st.container(key=FILM):
        st.video(video, format="video/webm", width="stretch", alt=f"{stem}, segmented")
    if facts.get("timeline"):
        timeline.show(facts, FILM, "segment_timeline")
    st.markdown(
        f"**{facts['frames']} frames** of {facts['size'][1]}×{facts['size'][0]} in {facts['seconds']:.1f} s · "
        f"{facts['frames_per_second']:.1f} frames/s"
        + ("" if facts["complete"] else f" · stopped after {facts['frames']} frames")
    )
    st.html(told.legend_table(facts["classes"]))
    downloads.button("Video (WebM)", video, f"{stem}_overlay.webm", "video/webm", "segment_film_file")
    downloads.button("Legend (JSON)", report, f"{stem}.json", "application/json", "segment_film_report")
    if facts.get("timeline"):
        data = timeline.as_csv(facts)
        downloads.button("Timeline (CSV)", data, f"{stem}_timeline.csv", "text/csv", "segment_film_timeline")


def begun(key: tuple[Any, ...], clip: Clip) -> video_job.Job:
    """The job that makes the video as WebM and its report, in another process: see `runtime.confined_video`."""
    _, data, name = clip
    _, method, colours, opacity, smooth = key
    options: dict[str, Any] = {
        "most_frames": MOST_FRAMES,
        "most_pixels": MOST_PIXELS,
        "opacity": opacity,
        "smooth": smooth,
        "timeline": True,
    }
    options["fit"] = common.fit_of(method)
    if colours == palettes.SAFE:
        classes = len(common.load_segmenter(str(method[0]), method[1]).palette)
        options["palette"] = palettes.safe_palette(classes)
    return video_job.start(key, Path(str(method[0])), data, name, options)
