"""What Correct offers first: the regions with most pixels that are likely to be wrong."""

from pathlib import Path

import numpy as np
import pytest

from app.doubtful import Doubtful, regions
from tests import tiny_tflite as tiny

AppTest = pytest.importorskip("streamlit.testing.v1", reason="needs Streamlit (requirements-app.txt)").AppTest

IDS = np.repeat(np.array([[0, 1, 2, 1]], np.uint8), 5, axis=0).repeat(5, axis=1)  # 5x20: four squares


def sure(*squares: float) -> np.ndarray:
    return np.repeat(np.array([squares], np.float32), 5, axis=0).repeat(5, axis=1)


def test_the_least_sure_regions_come_first_each_part_of_a_class_on_its_own():
    found = regions(IDS, sure(0.9, 0.5, 0.8, 0.6))
    assert [(one.class_id, one.x, one.y) for one in found] == [(1, 7, 2), (1, 17, 2), (2, 12, 2)]
    assert found[0] == Doubtful(7, 2, 1, 0.25, 0.5)
    assert regions(IDS, None) == []
    assert len(regions(IDS, sure(0.9, 0.5, 0.8, 0.6), most=9)) == 4


def test_a_large_region_that_is_nearly_sure_may_hold_more_wrong_pixels():
    ids = np.zeros((10, 100), np.uint8)
    ids[4:7, 40:50] = 1  # 30 pixels at 0.2 are 24 wrong ones, 970 at 0.9 are 97
    confidence = np.where(ids == 1, 0.2, 0.9).astype(np.float32)
    assert [one.class_id for one in regions(ids, confidence)] == [0, 1]
    ids[:] = 0
    ids[0, 0] = 1  # a thousandth of the image
    assert [one.class_id for one in regions(ids, confidence)] == [0]


def test_what_is_mended_makes_room_for_the_next():
    changed = IDS == 2
    changed[:2, 5:10] = True  # two fifths of the second square
    found = regions(IDS, sure(0.9, 0.5, 0.1, 0.6), changed)
    assert [(one.class_id, one.x) for one in found] == [(1, 7), (1, 17), (0, 2)]


def test_a_large_image_gives_pixels_of_its_own():
    ids, confidence = IDS.repeat(100, axis=0).repeat(100, axis=1), sure(0.9, 0.5, 0.8, 0.6)
    (first, *_) = regions(ids, confidence.repeat(100, axis=0).repeat(100, axis=1))
    assert ids[first.y, first.x] == 1 and 600 < first.x < 900 and 150 < first.y < 350


def correct_tab() -> None:
    from app import correct_tab as correct

    correct.show()


def test_a_click_on_one_fills_it_with_the_chosen_class(root: Path):
    tiny.write_bundle(root / "models" / "scores.tflite", tiny.scores_model(), output="scores")
    page = AppTest.from_function(correct_tab, default_timeout=60).run()
    assert not page.exception
    offered = [button for button in page.button if "sure" in button.label]
    assert len(offered) == 3 and "33.3% of the image" in offered[0].label
    offered[0].click().run()
    assert "Choose the class" in page.error[0].value
    page.selectbox(key="correct_class").set_value(2).run()
    next(button for button in page.button if tiny.LABELS[0] in button.label).click().run()
    assert not page.exception and any("1 correction, 33.3%" in one.value for one in page.caption)
    assert len([button for button in page.button if "sure" in button.label]) == 2
