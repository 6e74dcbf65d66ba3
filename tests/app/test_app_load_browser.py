"""A page that is used for long: a thousand runs, a hundred uploads one after another, a reload in the middle."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import page_load
from tests import tiny_tflite as tiny
from tests.page import image, in_a_browser, settled, still

pytest.importorskip("playwright.sync_api", reason="needs the pip package playwright")
pytestmark = [*in_a_browser, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[int, int]]:
    """The port of a page with two models and an image, and the id of its process."""
    root = Path(tmp_path_factory.mktemp("root"))
    for folder in ("models", "examples"):
        (root / folder).mkdir()
    for name in "ab":
        tiny.write_bundle(root / "models" / f"{name}.tflite", tiny.mask_model())
    (root / "examples" / "bands.png").write_bytes(image(40, tiny.colours()[1]))
    with page_load.server(root) as (port, process):
        yield port, process.pid


def test_memory_stays_over_a_thousand_runs(served):
    port, pid = served
    held = []
    with page_load.Visitor(port) as visitor:
        visitor.run()
        page_load.require_image(visitor)
        models = list(visitor.widgets["segment_method"].options)[:2]
        assert models == ["a", "b"]
        for number in range(1, 1001):  # another model each time: nothing is taken from the last run
            visitor.choose("segment_method", models[number % 2])
            if number in (200, 1000):
                page_load.require_image(visitor)
                held.append(page_load.resident(pid))
    print(f"memory after 200 and 1000 runs: {held[0]:.1f} and {held[1]:.1f} MB")
    assert held[1] - held[0] < 20, held  # an image and its masks have 0.8 MB: 800 of them kept would be 640


def test_a_hundred_uploads_and_a_reload(served, page):
    port, pid = served
    held = []
    page.set_default_timeout(120_000)
    page.goto(f"http://127.0.0.1:{port}")
    settled(page, "red")
    for number in range(1, 101):
        if number == 50:
            page.reload()
            settled(page, "red")  # as it began, or as it was: in any case it goes on
        # the uploader is another one once it has handed over its files
        page.wait_for_function(
            "document.querySelectorAll('.st-key-segment_upload input[type=file]').length === 1"
        )
        ids = np.array([[number % 3]])  # one class, another each time
        page.locator('.st-key-segment_upload input[type="file"]').set_input_files(
            {"name": f"n{number}.png", "mimeType": "image/png", "buffer": image(300 + number, ids)}
        )
        page.get_by_text(f"image {300 + number}×{300 + number}").wait_for()
        still(page)
        away = page.get_by_role("button", name=f"Remove n{number}.png")
        away.click()
        away.wait_for(state="detached")
        still(page)
        assert page.locator('[data-testid="stAlert"], [data-testid="stException"]').count() == 0
        if number in (20, 100):
            held.append(page_load.resident(pid))
    print(f"memory after 20 and 100 uploads: {held[0]:.1f} and {held[1]:.1f} MB")
    assert held[1] - held[0] < 60, held
