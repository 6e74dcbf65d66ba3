"""What every tab of the page shares: images, models and what they said, and how a legend looks.

KERBSIDE_ROOT names another folder to look for models/, runs/ and examples/ in (the tests use it). Without it they are
those of the checkout; of an installed package runs/ is that of the folder where the page was started.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import chosen
from app.palettes import NAMES as PALETTES
from app.views import for_a_screen
from app.words import model_choice, model_name
from runtime import installation
from runtime.encoding import memory_for
from runtime.errors import UserError
from runtime.fit import FITS
from runtime.image import read_rgb
from runtime.segmenter import Segmentation, Segmenter
from runtime.threshold_segmenter import SIDES, binary, multi_otsu, otsu

Image = tuple[bytes, str]  # bytes and name
UPLOAD_MB = 20
IMAGES = ["png", "jpg", "jpeg", "webp", "bmp"]
REFUSED = [
    "svg",
    "gif",
    "tif",
    "tiff",
    "heic",
    "avif",
]  # sent all the same, so that one sentence says why not
SHOWN_SIDE = 1400  # pixels: larger images are shown smaller, and downloaded whole
OPACITY = 0.55  # of the colours, at first
LEVELS = (2, 3, 4)
BINARY, OTSU = "Binary threshold", "Otsu's threshold"
FIT_NAMES = {
    "auto": "by its shape",
    "letterbox": "whole, with a border",
    "stretch": "stretched",
    "tiles": "in overlapping tiles",
}
HOW_TO_GET_A_MODEL = """\
**No model yet.** `make train` trains one, and
`python -m export runs/NAME --format tflite --precision int8 --size 512x1024` turns it into the `.tflite` file
that appears here. Until then, the two thresholds need no model."""


def root() -> Path:
    """The folder of what is made here: runs/ and feedback/."""
    here = Path.cwd() if installation.installed() else installation.shipped()
    return Path(os.environ.get("KERBSIDE_ROOT", here))


def shipped() -> Path:
    """The folder of what ships: models/, examples/ and docs/models/."""
    return Path(os.environ.get("KERBSIDE_ROOT", installation.shipped()))


def below(path: Path) -> str:
    """A file's name below one of the two."""
    above = root() if path.is_relative_to(root()) else shipped()
    return path.relative_to(above).as_posix()


def model_files() -> list[Path]:
    """What ships first, then what was exported here, the newest first; the halves of a SAM are not among them."""
    theirs, own = (
        [
            path
            for path in folder.rglob("*.tflite")
            if path.is_file() and not path.stem.endswith(("-encoder", "-decoder"))
        ]
        for folder in (shipped() / "models", root() / "runs")
    )
    return sorted(theirs) + sorted(own, key=lambda path: path.stat().st_mtime, reverse=True)


@st.cache_resource(max_entries=6, show_spinner="Loading the model")
def load_segmenter(path: str, changed: int) -> Segmenter:
    """One segmenter for all visitors (it locks itself); `changed` makes a new file a new entry."""
    return Segmenter(path).warm_up()


def checked_upload(upload: Any) -> tuple[bytes, str]:
    """Bytes and name of what was uploaded; UserError when there are too many of them (config.toml refuses such files
    as well, but the page may be started elsewhere). Nothing is decoded here."""
    if upload.size > UPLOAD_MB * 2**20:
        raise UserError(
            f"{upload.name} has {upload.size / 2**20:.0f} MB; files of up to {UPLOAD_MB} MB are taken."
        )
    return upload.getvalue(), upload.name


def examples() -> list[Path]:
    """The images that ship; those that have a mask last."""
    folder = shipped() / "examples"
    alone = sorted(path for path in folder.glob("*") if path.suffix in (".png", ".jpg"))
    return alone + sorted(
        path for path in (folder / "masks").glob("*.jpg") if path.with_suffix(".png").is_file()
    )


def short_name(method: str) -> str:
    """A method of `choose_method` as people read it."""
    return model_name(method.removeprefix("models/").removesuffix(".tflite"))


def choice_name(method: str) -> str:
    """`short_name` and what it is good for."""
    if method in (BINARY, OTSU):
        return f"{method} (by brightness, no AI)"
    return model_choice(method.removeprefix("models/").removesuffix(".tflite"))


def method_name(method: tuple[Any, ...]) -> str:
    """In words, for a file."""
    return Path(str(method[0])).stem if isinstance(method[0], Path) else " ".join(map(str, method))


def choose_method(tab: str, folded: DeltaGenerator | None = None) -> tuple[Any, ...]:
    """What segments the image, as a key that says all of it: (method, its settings...). The same in every tab.
    `folded` is where the settings go that few need."""
    files = {below(path): path for path in model_files()}
    method = chosen.one_of(
        st.selectbox, "Model", [*files, BINARY, OTSU], "method", f"{tab}_method", format_func=choice_name
    )
    if method in files:
        with st.expander("More settings") if folded is None else folded:
            return (files[method], files[method].stat().st_mtime_ns, choose_fit(tab))
    if method == OTSU:
        levels = chosen.one_of(
            st.radio, "Number of brightness groups", LEVELS, "levels", f"{tab}_levels", horizontal=True
        )
        if levels > 2:
            return (OTSU, SIDES[0], levels)
    side = chosen.one_of(
        st.radio,
        "Highlight",
        SIDES,
        "side",
        f"{tab}_side",
        format_func=lambda side: f"{side} areas",
        horizontal=True,
    )
    if method == OTSU:
        return (OTSU, side, 2)
    return (BINARY, chosen.slider("Threshold", 0, 255, 1, 127, "threshold", f"{tab}_threshold"), side)


def choose_fit(tab: str) -> str:
    """How an image of another shape than the model's comes before it: a row of `runtime.fit.FITS`."""
    return chosen.one_of(
        st.selectbox,
        "Fit to the model",
        FITS,
        "fit",
        f"{tab}_fit",
        format_func=FIT_NAMES.__getitem__,
        help="How an image of another shape than the model's input comes before it. Tiles take longest.",
    )


def fit_of(method: tuple[Any, ...]) -> str:
    """The fit that a method of a model's file holds; without one it is auto."""
    return str(method[2]) if len(method) > 2 else FITS[0]


def choose_colours(tab: str) -> str:
    return chosen.one_of(
        st.selectbox, "Colours", PALETTES, "colours", f"{tab}_colours", format_func=str.capitalize
    )


def choose_opacity(tab: str) -> float:
    """Of the classes' colours over the image, 0..1, the same in every tab."""
    return chosen.slider("Opacity of the colours", 0.0, 1.0, 0.05, OPACITY, "opacity", f"{tab}_opacity")


def segmented(data: bytes, name: str, method: tuple[Any, ...]) -> Segmentation:
    """Segment, or take the last result of this visitor when neither image nor method has changed."""
    key = (hashlib.sha256(data).hexdigest(), *method)
    if st.session_state.get("result_key") == key:
        return st.session_state["result"]
    result = segment(data, name, method)
    st.session_state["result_key"], st.session_state["result"] = key, result
    return result


def segment(data: bytes, name: str, method: tuple[Any, ...]) -> Segmentation:
    """Decode and segment; nothing is remembered. UserError when the image or the model cannot be trusted."""
    return segment_rgb(read_rgb(data, name=name), method)


def segment_rgb(rgb: np.ndarray, method: tuple[Any, ...]) -> Segmentation:
    """`segment` of an image that has been decoded, uint8 (H, W, 3)."""
    with memory_for("This image"):
        return _segment_rgb(rgb, method)


def _segment_rgb(rgb: np.ndarray, method: tuple[Any, ...]) -> Segmentation:
    if method[0] == BINARY:
        return binary(rgb, value=method[1], foreground=method[2])
    if method[0] == OTSU:
        return otsu(rgb, foreground=method[1]) if method[2] == 2 else multi_otsu(rgb, method[2])
    return load_segmenter(str(method[0]), method[1]).segment(rgb, fit_of(method))


def for_the_screen(result: Segmentation) -> Segmentation:
    return for_a_screen(result, SHOWN_SIDE)
