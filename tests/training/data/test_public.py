"""Public data sets in their official layouts: files written here as the archives hold them, read back by name."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from runtime.errors import UserError
from tests import references
from tests.shared import CAMVID, needs
from training import data
from training.data import ade20k, camvid, cityscapes, coco_stuff, voc
from training.data.labels import label_maps

SIZE = (5, 7)  # height, width
GREY = np.full((*SIZE, 3), 128, np.uint8)


def save(path: Path, array: np.ndarray, palette: list[int] | None = None) -> Path:
    """A PNG or JPEG file; with a palette, a paletted PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette:
        image.putpalette(palette)
    image.save(path)
    return path


def write_list(path: Path, names: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def ids_of(*values: int) -> np.ndarray:
    """A label map that holds these ids, the first of them most."""
    ids = np.full(SIZE, values[0], np.uint8)
    ids[0, : len(values)] = values
    return ids


def write_voc(root: Path) -> Path:
    """VOCdevkit/VOC2012 with paletted labels: a to c train, d and e val; and f, which has no label of VOC's."""
    base = root / "VOCdevkit/VOC2012"
    colours = [channel for colour in voc.colour_map(256) for channel in colour]
    for name in "abcdef":
        save(base / f"JPEGImages/2007_{name}.jpg", GREY)
        if name != "f":
            save(base / f"SegmentationClass/2007_{name}.png", ids_of(0, 1, 20, 255), colours)
    write_list(base / "ImageSets/Segmentation/train.txt", [f"2007_{name}" for name in "abc"])
    write_list(base / "ImageSets/Segmentation/val.txt", [f"2007_{name}" for name in "de"])
    return base


def write_sbd(root: Path) -> Path:
    """SBD's own archive: .mat files for a (in VOC's train), d (in VOC's val) and f, none of which has void."""
    base = root / "benchmark_RELEASE/dataset"
    (base / "cls").mkdir(parents=True)
    for name in "adf":
        fields = {"Segmentation": ids_of(15, 2, 3), "CategoriesPresent": np.array([[2], [3], [15]])}
        scipy.io.savemat(base / f"cls/2007_{name}.mat", {"GTcls": fields}, do_compression=True)
    write_list(base / "train.txt", ["2007_a", "2007_d"])
    write_list(base / "val.txt", ["2007_f"])
    return base


def write_ade20k(root: Path) -> Path:
    base = root / "ADEChallengeData2016"
    for folder, kind in (("training", "train"), ("validation", "val")):
        save(base / f"images/{folder}/ADE_{kind}_00000001.jpg", GREY)
        save(base / f"annotations/{folder}/ADE_{kind}_00000001.png", ids_of(0, 1, 150, 13))
    return base


def write_coco(root: Path) -> Path:
    for folder in ("train2017", "val2017"):
        save(root / f"images/{folder}/000000000009.jpg", GREY)
        save(root / f"annotations/{folder}/000000000009.png", ids_of(0, 10, 12, 89, 91, 181, 255))
    return root


def write_bdd100k(root: Path) -> Path:
    base = root / "bdd100k"
    for split in ("train", "val"):
        save(base / f"images/10k/{split}/0004a4c0-d4dff0ad.jpg", GREY)
        save(base / f"labels/sem_seg/masks/{split}/0004a4c0-d4dff0ad.png", ids_of(0, 18, 255, 11))
    return base


def write_idd(root: Path) -> Path:
    base = root / "IDD_Segmentation"
    for split in ("train", "val"):
        save(base / f"leftImg8bit/{split}/0/frame0029_leftImg8bit.jpg", GREY)
        save(base / f"gtFine/{split}/0/frame0029_gtFine_labellevel3Ids.png", ids_of(0, 25, 255, 8))
    return base


def write_idd_lite(root: Path) -> Path:
    base = root / "idd20k_lite"
    for split in ("train", "val"):
        save(base / f"leftImg8bit/{split}/512/024541_image.jpg", GREY)
        save(base / f"gtFine/{split}/512/024541_label.png", ids_of(0, 6, 255, 3))
        save(base / f"gtFine/{split}/512/024541_inst_label.png", ids_of(0, 200))
    return base


# Writer, name of the one image of train (its label's path too), and an id that no label map may hold.
SETS = {
    "voc": (write_voc, "JPEGImages/2007_a.jpg", "SegmentationClass/2007_a.png", 21, "0 to 20 and 255"),
    "ade20k": (
        *(write_ade20k, "images/training/ADE_train_00000001.jpg"),
        *("annotations/training/ADE_train_00000001.png", 151, "0 to 150"),
    ),
    "coco_stuff": (
        *(write_coco, "images/train2017/000000000009.jpg", "annotations/train2017/000000000009.png"),
        *(11, "0 to 10, 12 to 24, 26 to 27, 30 to 43"),
    ),
    "bdd100k": (
        *(write_bdd100k, "images/10k/train/0004a4c0-d4dff0ad.jpg"),
        *("labels/sem_seg/masks/train/0004a4c0-d4dff0ad.png", 19, "0 to 18 and 255"),
    ),
    "idd": (
        *(write_idd, "leftImg8bit/train/0/frame0029_leftImg8bit.jpg"),
        *("gtFine/train/0/frame0029_gtFine_labellevel3Ids.png", 26, "0 to 25 and 255"),
    ),
}


def only(name: str, split: str, root: Path, **options: object) -> np.ndarray:
    """The train ids of the first image of a split."""
    _, examples = data.load(name, split, root, **options)
    image, ids = examples[0].read()
    assert image.shape == (*SIZE, 3) and ids.shape == SIZE and image.dtype == ids.dtype == np.uint8
    assert image.min() >= 120 and image.max() <= 136
    return ids


def refusal(name: str, root: Path, split: str = "train", **options: object) -> str:
    with pytest.raises(UserError) as caught:
        data.load(name, split, root, **options)
    return str(caught.value)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("voc", [0, 1, 20, 255]),
        ("ade20k", [255, 0, 149, 12]),
        ("coco_stuff", [0, 10, 11, 79, 80, 170, 255]),
        ("bdd100k", [0, 18, 255, 11]),
        ("idd", [0, 25, 255, 8]),
    ],
)
def test_an_official_folder_gives_train_ids(name, expected, split, tmp_path):
    """--data-dir may be the folder that the archive was unpacked in, or the one that it unpacks to."""
    base = SETS[name][0](tmp_path)
    for root in (tmp_path, base):
        ids = only(name, split, root)
        assert ids[0, : len(expected)].tolist() == expected
        assert (ids[1:] == expected[0]).all()


@pytest.mark.parametrize("name", SETS)
def test_what_is_wrong_with_a_folder_is_named(name, tmp_path):
    write, image, label, beyond, right = SETS[name]
    base = write(tmp_path)
    save(base / label, ids_of(beyond))
    message = refusal(name, tmp_path)
    assert f"{label} holds the class id {beyond}; {right}" in message
    save(base / label, np.zeros((SIZE[1], SIZE[0]), np.uint8))
    message = refusal(name, tmp_path)
    assert f"{label} is 5x7 pixels" in message and f"{image} is 7x5" in message
    (base / label).unlink()
    missing = {
        "voc": f"{label} is missing",
        "idd": f"There is no {base / 'gtFine/train'}/DRIVE/FRAME_gtFine_labellevel3Ids.png; the makers'",
    }.get(name, f"{(base / label).parent} holds no PNG files")
    assert missing in refusal(name, tmp_path)
    assert f"{tmp_path / 'gone'} does not exist" in refusal(name, tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in refusal(name, tmp_path / "empty")


@pytest.mark.parametrize("name", SETS)
def test_official_test_splits_have_no_public_labels(name, tmp_path):
    SETS[name][0](tmp_path)
    assert refusal(name, tmp_path, "test") == (
        f"The test split of {name} has no public labels, so it cannot be scored here; use val."
    )


def test_halves_without_the_other_are_named(tmp_path):
    base = write_bdd100k(tmp_path)
    save(base / "images/10k/train/lonely.jpg", GREY)
    save(base / "labels/sem_seg/masks/train/orphan.png", ids_of(0))
    message = refusal("bdd100k", tmp_path)
    assert "lonely.jpg has no label map in " in message and "orphan.png has no image in " in message
    assert "2 problems beside 1 good" in message


@pytest.mark.parametrize(
    ("name", "file"),
    [("voc", "voc.py"), ("ade20k", "ade.py"), ("coco_stuff", "coco_stuff.py"), ("bdd100k", "bdd100k.py")],
)
def test_classes_and_colours_are_the_reference_s(name, file):
    info = references.mmseg_literal(f"datasets/{file}", "METAINFO")
    spec = data.spec(name)
    assert spec.classes == tuple(label.strip() for label in info["classes"])
    if name == "coco_stuff":  # theirs has colours twice
        assert len(set(spec.palette)) == len(spec.palette)
    else:
        assert spec.palette == tuple(map(tuple, info["palette"]))


def test_coco_stuff_ids_are_the_reference_converter_s():
    table = references.mmseg_literal(".mim/tools/dataset_converters/coco_stuff164k.py", "clsID_to_trID")
    assert coco_stuff.ALLOWED == set(table)
    assert {raw: int(coco_stuff.TO_TRAIN_ID[raw]) for raw in table} == table


# PASCAL VOC with SBD


def names(root: Path, split: str, **options: object) -> list[str]:
    return [example.name for example in data.load("voc", split, root, **options)[1]]


def test_voc_splits_are_its_lists(tmp_path):
    write_voc(tmp_path)
    assert names(tmp_path, "train") == names(tmp_path, "train", sbd=False) == ["2007_a", "2007_b", "2007_c"]
    assert names(tmp_path, "val") == names(tmp_path, "val", sbd=True) == ["2007_d", "2007_e"]


def test_train_aug_is_train_and_sbd_without_val(tmp_path):
    """SBD's train names d, which is in VOC's val: no image may be in both."""
    write_voc(tmp_path)
    write_sbd(tmp_path)
    augmented = names(tmp_path, "train", sbd=True)
    assert augmented == ["2007_a", "2007_b", "2007_c", "2007_f"]
    assert not set(augmented) & set(names(tmp_path, "val"))
    examples = data.load("voc", "train", tmp_path, sbd=True)[1]
    assert examples[0].read()[1][0, :4].tolist() == [0, 1, 20, 255]  # VOC's own label map where there is one
    assert examples[3].read()[1][0, :4].tolist() == [15, 2, 3, 15]


def test_train_aug_from_pngs(tmp_path):
    """SegmentationClassAug holds all of SBD and VOC, val too."""
    base = write_voc(tmp_path)
    for name in "abcdef":
        save(base / f"SegmentationClassAug/2007_{name}.png", ids_of(7, 255))
    examples = data.load("voc", "train", tmp_path, sbd=True)[1]
    assert [example.name for example in examples] == ["2007_a", "2007_b", "2007_c", "2007_f"]
    assert examples[0].read()[1][0, 0] == 0 and examples[3].read()[1][0, :2].tolist() == [7, 255]


def test_sbd_that_is_missing_or_damaged_is_one_sentence(tmp_path):
    write_voc(tmp_path)
    message = refusal("voc", tmp_path, sbd=True)
    assert (
        "SegmentationClassAug" in message and "benchmark_RELEASE/dataset" in message and "\n" not in message
    )
    base = write_sbd(tmp_path)
    path = base / "cls/2007_f.mat"
    whole = path.read_bytes()
    for content in (b"", b"no mat file", whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert f"{path} is not a whole SBD label file" in refusal("voc", tmp_path, sbd=True)
    scipy.io.savemat(path, {"GTcls": {"Boundaries": np.zeros(3)}})
    assert f"{path} is not a whole SBD label file" in refusal("voc", tmp_path, sbd=True)
    scipy.io.savemat(path, {"GTcls": {"Segmentation": ids_of(0).astype(np.float64)}})
    assert "float64 (5, 7)" in refusal("voc", tmp_path, sbd=True)
    scipy.io.savemat(path, {"GTcls": {"Segmentation": ids_of(21)}})
    assert "2007_f.mat holds the class id 21" in refusal("voc", tmp_path, sbd=True)
    path.unlink()
    assert f"{path} is missing" in refusal("voc", tmp_path, sbd=True)
    assert "'yes'; true or false" in refusal("voc", tmp_path, sbd="yes")


def test_lists_that_overlap_are_missing_or_empty(tmp_path):
    base = write_voc(tmp_path)
    lists = base / "ImageSets/Segmentation"
    write_list(lists / "val.txt", ["2007_d", "2007_a"])
    assert "2007_a is in both" in refusal("voc", tmp_path)
    (lists / "val.txt").write_text("\n", encoding="utf-8")
    assert "val.txt is empty" in refusal("voc", tmp_path)
    (lists / "val.txt").unlink()
    assert "val.txt cannot be read: No such file" in refusal("voc", tmp_path)


def test_the_colour_map_is_the_development_kit_s():
    """The rows of VOClabelcolormap that its documentation spells out, and all of them different."""
    colours = voc.colour_map(256)
    assert colours[1] == (128, 0, 0) and colours[15] == (192, 128, 128) and colours[255] == (224, 224, 192)
    assert len(set(colours)) == 256


# COCO-Stuff


def test_coco_stuff_lost_eleven_ids():
    """Spot values of the published label list, whose ids are one more than a file's."""
    assert len(coco_stuff.LABELS) == 182 and len(coco_stuff.IDS) == 171
    published = {1: "person", 13: "stop sign", 90: "toothbrush", 92: "banner", 149: "road", 182: "wood"}
    for number, name in published.items():
        assert coco_stuff.LABELS[number - 1] == name
        assert data.spec("coco_stuff").classes[coco_stuff.TO_TRAIN_ID[number - 1]] == name
    lost = sorted(set(range(182)) - set(coco_stuff.IDS))
    assert lost == [11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90]


def test_coco_stuff_beside_coco_and_beside_another_framework_s_files(tmp_path):
    save(tmp_path / "train2017/000000000009.jpg", GREY)
    save(tmp_path / "stuffthingmaps/train2017/000000000009.png", ids_of(181))
    assert (only("coco_stuff", "train", tmp_path) == 170).all()
    other = write_coco(tmp_path / "other")
    save(other / "annotations/train2017/000000000009_labelTrainIds.png", ids_of(3))
    assert len(data.load("coco_stuff", "train", other)[1]) == 1


def test_bdd100k_is_cityscapes():
    spec = data.spec("bdd100k")
    assert spec.classes == cityscapes.TAXONOMIES["cityscapes19"].classes
    assert spec.size == (720, 1280) and spec.splits == ("train", "val")


def test_idd_lite_has_the_seven_classes_of_level_1(tmp_path):
    write_idd_lite(tmp_path)
    ids = only("idd", "val", tmp_path, taxonomy="idd7")
    assert ids[0, :4].tolist() == [0, 6, 255, 3]
    message = refusal("idd", tmp_path)
    assert (
        "IDD-Lite's, of 7 classes, and idd26 is finer: add --classes idd7" in message and "\n" not in message
    )


def test_idd_in_the_classes_of_others_and_frames_of_two_drives(tmp_path):
    base = write_idd(tmp_path)
    save(base / "leftImg8bit/train/1/frame0029_leftImg8bit.png", GREY)
    save(base / "gtFine/train/1/frame0029_gtFine_labelLevel3Ids.png", ids_of(24))
    spec, examples = data.load("idd", "train", tmp_path, "road11")
    assert [(example.name, example.group) for example in examples] == [
        ("0_frame0029", "0"),
        ("1_frame0029", "1"),
    ]
    road, sky, vehicle = (spec.classes.index(name) for name in ("road", "sky", "vehicle"))
    assert examples[0].read()[1][0, :4].tolist() == [road, sky, 255, vehicle]
    seven = only("idd", "train", tmp_path, taxonomy="idd7")
    assert seven[0, :4].tolist() == [0, 6, 255, 3]
    save(base / "leftImg8bit/train/1/frame0030_leftImg8bit.png", GREY)
    save(base / "gtFine/train/2/frame0001_gtFine_labellevel3Ids.png", ids_of(24))
    message = refusal("idd", tmp_path)
    assert "1/frame0030_leftImg8bit.png has no label map" in message
    assert "2/frame0001_gtFine_labellevel3Ids.png has no image" in message


def test_ade20k_counts():
    assert len(ade20k.COLOURS) == 150 and list(ade20k.COLOURS)[:3] == ["wall", "building", "sky"]


# CamVid at full size

# label_colors.txt as it is published.
OFFICIAL = {
    row.split()[-1]: tuple(map(int, row.split()[:3]))
    for row in """64 128 64 Animal/192 0 128 Archway/0 128 192 Bicyclist/0 128 64 Bridge/128 0 0 Building/64 0 128 Car/
    64 0 192 CartLuggagePram/192 128 64 Child/192 192 128 Column_Pole/64 64 128 Fence/128 0 192 LaneMkgsDriv/
    192 0 64 LaneMkgsNonDriv/128 128 64 Misc_Text/192 0 192 MotorcycleScooter/128 64 64 OtherMoving/
    64 192 128 ParkingBlock/64 64 0 Pedestrian/128 64 128 Road/128 128 192 RoadShoulder/0 0 192 Sidewalk/
    192 128 128 SignSymbol/128 128 128 Sky/64 128 192 SUVPickupTruck/0 0 64 TrafficCone/0 64 64 TrafficLight/
    192 64 128 Train/128 128 0 Tree/192 128 192 Truck_Bus/64 0 64 Tunnel/192 192 0 VegetationMisc/0 0 0 Void/
    64 192 0 Wall""".split("/")
}
PAINTED = ("Sky", "Bridge", "LaneMkgsDriv", "TrafficCone", "Train", "Animal", "Void")
IN_32 = [21, 3, 10, 23, 25, 0, 30]
IN_11 = [0, 1, 3, 2, 8, 9, 255]
FRAMES = {
    "train": ("0001TP_006690", "0001TP_008520", "0006R0_f00930", "0016E5_07920", "0016E5_08640"),
    "val": ("0016E5_07959", "0016E5_08159"),
    "test": ("0001TP_008550", "Seq05VD_f00000"),
}


def painted() -> np.ndarray:
    label = np.zeros((*SIZE, 3), np.uint8)
    label[:, :] = [OFFICIAL[name] for name in PAINTED]
    return label


def write_archives(root: Path) -> Path:
    """As 701_StillsRaw_full.zip and LabeledApproved_full.zip unpack."""
    for frames in FRAMES.values():
        for name in frames:
            save(root / f"701_StillsRaw_full/{name}.png", GREY)
            save(root / f"LabeledApproved_full/{name}_L.png", painted())
    return root


def frames(root: Path, split: str) -> tuple[str, ...]:
    return tuple(example.name for example in data.load("camvid", split, root)[1])


@pytest.mark.parametrize("layout", ["archives", "split folders"])
def test_full_size_camvid_from_colours(layout, tmp_path):
    if layout == "archives":
        write_archives(tmp_path)
    else:
        save(tmp_path / "train/0001TP_006690.png", GREY)
        save(tmp_path / "train_labels/0001TP_006690_L.png", painted())
    assert (only("camvid", "train", tmp_path) == IN_11).all()
    assert (only("camvid", "train", tmp_path, taxonomy="camvid32") == IN_32).all()


def test_the_usual_split_without_lists(tmp_path):
    write_archives(tmp_path)
    assert {split: frames(tmp_path, split) for split in FRAMES} == FRAMES


@needs(CAMVID)
def test_the_usual_split_is_the_tutorial_s():
    for split, count in (("train", 367), ("val", 101)):
        found = [camvid.usual_split(path.stem) for path in (CAMVID / split).glob("*.png")]
        assert found == [split] * count


@pytest.mark.parametrize("place", ["", "splits"])
def test_lists_win_over_the_usual_split(place, tmp_path):
    write_archives(tmp_path)
    write_list(tmp_path / place / "train.txt", ["Seq05VD_f00000", "0016E5_08159.png"])
    write_list(
        tmp_path / place / "val.txt", ["/CamVid/val/0001TP_006690.png /CamVid/valannot/0001TP_006690.png"]
    )
    assert frames(tmp_path, "train") == ("0016E5_08159", "Seq05VD_f00000")
    assert frames(tmp_path, "val") == ("0001TP_006690",)
    assert "test.txt cannot be read: No such file" in refusal("camvid", tmp_path, "test")
    write_list(tmp_path / place / "val.txt", ["0001TP_006690", "Seq05VD_f09999"])
    assert "Seq05VD_f09999.png is listed for val but is not there" in refusal("camvid", tmp_path, "val")
    write_list(tmp_path / place / "val.txt", ["Seq05VD_f00000"])
    assert "Seq05VD_f00000 is in both" in refusal("camvid", tmp_path, "val")


def test_frames_of_no_sequence_need_lists(tmp_path):
    write_archives(tmp_path)
    save(tmp_path / "701_StillsRaw_full/holiday.png", GREY)
    assert "holiday.png is of none of CamVid's sequences; list the splits" in refusal("camvid", tmp_path)


def test_camvid_groups_neighbouring_frames(tmp_path):
    write_archives(tmp_path)
    groups = {example.group for example in data.load("camvid", "train", tmp_path)[1]}
    assert groups == {"0001TP", "0006R0", "0016E5"}


@pytest.mark.parametrize(
    ("name", "row"), [("label_colors.txt", "{1} {2} {3}\t\t{0}\n"), ("class_dict.csv", "{0},{1},{2},{3}\n")]
)
def test_the_colours_of_the_folder_s_own_table(name, row, tmp_path):
    """A copy with other colours, which its table tells."""
    write_archives(tmp_path)
    table = "name,r,g,b\n" if name.endswith(".csv") else ""
    swapped = {**OFFICIAL, "Sky": OFFICIAL["Tree"], "Tree": OFFICIAL["Sky"]}
    table += "".join(row.format(label, *colour) for label, colour in swapped.items())
    (tmp_path / name).write_text(table, encoding="utf-8-sig")
    assert (only("camvid", "train", tmp_path) == [5, *IN_11[1:]]).all()
    (tmp_path / name).write_text(table + row.format("Dragon", 1, 2, 3), encoding="utf-8")
    message = refusal("camvid", tmp_path)
    assert f"of {tmp_path / name} is " in message and "Dragon" in message
    (tmp_path / name).write_text(table + row.format("Wall", 1, 2, 333), encoding="utf-8")
    assert "333" in refusal("camvid", tmp_path)


def test_a_colour_of_no_class_is_named_with_its_file(tmp_path):
    write_archives(tmp_path)
    label = painted()
    label[2, 3], label[2, 4], label[3, 4] = (26, 26, 26), (36, 36, 36), (26, 26, 26)
    path = save(tmp_path / "LabeledApproved_full/0016E5_07959_L.png", label)
    assert f"{path} has 3 pixels of a colour that stands for no class, (26, 26, 26), (36, 36, 36)" in refusal(
        "camvid", tmp_path, "val"
    )
    save(path, np.zeros(SIZE, np.uint8))
    assert f"{path} has 8-bit pixels of mode L; here a label map has to be colour-coded" in refusal(
        "camvid", tmp_path, "val"
    )
    save(path, painted()[:4])
    assert f"{path} is 7x4 pixels" in refusal("camvid", tmp_path, "val")


def test_the_one_flawed_official_label_map_is_void_where_it_is_flawed(tmp_path):
    save(tmp_path / "test/Seq05VD_f02610.png", GREY)
    label = painted()
    label[2, 3] = (26, 26, 26)
    save(tmp_path / "test_labels/Seq05VD_f02610_L.png", label)
    expected = np.tile(np.array(IN_32, np.uint8), (SIZE[0], 1))
    expected[2, 3] = 30
    assert np.array_equal(only("camvid", "test", tmp_path, taxonomy="camvid32"), expected)


def test_32_classes_need_colours(tmp_path):
    save(tmp_path / "train/a.png", GREY)
    save(tmp_path / "trainannot/a.png", ids_of(0, 10, 11))
    assert only("camvid", "train", tmp_path)[0, :3].tolist() == [0, 10, 255]
    message = refusal("camvid", tmp_path, taxonomy="camvid32")
    assert "holds the 11 groups only" in message and "camvid32 needs colour-coded labels" in message


def test_the_32_classes_are_the_official_ones():
    spec = data.spec("camvid", "camvid32")
    assert dict(zip(spec.classes, spec.palette, strict=True)) == OFFICIAL and list(OFFICIAL) == list(
        spec.classes
    )
    assert len(set(OFFICIAL.values())) == 32


def test_the_32_classes_fall_into_segnet_s_groups():
    """As MathWorks' SegNet example and the code of Tiramisu list them; Void is in none."""
    groups = {
        "Sky": "Sky",
        "Building": "Bridge Building Wall Tunnel Archway",
        "Pole": "Column_Pole TrafficCone",
        "Road": "Road LaneMkgsDriv LaneMkgsNonDriv",
        "Pavement": "Sidewalk ParkingBlock RoadShoulder",
        "Tree": "Tree VegetationMisc",
        "SignSymbol": "SignSymbol Misc_Text TrafficLight",
        "Fence": "Fence",
        "Car": "Car SUVPickupTruck Truck_Bus Train OtherMoving",
        "Pedestrian": "Pedestrian Child CartLuggagePram Animal",
        "Bicyclist": "Bicyclist MotorcycleScooter",
    }
    assert data.spec("camvid", "camvid11").classes == tuple(groups)
    expected = dict.fromkeys(OFFICIAL, 255)
    for index, members in enumerate(groups.values()):
        expected.update(dict.fromkeys(members.split(), index))
    assert camvid.FROM_COLOURS["camvid11"][: len(OFFICIAL)].tolist() == list(expected.values())


def test_colours_are_read_from_palettes_and_beside_alpha(tmp_path):
    """Colours count, not how the PNG keeps them."""
    colours = {(128, 0, 0): 4, (0, 0, 0): 30}
    rgb = np.zeros((2, 2, 3), np.uint8)
    rgb[0, 1] = (128, 0, 0)
    expected = [[30, 4], [30, 30]]
    image = Image.fromarray(rgb)
    for stored in (image, image.convert("RGBA"), image.quantize(2)):
        stored.save(tmp_path / "label.png")
        assert label_maps.read_colours(tmp_path / "label.png", colours).tolist() == expected
    path = save(tmp_path / "label.jpg", rgb)
    with pytest.raises(UserError, match="label.jpg is a JPEG"):
        label_maps.read_colours(path, colours)
    (tmp_path / "label.png").write_bytes((tmp_path / "label.png").read_bytes()[:-20])
    with pytest.raises(UserError, match="label.png is a truncated or damaged PNG"):
        label_maps.read_colours(tmp_path / "label.png", colours)
