"""The splits that a folder has itself: incomplete ones, lists as people write them, names of folders, links."""

import codecs
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import UserError
from runtime.folders import distinct, files_below
from tests.folders import IDS, names_of, refusal, save, write
from tests.shared import CAMVID, needs
from training import data
from training.data import folder, inspect
from training.data.files import random_splits

FORTY = [f"{index:02d}" for index in range(40)]


def list_of(root: Path, split: str, names: list[str]) -> None:
    (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def splits_of(root: Path, **options) -> dict[str, set[str]]:
    spec = data.opened("folder", root, None, options)[0]
    found = {split: names_of(root, split, **options) for split in spec.splits}
    assert all(len(set(names)) == len(names) for names in found.values())
    return {split: set(names) for split, names in found.items()}


def said(root: Path, split: str = "train") -> str:
    heard: list[str] = []
    data.load("folder", split, root, say=heard.append)
    return " ".join(heard)


def test_a_list_of_one_split_leaves_it_as_it_is_and_the_rest_is_train(tmp_path, capsys):
    root = write(tmp_path / "yard", FORTY)
    list_of(root, "val", FORTY[:10])
    assert splits_of(root) == {"train": set(FORTY[10:]), "val": set(FORTY[:10])}
    sentence = "val.txt lists 10 images; the 30 that no list names are train."
    assert said(root) == f"folder: {sentence}"
    inspect.main(["folder", "--data-dir", str(root), "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.count(sentence) == 1
    list_of(root, "test", FORTY[10:15])
    assert splits_of(root) == {
        "train": set(FORTY[15:]),
        "val": set(FORTY[:10]),
        "test": set(FORTY[10:15]),
    }
    assert "val.txt and test.txt list 10 and 5 images; the 25 that no list names are train." in said(root)


def test_a_list_of_test_alone_is_never_trained_on(tmp_path):
    root = write(tmp_path, FORTY)
    list_of(root, "test", FORTY[:10])
    found = splits_of(root)
    assert found["test"] == set(FORTY[:10])
    assert found["train"] | found["val"] == set(FORTY[10:]) and len(found["val"]) == 3  # a tenth of 30
    assert "the 30 that no list names are divided into train and val" in said(root)


def test_a_list_of_train_alone_stays_train_and_the_rest_is_val(tmp_path):
    root = write(tmp_path, FORTY)
    list_of(root, "train", FORTY[:30])
    assert splits_of(root) == {"train": set(FORTY[:30]), "val": set(FORTY[30:])}
    assert "train.txt lists 30 images; the 10 that no list names are val." in said(root)
    list_of(root, "train", FORTY)
    assert {split: len(names) for split, names in splits_of(root).items()} == {
        "train": 32,
        "val": 4,
        "test": 4,
    }
    assert "There is no val split. 40 images split with seed 0" in said(root)
    list_of(root, "train", FORTY[:20])
    list_of(root, "val", FORTY[20:30])
    assert splits_of(root) == {"train": set(FORTY[:20]), "val": set(FORTY[20:30])}
    assert "the 10 that no list names are left out" in said(root)


def test_folders_of_some_splits_beside_images_in_none(tmp_path):
    root = write(tmp_path, ["val/a", "val/b", "c", "drive/d", "drive/e"])
    assert splits_of(root) == {"val": {"a", "b"}, "train": {"c", "drive__d", "drive__e"}}
    assert "Below" in said(root) and "val holds 2 images; the 3 in no folder of a split are train." in said(
        root
    )
    (root / "images/val").rename(root / "images/Testing")
    (root / "masks/val").rename(root / "masks/test")
    found = splits_of(root, ratios=(2, 1))
    assert found["test"] == {"a", "b"} and found["train"] | found["val"] == {"c", "drive__d", "drive__e"}


def test_train_is_divided_where_there_is_no_val_and_test_stays(tmp_path):
    root = write(tmp_path, [f"train/{name}" for name in FORTY[:20]] + ["test/a", "test/b"])
    found = splits_of(root)
    assert found["test"] == {"a", "b"} and found["train"] | found["val"] == set(FORTY[:20])
    assert (len(found["train"]), len(found["val"])) == (18, 2)


def test_val_or_test_alone_is_not_divided(tmp_path):
    for name in ("val", "test"):
        root = write(tmp_path / name, [f"{name}/a", f"{name}/b"])
        assert splits_of(root) == {name: {"a", "b"}}
        message = refusal(root)
        assert f"no train split, only {name}" in message and f"ratios=0.8,0.1,0.1 pool={name}" in message
        assert set(splits_of(root, ratios=(1, 1), pool=name)) >= {"train", "val"}


def test_images_of_train_and_val_folders_beside_others(tmp_path):
    root = write(tmp_path, ["train/a", "val/b", "unlabelled/c", "unlabelled/d"])
    assert splits_of(root) == {"train": {"a"}, "val": {"b"}}
    assert "the 2 in other folders are left out" in said(root)


@pytest.mark.parametrize(
    "images, masks",
    [
        (("train", "valid", "test"), ("train", "valid", "test")),
        (("training", "validation", "testing"), ("training", "validation", "testing")),
        (("Train", "VAL", "Test"), ("train", "val", "test")),
        (("TRAIN", "dev", "TESTING"), ("training", "valid", "test")),
        (("train2017", "val2017", "test2017"), ("train", "Validation", "test")),
    ],
)
def test_split_folders_are_known_by_their_usual_names(tmp_path, images, masks):
    root = write(tmp_path, ["x"])
    for place, (of_images, of_masks) in enumerate(zip(images, masks, strict=True)):
        save(root / "images" / of_images / f"{place}.png", np.full((2, 3, 3), place, np.uint8))
        save(root / "masks" / of_masks / f"{place}.png", IDS)
    (root / "images/x.png").unlink(), (root / "masks/x.png").unlink()
    assert splits_of(root) == {"train": {"0"}, "val": {"1"}, "test": {"2"}}


def test_two_names_of_one_split_are_refused(tmp_path):
    root = write(tmp_path, ["train/a", "training/b", "val/c"])
    assert "training and train" in (message := refusal(root)) or "train and training" in message
    assert "both mean train" in message and "rename one" in message
    other = write(tmp_path / "lists", FORTY[:4])
    list_of(other, "val", FORTY[:1]), list_of(other, "Validation", FORTY[1:2])
    assert "Validation and val both mean val" in refusal(other)
    with pytest.raises(UserError, match="valid and validation both mean val: say which with splits="):
        random_splits.named((), ["train", "valid", "validation"], "ORG/NAME")
    assert random_splits.named(("train", "valid"), ["train", "valid", "validation"], "x") == {
        "train": "train",
        "val": "valid",
    }
    assert random_splits.named((), ["Training", "dev"], "x") == {"train": "Training", "val": "dev"}


WAYS = {
    "a byte-order mark": codecs.BOM_UTF8 + b"a\ndeep/b\n",
    "UTF-16, as PowerShell writes it": "a.png\r\ndeep\\b.png\r\n".encode("utf-16"),
    "CRLF, blank lines and blanks behind": b"\r\na.png  \r\n\r\n  deep/b.png\t\r\n\r\n",
    "backslashes": b"images\\a.png\n.\\images\\deep\\b.png\n",
    "./images": b"./images/a.png\n./images/deep/b.png\n",
    "quotes": b"\"a.png\"\n'images/deep/b.png'\n",
    "another machine's absolute paths": b"/home/me/yard/images/a.png\nC:\\me\\images\\deep\\b.png\n",
    "a slash before": b"/images/a.png\n/images/deep/b.png\n",
    "the folder's own name": b"yard/images/a.png\nyard/images/deep/b.png",
    "pairs": b"images/a.png masks/a.png\nimages/deep/b.png\tmasks/deep/b.png\n",
    "pairs with commas": b"a.png,a.png\ndeep/b.png, deep/b.png\n",
    "pairs with slashes before": b"/images/a.png /masks/a.png\n/images/deep/b.png /masks/deep/b.png\n",
    "pairs in quotes": b"'images/a.png' 'masks/a.png'\n\"images/deep/b.png\" \"masks/deep/b.png\"\n",
    "numbers behind": b"a 1\ndeep/b  -1\n",
    "another suffix": b"a.jpg\ndeep/b.JPG\n",
}


@pytest.mark.parametrize("way", WAYS)
def test_lists_as_people_and_programs_write_them(tmp_path, way):
    root = write(tmp_path / "yard", ["a", "deep/b", "c", "d"])
    (root / "val.txt").write_bytes(WAYS[way])
    assert splits_of(root) == {"val": {"a", "deep__b"}, "train": {"c", "d"}}


@pytest.mark.parametrize("place", ["splits", "ImageSets/Segmentation"])
def test_lists_may_lie_where_others_put_them(tmp_path, place):
    root = write(tmp_path, ["a", "b", "c"])
    (root / place).mkdir(parents=True)
    (root / place / "val.txt").write_text("a\n", encoding="utf-8")
    assert splits_of(root) == {"val": {"a"}, "train": {"b", "c"}}


def test_absolute_paths_blanks_and_accents_in_names(tmp_path):
    apart = unicodedata.normalize("NFD", "straße é")  # as macOS stores it
    root = write(tmp_path / "yard", ["a", apart, "two words", "c", "d"])
    lines = [str(root / "images/a.png"), unicodedata.normalize("NFC", apart), "two words.png"]
    list_of(root, "val", lines)
    assert splits_of(root) == {"val": {"a", apart, "two words"}, "train": {"c", "d"}}


def test_a_pair_may_name_a_mask_of_another_name(tmp_path):
    root = write(tmp_path, ["a", "b", "c"])
    save(root / "masks/other.png", np.full((2, 3), 1, np.uint8))
    list_of(root, "val", ["images/a.png masks/other.png"])
    _, (example,) = data.load("folder", "val", root)
    assert (example.read()[1] == 1).all()
    list_of(root, "val", ["images/a.png masks/gone.png"])
    assert f"Line 1 of {root / 'val.txt'} names the mask masks/gone.png" in refusal(root, "val")


def test_a_line_that_names_nothing_is_named_with_what_would_be_right(tmp_path):
    root = write(tmp_path, ["drive/a", "b", "c"])
    list_of(root, "val", ["b", "", "a.png"])
    message = refusal(root, "val")
    assert f"Line 3 of {root / 'val.txt'} names a.png" in message and "drive/a would be right" in message
    assert names_of(root, "val", skip_bad=True) == ["b"]
    (root / "val.txt").write_bytes(b"\xff\xfe\x00")
    assert "val.txt cannot be read; it has to be UTF-8" in refusal(root, "val")


def test_linked_folders_are_followed_and_loops_end(tmp_path):
    elsewhere = write(tmp_path / "elsewhere", ["a", "b"])
    root = write(tmp_path / "yard", ["c", "d"])
    for kind in ("images", "masks"):
        (root / kind / "linked").symlink_to(elsewhere / kind, target_is_directory=True)
        (elsewhere / kind / "round").symlink_to(elsewhere / kind, target_is_directory=True)
        (root / kind / "back").symlink_to(root / kind, target_is_directory=True)
        (root / kind / "itself").symlink_to("itself")
    list_of(root, "val", ["c"])
    assert splits_of(root) == {"val": {"c"}, "train": {"d", "linked__a", "linked__b"}}


def test_what_systems_leave_behind_is_no_image(tmp_path):
    root = write(tmp_path, ["train/a", "val/b"])
    for kind in ("images", "masks"):
        for name in ("._a.png", ".ipynb_checkpoints/a-checkpoint.png", "__MACOSX/._a.png", "@eaDir/a.png"):
            path = root / kind / "train" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"no image")
        (root / kind / "Thumbs.db").write_bytes(b"x")
        (root / kind / ".DS_Store").write_bytes(b"x")
    assert splits_of(root) == {"train": {"a"}, "val": {"b"}}
    assert [path.name for path in files_below(root / "images/train", (".png",))] == ["a.png"]


def test_files_come_in_the_order_of_their_paths(tmp_path):
    for name in (
        "a/b.png",
        "a-/c.png",
        "a.png",
        "a/B.PNG",
        "b/a/z.png",
        "b/a.png",
        "Z.png",
        "a/x.jpg",
        "png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    there = [path for path in tmp_path.rglob("*") if path.suffix.lower() == ".png"]
    assert files_below(tmp_path, (".png",)) == sorted(there) and len(there) == 7


def test_no_two_names_are_the_same(tmp_path):
    root = write(tmp_path, ["a/b", "a__b", "A__B"])
    list_of(root, "val", ["a/b", "a__b", "A__B"])
    names = [example.name for example in folder.examples("val", root, "")[0]]
    assert len({name.casefold() for name in names}) == 3
    assert distinct(["a", "a", "a_jpg"], ["a_jpg", "a_png", "a_jpg_jpg"]) == ["a_jpg_2", "a_png", "a_jpg"]
    assert distinct(["a", "b"], ["x", "y"]) == ["a", "b"]
    # a's outline file would be the report of a_polygons.
    ends = ("_mask.png", ".json", "_polygons.json")
    found = distinct(["a", "a_polygons"], ["a_png", "a_polygons_png"], ends)
    assert len({f"{name}{end}" for name in found for end in ends}) == 6


def test_files_are_utf_8_whatever_the_locale(tmp_path):
    root = write(tmp_path / "yard", ["straße", "b", "c"], ["Fahrbahn", "Übergang", "空"])
    (root / "classes.json").write_text('["Fahrbahn", "Übergang", "空"]', encoding="utf-8-sig")
    (root / "val.txt").write_text("straße.png\n", encoding="utf-8-sig")
    code = (
        "import sys; from training import data\n"
        "assert sys.flags.utf8_mode == 0\n"
        "spec, examples = data.load('folder', 'val', sys.argv[1])\n"
        "name = examples[0].name.encode('utf-8', 'surrogateescape').decode()\n"
        "print(ascii((spec.classes, len(examples), name)))"
    )
    places = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], env={**os.environ, **places}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    assert eval(done.stdout) == (("Fahrbahn", "Übergang", "空"), 1, "straße")


@needs(CAMVID)
def test_camvid_and_scenes_have_the_lists_that_they_always_had():
    _, listing = data.opened("camvid", CAMVID, None, {})
    for split, count in (("train", 367), ("val", 101)):
        examples, problems, note = listing(split)
        stems = sorted(path.stem for path in (CAMVID / split).glob("*.png"))
        assert [example.name for example in examples] == stems and len(stems) == count
        assert not problems and not note
    examples, _, note = data.opened("scenes", None, None, {"count": 3})[1]("val")
    assert [example.name for example in examples] == [
        f"scene_val_{index:06d}" for index in range(3)
    ] and not note
