"""What the tests of the page share: a folder that it looks in, and its server with a browser before it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import tiny_tflite as tiny
from tests.elsewhere import CHROMIUM, FLAGS
from tests.page import image, png, served

if TYPE_CHECKING:
    from playwright import sync_api


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """Where the page looks: one image, no model yet."""
    for folder in ("models", "runs", "examples"):
        (tmp_path / folder).mkdir()
    (tmp_path / "examples" / "three_bands.png").write_bytes(png(tiny.colours()[0]))
    monkeypatch.setenv("KERBSIDE_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[tuple[str, Path, float]]:
    """The page's address, the folder it looks in, and the seconds until it answered."""
    root = tmp_path_factory.mktemp("root")
    for folder in ("models", "runs", "examples"):
        (root / folder).mkdir()
    tiny.write_bundle(root / "models" / "a_ours.tflite", tiny.mask_model())
    (root / "models" / "b_theirs.tflite").write_bytes(tiny.scores_model())
    (root / "examples" / "bands.png").write_bytes(image(20, tiny.colours()[1]))
    with served(root) as (address, seconds):
        yield address, root, seconds


# A picture that moves, 640x480 or as large as is asked for, in place of a camera, and nobody is asked for leave.
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the pip package playwright")
    with sync_api.sync_playwright() as playwright:
        instance = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*FLAGS, *CAMERA, "--disable-gpu"]
        )
        yield instance
        instance.close()


@pytest.fixture
def page(browser) -> Iterator["sync_api.Page"]:
    """A page that fails the test when anything is written to its console as an error."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, accept_downloads=True)
    result, errors = context.new_page(), []
    result.set_default_timeout(30_000)

    def note(message: "sync_api.ConsoleMessage") -> None:
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
