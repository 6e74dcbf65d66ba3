"""The page without a browser: Streamlit's AppTest over a folder with one known model and one picture."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests import tiny_tflite as tiny

AppTest = pytest.importorskip("streamlit.testing.v1", reason="needs Streamlit (requirements-app.txt)").AppTest

ROOT = Path(__file__).resolve().parents[1]
PAGE = str(ROOT / "streamlit_app.py")


def png(rgb: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", rgb[..., ::-1])[1])


@pytest.fixture(scope="module")
def model() -> bytes:
    return tiny.mask_model()


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    for folder in ("models", "runs", "examples"):
        (tmp_path / folder).mkdir()
    (tmp_path / "examples" / "three_bands.png").write_bytes(png(tiny.colours()[0]))
    monkeypatch.setenv("KERBSIDE_ROOT", str(tmp_path))
    return tmp_path


def opened() -> "AppTest":
    page = AppTest.from_file(PAGE, default_timeout=60).run()
    assert not page.exception
    return page


def legend(page) -> str:
    return next(html.value for html in page.get("html") if "<table" in html.value)


def test_without_models_it_says_how_to_make_one(root):
    page = opened()
    assert "make train" in page.info[0].value and "python -m export" in page.info[0].value
    assert page.selectbox(key="segment_method").options == ["Binary threshold", "Otsu's threshold"]
    assert "foreground" in legend(page)


def test_without_pictures_it_asks_for_one(root):
    (root / "examples" / "three_bands.png").unlink()
    page = opened()
    assert any("Upload a picture" in info.value for info in page.info)


def test_a_model_gives_legend_and_time(root, model):
    tiny.write_bundle(root / "models" / "tiny.tflite", model, scores={"miou": 0.741})
    page = opened()
    table = legend(page)
    for name, colour in zip(tiny.LABELS, tiny.PALETTE, strict=True):
        assert name in table and "rgb({}, {}, {})".format(*colour) in table
    assert table.count("33.3%") == 3
    line = next(text.value for text in page.markdown if " ms**" in text.value)
    assert "picture 12×8" in line and "model input 12×8" in line and "tiny" in line and "fp32" in line
    assert "mIoU 74.1%" in line


def test_models_of_runs_are_listed_after_those_that_ship(root, model):
    tiny.write_bundle(root / "models" / "b.tflite", model)
    (root / "runs" / "street" / "export").mkdir(parents=True)
    (root / "runs" / "street" / "export" / "int8.tflite").write_bytes(model)
    page = opened()
    assert page.selectbox(key="segment_method").options == [
        "b",
        "runs/street/export/int8",
        "Binary threshold",
        "Otsu's threshold",
    ]
    page.selectbox(key="segment_method").select("runs/street/export/int8.tflite").run()
    assert not page.exception and "class 0" in legend(page)


def test_upload_wins_over_the_example(root, model):
    tiny.write_bundle(root / "models" / "tiny.tflite", model)
    page = opened()
    green = np.full((20, 30, 3), (3, 250, 3), np.uint8)
    page.file_uploader[0].set_value(("green.png", png(green), "image/png")).run()
    assert not page.exception
    assert "100.0%" in legend(page) and "green" in legend(page) and "red" not in legend(page)
    assert any("picture 30×20" in text.value for text in page.markdown)


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"not a picture at all", "holiday.png is not an image"),
        (b"", "holiday.png is empty"),
        (png(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))[:900], "truncated"),
        (bytes(cv2.imencode(".png", np.zeros((9, 9, 3), np.uint16))[1]), "16 bits"),
    ],
    ids=["no picture", "empty", "truncated", "16 bits"],
)
def test_a_bad_upload_is_one_sentence(root, model, data, part):
    tiny.write_bundle(root / "models" / "tiny.tflite", model)
    page = opened()
    page.file_uploader[0].set_value(("holiday.png", data, "image/png")).run()
    assert not page.exception and len(page.error) == 1
    assert part in page.error[0].value and "holiday.png" in page.error[0].value


def test_a_bad_model_is_one_sentence(root, model):
    (root / "models" / "cut.tflite").write_bytes(model[: len(model) // 2])
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
    assert "75.0%" in legend(page)  # 192 of 256 greys are brighter
    page.radio(key="segment_side").set_value("dark").run()
    rows = legend(page).split("<tr>")
    assert any("foreground" in row and "25.0%" in row for row in rows)
    page.selectbox(key="segment_method").select("Otsu's threshold").run()
    assert any("threshold 127" in text.value for text in page.markdown)


def test_the_opacity_slider_does_not_segment_again(root, model, monkeypatch):
    from runtime.segmenter import Segmenter

    calls = []
    once = Segmenter.segment
    monkeypatch.setattr(Segmenter, "segment", lambda self, rgb: calls.append(1) or once(self, rgb))
    tiny.write_bundle(root / "models" / "tiny.tflite", model)
    page = opened()
    assert len(calls) == 1
    page.slider(key="segment_opacity").set_value(0.2).run()
    assert len(calls) == 1 and not page.exception


def test_labels_of_a_file_cannot_bring_html_into_the_page(root, model):
    labels = ["<img src=x onerror=alert(1)>", "green", "blue"]
    tiny.write_bundle(root / "models" / "evil.tflite", model, labels=labels)
    table = legend(opened())
    assert "<img" not in table and "&lt;img" in table


def test_downloads_are_offered(root, model):
    tiny.write_bundle(root / "models" / "tiny.tflite", model)
    labels = [button.proto.label for button in opened().get("download_button")]
    assert labels == ["Mask (class ids)", "Mask (colours)", "Legend (JSON)"]


def test_the_page_imports_no_tensorflow():
    code = (
        "import sys, json; from streamlit.testing.v1 import AppTest;"
        f"page = AppTest.from_file({PAGE!r}, default_timeout=60).run(); assert not page.exception;"
        "heavy = [n for n in sys.modules if n.split('.')[0] in ('tensorflow', 'keras', 'training')];"
        "print(json.dumps(sorted(heavy)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == ["training", "training.metrics"]


def test_the_settings_that_keep_the_page_safe():
    import tomllib

    settings = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    assert settings["server"]["maxUploadSize"] == 20
    assert settings["server"]["enableXsrfProtection"] is True
    assert settings["browser"]["gatherUsageStats"] is False


def test_the_examples_that_ship_are_small_and_readable():
    from runtime.image import read_rgb

    pictures = sorted((ROOT / "examples").glob("*.jpg"))
    assert pictures
    for path in pictures:
        assert path.stat().st_size < 250_000 and read_rgb(path).shape[2] == 3
