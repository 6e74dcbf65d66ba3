"""The models that ship, on the page in a real browser: how sure they are of a street, and of what is none."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.image import png
from tests.page import download, in_a_browser, served, sized, still
from tests.shared import CAMVID
from tests.tiny import REPOSITORY

pytest.importorskip("playwright.sync_api", reason="needs the pip package playwright")
pytestmark = in_a_browser

CITYSCAPES = "deeplabv3_mobilenet_edgetpu_cityscapes_int8"
MODELS = sorted(path.stem for path in (REPOSITORY / "models").glob("*.tflite"))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Iterator[str]:
    """The address of a page with what ships, and nothing else."""
    root = Path(tmp_path_factory.mktemp("root"))
    for folder in ("models", "examples", "docs"):
        (root / folder).symlink_to(REPOSITORY / folder)
    with served(root) as (address, _):
        yield address


def street() -> tuple[str, bytes]:
    """A frame of CamVid's `val` where it is here, else an example as CamVid's networks see it: wide."""
    frames = sorted((CAMVID / "val").glob("*.png"))
    path = frames[0] if frames else REPOSITORY / "examples" / "crossing.jpg"
    return path.name, path.read_bytes()


def give(page, name: str, data: bytes) -> None:
    page.locator('.st-key-segment_upload input[type="file"]').set_input_files(
        {"name": name, "mimeType": "image/png", "buffer": data}
    )
    page.get_by_role("button", name=f"Remove {name}").wait_for()
    still(page)


def report(page) -> dict:
    return json.loads(download(page, "Legend (JSON)")[1])


def told(page) -> float:
    """The mean confidence beside the legend, in per cent."""
    return float(page.locator(".side .sure").inner_text().removeprefix("Mean confidence ").removesuffix("%"))


@pytest.mark.parametrize("model", MODELS)
def test_each_says_how_sure_it_is_and_doubts_what_is_no_street(shipped, page, model):
    pictures = pytest.importorskip("skimage.data", reason="needs scikit-image (requirements-parity.txt)")
    page.set_default_timeout(120_000)
    page.goto(f"{shipped}/?model={model}")
    page.locator(".legend .line").first.wait_for()
    name, data = street()
    give(page, name, data)
    known = report(page)
    photographed = name.startswith("00")
    if photographed or "cityscapes" not in model:  # that one has never seen a drawing
        assert known["doubt"] is None and page.get_by_test_id("stAlert").count() == 0
    assert abs(told(page) - 100 * known["confidence"]) < 0.1
    for number, picture in enumerate((pictures.astronaut(), pictures.cat(), pictures.coffee())):
        give(page, f"{number}.png", png(picture))
        found = report(page)
        doubt = page.get_by_test_id("stAlert").inner_text()
        assert doubt == found["doubt"] and doubt.startswith(("The model is unsure here", "The model may be"))
        assert found["confidence"] < known["confidence"]
        assert abs(told(page) - 100 * found["confidence"]) < 0.1


def test_the_heat_map_is_a_view_that_is_brighter_where_the_model_is_less_sure(shipped, page):
    page.set_default_timeout(120_000)
    page.goto(f"{shipped}/?model={MODELS[-1]}")
    page.locator(".legend .line").first.wait_for()
    name, data = street()
    give(page, name, data)
    assert page.get_by_text("Grey: sure.").is_hidden()
    page.locator("label", has_text="How sure").click()
    page.get_by_text("Grey: sure.").wait_for()
    heat = drawn(page)
    page.locator("label", has_text="Overlay").click()
    page.wait_for_timeout(500)
    ids = drawn(page, layer=True)
    spread = heat.max(axis=2).astype(int) - heat.min(axis=2)  # grey has none
    near = cv2.dilate((cv2.Laplacian(ids[..., 0].astype(np.float32), cv2.CV_32F) != 0).astype(np.uint8), None)
    assert (
        spread[near > 0].mean() > 1.5 * spread[near == 0].mean()
    )  # borders of classes are what is least sure


def drawn(page, layer: bool = False) -> np.ndarray:
    """The image of the view, RGB; or the classes that are painted over it."""
    shown = page.locator(".frame canvas" if layer else ".frame img").first
    source = shown.evaluate("one => one.src || one.toDataURL()")
    data = np.frombuffer(base64.b64decode(source.partition(",")[2]), np.uint8)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB))


def test_on_a_phone_the_doubt_is_next_to_the_image_and_the_upload_on_the_first_screen(shipped, browser):
    page = sized(browser, 390, 844)
    page.set_default_timeout(120_000)
    page.goto(f"{shipped}/?model={CITYSCAPES}")  # doubts the drawn examples
    page.get_by_test_id("stAlert").wait_for()
    still(page)
    boxes = [
        page.locator(place).bounding_box() for place in (".frame", ".st-key-doubt", ".st-key-segment_upload")
    ]
    tops = [box["y"] for box in boxes]
    assert tops == sorted(tops) and tops[-1] < 844, tops
    page.context.close()


def test_on_a_small_laptop_correct_has_two_columns_and_what_is_doubted_is_read_whole(shipped, browser):
    for width, columns in ((1440, 3), (1024, 2)):
        page = sized(browser, width, 768)
        page.set_default_timeout(120_000)
        page.goto(f"{shipped}/correct?model={CITYSCAPES}")
        doubts = page.locator('[class*="st-key-correct_doubt_"] button')
        doubts.first.wait_for()
        still(page)
        places = page.locator(
            '.st-key-layout > * > [data-testid="stHorizontalBlock"] > [data-testid="stColumn"]'
        )
        assert len({round(one.bounding_box()["x"]) for one in places.all()}) == columns
        for text in page.locator('[class*="st-key-correct_doubt_"] button p').all():
            assert text.evaluate("one => one.scrollWidth <= one.clientWidth + 1"), text.inner_text()
        page.context.close()
