"""The address of a tab: what it says is chosen, what it cannot mean is told, and what is chosen it says."""

from typing import Any

import numpy as np
import pytest

from tests import tiny_tflite as tiny
from tests.page import png
from tests.tiny import REPOSITORY

AppTest = pytest.importorskip("streamlit.testing.v1", reason="needs Streamlit (requirements-app.txt)").AppTest


@pytest.fixture
def street(root, mask_bytes) -> None:
    tiny.write_bundle(root / "models" / "a.tflite", mask_bytes)
    tiny.write_bundle(root / "models" / "b.tflite", mask_bytes)
    (root / "examples" / "zebra.png").write_bytes(png(np.full((8, 12, 3), (3, 250, 3), np.uint8)))


def opened(**asked: Any) -> Any:
    page = AppTest.from_file(str(REPOSITORY / "streamlit_app.py"), default_timeout=60)
    for name, value in asked.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    return page


def listed(page: Any) -> dict[str, list[str]]:
    """The address after the run."""
    return {name: value if isinstance(value, list) else [value] for name, value in page.query_params.items()}


@pytest.mark.usefixtures("street")
def test_an_address_shows_the_same_again():
    from app.palettes import SAFE

    asked = {"example": "zebra", "model": "b", "fit": "stretch", "colours": "safe"}
    asked |= {"view": "before-and-after", "opacity": "0.4", "hide": ["green", "red"]}
    page = opened(**asked)
    assert page.selectbox(key="segment_method").value == "models/b.tflite"
    assert page.selectbox(key="segment_fit").value == "stretch"
    assert page.selectbox(key="segment_colours").value == SAFE
    assert any("zebra" in text.value for text in page.markdown)
    chosen = page.session_state["chosen"]
    assert (chosen["view"], chosen["opacity"], chosen["hidden"]) == (
        "Before and after",
        0.4,
        ("green", "red"),
    )
    assert listed(page) == {
        name: [value] if isinstance(value, str) else value for name, value in asked.items()
    }
    assert not page.info


@pytest.mark.usefixtures("street")
def test_what_a_newcomer_finds_is_no_part_of_the_address():
    page = opened()
    assert not page.query_params
    page.selectbox(key="segment_method").select("Binary threshold").run()
    page.slider(key="segment_threshold").set_value(9).run()
    page.radio(key="segment_side").set_value("dark").run()
    assert listed(page) == {"model": ["threshold"], "threshold": ["9"], "side": ["dark"]}
    again = opened(model="threshold", threshold="9", side="dark")
    assert again.slider(key="segment_threshold").value == 9


@pytest.mark.parametrize(
    "asked",
    [
        {
            "example": "../../etc/passwd",
            "model": "runs/x",
            "view": "sideways",
            "opacity": "nan",
            "levels": "9",
        },
        {"example": "![p](http://127.0.0.1:9/x.png)", "opacity": "1.01", "threshold": "256", "colours": ""},
        {"opacity": "-1", "threshold": "\u0663"},  # a digit, of another script
        {"opacity": "1e9"},
    ],
)
@pytest.mark.usefixtures("street")
def test_bad_values_are_told_in_one_sentence_and_left_out(asked):
    from app.plain_text import escaped

    page = opened(**asked)
    told = ", ".join(f"{name}={value!r}" for name, value in sorted(asked.items(), key=place))
    assert [info.value for info in page.info] == [
        escaped(f"This page does not know {told} of its address and left it out.")
    ]
    assert not page.query_params
    page.run()
    assert not page.info  # told once


ORDER = ("example", "model", "threshold", "levels", "colours", "view", "opacity")


def place(item: tuple[str, str]) -> int:
    return ORDER.index(item[0])


@pytest.mark.usefixtures("street")
def test_a_class_that_no_model_has_is_no_part_of_the_address():
    assert listed(opened(hide=["green", "ghost"])) == {"hide": ["green"]}
