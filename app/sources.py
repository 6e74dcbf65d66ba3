"""Where the images come from: files, the camera, and the examples. What a visitor gave is there in every tab."""

import functools
import hashlib
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from app import chosen, common
from app.common import Image
from app.frontend import address, registered, sent
from runtime.errors import UserError
from runtime.image import read_rgb, resize_rgb

FILES, CAMERA, VIDEO = SOURCES = ("Files", "Camera", "Video")
MOST_FILES = 20
THUMBNAIL = 192  # pixels, the width
SHOT = "camera.jpg"
RESOLUTION: Literal["1080p"] = "1080p"  # without one a photo is as wide as the place where it stands
_picker = registered("picker")


def choose_images(tab: str, first: tuple[Path, ...] = ()) -> list[Image]:
    """What can be looked at: the uploads, or else the example that is chosen. `tab` begins the widgets' keys; `first`
    are the examples that this tab begins with. UserError for what is too much or too large."""
    number = st.session_state.setdefault("uploads", 0)  # a new uploader once its files are taken
    with st.container(key=f"{tab}_upload"):
        key = f"{tab}_upload_{number}"
        st.file_uploader(
            f"Your images (JPEG, PNG or WebP, up to {common.UPLOAD_MB} MB each)",
            type=common.IMAGES + common.REFUSED,
            accept_multiple_files=True,
            key=key,
            max_upload_size=common.UPLOAD_MB,
            on_change=_take,
            args=(key,),
        )
        _show_picker(tab, first)
    if fault := st.session_state.pop("upload_fault", ""):
        raise UserError(fault)
    if _own() is not None:
        return mine()
    image = one(first)
    return [image] if image else []


def choose_image(tab: str, first: tuple[Path, ...] = ()) -> Image | None:
    """The one that is looked at, for a tab that takes one; None where there is none."""
    images = choose_images(tab, first)
    return choose_one(images) if images else None


def choose_one(images: list[Image]) -> Image:
    """The one of the images that is looked at."""
    return images[min(_own() or 0, len(images) - 1)]


def mine() -> list[Image]:
    """What this visitor gave, in any tab."""
    return chosen.get("images", [])


def one(first: tuple[Path, ...] = ()) -> Image | None:
    """The image that is looked at in every tab."""
    own = _own()
    if own is not None:
        return mine()[own]
    paths = {path.stem: path for path in [*first, *common.examples()]}
    path = paths.get(chosen.get("image")) or next(iter(paths.values()), None)
    return (path.read_bytes(), path.name) if path else None


def _own() -> int | None:
    """The place in `mine` of what is looked at; None while that is an example."""
    place = chosen.get("image")
    return place if isinstance(place, int) and 0 <= place < len(mine()) else None


def camera_image(tab: str) -> list[Image]:
    """What the visitor's camera took; the browser asks for leave."""
    key = f"{tab}_camera"
    shot = st.camera_input("An image from your camera", key=key, resolution=RESOLUTION)
    st.caption(
        "As large as your camera gives it to a page. For your phone's own photo, choose Files and Upload: the phone "
        "offers its camera there."
    )
    if shot and st.session_state.get("shot") != shot.file_id:
        st.session_state["shot"] = shot.file_id
        _add([(common.checked_upload(shot)[0], SHOT)])
    image = one()
    return [image] if image and image[1] == SHOT else []


def step(by: int) -> None:
    """Look at the next image, or the one before: the visitor's own, then the examples."""
    names = [*range(len(mine())), *(path.stem for path in common.examples())]
    if names:
        now = chosen.get("image")
        chosen.keep("image", names[((names.index(now) if now in names else 0) + by) % len(names)])


def token(image: Image) -> str:
    """What tells this image from others."""
    return hashlib.sha256(image[0]).hexdigest()[:16]


def _take(key: str) -> None:
    try:
        _add([common.checked_upload(upload) for upload in st.session_state.get(key) or []])
    except UserError as error:
        st.session_state["upload_fault"] = str(error)
    st.session_state["uploads"] += 1


def _add(images: list[Image]) -> None:
    """The first of what is new is looked at."""
    before = mine()
    if len(before) + len(images) > MOST_FILES:
        raise UserError(
            f"{len(before) + len(images)} images are too many; up to {MOST_FILES} are taken at once."
        )
    if images:
        chosen.keep("images", before + images)
        chosen.keep("image", len(before))


def _show_picker(tab: str, first: tuple[Path, ...]) -> None:
    """Small images to choose from: what the visitor gave, then what ships."""
    own = [
        {"id": index, "name": name, "image": _thumbnail((data, name))}
        for index, (data, name) in enumerate(mine())
    ]
    paths = dict.fromkeys([*first, *common.examples()])
    ours = [
        {"id": path.stem, "name": path.stem.replace("_", " ").removeprefix("drawn "), "image": _shipped(path)}
        for path in paths
    ]
    if not own and not ours:
        return
    image = one(first)
    now: Any = _own()
    if now is None and image:
        now = Path(image[1]).stem
    key = f"{tab}_images"
    groups = [{"title": "Your images", "items": own, "removes": True}] if own else []
    if ours:
        groups.append({"title": "Or an example (drawn, not photographed)", "items": ours, "removes": False})
    _picker(
        key=key,
        data=sent({"groups": groups, "chosen": now, "most": common.UPLOAD_MB}),
        on_chosen_change=lambda: _told(key, "chosen"),
        on_removed_change=lambda: _told(key, "removed"),
    )


def _told(key: str, what: str) -> None:
    """A visitor pressed a small image, or took one of theirs away; anybody may send anything."""
    said = st.session_state[key].get(what)
    if what == "chosen":
        if type(said) is int or (isinstance(said, str) and said in {path.stem for path in common.examples()}):
            chosen.keep("image", said)
        return
    images, now = mine(), chosen.get("image")
    if type(said) is int and 0 <= said < len(images):
        chosen.keep("images", images[:said] + images[said + 1 :])
        if isinstance(now, int) and now >= said:
            chosen.keep("image", now - 1 if now > 0 else (0 if len(images) > 1 else None))


def _thumbnail(image: Image) -> str:
    """As an address that holds it, made once a visit; "" of what cannot be read."""
    kept: dict[str, str] = st.session_state.setdefault("thumbnails", {})
    name = token(image)
    if name not in kept:
        kept[name] = _drawn(image[0])
    return kept[name]


def _shipped(path: Path) -> str:
    return _shipped_once(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _shipped_once(path: Path, changed: int) -> str:
    return _drawn(path.read_bytes())


def _drawn(data: bytes) -> str:
    try:
        rgb: Any = read_rgb(data)
    except UserError:
        return ""
    height, width = rgb.shape[:2]
    small = (
        resize_rgb(rgb, (max(1, round(height * THUMBNAIL / width)), THUMBNAIL)) if width > THUMBNAIL else rgb
    )
    return address(small)
