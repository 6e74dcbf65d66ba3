"""The page in a real browser: upload, switch the model, move the slider, download, and look at the bytes."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests import tiny_tflite as tiny

pytest.importorskip("playwright.sync_api", reason="needs the pip package playwright")
from playwright import sync_api  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium"),
]

# The server, as `streamlit run` starts it; when it ends, it tells what it had imported.
SERVE = """
import atexit, json, sys
from pathlib import Path
from streamlit.web import cli
atexit.register(lambda: Path(sys.argv_kept).write_text(json.dumps(sorted(sys.modules))))
sys.argv_kept = sys.argv.pop()
cli.main(sys.argv[1:])
"""


def image(side: int, ids: np.ndarray) -> bytes:
    """Ids of red, green and blue as an image, each id a square of `side` pixels."""
    rgb = np.full((*ids.shape, 3), 10, np.uint8)
    rgb[np.arange(ids.shape[0])[:, None], np.arange(ids.shape[1]), ids] = 240
    rgb = np.kron(rgb, np.ones((side, side, 1), np.uint8))
    return bytes(cv2.imencode(".png", rgb[..., ::-1])[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[tuple[str, Path, float]]:
    """The page's address, the folder it looks in, and the seconds until it answered."""
    root = tmp_path_factory.mktemp("root")
    for folder in ("models", "runs", "examples"):
        (root / folder).mkdir()
    tiny.write_bundle(root / "models" / "a_ours.tflite", tiny.mask_model())
    (root / "models" / "b_theirs.tflite").write_bytes(tiny.scores_model())
    (root / "examples" / "bands.png").write_bytes(image(20, tiny.colours()[1]))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    modules = root / "modules.json"
    arguments = ["run", str(ROOT / "streamlit_app.py"), "--server.headless", "true"]
    arguments += ["--server.port", str(port), "--server.address", "127.0.0.1", str(modules)]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, *arguments], cwd=ROOT, env={**os.environ, "KERBSIDE_ROOT": str(root)}
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
        yield address, root, time.monotonic() - start
    finally:
        process.terminate()
        process.wait(timeout=30)
    loaded = set(json.loads(modules.read_text(encoding="utf-8")))
    assert "runtime" in loaded and not loaded & {"tensorflow", "keras", "keras_cv", "zoo", "export"}
    assert {name for name in loaded if name.startswith("training.")} <= {"evaluation.metrics"}


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield instance
        instance.close()


@pytest.fixture
def page(browser) -> Iterator[sync_api.Page]:
    """A page that fails the test when anything is written to its console as an error."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, accept_downloads=True)
    result, errors = context.new_page(), []
    result.set_default_timeout(30_000)

    def note(message: sync_api.ConsoleMessage) -> None:
        # Streamlit drops a run's images at the next run, and one still on its way is then a 404: what the page
        # shows in the end is checked by `settled`, which wants every image of it loaded.
        told = message.text + str(message.location)
        image_gone = "/media/" in told and ("404" in told or "Image source error" in told)
        if message.type == "error" and not image_gone:
            errors.append(f"{message.text} {message.location}")

    result.on("console", note)
    result.on("pageerror", lambda error: errors.append(str(error)))
    yield result
    context.close()
    assert not errors


def download(page: sync_api.Page, label: str) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=label).click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def choose(page: sync_api.Page, key: str, option: str) -> None:
    page.locator(f".st-key-{key}").get_by_role("combobox").click()
    page.get_by_role("option", name=option).click()


def settled(page: sync_api.Page, text: str) -> None:
    page.locator(".legend").get_by_text(text).first.wait_for()
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth)")


def test_upload_switch_slide_download(server, page):
    page.goto(server[0])
    settled(page, "red")
    ids = np.array([[1, 1, 2], [1, 1, 2]], np.uint8)  # green left, blue right
    page.locator('input[type="file"]').set_input_files(
        {"name": "street.png", "mimeType": "image/png", "buffer": image(60, ids)}
    )
    page.get_by_text("image 180×120").wait_for()
    settled(page, "66.7%")

    name, data = download(page, "Mask (class ids)")
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert name == "street_mask.png" and mask.shape == (120, 180)
    assert (mask == np.kron(ids, np.ones((60, 60), np.uint8))).all()
    name, data = download(page, "Mask (colours)")
    colours = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert name == "street_colour.png" and (colours == np.array(tiny.PALETTE, np.uint8)[mask]).all()
    name, data = download(page, "Legend (JSON)")
    facts = json.loads(data)
    assert name == "street.json" and facts["image"] == "street.png" and facts["size"] == [120, 180]
    assert {row["name"]: round(row["share"], 4) for row in facts["classes"]} == {
        "green": 0.6667,
        "blue": 0.3333,
    }

    choose(page, "segment_method", "b_theirs")
    settled(page, "class 1")
    mask = cv2.imdecode(np.frombuffer(download(page, "Mask (class ids)")[1], np.uint8), cv2.IMREAD_UNCHANGED)
    # scores are enlarged before the argmax, so the border may move by part of a model pixel (15 here)
    assert (mask == np.kron(ids, np.ones((60, 60), np.uint8))).mean() > 0.95

    before = page.locator(".frame img").first.get_attribute("src")
    page.locator(".st-key-segment_opacity").get_by_role("slider").press("ArrowLeft")
    changed(page, before)
    choose(page, "segment_method", "Otsu's threshold")
    settled(page, "foreground")


def changed(page: sync_api.Page, before: str) -> str:
    """Wait until the viewer shows another image than `before`, and give its address."""
    for _ in range(300):
        now = page.locator(".frame img").first.get_attribute("src")
        if now != before:
            return now or ""
        time.sleep(0.1)
    raise AssertionError("the viewer still shows the same image")


def test_bad_upload_is_one_sentence_and_the_page_goes_on(server, page):
    page.goto(server[0])
    settled(page, "red")
    page.locator('input[type="file"]').set_input_files(
        {"name": "street.png", "mimeType": "image/png", "buffer": b"not a picture"}
    )
    page.get_by_text("street.png is not an image").wait_for()
    page.locator('input[type="file"]').set_input_files(
        {"name": "better.png", "mimeType": "image/png", "buffer": image(30, np.array([[2]]))}
    )
    settled(page, "100.0%")
    assert page.get_by_text("street.png is not an image").count() == 0


def test_the_first_image_is_there_in_two_seconds(server, page, capsys):
    """The better of three openings, because others may use the machine; the first fills the browser's cache."""
    times = []
    for _ in range(3):
        start = time.monotonic()
        page.goto(server[0])
        page.locator(".frame img").wait_for()
        times.append(time.monotonic() - start)
    idle = os.getloadavg()[0] < (os.cpu_count() or 1)
    with capsys.disabled():
        print(
            f"\nserver up after {server[2]:.1f} s, page with its result after", *(f"{t:.2f}" for t in times)
        )
    assert min(times) < (2 if idle else 6)


def test_phone_width_needs_no_sideways_scrolling(server, page):
    page.set_viewport_size({"width": 375, "height": 800})
    page.goto(server[0])
    settled(page, "red")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.get_by_text("Side by side").click()
    frames = page.locator(".frame img")
    frames.nth(1).wait_for()
    boxes = [frames.nth(index).bounding_box() for index in range(2)]
    assert all(box["width"] > 300 for box in boxes) and boxes[1]["y"] > boxes[0]["y"] + boxes[0]["height"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
