"""Where the pictures of a tab come from: files, an example, the camera."""

import hashlib

import streamlit as st

from app import common
from runtime.errors import UserError

FILES, CAMERA, FILM = SOURCES = ("Files", "Camera", "Film")
MOST_FILES = 20
Picture = tuple[bytes, str]  # bytes and name


def choose_pictures(tab: str) -> list[Picture]:
    """The uploads, or else the example that is selected. UserError for what is too much or too large."""
    uploads = st.file_uploader(
        f"Your pictures (JPEG, PNG or WebP, up to {common.UPLOAD_MB} MB each)",
        type=common.PICTURES,
        accept_multiple_files=True,
        key=f"{tab}_upload",
        max_upload_size=common.UPLOAD_MB,
    )
    seen = st.session_state.get(f"{tab}_seen", 0)
    if len(uploads) != seen:  # look at the first of what was added last, until the visitor chooses
        st.session_state[f"{tab}_which"] = seen if seen < len(uploads) else 0
        st.session_state[f"{tab}_seen"] = len(uploads)
    if not uploads:
        example = common.choose_example(tab)
        return [example] if example else []
    if len(uploads) > MOST_FILES:
        raise UserError(
            f"{len(uploads)} pictures are too many; up to {MOST_FILES} are taken at once "
            "(python -m runtime takes any number)."
        )
    return [common.checked_upload(upload) for upload in uploads]


def choose_one(pictures: list[Picture], tab: str) -> Picture:
    """The one that is looked at."""
    if len(pictures) == 1:
        return pictures[0]
    number = st.selectbox(
        f"Which of the {len(pictures)}",
        range(len(pictures)),
        format_func=lambda index: f"{index + 1}. {pictures[index][1]}",
        key=f"{tab}_which",
    )
    return pictures[number]


def camera_picture(tab: str) -> list[Picture]:
    """What the visitor's camera took; the browser asks for leave."""
    shot = st.camera_input("A picture from your camera", key=f"{tab}_camera")
    return [(common.checked_upload(shot)[0], "camera.jpg")] if shot else []


def token(picture: Picture) -> str:
    """What tells this picture from others."""
    return hashlib.sha256(picture[0]).hexdigest()[:16]
