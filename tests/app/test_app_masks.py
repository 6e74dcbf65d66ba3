"""The tabs that take masks, points and corrections without a browser: what is picked, what is scored, what is kept."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import feedback_folder
from app import painted as painted_masks
from runtime import corrections
from runtime.image import png
from runtime.segmenter import Segmentation, Segmenter
from tests import tiny_tflite as tiny
from tests.tiny import REPOSITORY

AppTest = pytest.importorskip("streamlit.testing.v1", reason="needs Streamlit (requirements-app.txt)").AppTest

RGB, IDS = tiny.colours()  # 8x12 in three bands, which the tiny model gets right
PAINTED = np.array([[250, 0, 0], [9, 9, 9], [0, 0, 250]], np.uint8)  # other colours than the model's


def truth_tab() -> None:
    from app import truth_tab as truth

    truth.show()


def correct_tab() -> None:
    from app import correct_tab as correct

    correct.show()


def kept_tab() -> None:
    from app import saved_tab

    saved_tab.show()


def prompted_tab() -> None:
    from app import prompted_tab as prompted

    prompted.show()


@pytest.fixture(scope="module")
def model() -> bytes:
    return tiny.mask_model()


@pytest.fixture
def root(tmp_path, monkeypatch, model) -> Path:
    for folder in ("models", "runs", "examples"):
        (tmp_path / folder).mkdir()
    (tmp_path / "examples" / "bands.png").write_bytes(png(RGB))
    tiny.write_bundle(tmp_path / "models" / "tiny.tflite", model)
    monkeypatch.setenv("KERBSIDE_ROOT", str(tmp_path))
    monkeypatch.setenv("KERBSIDE_FEEDBACK", str(tmp_path / "feedback"))
    return tmp_path


def opened(tab) -> Any:
    page = AppTest.from_function(tab, default_timeout=60).run()
    assert not page.exception
    return page


def with_mask(data: bytes, name: str = "mask.png") -> Any:
    page = opened(truth_tab)
    page.file_uploader(key="truth_mask").set_value((name, data, "image/png")).run()
    assert not page.exception
    return page


def metrics_of(page) -> dict[str, str]:
    return {metric.label: metric.value for metric in page.metric}


def rows_of(page) -> dict[str, object]:
    """The boxes of the legend by what stands above them, without their shares."""
    return {box.label.split(" · ")[0]: box for box in page.selectbox if " · " in box.label}


def test_a_mask_of_ids_needs_no_word(root):
    page = with_mask(png(IDS))
    assert metrics_of(page)["mIoU"] == "100.0%" and not page.error
    assert {label: box.value for label, box in rows_of(page).items()} == {"id 0": 0, "id 1": 1, "id 2": 2}


def test_colours_are_picked_one_by_one(root):
    page = with_mask(png(PAINTED[IDS]))
    assert any("Every value of the mask is ignored" in info.value for info in page.info)
    rows_of(page)["#fa0000"].set_value(0).run()
    assert metrics_of(page)["Pixel accuracy"] == "100.0%"  # of the band that counts
    rows_of(page)["#0000fa"].set_value(1).run()  # what is predicted as blue is said to be green
    found = metrics_of(page)
    assert found["Pixel accuracy"] == "50.0%" and found["mIoU"] == "50.0%"
    assert any("33.3% are ignored" in caption.value for caption in page.caption)
    table = next(html.value for html in page.get("html") if "<tbody>" in html.value)
    # red: 32 hit of 32; green: 32 true, none hit; blue: 32 predicted, none true
    assert (
        "<tr><th>red</th><td>100.0%</td><td>100.0%</td><td>100.0%</td><td>100.0%</td><td>100.0%</td>" in table
    )
    assert "<tr><th>green</th><td>0.0%</td><td>0.0%</td><td>–</td><td>0.0%</td><td>100.0%</td>" in table
    assert "<tr><th>blue</th><td>0.0%</td><td>0.0%</td><td>0.0%</td><td>–</td><td>50.0%</td>" in table


def test_a_legend_is_loaded(root):
    page = with_mask(png(PAINTED[IDS]))
    legend = {
        "by": "colours",
        "classes": [
            {"name": "blue", "colours": [[0, 0, 250]]},
            {"name": "red", "colour": [250, 0, 0]},
            {"name": "green", "colours": [[9, 9, 9]]},
        ],
    }
    loader = page.file_uploader(key="truth_legend")
    loader.set_value(("l.json", json.dumps(legend).encode(), "application/json")).run()
    assert not page.exception and metrics_of(page)["mIoU"] == "100.0%"
    rows_of(page)["#090909"].set_value(255).run()
    assert any("33.3% are ignored" in caption.value for caption in page.caption)
    loader = page.file_uploader(key="truth_legend")
    loader.set_value(
        ("l.json", b'{"by": "colours", "classes": [{"name": "moon", "colours": []}]}', "application/json")
    ).run()
    assert "'moon'; the model has red, green, blue" in page.error[0].value


def test_a_legend_of_ids_changes_how_the_mask_is_read(root):
    page = with_mask(png(IDS))
    legend = {"by": "colours", "classes": [{"name": "blue", "colours": [[0, 0, 0]]}], "ignore": []}
    loader = page.file_uploader(key="truth_legend")
    loader.set_value(("l.json", json.dumps(legend).encode(), "application/json")).run()
    assert page.radio(key="truth_by").value == "colours"
    assert metrics_of(page)["Pixel accuracy"] == "0.0%"  # the red band is said to be blue
    page.radio(key="truth_by").set_value("ids").run()
    assert metrics_of(page)["mIoU"] == "100.0%"


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"nothing", "mask.png is not an image"),
        (png(IDS[:5]), "mask.png is 12x5 pixels but bands.png is 12x8"),
        (
            png(np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)),
            "a mask has one a class",
        ),
    ],
    ids=["no image", "size", "photograph"],
)
def test_a_bad_mask_is_one_sentence(root, data, part):
    page = with_mask(data)
    assert len(page.error) == 1 and part in page.error[0].value


def fill(page, points: str, class_id: int) -> None:
    page.selectbox(key="correct_class").set_value(class_id)
    page.text_input(key="correct_points").input(points)
    next(button for button in page.button if button.label == "Fill").click()
    page.run()
    assert not page.exception


def test_nothing_is_kept_unless_it_is_said(root):
    page = opened(correct_tab)
    fill(page, "1,1", 2)
    assert page.toggle(key="correct_keep").value is False
    assert not any(button.label.startswith("Keep") for button in page.button)
    assert any("Nothing is kept while this is off" in caption.value for caption in page.caption)
    page.toggle(key="correct_keep").set_value(True).run()
    assert not (root / "feedback").exists()


def test_a_correction_is_found_in_the_database(root):
    page = opened(correct_tab)
    fill(page, "1,1", 2)  # the red band becomes blue
    fill(page, "5,0 6,0 6,3 5,3", 255)
    assert any(
        "2 corrections, 41.7% of the pixels" in caption.value for caption in page.caption
    )  # 32 + 8 of 96
    page.toggle(key="correct_keep").set_value(True).run()
    page.button(key="correct_save").click().run()
    assert "Kept as number 1, for training" in page.success[0].value
    (record,) = corrections.records(root / "feedback")
    rgb, predicted, corrected = corrections.images(root / "feedback", record)
    expected = IDS.copy()
    expected[IDS == 0] = 2
    expected[0:4, 5:7] = 255
    assert (rgb == RGB).all() and (predicted == IDS).all() and (corrected == expected).all()
    assert (record.name, record.model, record.labels) == (
        "bands.png",
        "models/tiny.tflite",
        tuple(tiny.LABELS),
    )
    page.button(key="correct_undo").click().run()
    assert any("1 correction, 33.3%" in caption.value for caption in page.caption)


def test_the_class_comes_first_and_an_unchanged_prediction_is_not_kept(root):
    page = opened(correct_tab)
    assert page.selectbox(key="correct_class").value is None
    page.text_input(key="correct_points").input("1,1")
    next(button for button in page.button if button.label == "Fill").click()
    page.run()
    assert not page.exception and "Choose the class" in page.error[0].value
    assert any("0 corrections" in caption.value for caption in page.caption)
    page.toggle(key="correct_keep").set_value(True).run()
    assert page.button(key="correct_save").disabled
    assert any("Correct something first" in caption.value for caption in page.caption)
    fill(page, "1,1", 2)
    assert not page.button(key="correct_save").disabled


def test_an_example_comes_with_its_mask(root):
    folder = root / "examples" / "masks"
    folder.mkdir()
    (folder / "street.jpg").write_bytes(png(RGB))
    (folder / "street.png").write_bytes(png(np.array(tiny.PALETTE, np.uint8)[IDS]))
    page = opened(truth_tab)
    assert metrics_of(page)["mIoU"] == "100.0%" and not page.error
    page.session_state["chosen"]["image"] = "bands"
    page.run()
    assert not page.exception and any("Upload an image and its mask" in info.value for info in page.info)


def test_an_examples_legend_names_its_colours_for_models_of_other_labels(root):
    """Its colours are none of the model's palette: without the legend beside the mask all of it would be ignored."""
    folder = root / "examples" / "masks"
    folder.mkdir()
    (folder / "street.jpg").write_bytes(png(RGB))
    painted = np.array([(9, 9, 9), (8, 8, 8), (7, 7, 7)], np.uint8)[IDS]
    painted[0, 0] = (90, 0, 0)  # none of the legend's, and no grey
    (folder / "street.png").write_bytes(png(painted))
    names = (("red", 9), ("Red", 9), ("green", 8), ("GREEN", 8), ("blue", 7))
    rows = [{"name": name, "colours": [[value] * 3]} for name, value in names]
    (folder / "street.json").write_text(json.dumps({"by": "colours", "classes": rows, "ignore": []}))
    page = opened(truth_tab)
    assert not page.exception and metrics_of(page)["mIoU"] == "100.0%" and not page.error
    (counted,) = (caption.value for caption in page.caption if "pixels count" in caption.value)
    assert counted.startswith(f"{IDS.size - 1:,} pixels count")


def test_the_legend_that_ships_knows_each_colour_of_its_mask_in_every_model_that_ships():
    folder = REPOSITORY / "examples" / "masks"
    content = json.loads((folder / "drawn_street.json").read_text(encoding="utf-8"))
    mask = painted_masks.read_mask(folder / "drawn_street.png")
    for path in (REPOSITORY / "models").glob("*.tflite"):
        labels = Segmenter(path).labels
        rows = [row for row in content["classes"] if row["name"] in labels]
        _, legend = painted_masks.read_legend(json.dumps({**content, "classes": rows}).encode(), labels)
        known = sum(
            s for value, s in zip(mask.values, mask.shares, strict=True) if legend.get(value, 255) != 255
        )
        assert known > 0.8, path.name  # the rest is what is drawn black, and a bicyclist for Cityscapes


def test_points_that_are_none_change_nothing(root):
    page = opened(correct_tab)
    for text, part in (
        ("99,0", "99, 0 lies outside"),
        ("hello", "'hello' is not points"),
        ("1,1 2,2", "three"),
    ):
        fill(page, text, 2)
        assert part in page.error[0].value
        assert any("0 corrections" in caption.value for caption in page.caption)


def test_another_image_begins_anew(root):
    page = opened(correct_tab)
    fill(page, "1,1", 2)
    page.file_uploader[0].set_value([("other.png", png(RGB[:, ::-1]), "image/png")]).run()
    assert any("0 corrections" in caption.value for caption in page.caption)


@pytest.mark.parametrize("tab", [correct_tab, kept_tab])
def test_the_owner_of_the_page_can_shut_it(root, monkeypatch, tab):
    monkeypatch.setenv("KERBSIDE_FEEDBACK", "off")
    page = opened(tab)
    said = [*(caption.value for caption in page.caption), *(info.value for info in page.info)]
    assert any("has not opened it for saving corrections" in text for text in said)
    assert not any("KERBSIDE" in text for text in said) and not page.toggle and not page.dataframe


@pytest.mark.parametrize("tab", [correct_tab, kept_tab])
def test_a_folder_that_the_operator_names_is_no_visitors_to_read(root, monkeypatch, tab):
    said = " ".join(caption.value for caption in opened(tab).caption)
    assert "On the server of this page" in said and "feedback" not in said
    monkeypatch.delenv("KERBSIDE_FEEDBACK")
    assert feedback_folder.told(Path("/home/me/a_b/feedback")) == "Folder: /home/me/a\\_b/feedback"


def keep(root: Path, count: int) -> None:
    """Records whose truth is what the tiny model says, but for the first row, which is blue."""
    for number in range(count):
        rgb = np.roll(RGB, number, axis=1)
        ids = np.roll(IDS, number, axis=1)
        mended = ids.copy()
        mended[0] = 2
        found = Segmentation(ids, tuple(tiny.LABELS), tiny.PALETTE, 0.1, rgb)
        corrections.keep(root / "feedback", found, mended, f"{number}.png", "models/tiny.tflite")


def test_what_was_kept_is_shown_deleted_and_scored(root, model):
    keep(root, 3)
    page = opened(kept_tab)
    table = page.dataframe[0].value
    assert list(table["number"]) == [3, 2, 1] and list(table["part"]) == [
        "training",
        "set aside for testing",
        "training",
    ]
    page.button(key="kept_score").click().run()
    assert not page.exception
    # held out is number 2: of 96 pixels the 8 of the first row that are not blue are wrong
    assert [m.value for m in page.metric if m.label == "Pixel accuracy"] == ["91.7%", "91.7%"]
    assert page.button(key="kept_delete").disabled
    page.checkbox(key="kept_sure").check().run()
    page.button(key="kept_delete").click().run()
    assert not page.exception and [r.id for r in corrections.records(root / "feedback")] == [1, 2]
    page.checkbox(key="kept_sure").check().run()
    page.button(key="kept_delete_all").click().run()
    assert not page.exception and corrections.records(root / "feedback") == []
    assert any("Nothing is kept here yet" in info.value for info in page.info)


def test_without_a_prompted_model_it_says_how_to_get_one(root):
    assert "python -m training.train sam" in opened(prompted_tab).info[0].value
