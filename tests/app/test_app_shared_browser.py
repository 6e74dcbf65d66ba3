"""What all tabs share, in a real browser: the image, the address, any screen; and what the viewer draws."""

import re

import numpy as np
import pytest

from tests import tiny_tflite as tiny
from tests.page import image, in_a_browser, pixel, png, settled, sized, still, until

pytest.importorskip("playwright.sync_api", reason="needs the pip package playwright")
pytestmark = in_a_browser

IDS = np.array([[1, 1, 2], [1, 1, 2]], np.uint8)  # green left, blue right
STREET = image(60, IDS)
TABS = ("Segment", "Compare", "Check against a mask", "Correct", "Saved corrections", "Results")
SIZES = [(1440, 900), (1280, 800), (1024, 768), (768, 1024), (390, 844)]
VIEWS = ("Overlay", "Side by side", "Before and after", "Outlines")


def upload(page, *images) -> None:
    page.locator('.st-key-segment_upload input[type="file"]').set_input_files(
        [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in images]
    )


def test_the_image_stays_through_all_tabs(server, page):
    page.goto(server[0])
    settled(page, "red")
    upload(page, ("mine.png", STREET))
    settled(page, "66.7%")
    for tab in ("Compare", "Check against a mask", "Correct"):
        page.get_by_role("link", name=tab, exact=True).click()
        page.get_by_role("radio", name="mine.png").wait_for(state="attached")
        still(page)
        assert page.get_by_role("radio", name="mine.png").is_checked(), tab
    page.locator(".legend").get_by_text("66.7%").first.wait_for()  # in Correct, of this very image
    page.get_by_role("link", name="Segment", exact=True).click()
    settled(page, "66.7%")
    page.get_by_text("image 180×120").wait_for()
    page.get_by_role("radio", name="bands").check(force=True)
    settled(page, "33.3%")
    page.get_by_role("link", name="Correct", exact=True).click()
    page.get_by_role("radio", name="bands").wait_for(state="attached")
    still(page)
    assert page.get_by_role("radio", name="bands").is_checked()
    page.get_by_role("button", name="Remove mine.png").click()
    page.get_by_role("radio", name="mine.png").wait_for(state="detached")


def test_the_model_and_the_opacity_stay_through_all_tabs(server, page):
    page.goto(f"{server[0]}/?model=b_theirs&opacity=0.3")
    settled(page, "class 1")
    page.get_by_role("link", name="Correct", exact=True).click()
    page.locator(".st-key-correct_opacity").wait_for()
    method = page.locator(".st-key-correct_method")
    assert "b_theirs" in f"{method.inner_text()} {method.get_by_role('combobox').input_value()}"
    page.locator(".st-key-correct_opacity").get_by_text("0.30").first.wait_for()
    page.get_by_role("link", name="Segment", exact=True).click()
    settled(page, "class 1")
    assert pixel(page, 0.1, 0.5)[3] == 77  # 0.3 of 255, rounded up


def test_an_address_opened_anew_shows_the_same(server, browser, page):
    page.goto(server[0])
    settled(page, "red")
    page.locator("label", has_text="Before and after").click()
    page.get_by_role("checkbox", name="red").uncheck()
    page.get_by_role("slider", name="Opacity of the colours").press("Home")
    for _ in range(8):
        page.get_by_role("slider", name="Opacity of the colours").press("ArrowRight")
    still(page)
    address = page.url
    assert set(address.partition("?")[2].split("&")) == {"view=before-and-after", "opacity=0.4", "hide=red"}
    other = sized(browser, 1400, 900)
    other.goto(address)
    settled(other, "red")
    other.locator(".wiped").wait_for()
    assert not other.get_by_role("checkbox", name="red").is_checked()
    until(other, 0.1, 0.1, [0, 0, 0, 0])
    assert pixel(other, 0.5, 0.5) == [0, 200, 0, 102]
    other.context.close()


def test_a_bad_address_is_one_sentence_and_the_page_is_there(server, page):
    page.goto(f"{server[0]}/?model=nothing&opacity=9&view=%3Cimg%20src%3Dx%3E")
    settled(page, "red")
    page.get_by_text("This page does not know model").wait_for()
    assert page.locator('[data-testid="stAlert"]').count() == 1
    assert page.locator('[data-testid="stAlert"] img').count() == 0


def test_a_step_of_opacity_sends_no_image(server, page):
    """What the server sends, in bytes, while the opacity is moved: the image went once, and 100 kB is less than it."""
    got: list[int] = []
    page.on(
        "websocket",
        lambda socket: socket.on("framereceived", lambda data: got.append(len(data))),
    )
    page.goto(server[0])
    noise = np.random.default_rng(0).integers(0, 255, (600, 900, 3), np.uint8)
    settled(page, "red")
    upload(page, ("noise.png", png(noise)))
    page.get_by_text("image 900×600").wait_for()
    still(page)
    first, before = sum(got), pixel(page, 0.5, 0.5)
    assert first > 500_000
    got.clear()
    for _ in range(5):
        page.get_by_role("slider", name="Opacity of the colours").press("ArrowLeft")
        still(page)
    assert pixel(page, 0.5, 0.5) == [*before[:3], 77]  # 0.3 of 255, rounded up
    assert sum(got) < 100_000, sum(got)


def test_the_line_of_before_and_after_is_dragged_on_the_image_and_its_handle_lies_under_it(server, page):
    page.goto(f"{server[0]}/?view=before-and-after")
    settled(page, "red")
    upload(page, ("tall.png", image(60, np.array([[0]] * 5 + [[1]] * 5, np.uint8))))  # 60x600: portrait
    page.get_by_text("image 60×600").wait_for()
    still(page)
    box = page.locator(".frame").bounding_box()
    assert box["height"] > 5 * box["width"]
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, middle, steps=6)
    page.mouse.up()
    cut = page.locator(".frame canvas").evaluate("canvas => canvas.style.clipPath")
    assert cut == "inset(0px 0px 0px 80%)"
    line = page.locator(".edge").bounding_box()
    at = line["x"] + line["width"] / 2
    assert abs(at - (box["x"] + 0.8 * box["width"])) < 1.5
    handle = page.locator(".edge").evaluate(
        """edge => { const knob = getComputedStyle(edge, "::after");
        return edge.getBoundingClientRect().left + parseFloat(knob.left) + parseFloat(knob.marginLeft)
          + parseFloat(knob.width) / 2; }"""
    )
    assert abs(handle - at) < 1.5
    assert page.locator(".cross").is_hidden()  # dragging is no click


def test_a_class_is_seen_alone_while_its_line_is_pointed_at_and_after_a_click(server, page):
    page.goto(server[0])
    settled(page, "red")
    until(page, 0.5, 0.5, [0, 200, 0, 140])
    page.locator(".line", has_text="green").hover()
    until(page, 0.1, 0.5, [0, 0, 0, 176])  # the others are dark
    green = pixel(page, 0.5, 0.5)
    assert np.abs(np.array(green) - [0, 200, 0, 140]).max() <= 2
    page.locator(".frame").hover()
    until(page, 0.1, 0.5, [200, 0, 0, 140])
    box = page.locator(".frame").bounding_box()
    page.locator(".frame").click(position={"x": box["width"] * 0.9, "y": box["height"] * 0.5})
    page.get_by_role("button", name="Show blue alone").click()
    until(page, 0.5, 0.5, [0, 0, 0, 176])
    page.keyboard.press("a")
    until(page, 0.5, 0.5, [0, 200, 0, 140])


def test_keys_zoom_and_the_whole_screen(server, page):
    page.goto(server[0])
    settled(page, "red")
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keys").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("4")
    page.wait_for_url("**/?view=outlines")
    page.keyboard.press("1")
    until(page, 0.1, 0.5, [200, 0, 0, 140])
    page.keyboard.press("h")
    until(page, 0.1, 0.5, [200, 0, 0, 0])
    page.keyboard.press("h")
    pane, frame = page.locator(".pane").bounding_box(), page.locator(".frame").bounding_box()
    assert abs(frame["width"] - pane["width"]) < 1
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert page.locator(".frame").bounding_box()["width"] == pytest.approx(2 * pane["width"], abs=2)
    again = page.locator(".pane").bounding_box()
    assert again == pytest.approx(pane, abs=1)
    page.keyboard.press("0")
    page.keyboard.press("f")
    page.wait_for_function("document.fullscreenElement !== null")
    page.keyboard.press("f")
    page.wait_for_function("document.fullscreenElement === null")
    upload(page, ("mine.png", STREET))
    settled(page, "66.7%")
    page.keyboard.press("n")
    settled(page, "33.3%")  # the example
    page.keyboard.press("p")
    settled(page, "66.7%")
    page.locator(".st-key-segment_method").get_by_role("combobox").fill("4")  # typing is no key
    page.keyboard.press("Escape")
    assert "view" not in page.url


def test_letters_can_be_switched_off(server, page):
    page.goto(server[0])
    settled(page, "red")
    page.keyboard.press("?")
    page.get_by_role("checkbox", name="Letters and numbers act on the page").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("h")
    page.keyboard.press("4")
    assert pixel(page, 0.1, 0.5) == [200, 0, 0, 140] and "view" not in page.url


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_every_tab_fits(server, browser, width, height, scheme):
    """No tab is wider than the screen, the tabs' names are whole and in sight, no name of a class breaks in a word."""
    page = sized(browser, width, height, scheme)
    page.goto(server[0])
    settled(page, "red")
    for tab in TABS:
        page.get_by_role("link", name=tab, exact=True).click()
        still(page)
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
        for name in TABS:
            link = page.get_by_role("link", name=name, exact=True)
            box = link.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] + box["height"] < 200
            assert link.evaluate("one => one.scrollWidth <= one.clientWidth + 1"), name
    page.context.close()


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_legend_is_readable_and_beside_or_below_the_image(server, browser, width, height):
    page = sized(browser, width, height)
    page.goto(server[0])
    settled(page, "red")
    for name in page.locator(".line .name").all():
        assert name.evaluate("one => one.getClientRects().length") == 1
        assert name.evaluate("one => one.scrollWidth <= one.clientWidth + 1 || one.clientWidth === 0")
    frame, legend = page.locator(".frame").bounding_box(), page.locator(".side").bounding_box()
    beside = legend["x"] >= frame["x"] + frame["width"]
    assert beside == (width >= 1280)
    if width < 1280:
        assert legend["y"] >= frame["y"] + frame["height"]
    controls = page.locator(".st-key-segment_upload").bounding_box()
    assert (controls["x"] + controls["width"] <= frame["x"]) == (width > 700)  # two columns
    page.context.close()


def test_on_a_phone_the_image_comes_first_and_the_upload_is_on_the_first_screen(server, browser):
    page = sized(browser, 390, 844)
    page.goto(server[0])
    settled(page, "red")
    frame = page.locator(".frame").bounding_box()
    assert frame["y"] < 260 and frame["width"] > 340
    assert page.locator(".st-key-segment_upload").bounding_box()["y"] < 844
    page.get_by_role("link", name="Compare", exact=True).tap()
    still(page)
    page.locator('[data-testid="stImage"] img').first.wait_for()
    assert page.locator('[data-testid="stSidebar"]').count() == 0  # no menu lies over the page
    box = page.locator('[data-testid="stImage"] img').first.bounding_box()
    assert box["y"] < 400
    page.context.close()


def test_too_large_a_file_is_told_and_the_image_that_is_shown_is_named(server, page):
    page.goto(server[0])
    settled(page, "red")
    upload(page, ("large.png", bytes(21 * 2**20)))
    page.get_by_text(
        "large.png has 21 MB; files of up to 20 MB are taken. The image shown is still bands."
    ).wait_for()
    upload(page, ("mine.png", STREET))
    settled(page, "66.7%")
    assert page.get_by_text("large.png").count() == 0


def test_there_is_one_heading_and_every_switch_has_a_name(server, page):
    page.goto(server[0])
    settled(page, "red")
    assert page.locator("h1").count() == 1
    for name in ("red", "green", "blue"):
        assert page.get_by_role("checkbox", name=name, exact=True).count() == 1
    assert page.get_by_role("radiogroup", name="View").get_by_role("radio").count() == len(VIEWS)


def test_how_sure_is_a_view_of_a_model_that_says_so(server, page):
    """A scores file says how sure it is; a mask file does not, and its view is the usual one again."""
    sure = server[1] / "models" / "sure.tflite"
    tiny.write_bundle(sure, tiny.scores_model(), output="scores")
    try:
        page.goto(f"{server[0]}/?model=sure&view=how-sure")
        settled(page, "red")
        views = page.get_by_role("radiogroup", name="View").get_by_role("radio")
        assert views.count() == len(VIEWS) + 1
        assert page.get_by_role("radio", name="How sure").is_checked()
        picture = page.locator(".viewer .frame img")
        assert picture.count() == 1 and page.locator(".viewer .frame canvas").count() == 0
        assert picture.get_attribute("alt") == "The image: how sure"
        page.wait_for_function("image => image.naturalWidth > 0", arg=picture.element_handle())
        page.get_by_text("Mean confidence ").wait_for()
        assert page.get_by_text("Grey: sure.").is_visible() and page.locator(".opacity").is_hidden()
        page.goto(f"{server[0]}/?model=a_ours&view=how-sure")
        settled(page, "red")
        assert views.count() == len(VIEWS)
        assert page.get_by_role("radio", name="Overlay").is_checked()
        assert page.locator(".sure").inner_text() == "" and page.locator(".opacity").is_visible()
    finally:
        sure.unlink()


def test_on_a_phone_a_photo_of_the_camera_is_no_narrower_than_the_camera_gives_it(server, browser):
    page = sized(browser, 390, 844)
    page.goto(server[0])
    settled(page, "red")
    page.get_by_role("radio", name="Camera").check(force=True)
    page.get_by_role("button", name="Take Photo").click()
    said = page.get_by_text(re.compile(r"camera.jpg.*image \d+×\d+")).inner_text()
    width, height = map(int, re.findall(r"image (\d+)×(\d+)", said)[0])
    assert width >= 640 and height >= 480, said  # as wide as its place it would have 358 pixels
    page.context.close()
