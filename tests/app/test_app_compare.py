"""Compare and Results without a browser."""

import json
from typing import Any

import numpy as np
import pytest

from tests import tiny_tflite as tiny
from tests.page import png

AppTest = pytest.importorskip("streamlit.testing.v1", reason="needs Streamlit (requirements-app.txt)").AppTest


def opened(name: str) -> Any:
    """A tab alone."""

    def tab(name):
        import importlib

        importlib.import_module(f"app.{name}_tab").show()

    page = AppTest.from_function(tab, kwargs={"name": name}, default_timeout=60).run()
    assert not page.exception
    return page


def texts(page) -> str:
    return "\n".join(text.value for text in page.markdown)


def test_models_that_share_no_name_are_said_not_to_compare(root):
    page = opened("compare")  # the two thresholds agree by name; without models they are the default
    assert "They differ on" in texts(page)
    page.multiselect(key="compare_methods").set_value(["Otsu's threshold"]).run()
    assert any("two to 4" in info.value for info in page.info)


def test_agreement_and_disputes_are_counted(root, mask_bytes):
    tiny.write_bundle(root / "models" / "a.tflite", mask_bytes)
    tiny.write_bundle(root / "models" / "b.tflite", mask_bytes, labels=["red", "blue", "green"])
    page = opened("compare")
    assert "They differ on 66.7% of the pixels" in texts(page)
    shares, disputes = (table.value for table in page.table)
    assert shares["1"].tolist() == ["100.00%", "33.33%"] and shares["2"].tolist() == ["33.33%", "100.00%"]
    rows = {tuple(row) for row in disputes.itertuples(index=False)}
    assert rows == {("green", "blue", "33.33%"), ("blue", "green", "33.33%")}
    page.multiselect(key="compare_methods").set_value(
        ["models/a.tflite", "models/b.tflite", "Otsu's threshold"]
    ).run()
    assert not page.exception and len(page.table) == 1 and "They differ on 100.0%" in texts(page)


def test_float_and_int8_are_offered_together(root, mask_bytes):
    for precision in ("int8", "fp32"):
        note = {"precision": precision, "weights_sha256": "a" * 64}
        tiny.write_bundle(root / "models" / f"m_{precision}.tflite", mask_bytes, **note)
    page = opened("compare")
    page.selectbox(key="compare_what").select("m_fp32 and m_int8").run()
    assert not page.exception and "They differ on 0.0%" in texts(page)
    assert page.table[0].value["model"].tolist() == ["1\\. m\\_fp32", "2\\. m\\_int8"]  # in Markdown


def test_a_model_is_not_run_again_for_another_opacity(root, mask_bytes, monkeypatch):
    from runtime.segmenter import Segmenter

    calls = []
    once = Segmenter.segment
    monkeypatch.setattr(Segmenter, "segment", lambda self, *given: calls.append(1) or once(self, *given))
    for name in "ab":
        tiny.write_bundle(root / "models" / f"{name}.tflite", mask_bytes)
    page = opened("compare")
    once_each = len(calls)
    assert 4 <= once_each <= 10  # up to five times each, for the median of their times
    page.slider(key="compare_opacity").set_value(0.2).run()
    assert len(calls) == once_each and not page.exception
    page.file_uploader[0].set_value([("g.png", png(np.zeros((5, 5, 3), np.uint8)), "image/png")]).run()
    assert len(calls) > once_each


def test_results_show_what_the_files_and_the_benchmark_say(root, mask_bytes):
    scores = {"miou": 0.741, "pixel_accuracy": 0.9, "split": "val"}
    tiny.write_bundle(
        root / "models" / "a.tflite", mask_bytes, scores=scores, data="camvid", precision="int8"
    )
    (root / "models" / "foreign.tflite").write_bytes(mask_bytes)
    page = opened("results")
    table = page.dataframe[0].value
    first = table.iloc[0]
    assert (first["file"], first["data"], first["input"], first["mIoU, %"]) == (
        "a",
        "camvid val",
        "12×8",
        74.1,
    )
    assert first["MB"] == round((root / "models" / "a.tflite").stat().st_size / 1e6, 2)
    assert len(table) == 2 and "not measured" in page.caption[0].value
    assert not page.get("vega_lite_chart") and not page.get("arrow_vega_lite_chart")

    folder = root / "docs" / "models"
    folder.mkdir(parents=True)
    facts = {
        "milliseconds": {"a.tflite": 7.5},
        "date": "2026-11-21",
        "machine": "m",
        "runs": 60,
        "threads": 2,
    }
    (folder / "latency.json").write_text(json.dumps({**facts, "command": "c"}), encoding="utf-8")
    (folder / "a.md").write_text(
        "# The card of A\n\n![x](http://elsewhere/x.png)\n\nTrained on roads.\n", encoding="utf-8"
    )
    page = opened("results")
    assert page.dataframe[0].value.iloc[0]["latency, ms"] == 7.5 and "2026-11-21" in page.caption[0].value
    assert page.selectbox(key="results_card").options == ["The card of A"]
    assert "Trained on roads." in texts(page) and "elsewhere" not in texts(page)
    page.button(key="results_measure").click().run()
    assert not page.exception and "on this server" in page.caption[0].value
    assert page.dataframe[0].value["latency, ms"].min() > 0


@pytest.mark.parametrize("tab", ["compare", "results"])
def test_an_empty_folder_is_no_error(root, tab):
    (root / "examples" / "three_bands.png").unlink()
    assert any(info.value for info in opened(tab).info)


def test_float_stands_beside_what_ships(root, mask_bytes):
    keras = {"miou": 0.75, "pixel_accuracy": 0.9, "class_iou": {"red": 0.8, "green": 0.7, "blue": "much"}}
    tiny.write_bundle(
        root / "models" / "a.tflite",
        mask_bytes,
        precision="int8",
        scores={"miou": 0.74, "class_iou": {"red": 0.78, "green": 0.705, "blue": 0.6}},
        parity={"keras": keras, "pixel_agreement": 0.99},
    )
    tiny.write_bundle(
        root / "models" / "b.tflite", mask_bytes, parity="none"
    )  # says nothing that can be read
    page = opened("results")
    (row,) = page.dataframe[1].value.to_dict("records")
    assert row == {
        "name": "a",
        "precision": "int8",
        "mIoU in float, %": 75.0,
        "mIoU of the file, %": 74.0,
        "points lost": 1.0,
        "pixels on which both agree, %": 99.0,
    }
    from app.results_tab import float_table
    from runtime.shipped_files import rows

    table = float_table(rows(root / "models")[0])
    assert '<th scope="row">red</th><td>80.0</td><td>78.0</td><td>-2.0</td>' in table
    assert "<td>70.0</td><td>70.5</td><td>+0.5</td>" in table and "blue" not in table


def test_how_sure_each_is_and_what_it_doubts_stands_below_its_image(root, monkeypatch):
    from runtime.segmenter import Segmentation

    monkeypatch.setattr(Segmentation, "doubt", property(lambda one: "The model is *unsure* here."))
    for name in "ab":
        tiny.write_bundle(root / "models" / f"{name}.tflite", tiny.scores_model(), output="scores")
    page = opened("compare")
    assert texts(page).count(" · mean confidence ") == 2
    assert sum(caption.value == "The model is \\*unsure\\* here." for caption in page.caption) == 2
