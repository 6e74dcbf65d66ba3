"""Where the images of a tab come from: files, an example, the camera."""

import hashlib

import streamlit as st

from app import common
from app.common import Image
from runtime.errors import UserError

FILES, CAMERA, VIDEO = SOURCES = ("Files", "Camera", "Video")
MOST_FILES = 20


def choose_images(tab: str) -> list[Image]:
    """The uploads, or else the example that is selected. UserError for what is too much or too large."""
    uploads = st.file_uploader(
        f"Your images (JPEG, PNG or WebP, up to {common.UPLOAD_MB} MB each)",
        type=common.IMAGES + common.REFUSED,
        accept_multiple_files=True,
        key=f"{tab}_upload",
        max_upload_size=common.UPLOAD_MB,
    )
    seen = st.session_state.get(f"{tab}_seen", 0)
    if len(uploads) != seen:  # look at the first of what was added last, until the visitor chooses
        st.session_state[f"{tab}_which"] = seen if seen < len(uploads) else 0
        st.session_state[f"{tab}_seen"] = len(uploads)
    if not uploads:
        example = common.choose_example(tab, [])
        return [example] if example else []
    if len(uploads) > MOST_FILES:
        raise UserError(f"{len(uploads)} images are too many; up to {MOST_FILES} are taken at once.")
    return [common.checked_upload(upload) for upload in uploads]


def choose_one(images: list[Image], tab: str) -> Image:
    """The one that is looked at."""
    if len(images) == 1:
        return images[0]
    number = st.selectbox(
        f"Which of the {len(images)}",
        range(len(images)),
        format_func=lambda index: f"{index + 1}. {images[index][1]}",
        key=f"{tab}_which",
    )
    return images[number]


def camera_image(tab: str) -> list[Image]:
    """What the visitor's camera took; the browser asks for leave."""
    shot = st.camera_input("An image from your camera", key=f"{tab}_camera")
    return [(common.checked_upload(shot)[0], "camera.jpg")] if shot else []


def token(image: Image) -> str:
    """What tells this image from others."""
    return hashlib.sha256(image[0]).hexdigest()[:16]
