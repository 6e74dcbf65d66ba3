"""The page without a browser: Streamlit's AppTest over a folder with one known model and one image."""

import base64
import json
import struct
import subprocess
import sys
import zlib
from typing import Any

import cv2
import numpy as np
import pytest

from tests import tiny_tflite as tiny
from tests.page import png
from tests.tiny import REPOSITORY

AppTest = pytest.importorskip("streamlit.testing.v1", reason="needs Streamlit (requirements-app.txt)").AppTest

THRESHOLDS = ["Binary threshold (by brightness, no AI)", "Otsu's threshold (by brightness, no AI)"]
PAGE = str(REPOSITORY / "streamlit_app.py")


def opened() -> Any:
    page = AppTest.from_file(PAGE, default_timeout=60).run()
    assert not page.exception
    return page


def component(page, name: str) -> dict:
    """What one of the page's own components was given to show."""
    protos = [element.proto for element in page.get("bidi_component")]
    return json.loads(next(proto for proto in protos if proto.component_name == name).bytes)


def legend(page) -> dict[str, str]:
    """Name -> share, as shown."""
    rows = component(page, "kerbside_viewer")["rows"]
    return {row["name"]: f"{row['share']:.1%}" for row in rows}


def sent(page, which: str) -> np.ndarray:
    """One of the images that the viewer draws from: rgb, ids or borders."""
    data = base64.b64decode(component(page, "kerbside_viewer")[which].split(",")[1])
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))


def look_at(page, image: int | str) -> None:
    """As if its small image had been pressed: the place of an upload, or the name of an example."""
    page.session_state["chosen"]["image"] = image
    page.run()


def test_without_models_it_says_how_to_make_one(root):
    page = opened()
    assert "make train" in page.info[0].value and "python -m export" in page.info[0].value
    assert page.selectbox(key="segment_method").options == THRESHOLDS
    assert "foreground" in legend(page)


def test_without_images_it_asks_for_one(root):
    (root / "examples" / "three_bands.png").unlink()
    page = opened()
    assert any("Upload an image" in info.value for info in page.info)


def test_a_model_gives_legend_and_time(root, mask_bytes):
    tiny.write_bundle(root / "models" / "tiny.tflite", mask_bytes, scores={"miou": 0.741})
    page = opened()
    assert legend(page) == dict.fromkeys(tiny.LABELS, "33.3%")
    rows = component(page, "kerbside_viewer")["rows"]
    assert [tuple(row["colour"]) for row in rows] == [*tiny.PALETTE]
    line = next(text.value for text in page.markdown if " ms**" in text.value)
    assert "image 12×8" in line and "model input 12×8" in line and "tiny" in line and "fp32" in line
    assert line.startswith("three\\_bands.png · ")
    assert any("On similar streets 74% average overlap with the truth." in one.value for one in page.caption)


def test_models_of_runs_are_listed_after_those_that_ship(root, mask_bytes):
    tiny.write_bundle(root / "models" / "b.tflite", mask_bytes)
    (root / "runs" / "street" / "export").mkdir(parents=True)
    (root / "runs" / "street" / "export" / "int8.tflite").write_bytes(mask_bytes)
    page = opened()
    assert page.selectbox(key="segment_method").options == [
        "b",
        "runs/street/export/int8",
        *THRESHOLDS,
    ]
    page.selectbox(key="segment_method").select("runs/street/export/int8.tflite").run()
    assert not page.exception and "class 0" in legend(page)


def test_upload_wins_over_the_example(root, mask_bytes):
    tiny.write_bundle(root / "models" / "tiny.tflite", mask_bytes)
    page = opened()
    green = np.full((20, 30, 3), (3, 250, 3), np.uint8)
    page.file_uploader[0].set_value([("green.png", png(green), "image/png")]).run()
    assert not page.exception
    assert legend(page) == {"green": "100.0%"}
    assert any("image 30×20" in text.value for text in page.markdown)


def test_how_a_image_of_another_shape_comes_before_the_model_is_said_and_chosen(root, mask_bytes):
    tiny.write_bundle(root / "models" / "tiny.tflite", mask_bytes)
    page = opened()
    green = np.full((12, 36, 3), (3, 250, 3), np.uint8)  # twice as wide as the model's 3:2
    page.file_uploader[0].set_value([("green.png", png(green), "image/png")]).run()
    for chosen, said in ((None, "letterboxed"), ("tiles", "in tiles"), ("stretch", "stretched")):
        if chosen:
            page.selectbox(key="segment_fit").select(chosen).run()
        assert not page.exception and legend(page) == {"green": "100.0%"}
        assert any(f"model input 12×8 · {said}" in text.value for text in page.markdown)


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"not a picture at all", "holiday.png is not an image"),
        (b"", "holiday.png is empty"),
        (png(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))[:900], "truncated"),
        (bytes(cv2.imencode(".png", np.zeros((9, 9, 3), np.uint16))[1]), "16 bits"),
    ],
    ids=["no image", "empty", "truncated", "16 bits"],
)
def test_a_bad_upload_is_one_sentence(root, mask_bytes, data, part):
    tiny.write_bundle(root / "models" / "tiny.tflite", mask_bytes)
    page = opened()
    page.file_uploader[0].set_value([("holiday.png", data, "image/png")]).run()
    assert not page.exception and len(page.error) == 1
    assert part in page.error[0].value and "holiday.png" in page.error[0].value


def test_a_bad_model_is_one_sentence(root, mask_bytes):
    (root / "models" / "cut.tflite").write_bytes(mask_bytes[: len(mask_bytes) // 2])
    page = opened()
    assert not page.exception and "cut.tflite is a truncated or damaged" in page.error[0].value
    page.selectbox(key="segment_method").select("Otsu's threshold").run()
    assert not page.exception and not page.error


def test_thresholds_follow_their_widgets(root):
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    (root / "examples" / "three_bands.png").write_bytes(png(ramp))
    page = opened()
    page.selectbox(key="segment_method").select("Binary threshold").run()
    page.slider(key="segment_threshold").set_value(63).run()
    assert legend(page)["foreground"] == "75.0%"  # 192 of 256 greys are brighter
    page.radio(key="segment_side").set_value("dark").run()
    assert legend(page)["foreground"] == "25.0%"
    page.selectbox(key="segment_method").select("Otsu's threshold").run()
    assert any("threshold 127" in text.value for text in page.markdown)
    page.radio(key="segment_levels").set_value(3).run()
    assert not page.exception and set(legend(page)) == {"level 0", "level 1", "level 2"}


def test_a_tab_that_is_left_and_entered_again_does_not_segment_again(root, mask_bytes, monkeypatch):
    from runtime.segmenter import Segmenter

    calls = []
    once = Segmenter.segment
    monkeypatch.setattr(Segmenter, "segment", lambda self, *given: calls.append(1) or once(self, *given))
    tiny.write_bundle(root / "models" / "tiny.tflite", mask_bytes)
    page = opened()
    page.selectbox(key="segment_colours").select("for the colour-blind").run()
    page.run()
    assert len(calls) == 1 and not page.exception


def test_labels_of_a_file_cannot_bring_html_into_the_page(root, mask_bytes):
    labels = ["<img src=x onerror=alert(1)>", "green", "blue"]
    tiny.write_bundle(root / "models" / "evil.tflite", mask_bytes, labels=labels)
    page = opened()
    assert labels[0] in legend(
        page
    )  # as text: tests/app/test_app_segment_browser.py looks at what becomes of it
    assert not any("<img" in html.value for html in page.get("html"))
    from app import told

    assert "<img" not in told.legend_table([{"name": labels[0], "colour": [0, 0, 0], "share": 1.0}])


def test_downloads_are_offered(root, mask_bytes):
    tiny.write_bundle(root / "models" / "tiny.tflite", mask_bytes)
    labels = [button.proto.label for button in opened().get("download_button")]
    assert labels == [
        *("Mask (class ids)", "Mask (colours)", "Overlay (as shown)"),
        *("Legend (JSON)", "Polygons (JSON)", "Everything (ZIP)"),
    ]


def test_the_viewer_gets_the_image_its_ids_and_their_borders(root, mask_bytes):
    tiny.write_bundle(root / "models" / "tiny.tflite", mask_bytes)
    page = opened()
    image, ids = tiny.colours()
    middle = np.s_[2:6, 1:3]  # inside of the red band: JPEG blurs borders
    shown = sent(page, "rgb")[..., ::-1].astype(int)
    assert np.abs(shown[middle].mean((0, 1)) - image[middle].mean((0, 1))).max() < 30
    assert (sent(page, "ids") == ids).all()
    borders = sent(page, "borders")  # bands of 4 columns: one pixel on either side
    assert (borders == np.where(np.isin(np.arange(12), (3, 4, 7, 8)), ids, 255)).all()
    assert component(page, "kerbside_viewer")["start"] == {"view": "Overlay", "opacity": 0.55, "hidden": []}
    page.selectbox(key="segment_colours").select("for the colour-blind").run()
    colours = [row["colour"] for row in component(page, "kerbside_viewer")["rows"]]
    assert colours == [[230, 159, 0], [86, 180, 233], [0, 158, 115]]  # Okabe and Ito


def test_of_several_images_one_is_looked_at_and_a_bad_one_does_not_hide_the_others(root, mask_bytes):
    tiny.write_bundle(root / "models" / "tiny.tflite", mask_bytes)
    page = opened()
    blue = np.full((10, 10, 3), (3, 3, 250), np.uint8)
    green = np.full((10, 20, 3), (3, 250, 3), np.uint8)
    page.file_uploader[0].set_value(
        [("a.png", png(green), "image/png"), ("b.png", png(blue), "image/png"), ("c.png", b"no", "image/png")]
    ).run()
    assert legend(page) == {"green": "100.0%"}
    look_at(page, 1)
    assert legend(page) == {"blue": "100.0%"}
    assert page.get("download_button")[-1].proto.label == "Everything of 2 images (ZIP)"
    assert any(caption.value == "Left out, because not read: c.png" for caption in page.caption)
    look_at(page, 2)
    assert not page.exception and "c.png is not an image" in page.error[0].value


def test_too_many_and_too_large_uploads_are_one_sentence(root, mask_bytes):
    tiny.write_bundle(root / "models" / "tiny.tflite", mask_bytes)
    page = opened()
    small = png(tiny.colours()[0])
    page.file_uploader[0].set_value([(f"{index}.png", small, "image/png") for index in range(21)]).run()
    assert not page.exception and "21 images are too many" in page.error[0].value
    from app import common

    class Upload:
        size, name = 21 * 2**20, "large.png"

    with pytest.raises(Exception, match=r"large\.png has 21 MB; files of up to 20 MB are taken"):
        common.checked_upload(Upload())


def test_a_bomb_is_refused_by_its_header(root, mask_bytes, monkeypatch):
    """A PNG that says 20,000 x 20,000 pixels is never decoded."""
    tiny.write_bundle(root / "models" / "tiny.tflite", mask_bytes)
    page = opened()
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    page.file_uploader[0].set_value([("bomb.png", giant_png(20_000, 20_000), "image/png")]).run()
    assert not page.exception and "bomb.png is 20000x20000 pixels (400 megapixels)" in page.error[0].value
    page.file_uploader[0].set_value([("edge.png", giant_png(10_000, 5_001), "image/png")]).run()
    assert "up to 50 megapixels" in page.error[0].value


def giant_png(width: int, height: int) -> bytes:
    """A whole PNG, small as a file, of so many white pixels of one bit."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\xff" * ((width + 7) // 8)) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_the_camera_is_asked_only_when_it_is_chosen(root, mask_bytes):
    tiny.write_bundle(root / "models" / "tiny.tflite", mask_bytes)
    page = opened()
    assert len(page.camera_input) == 0
    page.segmented_control(key="segment_source").set_value("Camera").run()
    assert len(page.camera_input) == 1 and any("Take an image" in info.value for info in page.info)
    assert any("phone's own photo" in caption.value for caption in page.caption)
    red = np.full((10, 10, 3), (250, 3, 3), np.uint8)
    page.camera_input[0].set_value(("shot.jpg", bytes(cv2.imencode(".jpg", red[..., ::-1])[1]), "image/jpeg"))
    page.run()
    assert not page.exception and legend(page) == {"red": "100.0%"}


def test_two_sessions_do_not_see_each_others_images(root, mask_bytes):
    tiny.write_bundle(root / "models" / "tiny.tflite", mask_bytes)
    one, other = opened(), opened()
    one.file_uploader[0].set_value(
        [("g.png", png(np.full((9, 9, 3), (3, 250, 3), np.uint8)), "image/png")]
    ).run()
    other.run()
    assert legend(one) == {"green": "100.0%"} and legend(other) == dict.fromkeys(tiny.LABELS, "33.3%")


def test_the_page_imports_no_tensorflow():
    code = (
        "import sys, json; from streamlit.testing.v1 import AppTest;"
        f"page = AppTest.from_file({PAGE!r}, default_timeout=60).run(); assert not page.exception;"
        "heavy = [n for n in sys.modules if n.split('.')[0] in ('tensorflow', 'keras', 'training', 'evaluation')];"
        "print(json.dumps(sorted(heavy)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == ["evaluation", "evaluation.metrics"]


def test_the_settings_that_keep_the_page_safe():
    import tomllib

    settings = tomllib.loads((REPOSITORY / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    assert settings["server"]["maxUploadSize"] == 20
    assert settings["server"]["enableXsrfProtection"] is True
    assert settings["browser"]["gatherUsageStats"] is False
    assert settings["client"]["showErrorDetails"] == "none"


def test_the_examples_that_ship_are_small_and_readable():
    from runtime.image import read_rgb

    images = sorted((REPOSITORY / "examples").glob("*.jpg"))
    assert images
    for path in images:
        assert path.stat().st_size < 250_000 and read_rgb(path).shape[2] == 3


def test_a_card_is_chosen_by_the_names_of_its_models():
    from app.results_tab import title

    card = REPOSITORY / "docs" / "models" / "deeplabv3plus_mobilenet_edgetpu_camvid.md"
    files = [path.stem for path in (REPOSITORY / "models").glob("*.tflite")]
    assert title(card, files) == "EdgeTPU, large input; DeepLabV3+ EdgeTPU"
    assert title(card, []) == card.stem


def test_a_cards_headings_stand_below_the_pages_and_its_links_lead_somewhere():
    from app.results_tab import fitted

    card = "# Net\n\n![plot](p.png)See [ablations](../ablations.md), [paper](https://arxiv.org/abs/1).\n## Data\n#1\n"
    assert fitted(card) == "### Net\n\nSee ablations, [paper](https://arxiv.org/abs/1).\n#### Data\n#1\n"
