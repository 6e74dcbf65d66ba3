"""examples/web in a real browser: a scores file on an image, and the class ids of our own runtime.

The package @mediapipe/tasks-vision comes from npm, as its README says; the page asks for nothing that is not in
its folder.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from runtime import Segmenter
from tests.elsewhere import CHROMIUM, browser_page, choose, saved_ids, served_page
from tests.exported import NAMES, colour_examples, colour_files

pytest.importorskip("playwright.sync_api", reason="needs the pip package playwright")

SIZE = (96, 128)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium"),
    pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm: apt-get install nodejs npm"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[tuple[str, str], Path]:
    return colour_files(tmp_path_factory.mktemp("runs"), SIZE)


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    with served_page(tmp_path_factory.mktemp("web") / "page") as found:
        yield found


@pytest.fixture
def page(address) -> Iterator[Any]:
    with browser_page(address) as opened:
        yield opened


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_class_ids_and_labels_are_those_of_our_runtime(page, files, tmp_path, precision):
    rgb = np.random.default_rng(5).integers(0, 256, (*SIZE, 3), np.uint8)
    image = tmp_path / "noise.png"
    cv2.imwrite(str(image), rgb[..., ::-1])
    said = choose(page, files[precision, "scores"], image)
    assert "128×96" in said and precision in said
    ours = Segmenter(files[precision, "scores"]).segment(rgb)
    ids = saved_ids(page)
    assert ids.shape == SIZE and (ids == ours.ids).mean() >= 0.999
    rows = [row.split("\t") for row in page.inner_text("#legend").splitlines()]
    assert sorted(name.strip() for name, _ in rows) == sorted(NAMES)
    expected = {row["name"]: row["share"] for row in ours.legend()}
    for name, share in rows:
        assert float(share.rstrip("%")) == pytest.approx(100 * expected[name.strip()], abs=0.1)


def test_a_larger_image_keeps_its_size(page, files, tmp_path):
    """MediaPipe and OpenCV enlarge differently, so borders of the 24-pixel blocks may move by a model pixel."""
    rgb, label = colour_examples((288, 384), 2, block=24)[1].read()
    image = tmp_path / "street.png"
    cv2.imwrite(str(image), rgb[..., ::-1])
    choose(page, files["int8", "scores"], image)
    ids = saved_ids(page)
    assert ids.shape == label.shape
    assert (ids == label)[1:].mean() > 0.8 and (ids == label)[12::24, 12::24].all()


@pytest.mark.parametrize(
    ("size", "auto"), [((216, 384), "letterbox"), ((288, 288), "stretch"), ((384, 192), "tiles")]
)
def test_a_image_of_another_shape_comes_by_the_rule_of_our_runtime(page, files, tmp_path, size, auto):
    rgb, label = colour_examples(size, 2, block=24)[1].read()
    image = tmp_path / "street.png"
    cv2.imwrite(str(image), rgb[..., ::-1])
    assert f", {auto}" in choose(page, files["int8", "scores"], image)
    assert Segmenter(files["int8", "scores"]).placing(size).fit == auto
    for fit in ("letterbox", "stretch", "tiles", "auto"):
        page.select_option("#fit", fit)
        page.locator(f"#status:has-text(', {auto if fit == 'auto' else fit}')").wait_for()
        ids = saved_ids(page)
        assert ids.shape == label.shape and (ids == label)[12::24, 12::24].all(), fit
        assert (ids == label).mean() > 0.8


def test_a_mask_file_and_what_is_no_image_are_refused_in_one_sentence(page, files, tmp_path):
    page.set_input_files("#model", files["int8", "mask"])
    page.locator("#status.error:has-text('export with --output scores')").wait_for()
    text = tmp_path / "text.png"
    text.write_text("no image", encoding="utf-8")
    page.set_input_files("#image", text)
    page.locator("#status.error:has-text('text.png is not an image')").wait_for()
