"""The page in a real browser: upload, switch the model, move the slider, download, and look at the bytes."""

import json
import os
import time

import cv2
import numpy as np
import pytest

from tests import tiny_tflite as tiny
from tests.page import choose, download, image, in_a_browser, pixel, settled, until

pytest.importorskip("playwright.sync_api", reason="needs the pip package playwright")
pytestmark = in_a_browser


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

    *colour, seen = pixel(page, 0.1, 0.5)
    assert seen == 140  # 0.55 of 255
    page.get_by_role("slider", name="Opacity of the colours").press("ArrowLeft")
    until(page, 0.1, 0.5, [*colour, 128])
    choose(page, "segment_method", "Otsu's threshold")
    settled(page, "foreground")


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
    frames = page.locator(".frame")
    frames.nth(1).wait_for()
    boxes = [frames.nth(index).bounding_box() for index in range(2)]
    assert all(box["width"] > 300 for box in boxes) and boxes[1]["y"] > boxes[0]["y"] + boxes[0]["height"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
