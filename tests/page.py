"""The page in a real browser: what a test does on it and waits for. Its fixtures stand in conftest.py."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from tests.elsewhere import CHROMIUM
from tests.tiny import REPOSITORY

if TYPE_CHECKING:
    from playwright import sync_api


in_a_browser = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium"),
]


def as_shown(name: str) -> str:
    """A name as it stands in a message: with the letters of no width that keep it from becoming a link."""
    from app.plain_text import AFTERWARDS, JOINER

    return AFTERWARDS.sub(JOINER, name)


def png(rgb: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", rgb[..., ::-1])[1])


def image(side: int, ids: np.ndarray) -> bytes:
    """Ids of red, green and blue as an image, each id a square of `side` pixels."""
    rgb = np.full((*ids.shape, 3), 10, np.uint8)
    rgb[np.arange(ids.shape[0])[:, None], np.arange(ids.shape[1]), ids] = 240
    rgb = np.kron(rgb, np.ones((side, side, 1), np.uint8))
    return png(rgb)


def sized(browser: "sync_api.Browser", width: int, height: int, scheme: str = "light") -> "sync_api.Page":
    """A page on a screen of this size, in pixels; close its context in the end."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=width < 500
    )
    result = context.new_page()
    result.set_default_timeout(30_000)
    return result


def download(page: "sync_api.Page", label: str) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=label).click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def choose(page: "sync_api.Page", key: str, option: str) -> None:
    page.locator(f".st-key-{key}").get_by_role("combobox").click()
    page.get_by_role("option", name=option).click()


def settled(page: "sync_api.Page", text: str) -> None:
    page.locator(".legend").get_by_text(text).first.wait_for()
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth)")


def still(page: "sync_api.Page") -> None:
    """Wait until what was done has reached the server and its run has ended."""
    page.wait_for_timeout(300)
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()


def give(page: "sync_api.Page", key: str, name: str, data: bytes, mime: str = "image/png") -> None:
    """Upload to the file uploader of this key."""
    page.locator(f'.st-key-{key} input[type="file"]').set_input_files(
        {"name": name, "mimeType": mime, "buffer": data}
    )
    page.locator(f".st-key-{key}").get_by_text(name).first.wait_for()
    still(page)


def pixel(page: "sync_api.Page", x: float, y: float) -> list[int]:
    """What the viewer has drawn over the image at a place, parts 0..1 of its width and height: red, green, blue, and
    how much of it is seen, 0..255."""
    return page.locator(".frame canvas").last.evaluate(
        """(canvas, [x, y]) => {
          const place = [Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1];
          const [red, green, blue, part] = canvas.getContext("2d").getImageData(...place).data;
          const seen = getComputedStyle(canvas);
          return [red, green, blue, seen.visibility === "hidden" ? 0 : Math.round(part * seen.opacity)];
        }""",
        [x, y],
    )


def until(page: "sync_api.Page", x: float, y: float, wanted: list[int]) -> None:
    """Wait until `pixel` is as wanted."""
    for _ in range(300):
        if (now := pixel(page, x, y)) == wanted:
            return
        time.sleep(0.1)
    raise AssertionError(f"{now} is drawn, not {wanted}")


# The server, as `streamlit run` starts it; when it ends, it tells what it had imported.
SERVE = """
import atexit, json, sys
from pathlib import Path
from streamlit.web import cli
atexit.register(lambda: Path(sys.argv_kept).write_text(json.dumps(sorted(sys.modules))))
sys.argv_kept = sys.argv.pop()
cli.main(sys.argv[1:])
"""


@contextlib.contextmanager
def served(root: Path) -> Iterator[tuple[str, float]]:
    """The address of a page that looks into `root`, and the seconds until it answered. In the end it has imported
    nothing heavy."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    modules = root / "modules.json"
    arguments = ["run", str(REPOSITORY / "streamlit_app.py"), "--server.headless", "true"]
    arguments += ["--server.port", str(port), "--server.address", "127.0.0.1", str(modules)]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "KERBSIDE_ROOT": str(root)},
    )
    address, start = f"http://127.0.0.1:{port}", time.monotonic()
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=2).read()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() - start < 120, "the page did not start"
                time.sleep(0.1)
        yield address, time.monotonic() - start
    finally:
        process.terminate()
        process.wait(timeout=30)
    loaded = set(json.loads(modules.read_text(encoding="utf-8")))
    assert "runtime" in loaded and not loaded & {"tensorflow", "keras", "keras_cv", "zoo", "export"}
    assert {name for name in loaded if name.startswith("training.")} <= {"evaluation.metrics"}
