"""`--data folder`: every layout it reads, written by the test, and a sentence for everything that can be wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import UserError
from tests.folders import IDS, NAMES, names_of, refusal, save, write
from tests.tiny import TINY_MODEL
from tests.tiny import run as process
from training import data
from training.runs import trained_run
from training.runs.recipe import Recipe


def test_split_folders_with_drives_and_several_kinds_of_images(tmp_path):
    root = write(tmp_path / "yard", ["train/drive1/a", "train/drive1/b", "train/drive2/a", "val/drive3/a"])
    save(root / "images/train/c.jpg", np.zeros((2, 3, 3), np.uint8))
    save(root / "masks/train/c.png", IDS)
    spec, examples = data.load("folder", "train", root)
    assert (spec.name, spec.classes, spec.splits, spec.size) == (
        "yard",
        tuple(NAMES),
        ("train", "val"),
        (2, 3),
    )
    assert [(e.name, e.group) for e in examples] == [
        ("c", ""),
        ("drive1__a", "drive1"),
        ("drive1__b", "drive1"),
        ("drive2__a", "drive2"),
    ]
    image, ids = examples[2].read()
    assert (image == 10).all() and np.array_equal(ids, IDS)
    assert names_of(root, "val") == ["drive3__a"]


def test_without_splits_they_are_made_by_ratio_and_kept_in_groups(tmp_path):
    root = write(tmp_path, [f"drive{index % 5}/{index:02d}" for index in range(20)])
    spec = data.load("folder", "train", root)[0]
    assert spec.splits == ("train", "val", "test")
    parts = [names_of(root, split) for split in spec.splits]
    assert [len(part) for part in parts] == [16, 2, 2] and len(set(sum(parts, []))) == 20
    train, val = (names_of(root, split, ratios=(0.8, 0.2), group="folder") for split in ("train", "val"))
    assert len(train) == 16 and {name.split("__")[0] for name in val}.isdisjoint(
        n.split("__")[0] for n in train
    )


def test_lists_name_the_splits_and_must_not_overlap(tmp_path):
    root = write(tmp_path, ["a", "b", "deep/c", "d"])
    (root / "train.txt").write_text("images/a.png\ndeep/c extra words\n\n", encoding="utf-8")
    (root / "val.txt").write_text("b\n", encoding="utf-8")
    assert names_of(root, "train") == ["a", "deep__c"] and names_of(root, "val") == ["b"]
    (root / "val.txt").write_text("b\na.png\n", encoding="utf-8")
    message = refusal(root)
    assert "train and val overlap in 1 image (a)" in message and "\n" not in message
    (root / "val.txt").write_text("b\nlost\n", encoding="utf-8")
    assert f"Line 2 of {root / 'val.txt'} names lost, which is not below" in refusal(root, "val")
    (root / "val.txt").write_text("\n", encoding="utf-8")
    assert "val.txt is empty" in refusal(root, "val")


@pytest.mark.parametrize("paletted", [False, True])
def test_colours_stand_for_classes(tmp_path, paletted):
    content = {
        "by": "colours",
        "classes": [{"name": "road", "colour": [128, 64, 128]}, {"name": "car", "colour": "#00008E"}],
        "ignore": [[0, 0, 0]],
    }
    root = write(tmp_path, ["train/a", "val/a"], content)
    colours = np.array([(0, 0, 0), (128, 64, 128), (0, 0, 142)], np.uint8)
    expected = np.array([[0, 1, 255], [255, 1, 0]], np.uint8)
    image = colours[np.where(expected == 255, 0, expected + 1)]
    if paletted:  # the palette's order is another than the classes'
        mode = Image.fromarray(np.array([[2, 1, 0], [0, 1, 2]], np.uint8), mode="P")
        mode.putpalette([0, 0, 0, 0, 0, 142, 128, 64, 128])
        mode.save(root / "masks/train/a.png")
    else:
        save(root / "masks/train/a.png", image)
    spec, (example,) = data.load("folder", "train", root)
    assert spec.palette == ((128, 64, 128), (0, 0, 142))
    assert np.array_equal(example.read()[1], expected)
    assert np.array_equal(example.raw()[1], image)
    assert "10, 10, 10" in refusal_of_colour(root)


def refusal_of_colour(root: Path) -> str:
    save(root / "masks/val/a.png", np.full((2, 3, 3), 10, np.uint8))
    return refusal(root, "val")


def test_ids_several_to_a_class_and_paletted_masks(tmp_path):
    content = {
        "name": "two kinds",
        "classes": [{"name": "ground", "ids": [7, 8], "colour": [1, 2, 3]}, {"name": "other", "id": 26}],
        "ignore": [0],
        "mask_end": "_L",
        "image_end": "_rgb",
    }
    (tmp_path / "classes.json").write_text(json.dumps(content), encoding="utf-8")
    raw = np.array([[7, 8], [26, 0], [255, 8]], np.uint8)
    for split in ("train", "val"):
        save(tmp_path / f"images/{split}/a_rgb.png", np.zeros((3, 2, 3), np.uint8))
        image = Image.fromarray(raw, mode="P")
        image.putpalette([channel for value in range(256) for channel in (value, 0, 255 - value)])
        (tmp_path / "masks" / split).mkdir(parents=True)
        image.save(tmp_path / f"masks/{split}/a_L.png")
        save(tmp_path / f"masks/{split}/a_colour.png", np.zeros((3, 2, 3), np.uint8))  # not a mask: ignored
    spec, (example,) = data.load("folder", "val", tmp_path)
    assert spec.name == "two kinds" and spec.classes == ("ground", "other") and spec.palette[0] == (1, 2, 3)
    assert example.read()[1].tolist() == [[0, 0], [1, 255], [255, 0]]
    assert np.array_equal(example.raw()[1], raw)


def test_a_map_of_ids_and_black_and_white_masks(tmp_path):
    root = write(tmp_path, ["train/a", "val/a"], {"0": "background", "255": "road"})
    save(root / "masks/train/a.png", np.where(IDS > 0, 255, 0).astype(np.uint8))
    _, (example,) = data.load("folder", "train", root)
    assert np.array_equal(example.read()[1], (IDS > 0).astype(np.uint8))


def said_of(root: Path, split: str = "train") -> tuple[list[str], list[np.ndarray], tuple[str, ...]]:
    """What loading says, the train ids of the masks, and the names of the classes."""
    said: list[str] = []
    spec, examples = data.load("folder", split, root, say=said.append)
    return said, [example.read()[1] for example in examples], spec.classes


@pytest.mark.parametrize(
    "content, own",
    [
        (["car"], 1),
        ([{"name": "car", "id": 255}], 255),
        ({"7": "car"}, 7),
        ([{"name": "car", "id": 40000}], 40000),
    ],
)
def test_one_class_is_told_from_background_and_said_aloud(tmp_path, content, own):
    root = write(tmp_path, ["train/a", "val/a"], content)
    mask = np.array([[0, own, 0], [own, 0, 0]], np.uint8 if own < 256 else np.uint16)
    save(root / "masks/train/a.png", mask)
    said, (ids,), names = said_of(root)
    assert names == ("background", "car") and np.array_equal(ids, (mask > 0).astype(np.uint8))
    assert said == ["folder train: there is one class, car: it is told from background."]
    save(root / "masks/train/a.png", mask + (mask == 0) * np.array(9, mask.dtype))
    assert "a.png holds the class id 9" in refusal(root)


def test_one_colour_is_told_from_black(tmp_path):
    content = {"by": "colours", "classes": [{"name": "car", "colour": "#ff0000"}], "nearest": True}
    root = write(tmp_path, ["train/a", "val/a"], content)
    save(root / "masks/train/a.png", np.array([[(255, 0, 0), (130, 0, 0), (9, 0, 0), (0, 0, 0)]], np.uint8))
    save(root / "images/train/a.png", np.zeros((1, 4, 3), np.uint8))
    said, (ids,), names = said_of(root)
    assert names == ("background", "car") and ids.tolist() == [[1, 1, 0, 0]]
    assert "one class, car" in said[0] and "50.00% of the masks' pixels had the colour of no class" in said[1]


def test_ids_of_sixteen_bits_are_mapped_onto_few_classes(tmp_path):
    """As instance files of KITTI and Mapillary have them: 256 times the class, and a number."""
    content = {
        "classes": [{"name": "road", "ids": list(range(256, 512))}, {"name": "car", "ids": [6656, 6657]}]
    }
    root = write(tmp_path, ["train/a", "val/a"], content)
    for split in ("train", "val"):
        save(root / f"masks/{split}/a.png", np.array([[256, 511, 255], [6656, 6657, 300]], np.uint16))
    assert said_of(root)[1][0].tolist() == [[0, 0, 255], [1, 1, 0]]
    save(root / "masks/val/a.png", np.full((2, 3), 6658, np.uint16))
    assert "a.png holds the class id 6658; 255 to 511 and 6656 to 6657 are right" in refusal(root, "val")


def test_masks_may_be_tiff_and_jpegs_are_counted(tmp_path):
    root = write(tmp_path, ["train/a", "train/b", "val/a"])
    (root / "masks/train/a.png").unlink()
    save(root / "masks/train/a.tif", IDS)
    assert [ids.tolist() for ids in said_of(root)[1]] == [IDS.tolist()] * 2
    (root / "masks/train/a.tif").unlink()
    save(root / "masks/train/a.jpg", IDS)
    assert "a.jpg is a JPEG, and JPEG changes ids" in refusal(root)
    (root / "masks/train/b.png").rename(root / "masks/train/b.jpeg")
    assert "masks/train holds 2 .jpg masks: JPEG changes ids" in refusal(root)


@pytest.mark.parametrize("end", ["_mask", "_L", "_labelIds"])
def test_a_common_end_is_guessed_and_said(tmp_path, end):
    root = write(tmp_path, ["train/a", "val/a"], mask_end=end)
    assert f'"mask_end": "{end}"' in refusal(root)
    (root / "classes.json").write_text(json.dumps({"classes": NAMES, "mask_end": end}), encoding="utf-8")
    assert names_of(root, "train") == ["a"]


@pytest.mark.parametrize(
    "content, words",
    [
        ("{", ["not JSON", '"classes"']),
        ([], ["1 to 255 classes"]),
        (["road", "road"], ["'road' is there twice"]),
        (["road", 3], ["class 1 is 3"]),
        ({"clases": NAMES}, ['it has no "classes"']),
        ({"classes": NAMES, "ingore": 3}, ['"ingore"', "ignore"]),
        ({"classes": [{"name": "a", "id": 65536}, "b"]}, ["65536", "0 to 65535"]),
        ({"classes": [{"name": "a", "id": 1}, {"name": "b", "ids": [2, 1]}]}, ["the id 1", "'a'", "'b'"]),
        ({"classes": NAMES, "ignore": [1]}, ["the id 1", "'car' and ignored"]),
        ({"classes": [{"name": "a", "color": [0, 0, 0]}]}, ['"color"', "colour"]),
        ({"classes": [{"name": "a", "colour": [0, 0]}]}, ["[0, 0]", "red, green, blue"]),
        ({"classes": NAMES, "by": "colours"}, ["'road' has no \"colour\""]),
        ({"classes": NAMES, "by": "shape"}, ["'shape'"]),
        ({"classes": NAMES, "nearest": True}, ['"nearest"', '"by": "colours"']),
        ({"classes": [{"name": "a", "id": 255}, "b"], "ignore": [255]}, ["255 is both a class and ignored"]),
        ({"classes": ["a", "b\nc"]}, ["class 1", "line break"]),
        ({"classes": ["a", " "]}, ["class 1 is empty"]),
        ({"classes": [f"class {index}" for index in range(256)]}, ["1 to 255 classes"]),
        ([{"name": "car", "id": 0}], ["'car'", "id 0 would be background", '{"name": "background", "id": 0}']),
        ({"classes": ["car"], "ignore": [0]}, ["id 0 would be background"]),
        ({"by": "colours", "classes": [{"name": "car", "colour": "#000000"}]}, ["black would be background"]),
        ({"by": "colours", "classes": [{"name": "a", "colour": [1, 1, 1]}, {"name": "b", "colour": [1, 1, 1]}]},
         ["(1, 1, 1)", "'a' and 'b'"]),
    ],
)  # fmt: skip
def test_a_wrong_classes_json_is_one_sentence(tmp_path, content, words):
    root = write(tmp_path, ["train/a", "val/a"])
    (root / "classes.json").write_text(
        content if isinstance(content, str) else json.dumps(content), encoding="utf-8"
    )
    message = refusal(root)
    assert str(root / "classes.json") in message and "\n" not in message
    assert all(word in message for word in words), message


def test_a_folder_that_lacks_something(tmp_path):
    assert "--data-dir" in refusal(None)
    assert "images does not exist" in refusal(tmp_path)
    (tmp_path / "images").mkdir()
    assert "masks does not exist" in refusal(tmp_path)
    (tmp_path / "masks").mkdir()
    assert "classes.json does not exist" in refusal(tmp_path)
    (tmp_path / "classes.json").write_text('["road"]', encoding="utf-8")
    assert "images holds no images" in refusal(tmp_path)
    save(tmp_path / "images/train/a.png", np.zeros((2, 3, 3), np.uint8))
    save(tmp_path / "images/val/a.png", np.zeros((2, 3, 3), np.uint8))
    assert "holds no PNG masks" in refusal(tmp_path)
    save(tmp_path / "masks/train/z.png", np.zeros((2, 3), np.uint8))
    assert "image_end" in refusal(tmp_path) and "z against a" in refusal(tmp_path)


def test_every_bad_pair_is_named(tmp_path):
    root = write(tmp_path, ["train/good", "train/small", "train/range", "train/rgb", "val/a"])
    save(root / "images/loose.png", np.zeros((2, 3, 3), np.uint8))
    save(root / "images/train/nomask.png", np.zeros((2, 3, 3), np.uint8))
    save(root / "masks/train/nopicture.png", IDS)
    save(root / "masks/train/small.png", IDS[:, :2])
    save(root / "masks/train/range.png", IDS + 3)
    save(root / "masks/train/rgb.png", np.arange(18, dtype=np.uint8).reshape(2, 3, 3))
    message = refusal(root)
    assert "6 problems beside 1 good" in message
    for name, word in {"loose": "no split", "nomask": "no mask", "nopicture": "no image", "small": "2x2",
                       "range": "0 to 2 and 255", "rgb": "holds colours"}.items():  # fmt: skip
        assert word in next(line for line in message.splitlines() if f"{name}.png" in line)
    assert names_of(root, "train", skip_bad=True) == ["good"]
    save(root / "images/train/good.jpg", np.zeros((2, 3, 3), np.uint8))
    assert "have one name" in refusal(root)


def test_a_run_keeps_its_classes_and_asks_the_data_no_more(tmp_path):
    spec = data.spec("folder", None, write(tmp_path / "yard", ["train/a", "val/a"]))
    folder = tmp_path / "run"
    folder.mkdir()
    trained_run.keep_classes(folder, spec)
    assert trained_run.read_classes(folder) == spec
    (folder / "checkpoints/step-00000001.checkpoint").mkdir(parents=True)
    changed = data.spec("folder", None, write(tmp_path / "yard", ["train/a"], ["road", "sky", "car"]))
    with pytest.raises(UserError, match="road, car, sky, and the data now has road, sky, car"):
        trained_run.keep_classes(folder, changed)
    assert trained_run.read_classes(folder) == spec
    here = Recipe.of(model="unet", data="folder", data_dir="gone")
    moved = trained_run.Run(folder, here, folder / "best.weights.h5").at([str(tmp_path / "yard")])
    with pytest.raises(
        UserError, match="trained on the classes road, car, sky, and folder in .*yard has road, sky"
    ):
        moved.check_classes()
    (folder / "classes.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="classes.json"):
        trained_run.read_classes(folder)


@pytest.mark.slow
def test_a_folder_is_trained_on_and_its_classes_outlive_it(tmp_path):
    """Ratios and a seed on the command line, then the data goes away: names and model are there still."""
    rng = np.random.default_rng(0)
    root = tmp_path / "yard"
    for index in range(10):
        ids = np.repeat(np.repeat(rng.integers(0, 3, (4, 4)), 16, 0), 16, 1).astype(np.uint8)
        save(root / f"images/{index}.png", np.stack([ids * 100] * 3, axis=-1))
        save(root / f"masks/{index}.png", ids)
    (root / "classes.json").write_text(json.dumps(NAMES), encoding="utf-8")
    arguments = [
        "--data",
        "folder",
        "--data-dir",
        "yard",
        "--data-option",
        "ratios=6,2,2",
        "seed=1",
        "--name",
        "first",
    ]
    small = ["--crop", "64x64", "--batch", "2", "--epochs", "1", *TINY_MODEL]
    done = process(tmp_path, "training.train", "deeplabv3plus", *arguments, *small)
    assert done.returncode == 0, done.stderr
    said = "10 images split with seed 1, image by image: train 6, val 2, test 2."
    assert done.stdout.count(said) == 1  # though both splits were made so
    done = process(tmp_path, "training.evaluate", "runs/first", "--split", "test")
    assert done.returncode == 0 and "2 images" in done.stdout, done.stderr
    root.rename(tmp_path / "gone")
    opened = trained_run.load(tmp_path / "runs/first")
    assert opened.spec.classes == tuple(NAMES) and opened.spec.name == "yard"
    assert opened.model((64, 64)).output["logits"].shape == (None, 64, 64, 3)
