"""The tab that cuts out one object: click points or draw a box, with an exported SAM."""

import hashlib
import threading
import time
from pathlib import Path

import numpy as np
import streamlit as st

from app import common, sources
from app.clickable_image import canvas
from app.correct_tab import points_of
from app.edits import check_inside
from app.plain_text import escaped
from runtime import strict_json
from runtime.errors import UserError
from runtime.image import overlay, png, read_rgb
from runtime.prompted import BACKGROUND, FOREGROUND, PromptedSegmenter

ENCODER, DECODER = "-encoder.tflite", "-decoder.tflite"
INSIDE, OUTSIDE, BOX = "a point in the object", "a point not in it", "a box around it"
COLOUR = (255, 60, 40)
HOW_TO_GET_ONE = """\
**No prompted model yet.** `python -m training.train sam --data scenes` trains a small one, and
`python -m export runs/sam-scenes --format tflite` turns it into the two files, NAME-encoder.tflite and
NAME-decoder.tflite, that appear here."""


def show() -> None:
    controls, main = st.container(key="layout").columns([1.1, 3], gap="medium")
    pairs = prompted_files()
    if not pairs:
        main.info(HOW_TO_GET_ONE)
        return
    try:
        with controls:
            image = sources.choose_image("prompted")
            chosen = st.selectbox("Model", pairs, format_func=name_of, key="prompted_model")
            way = st.radio("A click gives", (INSIDE, OUTSIDE, BOX), key="prompted_way")
        if image is None:
            main.info("Upload an image of a road to begin.")
            return
        rgb, found = encoded(*image, *chosen)
        with main:
            show_prompt(rgb, found, chosen, way, Path(image[1]).stem)
    except UserError as error:
        main.error(escaped(str(error)))


def prompted_files() -> list[tuple[Path, Path]]:
    """Encoder and decoder of each prompted model that ships or was exported here, by name."""
    folders = (common.shipped() / "models", common.root() / "runs")
    encoders = [path for folder in folders for path in sorted(folder.rglob(f"*{ENCODER}"))]
    pairs = [(path, path.with_name(path.name.removesuffix(ENCODER) + DECODER)) for path in encoders]
    return [pair for pair in pairs if all(path.is_file() for path in pair)]


def name_of(pair: tuple[Path, Path]) -> str:
    return common.short_name(common.below(pair[0])).removesuffix("-encoder")


@st.cache_resource(max_entries=2, show_spinner="Loading the model")
def load(encoder: str, decoder: str, changed: tuple[int, int]) -> tuple[PromptedSegmenter, threading.Lock]:
    """One for all visitors, and its lock: it remembers an image, which is set again before each use."""
    return PromptedSegmenter(encoder, decoder), threading.Lock()


def loaded(pair: tuple[Path, Path]) -> tuple[PromptedSegmenter, threading.Lock]:
    encoder, decoder = pair
    return load(str(encoder), str(decoder), (encoder.stat().st_mtime_ns, decoder.stat().st_mtime_ns))


def encoded(data: bytes, name: str, encoder: Path, decoder: Path) -> tuple[np.ndarray, dict]:
    """The image and what this visitor keeps of it: its embedding, its prompt, the seconds it took."""
    key = (hashlib.sha256(data).hexdigest(), str(encoder), encoder.stat().st_mtime_ns)
    found = st.session_state.get("prompted_found")
    if found is None or found["key"] != key:
        rgb = read_rgb(data, name=name)
        segmenter, lock = loaded((encoder, decoder))
        with lock, st.spinner("Encoding the image"):
            start = time.perf_counter()
            embedding = segmenter.set_image(rgb).embedding
            seconds = time.perf_counter() - start
            segmenter.embedding = None
        found = {"key": key, "rgb": rgb, "embedding": embedding, "seconds": seconds}
        found |= {"points": [], "labels": [], "box": None}
        st.session_state["prompted_found"] = found
    return found["rgb"], found


def show_prompt(rgb: np.ndarray, found: dict, pair: tuple[Path, Path], way: str, stem: str) -> None:
    left, right = st.columns([2.4, 1], gap="medium")
    masks, scores, seconds = cut_out(rgb, found, pair)
    with right:
        place = show_choice(masks, scores)
    shown = rgb
    if masks is not None:
        shown = overlay(rgb, np.where(masks[place], 0, 255).astype(np.uint8), (COLOUR,), 0.5)
    with left:
        marks = [
            (x, y, label == FOREGROUND)
            for (x, y), label in zip(found["points"], found["labels"], strict=True)
        ]
        drawn = canvas(
            shown,
            key="prompted_canvas",
            mode="box" if way == BOX else "point",
            label="The image. Click a point of the object, or the two corners of a box around it.",
            size=rgb.shape[:2],
            marks=marks,
            box=found["box"],
            serial=f"{found['key']} {len(marks)}",
        )
        st.caption("Tab to the image; arrow keys move the cross (with Shift by ten), Enter clicks.")
        with st.form("prompted_form", border=False):
            typed, button = st.columns([3, 1], vertical_alignment="bottom")
            text = typed.text_input(
                "or type a point x,y, or a box's two corners", placeholder="410,120", key="prompted_points"
            )
            if button.form_submit_button("Take", width="stretch"):
                drawn = points_of(text)
        if drawn:
            take(drawn, way, found, rgb.shape, loaded(pair)[0].slots)
            st.rerun()
    with right:
        st.caption(
            f"encoded in {found['seconds'] * 1e3:.0f} ms"
            + (f", cut out in {seconds * 1e3:.0f} ms" if seconds else "")
        )
        if st.button("Begin anew", disabled=masks is None, width="stretch", key="prompted_clear"):
            found |= {"points": [], "labels": [], "box": None}
            st.rerun()
        if masks is not None:
            show_downloads(rgb, masks[place], float(scores[place]), found, stem)


def take(drawn: list[list[int]], way: str, found: dict, shape: tuple[int, ...], slots: int) -> None:
    """Add what was drawn to the prompt; UserError when it lies outside the image or is one point too many."""
    for x, y in drawn:
        check_inside(shape, x, y)
    if len(drawn) == 2:
        (x1, y1), (x2, y2) = drawn
        found["box"] = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
        return
    if len(drawn) != 1 or len(found["points"]) >= slots:
        raise UserError(f"a prompt takes up to {slots} points, one at a time, or the two corners of a box.")
    found["points"].append(tuple(drawn[0]))
    found["labels"].append(BACKGROUND if way == OUTSIDE else FOREGROUND)


def cut_out(
    rgb: np.ndarray, found: dict, pair: tuple[Path, Path]
) -> tuple[np.ndarray | None, np.ndarray, float]:
    """Masks bool (N, H, W), the IoU expected of each, and the seconds it took; None without a prompt."""
    if not found["points"] and found["box"] is None:
        return None, np.zeros(0), 0.0
    segmenter, lock = loaded(pair)
    alone = (
        len(found["points"]) == 1 and found["box"] is None
    )  # one point may mean the whole, a part, or less
    with lock:
        segmenter.embedding, segmenter.image_size = found["embedding"], rgb.shape[:2]
        start = time.perf_counter()
        masks, scores = segmenter.predict(found["points"], found["labels"], found["box"], multimask=alone)
        segmenter.embedding = None
    order = np.argsort(-scores)
    return masks[order], scores[order], time.perf_counter() - start


def show_choice(masks: np.ndarray | None, scores: np.ndarray) -> int:
    if masks is None:
        st.info("Click a point of an object, or draw a box around it.")
        return 0
    return st.radio(
        "Mask",
        range(len(masks)),
        format_func=lambda n: f"{masks[n].mean():.1%} of the image, expected IoU {scores[n]:.2f}",
        key=f"prompted_mask_{len(masks)}",
    )


def show_downloads(rgb: np.ndarray, mask: np.ndarray, score: float, found: dict, stem: str) -> None:
    facts = {
        "points": [list(point) for point in found["points"]],
        "labels": found["labels"],
        "box": found["box"],
        "iou_expected": score,
        "share": float(mask.mean()),
    }
    cut = np.where(mask[..., None], rgb, 255).astype(np.uint8)
    for label, end, mime, make in (
        ("Mask (PNG)", "_object.png", "image/png", lambda: png(255 * mask.astype(np.uint8))),
        ("Cut-out (PNG)", "_cutout.png", "image/png", lambda: png(cut)),
        ("Prompt (JSON)", "_prompt.json", "application/json", lambda: strict_json.written(facts)),
    ):
        st.download_button(
            label, data=make, file_name=stem + end, mime=mime, on_click="ignore", width="stretch"
        )
