"""The tabs that take masks, points and corrections in a real browser: colours mapped, regions corrected and found in
the database, objects clicked, by mouse and by keyboard, and the bytes of every download."""

import io
import json
import sqlite3
import zipfile

import cv2
import numpy as np
import pytest

from runtime import corrections
from runtime.image import png
from runtime.segmenter import Segmentation
from tests import tiny_tflite as tiny
from tests.page import as_shown, download, give, image, in_a_browser
from tests.page import still as settled

pytest.importorskip("playwright.sync_api", reason="needs the pip package playwright")
pytestmark = in_a_browser

IDS = np.array([[1, 1, 2], [1, 1, 2]], np.uint8)  # green left, blue right
MASK = np.kron(IDS, np.ones((60, 60), np.uint8))  # 120x180
STREET = image(60, IDS)
PAINTED = np.array([[0, 0, 0], [10, 200, 10], [90, 0, 90]], np.uint8)[
    MASK
]  # green is the model's by no colour


KEYS = {"Check against a mask": "truth", "Correct": "correct", "Saved corrections": "kept"}
KEYS |= {"Cut out one object": "prompted"}


def opened(page, server, tab: str) -> None:
    """By the link at the top, as people go: at an address of its own Streamlit looks for itself in two places."""
    page.goto(server[0])
    page.locator(".legend").first.wait_for()
    page.get_by_role("link", name=tab, exact=True).click()
    page.locator(f'[class*="st-key-{KEYS[tab]}_"]').first.wait_for()
    settled(page)


def decoded(data: bytes) -> np.ndarray:
    array = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
    return array if array.ndim == 2 else array[..., ::-1]


def place(page, key: str, x: int, y: int) -> tuple[float, float]:
    """Where on the screen the middle of a pixel of the 120x180 image is."""
    frame = page.locator(f".st-key-{key} .frame")
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    return box["x"] + (x + 0.5) * box["width"] / 180, box["y"] + (y + 0.5) * box["height"] / 120


def row(page, label: str):
    """The box of the legend for a colour."""
    return page.locator(".st-key-truth_legend_rows").get_by_role("combobox", name=label)


def pick(page, label: str, option: str) -> None:
    row(page, label).scroll_into_view_if_needed()
    settled(page)  # a list that opens while the page still moves closes again
    row(page, label).click()
    page.get_by_role("option", name=option, exact=True).click()
    settled(page)


def choose(page, key: str, option: str) -> None:
    page.locator(f".st-key-{key}").get_by_role("combobox").click()
    page.get_by_role("option", name=option, exact=True).click()
    settled(page)


def test_a_name_in_a_legend_makes_the_browser_fetch_nothing(server, page):
    """A message is Markdown, in which this name would be an image on another's server."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    opened(page, server, "Check against a mask")
    give(page, "truth_upload", "street.png", STREET)
    give(page, "truth_mask", "mask.png", png(PAINTED))
    name = "![p](http://127.0.0.1:9/x.png)"
    content = {"by": "colours", "classes": [{"name": name, "colours": [[10, 200, 10]]}]}
    give(page, "truth_legend", "legend.json", json.dumps(content).encode(), "application/json")
    page.get_by_text(f"names the class '{as_shown(name)}'").wait_for()  # as it is written
    page.wait_for_timeout(300)
    assert page.locator('[data-testid="stAlert"]').locator("img, a").count() == 0
    assert asked and not [url for url in asked if "127.0.0.1:9/" in url]


def test_colours_are_mapped_scored_and_saved(server, page):
    opened(page, server, "Check against a mask")
    give(page, "truth_upload", "street.png", STREET)
    give(page, "truth_mask", "mask.png", png(PAINTED))
    page.get_by_text("Every value of the mask is ignored").wait_for()
    row(page, "#0ac80a").focus()  # by keyboard: open, type, take
    page.keyboard.press("Enter")
    page.keyboard.type("green")
    page.keyboard.press("Enter")
    settled(page)
    page.locator(".scores").get_by_text("green").wait_for()
    pick(page, "#5a005a", "red")
    page.locator(".scores").get_by_text("red").wait_for()
    settled(page)

    # 14400 pixels are green and predicted so, 7200 are said to be red and predicted as blue
    matrix = np.array([[0, 0, 7200], [0, 14400, 0], [0, 0, 0]])
    name, data = download(page, "Scores (JSON)")
    facts = json.loads(data)
    assert name == "street_scores.json" and facts["confusion_matrix"] == matrix.tolist()
    assert facts["pixel_accuracy"] == pytest.approx(2 / 3) and facts["miou"] == pytest.approx(0.5)
    assert facts["classes"]["blue"] == {
        "iou": 0, "dice": 0, "precision": 0, "recall": None, "share": 0, "specificity": pytest.approx(2 / 3),
    }  # fmt: skip
    lines = download(page, "Scores (CSV)")[1].decode().splitlines()
    assert lines[0] == "class,iou,dice,precision,recall,specificity,share" and lines[2].startswith(
        "green,1.0,1.0"
    )
    errors = decoded(download(page, "Errors (PNG)")[1])
    assert (errors[MASK == 1] == (40, 40, 40)).all() and (errors[MASK == 2] == (230, 60, 40)).all()
    assert (decoded(download(page, "Truth (class ids)")[1]) == np.where(MASK == 1, 1, 0)).all()
    name, data = download(page, "Confusion matrix (PNG)")
    assert name == "street_confusion.png" and min(decoded(data).shape[:2]) > 200

    name, legend = download(page, "Legend of the mask (JSON)")
    assert name == "legend.json" and json.loads(legend) == {
        "by": "colours",
        "classes": [{"name": "red", "colours": [[90, 0, 90]]}, {"name": "green", "colours": [[10, 200, 10]]}],
        "ignore": [],
    }
    opened(page, server, "Check against a mask")  # another visit: the saved legend does it at once
    give(page, "truth_upload", "street.png", STREET)
    give(page, "truth_mask", "mask.png", png(PAINTED))
    give(page, "truth_legend", "legend.json", legend, "application/json")
    page.locator(".scores").get_by_text("red").wait_for()
    assert json.loads(download(page, "Scores (JSON)")[1])["confusion_matrix"] == matrix.tolist()


def test_a_region_is_corrected_and_found_in_the_database(server, page):
    folder = server[1] / "feedback"
    opened(page, server, "Correct")
    give(page, "correct_upload", "street.png", STREET)
    choose(page, "correct_class", "red")
    page.locator(".st-key-correct_canvas .frame").wait_for()
    settled(page)
    page.mouse.click(*place(page, "correct_canvas", 150, 60))  # the blue region
    page.get_by_text("1 correction, 33.3% of the pixels changed").wait_for()
    page.get_by_text("a polygon, corner by corner").click()
    choose(page, "correct_class", "ignored")
    settled(page)
    for x, y in ((10, 10), (29, 10), (29, 29)):
        page.mouse.click(*place(page, "correct_canvas", x, y))
    page.get_by_text("corners 3").wait_for()
    page.mouse.click(*place(page, "correct_canvas", 10, 29))
    page.get_by_role("button", name="Close the polygon").click()
    page.get_by_text("2 corrections").wait_for()
    assert page.get_by_text("corners").filter(has_text="corners 3").count() == 0  # closed, none is left
    settled(page)
    expected = np.where(MASK == 2, 0, MASK).astype(np.uint8)
    expected[10:30, 10:30] = 255
    name, data = download(page, "Corrected mask (class ids)")
    assert name == "street_corrected.png" and (decoded(data) == expected).all()
    name, data = download(page, "Corrected mask (colours)")
    colours = np.array([*tiny.PALETTE, (0, 0, 0)], np.uint8)
    assert (decoded(data) == colours[np.minimum(expected, 3)]).all()

    page.get_by_text(str(folder)).first.wait_for()  # shown before anything is kept
    assert not folder.exists() and page.get_by_role("button", name="Keep image and masks").count() == 0
    page.locator(".st-key-correct_keep label").first.click()
    page.get_by_role("button", name="Keep image and masks").click()
    page.get_by_text("Kept as number 1, for training").wait_for()
    rows = sqlite3.connect(folder / "feedback.sqlite").execute(
        "SELECT id, name, model, labels, changed FROM records"
    )
    assert rows.fetchall() == [(1, "street.png", "models/a_ours.tflite", json.dumps(tiny.LABELS), 7200 + 400)]
    assert (cv2.imread(str(folder / "files/000001-corrected.png"), cv2.IMREAD_UNCHANGED) == expected).all()
    assert (cv2.imread(str(folder / "files/000001-prediction.png"), cv2.IMREAD_UNCHANGED) == MASK).all()
    assert (folder / "files/000001-picture.png").is_file()

    page.get_by_role("link", name="Saved corrections", exact=True).click()
    page.get_by_role("button", name="Delete number 1").wait_for()
    settled(page)
    name, data = download(page, "Export the 1 of these classes")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None and name == "feedback.zip"
        assert archive.read("masks/train/000001.png") == (folder / "files/000001-corrected.png").read_bytes()
        assert archive.read("images/train/000001.png") == (folder / "files/000001-picture.png").read_bytes()
        assert json.loads(archive.read("records.json"))[0]["name"] == "street.png"
    page.get_by_text("I am sure:").click()
    page.get_by_role("button", name="Delete number 1").click()
    page.get_by_text("Nothing is kept here yet").wait_for()
    assert not list((folder / "files").iterdir())


def test_a_region_is_corrected_by_keyboard_alone(server, page):
    opened(page, server, "Correct")
    give(page, "correct_upload", "street.png", STREET)
    page.get_by_text("0 corrections").wait_for()
    choose(page, "correct_class", "red")
    page.locator(".st-key-correct_opacity").get_by_role("slider").focus()
    page.keyboard.press("Tab")  # to the image; the cross begins in the middle, at 90, 60
    assert page.evaluate("document.activeElement.shadowRoot?.activeElement?.className ?? ''") == "frame"
    for _ in range(4):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("ArrowUp")
    page.get_by_text("x 130, y 59").wait_for()
    page.keyboard.press("Enter")
    page.get_by_text("1 correction, 33.3%").wait_for()
    settled(page)
    page.locator(".st-key-correct_points input").fill("0,0")
    page.keyboard.press("Enter")
    page.get_by_text("2 corrections, 100.0%").wait_for()


def test_a_brush_paints_as_it_is_drawn(server, page):
    opened(page, server, "Correct")
    give(page, "correct_upload", "street.png", STREET)
    choose(page, "correct_class", "red")
    page.get_by_text("what a brush passes over").click()
    page.get_by_text("Width of the brush").wait_for()
    settled(page)
    page.mouse.move(*place(page, "correct_canvas", 30, 60))
    page.mouse.down()
    page.mouse.move(*place(page, "correct_canvas", 90, 60), steps=12)
    page.locator(".stroke").wait_for(state="attached")  # seen while it is painted, in the colour of the class
    assert page.locator(".stroke").get_attribute("stroke") == "rgb({}, {}, {})".format(*tiny.PALETTE[0])
    page.mouse.up()
    page.get_by_text("1 correction, ").wait_for()
    settled(page)
    mask = decoded(download(page, "Corrected mask (class ids)")[1])
    width = 180 // 40  # of an image of 180 pixels: half of 4 above and below the line
    painted = mask == 0
    assert painted[60, 32:88].all() and not painted[60, :27].any() and not painted[60, 93:].any()
    assert set(painted[:, 40:80].sum(axis=0)) == {2 * (width // 2) + 1}
    page.locator(".st-key-correct_canvas .frame").focus()
    page.keyboard.press("Enter")  # by keyboard: a dab at the cross
    page.get_by_text("2 corrections, ").wait_for()


@pytest.fixture(scope="module")
def sam(server):
    """A small SAM with random weights beside the page's models."""
    import keras

    import zoo
    from export import prompted_tflite as export_sam
    from runtime.prompted import PromptedSegmenter
    from tests.small import TINY_SAM

    keras.utils.set_random_seed(3)
    model = zoo.build("sam", **TINY_SAM)
    paths = [server[1] / "models" / f"small-{part}.tflite" for part in ("encoder", "decoder")]
    paths[0].write_bytes(export_sam.convert_encoder(model.get_layer("image_encoder"), "fp32"))
    paths[1].write_bytes(export_sam.convert_decoder(model.get_layer("prompt_decoder"), "fp32"))
    yield PromptedSegmenter(*paths).set_image(decoded(STREET).astype(np.uint8).copy())
    for path in paths:
        path.unlink()


def test_an_object_is_clicked_and_boxed(server, page, sam):
    opened(page, server, "Cut out one object")
    give(page, "prompted_upload", "street.png", STREET)
    page.locator(".st-key-prompted_canvas .frame").wait_for()
    settled(page)
    page.mouse.click(*place(page, "prompted_canvas", 150, 60))
    page.get_by_text("expected IoU").first.wait_for()
    settled(page)
    name, data = download(page, "Prompt (JSON)")
    facts = json.loads(data)
    assert name == "street_prompt.json" and facts["points"] == [[150, 60]] and facts["labels"] == [1]
    masks, scores = sam.predict([(150, 60)])
    best = masks[np.argmax(scores)]
    assert facts["iou_expected"] == pytest.approx(float(scores.max()), abs=1e-5)
    assert (decoded(download(page, "Mask (PNG)")[1]) == 255 * best).all()
    cut = decoded(download(page, "Cut-out (PNG)")[1])
    assert (cut[best] == decoded(STREET)[best]).all() and (cut[~best] == 255).all()

    page.get_by_text("a box around it").click()
    settled(page)
    page.mouse.move(*place(page, "prompted_canvas", 100, 20))
    page.mouse.down()
    page.mouse.move(*place(page, "prompted_canvas", 140, 60), steps=4)
    page.mouse.move(*place(page, "prompted_canvas", 170, 100), steps=4)
    page.mouse.up()
    page.get_by_text("expected IoU").nth(1).wait_for(state="detached")
    settled(page)
    facts = json.loads(download(page, "Prompt (JSON)")[1])
    assert facts["box"] == [100, 20, 170, 100] and facts["points"] == [[150, 60]]
    masks, _ = sam.predict([(150, 60)], box=(100, 20, 170, 100), multimask=False)
    assert (decoded(download(page, "Mask (PNG)")[1]) == 255 * masks[0]).all()


@pytest.mark.parametrize("tab", ["Check against a mask", "Correct", "Saved corrections"])
def test_phone_width_needs_no_sideways_scrolling_in_these_tabs(server, page, tab):
    found = Segmentation(MASK, tuple(tiny.LABELS), tiny.PALETTE, 0.1, decoded(STREET).copy())
    corrections.keep(
        server[1] / "feedback", found, MASK, "a_rather_long_name_of_a_picture.png", "models/a_ours.tflite"
    )
    opened(page, server, tab)
    page.set_viewport_size({"width": 390, "height": 844})
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
