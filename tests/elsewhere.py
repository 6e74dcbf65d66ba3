"""The other places where an exported file runs, for tests: MediaPipe in Python, LiteRT's C API, a page in a browser.

Source of the C declarations: litert/c/litert_{environment,model,options,compiled_model,tensor_buffer}.h of LiteRT 2.
"""

import contextlib
import ctypes
import functools
import http.server
import importlib.util
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from tests.tiny import REPOSITORY

if TYPE_CHECKING:
    from playwright import sync_api

_PACKAGE = importlib.util.find_spec("ai_edge_litert")
LIBRARY = Path(_PACKAGE.origin if _PACKAGE and _PACKAGE.origin else "").with_name("libLiteRt.so")
ON_CPU = 1  # kLiteRtHwAcceleratorCpu
READ, WRITE = 0, 1  # LiteRtTensorBufferLockMode
ELEMENTS = {1: np.float32, 3: np.uint8}  # LiteRtElementType
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


def mediapipe_segment(path: Path, rgb: np.ndarray) -> tuple[list[str], np.ndarray, np.ndarray]:
    """What MediaPipe says of an image: its labels, class ids (H, W), and confidences (H, W, C)."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageSegmenterOptions(
        base_options=BaseOptions(model_asset_path=str(path)),
        output_category_mask=True,
        output_confidence_masks=True,
    )
    with vision.ImageSegmenter.create_from_options(options) as segmenter:
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(rgb))
        result = segmenter.segment(image)
        shares = [mask.numpy_view().copy().reshape(rgb.shape[:2]) for mask in result.confidence_masks]
        ids = result.category_mask.numpy_view().copy().reshape(rgb.shape[:2])
        return list(segmenter.labels), ids, np.stack(shares, axis=-1)


class TensorType(ctypes.Structure):
    """LiteRtRankedTensorType, 72 bytes; the upper bit of `rank` says whether there are strides."""

    _fields_ = [
        ("element", ctypes.c_int32),
        ("rank", ctypes.c_uint32),
        ("dimensions", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    ]


class Library:
    """Every function gives a status, 0 for success; handles are pointers that it writes."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(str(LIBRARY))

    def call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.library, name)(*arguments)
        assert status == 0, f"{name} gave status {status}"

    def made(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """The handle that a function writes to its last argument."""
        handle = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(handle))
        return handle

    def locked(self, buffer: ctypes.c_void_p, mode: int) -> ctypes.c_void_p:
        """Where the bytes of a tensor buffer stand."""
        place = ctypes.c_void_p()
        self.call("LiteRtLockTensorBuffer", buffer, ctypes.byref(place), mode)
        return place

    def destroy(self, name: str, handle: ctypes.c_void_p) -> None:
        function = getattr(self.library, name)
        function.restype = None
        function(handle)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[Library, ctypes.c_void_p, ctypes.c_void_p]]:
    """LiteRT's library, an environment, and the model of a file."""
    library = Library()
    environment = library.made("LiteRtCreateEnvironment", 0, None)
    model = library.made("LiteRtCreateModelFromFile", environment, str(path).encode())
    yield library, environment, model
    library.destroy("LiteRtDestroyModel", model)
    library.destroy("LiteRtDestroyEnvironment", environment)


def c_api_output(path: Path, rgb: np.ndarray) -> np.ndarray:
    """The one output of a file for one image, (H, W) or (H, W, C), by LiteRT's C API."""
    with opened(path) as (library, environment, model):
        return _run(library, environment, model, rgb)


def _run(
    library: Library, environment: ctypes.c_void_p, model: ctypes.c_void_p, rgb: np.ndarray
) -> np.ndarray:
    options = library.made("LiteRtCreateOptions")
    library.call("LiteRtSetOptionsHardwareAccelerators", options, ON_CPU)
    compiled = library.made("LiteRtCreateCompiledModel", environment, model, options)
    buffers, types = {}, {}
    for end in ("Input", "Output"):
        types[end] = _tensor_type(library, model, end)
        needs = library.made(
            f"LiteRtGetCompiledModel{end}BufferRequirements", compiled, ctypes.c_size_t(0), ctypes.c_size_t(0)
        )
        buffers[end] = library.made(
            "LiteRtCreateManagedTensorBufferFromRequirements", environment, ctypes.byref(types[end]), needs
        )
    assert _shape_of(types["Input"]) == (1, *rgb.shape) and types["Input"].element == 3
    place = library.locked(buffers["Input"], WRITE)
    ctypes.memmove(place, rgb.tobytes(), rgb.nbytes)
    library.call("LiteRtUnlockTensorBuffer", buffers["Input"])
    ends = (
        ctypes.c_size_t(1),
        ctypes.byref(buffers["Input"]),
        ctypes.c_size_t(1),
        ctypes.byref(buffers["Output"]),
    )
    library.call("LiteRtRunCompiledModel", compiled, ctypes.c_size_t(0), *ends)
    kind, shape = ELEMENTS[types["Output"].element], _shape_of(types["Output"])
    place = library.locked(buffers["Output"], READ)
    held = ctypes.string_at(place, int(np.prod(shape)) * np.dtype(kind).itemsize)
    library.call("LiteRtUnlockTensorBuffer", buffers["Output"])
    for buffer in buffers.values():
        library.destroy("LiteRtDestroyTensorBuffer", buffer)
    for name, handle in (("CompiledModel", compiled), ("Options", options)):
        library.destroy(f"LiteRtDestroy{name}", handle)
    return np.frombuffer(held, kind).reshape(shape)[0]


def _tensor_type(library: Library, model: ctypes.c_void_p, end: str) -> TensorType:
    """Of the one input ("Input") or output ("Output") of the one signature."""
    first = ctypes.c_size_t(0)
    signature = library.made("LiteRtGetModelSignature", model, first)
    tensor = library.made(f"LiteRtGetSignature{end}TensorByIndex", signature, first)
    found = TensorType()
    library.call("LiteRtGetRankedTensorType", tensor, ctypes.byref(found))
    return found


def _shape_of(found: TensorType) -> tuple[int, ...]:
    return tuple(found.dimensions[: found.rank & 0x7F])


@contextlib.contextmanager
def served_page(folder: Path) -> Iterator[str]:
    """The address of examples/web, copied to `folder`, with the package that its package.json pins."""
    shutil.copytree(REPOSITORY / "examples" / "web", folder, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"npm could not fetch @mediapipe/tasks-vision: {done.stderr.strip()[-200:]}")

    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    handler = functools.partial(Silent, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def browser_page(address: str) -> Iterator["sync_api.Page"]:
    """The page in a headless Chromium; fails in the end if it threw or asked for something of another place."""
    from playwright import sync_api

    wrong: list[str] = []

    def note(request: "sync_api.Request") -> None:
        if not request.url.startswith((address, "blob:", "data:")):
            wrong.append(request.url)

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(120_000)
        page.on("request", note)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
        yield page
        browser.close()
    assert not wrong


def choose(page: "sync_api.Page", model: Path, image: Path) -> str:
    """What the page says when it has run the file on the image, whose name must be a new one: a browser does not
    tell a page of the same choice twice."""
    page.set_input_files("#model", model)
    page.locator(
        "#status:has-text('Choose an image.'), #status:has-text('ms an image'), #status.error"
    ).wait_for()
    assert "error" not in (page.get_attribute("#status", "class") or ""), page.inner_text("#status")
    page.set_input_files("#image", image)
    page.locator(f"#status:has-text('ms an image'):has-text('{image.name}'), #status.error").wait_for()
    return page.inner_text("#status")


def saved_ids(page: "sync_api.Page") -> np.ndarray:
    with page.expect_download() as waiting:
        page.click("#save")
    return cv2.imread(str(waiting.value.path()), cv2.IMREAD_COLOR_RGB)[..., 0]
