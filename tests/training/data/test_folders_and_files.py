"""Data folders: what is listed, how raw ids become train ids, and every way in which a folder can be bad."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import UserError
from tests.shared import CAMVID, needs
from training import data
from training.data import camvid, cityscapes
from training.data.check_files import check
from training.data.labels import label_maps


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def camvid_folder(root: Path, count: int = 3) -> Path:
    for split in ("train", "val"):
        for index in range(count):
            save(root / split / f"{index}.png", np.full((6, 8, 3), index, np.uint8))
            save(root / f"{split}annot" / f"{index}.png", np.arange(48, dtype=np.uint8).reshape(6, 8) % 12)
    return root


def city_folder(root: Path, kind: str, ids: np.ndarray, *, split: str = "train") -> Path:
    stem = "aachen_000000_000019"
    image = np.zeros((*ids.shape, 3), np.uint8)
    save(root / "leftImg8bit" / split / "aachen" / f"{stem}_leftImg8bit.png", image)
    save(root / "gtFine" / split / "aachen" / f"{stem}_gtFine_{kind}.png", ids)
    return root


def problems_of(root: Path, split: str = "train", name: str = "camvid") -> str:
    with pytest.raises(UserError) as caught:
        data.load(name, split, root)
    return str(caught.value)


# Label maps


def test_paletted_labels_keep_their_indices(tmp_path):
    """The trap: a palette of colours over the ids must not turn them into grey values."""
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(ids, mode="P")
    image.putpalette([channel for colour in camvid.SPEC.palette for channel in colour] + [0, 0, 0])
    image.save(tmp_path / "p.png")  # Pillow writes 12 colours with 4 bits a pixel
    assert np.array_equal(label_maps.read_ids(tmp_path / "p.png"), ids)
    image.save(tmp_path / "p8.png", bits=8)
    assert np.array_equal(label_maps.read_ids(tmp_path / "p8.png"), ids)


# CamVid


def test_camvid_maps_void_to_ignore(tmp_path):
    _, examples = data.load("camvid", "train", camvid_folder(tmp_path))
    assert [example.name for example in examples] == ["0", "1", "2"]
    image, label = examples[2].read()
    assert image.dtype == label.dtype == np.uint8
    assert (image == 2).all()
    expected = np.arange(48).reshape(6, 8) % 12
    assert np.array_equal(label, np.where(expected == 11, 255, expected))


@needs(CAMVID)
def test_real_camvid():
    spec, examples = data.load("camvid", "val", CAMVID)
    assert len(examples) == 101 and len(spec.classes) == 11
    image, label = examples[0].read()
    assert image.shape == (360, 480, 3) and label.shape == (360, 480)
    assert set(np.unique(label)) <= {*range(11), 255}


# Cityscapes


def test_the_label_table_is_the_official_one():
    """Spot values from the benchmark's published table."""
    assert len(cityscapes.LABELS) == 34
    assert cityscapes.TAXONOMIES["cityscapes19"].classes[:3] == ("road", "sidewalk", "building")
    assert cityscapes.ID_TO_TRAIN_ID[26] == 13 and cityscapes.ID_TO_TRAIN_ID[9] == 255
    assert [label.train_id for label in cityscapes.TRAIN_LABELS] == list(range(19))
    assert cityscapes.TRAIN_ID_TO_ID[18] == 33
    sizes = np.bincount([cityscapes.CATEGORIES.index(label.category) for label in cityscapes.LABELS])
    assert sizes.tolist() == [7, 4, 6, 4, 2, 1, 2, 8]  # void, flat, construction, ..., vehicle (less plate)


def test_cityscapes_label_ids_to_both_taxonomies(tmp_path):
    ids = np.array([[0, 3, 7, 9], [11, 17, 23, 33]], np.uint8)
    root = city_folder(tmp_path, "labelIds", ids)
    _, (example,) = data.load("cityscapes", "train", root)
    assert example.name == "aachen_000000_000019"
    assert example.read()[1].tolist() == [[255, 255, 0, 255], [2, 5, 10, 18]]
    spec, (example,) = data.load("cityscapes", "train", root, "cityscapes8")
    assert example.read()[1].tolist() == [[0, 0, 1, 1], [2, 3, 5, 7]]
    assert spec.classes[0] == "void" and len(spec.classes) == 8


def test_cityscapes_prefers_train_ids_for_19_and_raw_ids_for_8(tmp_path):
    city_folder(tmp_path, "labelIds", np.array([[0, 7]], np.uint8))
    root = city_folder(tmp_path, "labelTrainIds", np.array([[13, 255]], np.uint8))
    assert data.load("cityscapes", "train", root)[1][0].read()[1].tolist() == [[13, 255]]
    assert data.load("cityscapes", "train", root, "cityscapes8")[1][0].read()[1].tolist() == [[0, 1]]


def test_cityscapes8_from_train_ids_alone(tmp_path):
    root = city_folder(tmp_path, "labelTrainIds", np.array([[0, 2, 18, 255]], np.uint8))
    label = data.load("cityscapes", "train", root, "cityscapes8")[1][0].read()[1]
    assert label.tolist() == [[1, 2, 7, 255]]


def test_cityscapes_ids_out_of_range_name_value_and_file(tmp_path):
    root = city_folder(tmp_path, "labelIds", np.array([[7, 34]], np.uint8))
    message = problems_of(root, name="cityscapes")
    assert "aachen_000000_000019_gtFine_labelIds.png" in message and "34" in message and "0 to 33" in message
    root = city_folder(tmp_path / "b", "labelTrainIds", np.array([[0, 19]], np.uint8))
    assert "19" in problems_of(root, name="cityscapes")


def coarse_folder(root: Path, split: str, count: int = 2) -> Path:
    """The official layout: leftImg8bit_trainextra.zip and gtCoarse.zip, unpacked beside gtFine."""
    for index in range(count):
        stem = f"bonn_{index:06d}_000019"
        save(root / f"leftImg8bit/{split}/bonn/{stem}_leftImg8bit.png", np.zeros((2, 2, 3), np.uint8))
        ids = np.array([[7, 23], [26, 0]], np.uint8)
        save(root / f"gtCoarse/{split}/bonn/{stem}_gtCoarse_labelIds.png", ids)
    return root


def heard(root: Path, split: str = "train", **options) -> tuple[list[str], str]:
    sentences: list[str] = []
    examples = data.load("cityscapes", split, root, say=sentences.append, **options)[1]
    return [example.name for example in examples], " ".join(sentences)


def test_coarse_labels_are_named_and_read_when_asked(tmp_path):
    root = city_folder(tmp_path, "labelIds", np.array([[7, 23]], np.uint8))
    coarse_folder(root, "train_extra")
    names, said = heard(root)
    assert names == ["aachen_000000_000019"] and "train_extra has 2 images" in said and "coarse=true" in said
    names, said = heard(root, coarse=True)
    assert names == ["aachen_000000_000019", "bonn_000000_000019", "bonn_000001_000019"]
    assert "the 2 images of train_extra too" in said
    extra = data.load("cityscapes", "train", root, coarse=True)[1][-1]
    assert extra.read()[1].tolist() == [[0, 10], [13, 255]]
    with pytest.raises(UserError, match="true or false is right"):
        data.load("cityscapes", "train", root, coarse="yes")
    with pytest.raises(UserError, match="would put coarse labels into val"):
        data.load("cityscapes", "train", root, coarse=True, ratios=(0.5, 0.5))
    alone = city_folder(tmp_path / "alone", "labelIds", np.array([[7, 23]], np.uint8))
    (alone / "gtCoarse").mkdir()
    assert "coarse labels of the images that gtFine has too; they are not read" in heard(alone)[1]


def test_label_ids_that_are_train_ids_are_a_warning(tmp_path):
    # Road, sidewalk, building, vegetation, sky and car by their train ids: as label ids 8 and 13 alone count.
    root = city_folder(tmp_path, "labelIds", np.array([[0, 0, 1, 2, 8], [10, 10, 13, 0, 255]], np.uint8))
    said = heard(root)[1]
    assert "look like train ids: 1 of them hold the ids 0, 1, 2, 8, 10, 13, 255" in said
    assert "80% of their pixels are void" in said and "_gtFine_labelTrainIds.png" in said
    right = city_folder(tmp_path / "right", "labelIds", np.array([[3, 3, 3, 3, 23]], np.uint8))
    assert "look like" not in heard(right)[1]


def test_what_macos_leaves_behind_is_no_image(tmp_path):
    camvid_folder(tmp_path / "camvid")
    city_folder(tmp_path / "city", "labelIds", np.array([[7, 23]], np.uint8))
    for path in [*tmp_path.rglob("*.png")]:
        path.with_name(f"._{path.name}").write_bytes(b"left by macOS")
    assert len(data.load("camvid", "train", tmp_path / "camvid")[1]) == 3
    assert len(data.load("cityscapes", "train", tmp_path / "city")[1]) == 1


def test_two_cities_may_have_one_name_for_an_image(tmp_path):
    for city in ("aachen", "bonn"):
        save(tmp_path / f"leftImg8bit/train/{city}/1_leftImg8bit.png", np.zeros((1, 1, 3), np.uint8))
        save(tmp_path / f"gtFine/train/{city}/1_gtFine_labelIds.png", np.full((1, 1), 23, np.uint8))
    assert heard(tmp_path)[0] == ["aachen_1", "bonn_1"]


def test_cityscapes_missing_halves_are_named(tmp_path):
    root = city_folder(tmp_path, "labelIds", np.array([[7, 8]], np.uint8))
    save(root / "leftImg8bit/train/bonn/bonn_1_1_leftImg8bit.png", np.zeros((1, 2, 3), np.uint8))
    save(root / "gtFine/train/bonn/bonn_2_2_gtFine_labelIds.png", np.zeros((1, 2), np.uint8))
    message = problems_of(root, name="cityscapes")
    assert "2 problems beside 1 good" in message
    assert re.search(r"bonn_1_1_leftImg8bit.png has no label map", message)
    assert re.search(r"bonn_2_2_gtFine_labelIds.png has no image", message)


# Bad folders and files


def test_a_folder_that_is_missing_empty_or_a_file(tmp_path):
    assert "gone does not exist" in problems_of(tmp_path / "gone")
    assert str(tmp_path / "train") in problems_of(tmp_path)
    file = tmp_path / "file"
    file.touch()
    assert "is not a folder" in problems_of(file)
    (tmp_path / "train").mkdir()
    (tmp_path / "trainannot").mkdir()
    assert "holds no PNG" in problems_of(tmp_path)
    assert "leftImg8bit" in problems_of(tmp_path, name="cityscapes")
    (tmp_path / "leftImg8bit/train/aachen").mkdir(parents=True)
    (tmp_path / "gtFine/train").mkdir(parents=True)
    assert "holds no" in problems_of(tmp_path, name="cityscapes")
    with pytest.raises(UserError, match="--data-dir"):
        data.load("camvid", "train", None)


def test_pairs_with_no_name_in_common(tmp_path):
    save(tmp_path / "train/a.png", np.zeros((4, 4, 3), np.uint8))
    save(tmp_path / "trainannot/b.png", np.zeros((4, 4), np.uint8))
    message = problems_of(tmp_path)
    assert "a.png has no label map" in message and "b.png has no image" in message


def spoil(root: Path) -> dict[str, str]:
    """Every kind of bad pair; file name to a word of its sentence."""
    images, annotations = root / "train", root / "trainannot"
    good = np.zeros((6, 8), np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    words = {}

    def add(name: str, word: str, image: np.ndarray = noise, label: np.ndarray = good) -> None:
        save(images / f"{name}.png", image)
        save(annotations / f"{name}.png", label)
        words[name] = word

    add("small", "8x6", label=np.zeros((5, 8), np.uint8))
    add("range", "12", label=np.full((6, 8), 12, np.uint8))
    add("deep", "16 bits", image=good.astype(np.uint16))
    add("coloured", "holds colours", label=noise)
    add("cut", "truncated")
    (images / "cut.png").write_bytes((images / "cut.png").read_bytes()[:-30])
    add("cutlabel", "truncated")
    (annotations / "cutlabel.png").write_bytes((annotations / "cutlabel.png").read_bytes()[:40])
    add("text", "not an image")
    (images / "text.png").write_text("no image", encoding="utf-8")
    add("lonely", "no label map")
    (annotations / "lonely.png").unlink()
    return words


def test_every_bad_pair_is_listed_by_name_and_skipped_when_asked(tmp_path):
    root = camvid_folder(tmp_path)
    words = spoil(root)
    message = problems_of(root)
    assert f"{len(words)} problems beside 3 good" in message and "--skip-bad" in message
    for name, word in words.items():
        line = next(line for line in message.splitlines() if f"{name}.png" in line)
        assert word in line
    said: list[str] = []
    _, examples = data.load("camvid", "train", root, skip_bad=True, say=said.append)
    assert [example.name for example in examples] == ["0", "1", "2"]
    assert len(said) == 1 and str(len(words)) in said[0] and "3" in said[0]


def test_only_the_first_20_problems_are_listed(tmp_path):
    root = camvid_folder(tmp_path, 1)
    for index in range(25):
        save(root / "train" / f"extra{index}.png", np.zeros((2, 2, 3), np.uint8))
    message = problems_of(root)
    assert message.count("has no label map") == 20 and "5 more" in message


def test_nothing_left_is_refused_even_with_skip_bad(tmp_path):
    save(tmp_path / "train/a.png", np.zeros((4, 4, 3), np.uint8))
    save(tmp_path / "trainannot/a.png", np.full((4, 4), 77, np.uint8))
    with pytest.raises(UserError, match="77"):
        data.load("camvid", "train", tmp_path, skip_bad=True)


def test_check_keeps_order_and_reports_progress(tmp_path):
    examples, problems = camvid.examples("train", camvid_folder(tmp_path, 7), "camvid11")
    steps: list[tuple[int, int]] = []
    good, found = check(examples, problems, workers=3, progress=lambda *step: steps.append(step))
    assert [dataclasses.replace(example, checksums="") for example in good] == examples and found == []
    assert steps == [(done, 7) for done in range(1, 8)]


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: data.load("kitti", "train"), ("kitti", "cityscapes", "camvid")),
        (lambda: data.load("camvid", "trian", "x"), ("trian", "train", "val")),
        (lambda: data.load("camvid", "train", "x", "cityscapes34"), ("cityscapes34", "camvid11")),
    ],
)
def test_unknown_names_list_the_valid_ones(call, words):
    with pytest.raises(UserError) as caught:
        call()
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("name", data.DATASETS)
def test_every_row_keeps_the_contract(name):
    row = data.DATASETS[name]
    for taxonomy, spec in row.static.items():
        assert spec is data.spec(name, taxonomy)
        assert len(set(spec.classes)) == len(spec.classes) <= 255
        assert {"train", "val"} <= set(spec.splits)
        assert not {*row.unlabelled} & {*spec.splits}
        assert all(0 <= channel <= 255 for colour in spec.palette for channel in colour)
    if row.needs_data_dir:
        with pytest.raises(UserError, match="--data-dir"):
            row.examples("train", None, next(iter(row.static), ""))
