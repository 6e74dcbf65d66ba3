"""What every tab of the page shares: pictures, models and what they said, and how a legend looks.

KERBSIDE_ROOT names another folder to look for models/, runs/ and examples/ in (the tests use it).
"""

import dataclasses
import hashlib
import html
import os
from pathlib import Path

import streamlit as st

from runtime.image import read_rgb, resize_ids, resize_rgb
from runtime.segmenter import Segmentation, Segmenter
from runtime.threshold import SIDES, binary, otsu, otsu_value

UPLOAD_MB = 20
SHOWN_SIDE = 1400  # pixels: larger pictures are shown smaller, and downloaded whole
BINARY, OTSU = "Binary threshold", "Otsu's threshold"
HOW_TO_GET_A_MODEL = """\
**No model yet.** `make train` trains one, and
`python -m export runs/NAME --format tflite --precision int8 --size 512x1024` turns it into the `.tflite` file
that appears here. Until then, the two thresholds need no model."""

STYLE = """
<style>
.block-container, [data-testid="stMainBlockContainer"] {padding: 2.2rem 2rem 2rem; max-width: 90rem}
@media (max-width: 640px) {[data-testid="stMainBlockContainer"] {padding: 2.2rem 1rem 1rem}}
.legend {width: 100%; border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums}
.legend td {padding: 0.22rem 0.3rem; border: 0; vertical-align: middle}
.legend .swatch {display: block; width: 1rem; height: 1rem; border-radius: 0.2rem;
  box-shadow: inset 0 0 0 1px rgba(0, 0, 0, 0.25)}
.legend .name {overflow-wrap: break-word; min-width: 6.4rem}
.legend .bar {width: 30%}
.legend .bar span {display: block; height: 0.45rem; border-radius: 0.2rem; min-width: 2px}
.legend .share {text-align: right; width: 3.6rem}
</style>
"""


def root() -> Path:
    """The folder of models/, runs/ and examples/."""
    return Path(os.environ.get("KERBSIDE_ROOT", Path(__file__).parents[1]))


def model_files() -> list[Path]:
    """What ships first, then what was exported here, the newest first."""
    shipped, own = (
        [path for path in (root() / folder).rglob("*.tflite") if path.is_file()]
        for folder in ("models", "runs")
    )
    return sorted(shipped) + sorted(own, key=lambda path: path.stat().st_mtime, reverse=True)


@st.cache_resource(max_entries=3, show_spinner="Loading the model")
def load_segmenter(path: str, changed: int) -> Segmenter:
    """One segmenter for all visitors (it locks itself); `changed` makes a new file a new entry."""
    return Segmenter(path).warm_up()


def choose_picture(tab: str) -> tuple[bytes, str] | None:
    """The upload, or else the example that is selected: its bytes and its name. `tab` begins the widgets' keys."""
    examples = sorted(path for path in (root() / "examples").glob("*") if path.suffix in (".png", ".jpg"))
    upload = st.file_uploader(
        f"Your picture (up to {UPLOAD_MB} MB)",
        type=["png", "jpg", "jpeg", "webp", "bmp"],
        key=f"{tab}_upload",
    )
    if upload is not None:
        return upload.getvalue(), upload.name
    if not examples:
        return None
    chosen = st.selectbox(
        "or an example", examples, format_func=lambda path: path.stem.replace("_", " "), key=f"{tab}_example"
    )
    return chosen.read_bytes(), chosen.name


def short_name(method: str) -> str:
    return method.removeprefix("models/").removesuffix(".tflite")


def choose_method(tab: str) -> tuple[object, ...]:
    """What segments the picture, as a key that says all of it: (method, its settings...)."""
    files = {path.relative_to(root()).as_posix(): path for path in model_files()}
    method = st.selectbox(
        "Model", [*files, BINARY, OTSU], index=0 if files else 1, format_func=short_name, key=f"{tab}_method"
    )
    if method in files:
        return (files[method], files[method].stat().st_mtime_ns)
    side = st.radio(
        "Foreground", SIDES, format_func=lambda side: f"the {side} side", horizontal=True, key=f"{tab}_side"
    )
    if method == OTSU:
        return (OTSU, side)
    return (BINARY, st.slider("Threshold", 0, 255, 127, key=f"{tab}_threshold"), side)


def segmented(data: bytes, name: str, method: tuple[object, ...]) -> Segmentation:
    """Segment, or take the last result of this visitor when neither picture nor method has changed."""
    key = (hashlib.sha256(data).hexdigest(), *method)
    if st.session_state.get("result_key") == key:
        return st.session_state["result"]
    rgb = read_rgb(data, name=name)
    if method[0] == BINARY:
        result = binary(rgb, value=method[1], foreground=method[2])
    elif method[0] == OTSU:
        result = otsu(rgb, foreground=method[1])
    else:
        result = load_segmenter(str(method[0]), method[1]).segment(rgb)
    st.session_state["result_key"], st.session_state["result"] = key, result
    return result


def for_the_screen(result: Segmentation) -> Segmentation:
    height, width = result.ids.shape
    scale = min(1.0, SHOWN_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return dataclasses.replace(result, ids=resize_ids(result.ids, size), rgb=resize_rgb(result.rgb, size))


def about(result: Segmentation, method: tuple[object, ...]) -> str:
    """One line under the overlay: time, sizes, and where the model comes from."""
    height, width = result.ids.shape
    parts = [f"**{result.seconds * 1e3:.1f} ms**", f"picture {width}×{height}"]
    if method[0] == OTSU:
        return " · ".join([*parts, f"threshold {otsu_value(result.rgb)}"])
    if method[0] == BINARY:
        return " · ".join(parts)
    segmenter = load_segmenter(str(method[0]), method[1])
    parts.append(f"model input {segmenter.size[1]}×{segmenter.size[0]}")
    note = segmenter.bundle
    if note is not None:
        parts += [fact for fact in (note.model, note.data, note.precision) if fact]
        if note.miou is not None:
            parts.append(f"mIoU {note.miou:.1%} at export")
    return " · ".join(parts)


def legend_table(legend: list[dict]) -> str:
    """Swatch, name, bar and share; names come out of model files, so they are escaped."""
    largest = max(row["share"] for row in legend)
    rows = []
    for row in legend:
        colour = "rgb({}, {}, {})".format(*row["colour"])
        rows.append(
            f'<tr><td style="width:1.6rem"><span class="swatch" style="background:{colour}"></span></td>'
            f'<td class="name">{html.escape(row["name"])}</td>'
            f'<td class="bar"><span style="width:{row["share"] / largest:.1%};background:{colour}"></span></td>'
            f'<td class="share">{row["share"]:.1%}</td></tr>'
        )
    return f'<table class="legend">{"".join(rows)}</table>'
