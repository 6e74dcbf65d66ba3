"""`python -m training.data.inspect`: what it counts and finds, against data sets whose faults are known."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from runtime.errors import UserError
from tests.tiny import write_camvid
from training import data
from training.data import inspect, sample_sheet

A = np.array([[0, 0, 1, 255], [0, 1, 1, 2]], np.uint8)  # 3 road, 3 car, 1 sky, 1 ignored
B = np.array([[1, 1, 1, 1], [1, 1, 1, 1]], np.uint8)


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def grey(value: int, shape=(2, 4, 3)) -> np.ndarray:
    return np.full(shape, value, np.uint8)


@pytest.fixture(scope="module")
def yard(tmp_path_factory) -> Path:
    """Two good images, one void, one with an id of no class, one whose mask has another size, one unreadable; train
    has an image of val, and shares a drive with it."""
    root = tmp_path_factory.mktemp("inspect") / "yard"
    pairs = {
        "train/d1/a": (grey(1), A),
        "train/d2/b": (grey(2), B),
        "train/d2/void": (grey(3), np.full((2, 4), 255, np.uint8)),
        "train/d2/nine": (grey(4), np.where(A == 2, 9, A).astype(np.uint8)),
        "train/d2/size": (grey(5), A[:, :3]),
        "train/d2/torn": (grey(6), A),
        "val/d1/same": (grey(1), A),
        "val/d3/large": (grey(8, (4, 8, 3)), np.repeat(np.repeat(A, 2, 0), 2, 1)),
    }
    for name, (image, mask) in pairs.items():
        save(root / "images" / f"{name}.png", image)
        save(root / "masks" / f"{name}.png", mask)
    torn = root / "images/train/d2/torn.png"
    torn.write_bytes(torn.read_bytes()[:-20])
    save(root / "images/train/lonely.png", grey(7))
    (root / "classes.json").write_text('["road", "car", "sky", "never"]', encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def found(yard) -> dict:
    assert inspect.main(["folder", "--data-dir", str(yard), "--out", str(yard.parent / "out")]) == 0
    return json.loads((yard.parent / "out/inspect.json").read_text(encoding="utf-8"))


def test_ids_are_counted_as_they_are_stored(found):
    rows = {row["id"]: row for row in found["ids"]}
    # A is stored in a, nine (its 2 is a 9), size (without its last column: 255 and 2), same, and fourfold in large.
    assert {key: row["pixels"] for key, row in rows.items()} == {
        0: 3 + 3 + 3 + 3 + 12,
        1: 3 + 3 + 3 + 3 + 12 + 8,
        2: 1 + 1 + 4,
        9: 1,
        255: 1 + 8 + 1 + 1 + 4,
    }
    assert {key: row["pictures"] for key, row in rows.items()} == {0: 5, 1: 6, 2: 3, 9: 1, 255: 5}
    assert {key: row["class"] for key, row in rows.items()} == {
        0: "road", 1: "car", 2: "sky", 9: "refused", 255: "ignored"
    }  # fmt: skip
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)
    assert rows[0]["pictures_share"] == pytest.approx(5 / 8)
    assert rows[0]["colour"] == found["classes"][0]["colour"]


def test_class_shares_are_of_the_good_images_of_a_split(found):
    train, val = found["splits"]["train"], found["splits"]["val"]
    assert (train["pictures"], train["good"], val["good"]) == (6, 3, 2)
    assert train["share"] == pytest.approx({"road": 3 / 15, "car": 11 / 15, "sky": 1 / 15, "never": 0})
    assert train["pictures_with"] == {"road": 1, "car": 2, "sky": 1, "never": 0}
    assert train["void_share"] == pytest.approx(9 / 24)
    assert val["share"]["sky"] == pytest.approx(5 / 35)
    assert {(size["width"], size["height"]): size["pictures"] for size in val["sizes"]} == {
        (4, 2): 1,
        (8, 4): 1,
    }


def test_what_is_wrong_is_named(found):
    problems = found["problems"]
    assert set(problems) == {"files", "void", "duplicates", "classes", "groups"}
    for name, word in {"lonely": "no mask", "nine": "class id 9", "size": "3x2", "torn": "truncated"}.items():
        assert len([line for line in problems["files"] if f"{name}.png" in line and word in line]) == 1
    assert len(problems["files"]) == 4
    (void,) = problems["void"]
    assert "train/d2__void" in void
    assert problems["duplicates"] == ["train/d1__a and val/d1__same are the same image, in different splits."]
    assert problems["classes"] == ["train has no pixel of never.", "val has no pixel of never."]
    (group,) = problems["groups"]
    assert "train and val share images of the group d1:" in group


def test_the_printed_table(found):
    printed = inspect.text(found)
    assert "Files that training refuses (4)" in printed and "8x4 (1)" in printed
    line = next(line for line in printed.splitlines() if " car " in line and "#" in line)
    assert line.split()[0] == "1" and line.split()[3] == "32"
    good = {**found, "problems": {}, "missing": {}}
    assert inspect.text(good).endswith("Nothing is wrong with it.")


def test_the_sheet_shows_image_overlay_and_label_map(found, yard):
    sheet = cv2.imread(str(yard.parent / "out/samples.png"), cv2.IMREAD_COLOR_RGB)
    assert sheet.shape[1] == 1480 and sheet.shape[0] > 5 * 240
    assert all((sheet == entry["colour"]).all(axis=-1).any() for entry in found["classes"])


def test_samples_show_as_many_classes_as_they_can():
    classes = [{0}, {0, 1}, None, {2}, {0}, {0}, {0}]
    assert sample_sheet.chosen(classes, 2) == [1, 3]
    assert sample_sheet.chosen(classes, 99) == [0, 1, 3, 4, 5, 6]
    assert len(sample_sheet.chosen(classes, 4)) == 4 and sample_sheet.chosen(
        [], 3
    ) == [] == sample_sheet.chosen([None], 3)


def test_colours_are_listed_as_colours(tmp_path):
    colours = np.array([(128, 64, 128), (0, 0, 142), (9, 8, 7)], np.uint8)
    for split in ("train", "val"):
        save(tmp_path / f"images/{split}/a.png", grey(1))
        save(tmp_path / f"masks/{split}/a.png", colours[np.minimum(A, 2)])
    classes = [{"name": "road", "colour": [128, 64, 128]}, {"name": "car", "colour": "#00008e"}]
    table = {"by": "colours", "classes": classes, "ignore": [[9, 8, 7]]}
    (tmp_path / "classes.json").write_text(json.dumps(table), encoding="utf-8")
    inspect.main(["folder", "--data-dir", str(tmp_path), "--out", str(tmp_path / "out"), "--split", "train"])
    rows = json.loads((tmp_path / "out/inspect.json").read_text(encoding="utf-8"))["ids"]
    expected = {"#804080": (3, "road"), "#00008e": (3, "car"), "#090807": (2, "ignored")}
    assert {row["id"]: (row["pixels"], row["class"]) for row in rows} == expected


def test_drawn_scenes_a_mixture_and_a_split_that_is_not_there(tmp_path, capsys):
    scenes = ["count=2", "size=32x64"]
    inspect.main(["scenes", "--samples", "1", "--data-option", *scenes, "--out", str(tmp_path / "scenes")])
    result = json.loads((tmp_path / "scenes/inspect.json").read_text(encoding="utf-8"))
    assert {row["id"] for row in result["ids"]} <= set(range(34))  # Cityscapes' label ids, not its train ids
    assert {row["class"] for row in result["ids"] if row["id"] == 7} == {"road"}
    assert "ids" in result and result["splits"]["val"]["pictures"] == 2
    inspect.main(
        ["camvid", "--data-dir", str(write_camvid(tmp_path / "camvid")), "--out", str(tmp_path / "c")]
    )
    result = json.loads((tmp_path / "c/inspect.json").read_text(encoding="utf-8"))
    assert result["splits"]["train"]["pictures"] == 6 and result["splits"]["test"]["pictures"] == 0
    assert "test does not exist" in result["missing"]["test"] and "files" not in result["problems"]
    assert "Files that training refuses" not in (printed := inspect.text(result))
    assert "test: not there, and not needed for training" in printed
    both = ["camvid+scenes", "--data-dir", f"camvid={tmp_path / 'camvid'}", "--out", str(tmp_path / "both")]
    inspect.main([*both, "--samples", "1", "--data-option", *(f"scenes.{option}" for option in scenes)])
    result = json.loads((tmp_path / "both/inspect.json").read_text(encoding="utf-8"))
    assert result["splits"]["train"]["pictures"] == 8
    assert "% of the pixels that count" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["kitti"], ["kitti", "cityscapes"]),
        (["camvid"], ["--data-dir"]),
        (["scenes", "--split", "trian"], ["trian", "train, val"]),
        (["scenes", "--data-option", "speed=1"], ["no option speed"]),
        (
            ["scenes", "--data-option", "count=1", "size=32x64", "--out", "/dev/null/x"],
            ["/dev/null/x", "--out"],
        ),
    ],
)
def test_bad_input_is_one_sentence(arguments, words):
    with pytest.raises(UserError) as caught:
        inspect.main(arguments)
    assert all(word in str(caught.value) for word in words), caught.value


def test_every_data_set_of_files_shows_its_labels_as_they_are_stored(tmp_path):
    """The rows with layouts of their own have tests that write them; here each gets a `raw` through labels.pair."""
    _, listing = data.opened("camvid", write_camvid(tmp_path), None, {})
    rgb, raw = listing("train")[0][0].raw()
    assert rgb.shape == (*raw.shape, 3) and raw.max() == 11
