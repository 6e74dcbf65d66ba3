"""How the page calls things, and the tables that it makes of them."""

import numpy as np
import pytest

from app import words
from app.confusion_table import confusion_table
from app.painted import read_legend
from runtime.errors import UserError
from runtime.headers import read_header
from tests.tiny import REPOSITORY


def test_numbers_and_names_are_said_as_people_say_them():
    assert [words.counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [words.percent(share) for share in (0, 0.0004, 0.0005, 0.333)] == [
        "0.0%",
        "<0.1%",
        "0.1%",
        "33.3%",
    ]
    assert words.class_name("SignSymbol") == "Sign" and words.class_name("road") == "road"
    assert words.model_choice("my_run") == words.model_name("my_run") == "my_run"
    assert words.unseen_miou("my_run") is words.zero_shot_miou("my_run") is None
    assert words.zero_shot_miou("deeplabv3_mobilenet_edgetpu_cityscapes_int8") == 0.551


def test_every_model_that_ships_has_a_name_of_its_own():
    stems = [path.stem for path in (REPOSITORY / "models").glob("*.tflite")]
    names = [words.model_name(stem) for stem in stems]
    assert stems and len(set(names)) == len(names) and not set(names) & set(stems)


def test_the_confusion_matrix_is_a_table_of_what_is_there():
    matrix = np.array([[75, 25, 0, 0], [0, 40, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    table = confusion_table(matrix, ("<b>a</b>", "SignSymbol", "not there", "nor this"))
    assert table.count("<th ") == 4 and "<b>" not in table and ">Sign<" in table and "there" not in table
    cells = [cell.partition(">")[2].partition("<")[0] for cell in table.split("<td style=")[1:]]
    assert cells == ["75", "25", "", "100"]
    assert "--share:0.750" in table


@pytest.mark.parametrize("data", [b"\x00\x01\x0b&", b'<?xml version="1.0"?>\n<svg width="1">', b"<SVG>"])
def test_what_is_no_image_is_refused_without_pythons_spelling(data):
    with pytest.raises(UserError) as caught:
        read_header(data, "x.svg")
    assert "b'" not in str(caught.value) and "\\x" not in str(caught.value)
    assert ("an SVG drawing" in str(caught.value)) == (b"svg" in data.lower())


@pytest.mark.parametrize("classes", [b"3", b'["road"]', b"[[1]]", b'{"a": 1}', b"[null]"])
def test_a_legend_of_another_shape_is_refused_without_pythons_words(classes):
    with pytest.raises(UserError) as caught:
        read_legend(b'{"by": "ids", "classes": ' + classes + b"}", ("road",), "mine.json")
    assert "a list or an object stands where another value should" in str(caught.value)


def test_git_ignores_what_visitors_let_the_page_keep():
    assert "/feedback/" in (REPOSITORY / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_a_model_has_learnt_from_what_its_file_says_and_not_from_what_it_was_compared_on():
    source = {"what": "Cityscapes", "how": "data", "terms": "", "read": ""}
    backbone = {"what": "ImageNet", "how": "backbone", "terms": "", "read": ""}
    assert words.data_of({"data": "camvid", "learnt_from": [source, backbone]}) == "cityscapes"
    for facts in (
        {"data": "camvid"},
        {"data": "camvid", "learnt_from": [3]},
        {"data": "camvid", "learnt_from": []},
    ):
        assert words.data_of(facts) == "camvid"
    assert words.data_of({}) == "" and "fifty cities" in words.not_for("my_run", "cityscapes")


def test_what_a_model_is_not_for_names_what_it_has_seen():
    assert "It learnt from three drives through one English town" in words.not_for("my_run", "camvid")
    both = words.not_for("my_run", "camvid+scenes")
    assert "English town" in both and "and from drawn scenes, not photographs" in both
    own = words.not_for("my_run", "my <b>street</b>")
    assert "It knows streets like those it learnt from" in own and "<b>" not in own
    assert all(line.startswith("Not for anything that steers") for line in (own, both))


def test_what_a_model_that_ships_is_not_for_is_what_its_card_says():
    cards = {path.stem: path for path in (REPOSITORY / "docs" / "models").glob("*.md")}
    stems = [path.stem for path in (REPOSITORY / "models").glob("*.tflite")]
    told = {stem: words.not_for(stem, "") for stem in stems}
    assert stems and len(set(told.values())) == len(cards)
    for stem, lines in told.items():
        (card,) = (path for name, path in cards.items() if stem.startswith(name))
        _, _, said = card.read_text(encoding="utf-8").partition("## What it is not for")
        assert lines.count("\n") == 1
        assert all(
            part.strip() in " ".join(said.split()) for line in lines.splitlines() for part in line.split(". ")
        )
