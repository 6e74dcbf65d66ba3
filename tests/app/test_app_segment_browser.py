"""Segment, Compare and Results in a real browser: every download's bytes, views, switches, points, keys, a video."""

import io
import json
import re
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests import tiny_tflite as tiny
from tests.page import choose, download, image, in_a_browser, settled, still, until
from tests.tiny_tflite import video

pytest.importorskip("playwright.sync_api", reason="needs the pip package playwright")
pytestmark = in_a_browser

IDS = np.array([[1, 1, 2], [1, 1, 2]], np.uint8)  # green left, blue right
MASK = np.kron(IDS, np.ones((60, 60), np.uint8))


def upload(page, *images) -> None:
    page.locator('input[type="file"]').set_input_files(
        [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in images]
    )


def decoded(data: bytes) -> np.ndarray:
    flags = cv2.IMREAD_UNCHANGED
    array = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), flags))
    return array if array.ndim == 2 else array[..., ::-1]


def test_every_download_holds_what_it_says(server, page):
    page.goto(server[0])
    settled(page, "red")
    upload(page, ("street.png", image(60, IDS)))
    page.get_by_text("image 180×120").wait_for()
    settled(page, "66.7%")
    page.get_by_label("blue", exact=True).uncheck()
    page.locator(".off").wait_for()
    still(page)

    files = {label: download(page, label) for label in LABELS}
    assert [name for name, _ in files.values()] == [
        *("street_mask.png", "street_colour.png", "street_overlay.png"),
        *("street.json", "street_polygons.json", "kerbside.zip"),
    ]
    assert (decoded(files["Mask (class ids)"][1]) == MASK).all()
    assert (decoded(files["Mask (colours)"][1]) == np.array(tiny.PALETTE, np.uint8)[MASK]).all()
    overlay = decoded(files["Overlay (as shown)"][1]).astype(int)
    rgb = decoded(image(60, IDS)).astype(int)
    assert (overlay[MASK == 2] == rgb[MASK == 2]).all()  # switched off
    tinted = 0.45 * rgb[0, 0] + 0.55 * np.array(tiny.PALETTE[1])
    assert np.abs(overlay[MASK == 1] - tinted).max() <= 1
    facts = json.loads(files["Legend (JSON)"][1])
    assert facts["image"] == "street.png" and facts["size"] == [120, 180]
    assert {row["name"]: round(row["share"], 4) for row in facts["classes"]} == {
        "green": 0.6667,
        "blue": 0.3333,
    }
    shapes = json.loads(files["Polygons (JSON)"][1])
    assert [(row["name"], row["area"]) for row in shapes["polygons"]] == [("green", 14400), ("blue", 7200)]
    assert sorted(map(tuple, shapes["polygons"][0]["points"])) == [(0, 0), (0, 119), (119, 0), (119, 119)]
    with zipfile.ZipFile(io.BytesIO(files["Everything (ZIP)"][1])) as archive:
        assert archive.testzip() is None
        inside = {name: archive.read(name) for name in archive.namelist()}
    assert json.loads(inside.pop("summary.json"))["images"] == ["street.png"]
    assert inside == {name: data for name, data in files.values() if name != "kerbside.zip"}


LABELS = (
    *("Mask (class ids)", "Mask (colours)", "Overlay (as shown)"),
    *("Legend (JSON)", "Polygons (JSON)", "Everything (ZIP)"),
)


def test_several_images_become_one_zip(server, page):
    page.goto(server[0])
    settled(page, "red")
    upload(page, ("a.png", image(20, IDS)), ("b.png", image(30, np.array([[0]]))), ("c.png", b"no"))
    settled(page, "66.7%")
    page.get_by_role("radio", name="b.png").check(force=True)
    settled(page, "100.0%")
    name, data = download(page, "Everything of 2 images (ZIP)")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        summary = json.loads(archive.read("summary.json"))
        assert summary["images"] == ["a.png", "b.png"] and "c.png is not an image" in str(summary)
        assert (decoded(archive.read("a_mask.png")) == np.kron(IDS, np.ones((20, 20)))).all()
        assert (decoded(archive.read("b_mask.png")) == 0).all()
    page.get_by_text("All 3 images side by side").click()
    page.get_by_text("c.png is not an image").first.wait_for()
    page.get_by_role("img", name="b.png").wait_for()
    page.get_by_role("button", name="Shares of all (CSV)").wait_for()
    lines = download(page, "Shares of all (CSV)")[1].decode().splitlines()
    assert lines[0] == "image,width,height,red,green,blue"  # 1 of red, 2/3 of green, 1/3 of blue
    assert lines[1:] == ["a.png,60,40,0.0,0.666667,0.333333", "b.png,30,30,1.0,0.0,0.0"]
    page.locator(".scores").get_by_text("Mean").wait_for()


def test_the_class_at_a_point_by_mouse_and_by_keyboard(server, page):
    page.goto(server[0])
    settled(page, "red")
    upload(page, ("street.png", image(60, IDS)))
    settled(page, "66.7%")
    frame = page.locator(".frame").first
    box = frame.bounding_box()
    frame.hover(position={"x": box["width"] * 0.9, "y": box["height"] * 0.5})
    page.locator(".says").get_by_text("blue (class 2)").wait_for()
    frame.click(position={"x": box["width"] * 0.25, "y": box["height"] * 0.5})
    says = page.locator(".says").get_by_text(
        "green (class 1), in a region of 14,400 pixels; 66.7% of the image"
    )
    says.wait_for()
    assert page.get_by_text("green (class 1)").count() == 1  # said once
    frame.hover(position={"x": box["width"] * 0.25 + 2, "y": box["height"] * 0.5})
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    page.locator(".frame").first.focus()
    for _ in range(25):  # 180 / 50 = 4 pixels a step: 45 + 100 = 145 is blue
        page.keyboard.press("ArrowRight")
    page.locator(".says").get_by_text(re.compile(r"blue \(class 2\) at 14[4-6], (59|60|61)$")).wait_for()
    page.keyboard.press("Enter")
    page.get_by_text("blue (class 2), in a region of 7,200 pixels; 33.3%").wait_for()


def test_the_before_and_after_slider_moves_by_key_without_the_server(server, page):
    page.goto(server[0])
    settled(page, "red")
    page.get_by_text("Before and after").click()
    wipe = page.get_by_role("slider", name="Before and after")
    wipe.wait_for()
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()

    def cut() -> str:
        return page.locator(".frame canvas").evaluate("canvas => canvas.style.clipPath")

    assert cut() == "inset(0px 0px 0px 50%)"
    wipe.focus()
    page.keyboard.press("ArrowRight")
    assert cut() == "inset(0px 0px 0px 51%)"
    page.keyboard.press("Home")
    assert cut() == "inset(0px 0px 0px 0%)"


def test_classes_are_switched_by_keyboard_and_stay_off_for_the_next_image(server, page):
    page.goto(server[0])
    settled(page, "red")
    until(page, 0.1, 0.1, [200, 0, 0, 140])
    red = page.get_by_role("checkbox", name="red")
    red.focus()
    page.keyboard.press("Space")
    until(page, 0.1, 0.1, [0, 0, 0, 0])
    still(page)
    assert not red.is_checked() and page.get_by_role("checkbox", name="green").is_checked()
    assert page.evaluate(FOCUSED) == "class0"  # the keyboard stays where it was
    upload(page, ("red.png", image(60, np.array([[0, 1]], np.uint8))))
    settled(page, "50.0%")
    until(page, 0.1, 0.1, [0, 0, 0, 0])
    page.get_by_role("button", name="All", exact=True).press("Enter")
    until(page, 0.1, 0.1, [200, 0, 0, 140])
    page.locator(".off").wait_for(state="detached")
    assert red.is_checked()


FOCUSED = """() => { let one = document.activeElement;
while (one.shadowRoot && one.shadowRoot.activeElement) one = one.shadowRoot.activeElement; return one.name; }"""


def test_two_visitors_at_once_see_their_own_images(server, browser, page):
    context = browser.new_context(viewport={"width": 1200, "height": 900}, accept_downloads=True)
    other = context.new_page()
    for one in (page, other):
        one.goto(server[0])
        settled(one, "red")
    upload(page, ("mine.png", image(30, np.array([[1]]))))
    upload(other, ("theirs.png", image(30, np.array([[2]]))))
    settled(page, "100.0%")
    settled(other, "100.0%")
    assert download(page, "Mask (class ids)")[0] == "mine_mask.png"
    name, data = download(other, "Mask (class ids)")
    assert name == "theirs_mask.png" and (decoded(data) == 2).all()
    assert page.get_by_role("checkbox", name="blue").count() == 0
    assert other.get_by_role("checkbox", name="green").count() == 0
    context.close()


def test_names_out_of_files_stay_text(server, page):
    evil = server[1] / "models" / "z_evil.tflite"
    labels = ["<img src=x onerror=alert(1)>", "**green**", "blue"]
    tiny.write_bundle(evil, tiny.mask_model(), labels=labels)
    try:
        page.goto(server[0])
        settled(page, "red")
        choose(page, "segment_method", "z_evil")
        page.get_by_role("checkbox", name="<img src=x onerror=alert(1)>").wait_for()
        page.locator(".frame").first.click(position={"x": 5, "y": 5})
        page.get_by_text("<img src=x onerror=alert(1)> (class 0), in a region").wait_for()
        assert page.locator('img[src="x"]').count() == 0
    finally:
        evil.unlink()


def test_a_video_is_segmented_and_comes_back(server, page, tmp_path):
    video(tmp_path / "drive.mp4", 12)
    page.goto(server[0])
    settled(page, "red")
    page.get_by_text("Video", exact=True).click()
    page.get_by_text("Your video").wait_for()
    page.locator('input[type="file"][accept*=".mp4"]').set_input_files(str(tmp_path / "drive.mp4"))
    page.get_by_role("button", name="Segment the video").click()
    page.get_by_text("12 frames").wait_for()
    page.wait_for_function("document.querySelector('video')?.readyState >= 1")
    name, data = download(page, "Video (WebM)")
    (tmp_path / name).write_bytes(data)
    capture, frames = cv2.VideoCapture(str(tmp_path / name)), 0
    while capture.read()[0]:
        frames += 1
    assert name == "drive_overlay.webm" and frames == 12
    name, data = download(page, "Timeline (CSV)")
    lines = data.decode().splitlines()
    assert name == "drive_timeline.csv" and len(lines) == 13 and lines[0].startswith("frame,seconds,")
    says = page.locator(".says").last  # scrubbed frame by frame: by button, by key, and on the timeline
    page.get_by_role("button", name="Next frame").click()
    page.get_by_text("Frame 2 of 12").wait_for()
    rate = json.loads(download(page, "Legend (JSON)")[1])["rate"]
    assert page.evaluate("document.querySelector('video').currentTime") == pytest.approx(1.5 / rate, abs=1e-3)
    page.get_by_role("slider", name="Frame").press("End")
    page.get_by_text("Frame 12 of 12").wait_for()
    box = page.locator("svg[aria-label^=Shares]").bounding_box()
    page.mouse.click(box["x"] + 1, box["y"] + box["height"] / 2)
    page.get_by_text("Frame 1 of 12").wait_for()
    assert "%" in says.inner_text()
    name, data = download(page, "Legend (JSON)")
    assert (
        name == "drive.json" and json.loads(data)["frames"] == 12 and json.loads(data)["video"] == "drive.mp4"
    )


def test_compare_float_against_int8_tells_agreement_and_differences(server, page):
    """Two files that say they are of the same weights, one of which calls green blue and blue green: they agree on the
    red third of the image."""
    model, facts = tiny.mask_model(), {"weights_sha256": "a" * 64}
    exchanged = ("red", "blue", "green")
    files = [server[1] / "models" / f"z_{precision}.tflite" for precision in ("fp32", "int8")]
    tiny.write_bundle(files[0], model, precision="fp32", **facts)
    tiny.write_bundle(files[1], model, precision="int8", labels=exchanged, **facts)
    try:
        page.goto(server[0])
        settled(page, "red")
        page.get_by_role("link", name="Compare").click()
        page.get_by_text("Models (two to 4)").wait_for()
        choose(page, "compare_what", "Z_fp32 and z_int8")
        page.get_by_text("They differ on 66.7% of the pixels").wait_for()
        page.get_by_text("33.33%").first.wait_for()
        assert page.get_by_text(" ms").count() == 2
        page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
        page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth)")
        assert page.locator('[data-testid="stImage"] img').count() == 3
    finally:
        for path in files:
            path.unlink()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_in_both_themes(server, browser, scheme):
    """Contrast of 4.5 to 1 (WCAG 2.2, 1.4.3) of the components' text against the page's background."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(server[0])
    settled(page, "red")
    page.locator(".frame").first.hover()
    back = page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
    assert (luminance(back) < 0.2) == (scheme == "dark")
    for place in (".says", ".legend", ".both button", '[data-testid="stMarkdownContainer"] p'):
        colour = page.locator(place).first.evaluate("one => getComputedStyle(one).color")
        light, dark = sorted((luminance(back), luminance(colour)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (place, colour, back)
    context.close()


def luminance(colour: str) -> float:
    parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_nothing_is_loaded_from_elsewhere_and_nothing_is_written(server, page):
    hosts, before = set(), written(server[1])
    page.on("request", lambda request: hosts.add(request.url.split("/")[2] if "//" in request.url else ""))
    page.goto(server[0])
    settled(page, "red")
    for tab in ("Compare", "Results", "Segment"):
        page.get_by_role("link", name=tab).click()
        time.sleep(2)
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    assert {host for host in hosts if host} == {server[0].split("/")[2]}
    assert written(server[1]) == before


def written(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
