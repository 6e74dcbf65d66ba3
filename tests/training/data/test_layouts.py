"""`--data folder` on the exports of labelling tools, written by the test as their makers document them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import UserError
from tests.folders import refusal, save
from training import data
from training.data.voc import colour_map

IDS = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
RGB = np.zeros((2, 3, 3), np.uint8)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def opened(root: Path, split: str, **options):
    heard: list[str] = []
    spec, examples = data.load("folder", split, root, say=heard.append, **options)
    return spec, examples, " ".join(heard)


def paletted(path: Path, ids: np.ndarray) -> None:
    """As labelme's lblsave and Mapillary write: the ids with a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids, mode="P")
    image.putpalette([channel for colour in colour_map(256) for channel in colour])
    image.save(path)


def test_roboflow(tmp_path):
    for split, count in (("train", 3), ("valid", 2), ("test", 1)):
        for index in range(count):
            stem = tmp_path / split / f"{split}{index}_jpg.rf.0a1b2c"
            save(stem.with_name(stem.name + ".jpg"), RGB)
            save(stem.with_name(stem.name + "_mask.png"), IDS)
        text(tmp_path / split / "_classes.csv", "Pixel Value, Class\n0, background\n1, car\n2, road, wet\n")
    assert "_classes.csv is not what Roboflow writes" in refusal(tmp_path)
    for split in ("train", "valid", "test"):
        text(tmp_path / split / "_classes.csv", "Pixel Value, Class\n0, background\n1, car\n2, road\n")
    text(tmp_path / "README.dataset.txt", "not a list")
    spec, examples, said = opened(tmp_path, "val")
    assert (spec.classes, spec.splits) == (("background", "car", "road"), ("train", "val", "test"))
    assert [example.name for example in examples] == ["valid0_jpg.rf.0a1b2c", "valid1_jpg.rf.0a1b2c"]
    assert np.array_equal(examples[0].read()[1], IDS) and "Read as Roboflow's export" in said
    assert len(opened(tmp_path, "train")[1]) == 3


def test_roboflow_without_split_folders_and_a_layout_without_any(tmp_path):
    for index in range(3):
        save(tmp_path / f"{index}.jpg", RGB)
        save(tmp_path / f"{index}_mask.png", IDS)
    text(tmp_path / "_classes.csv", "Pixel Value, Class\n0, background\n1, car\n2, road\n")
    assert len(opened(tmp_path, "train", ratios=(2, 1))[1]) == 2
    other = tmp_path / "other"
    said = {"classes": ["a", "b"], "images": "{split}/rgb", "masks": "{split}/truth"}
    text(other / "classes.json", json.dumps(said))
    assert "such as train/rgb and val/rgb" in refusal(other)


CVAT = "# label:color (RGB):parts:actions\nbackground:0,0,0::\ncar:10,128,0:wheel:\nroad:64,0,128::\n"
COLOURS = np.array([(0, 0, 0), (10, 128, 0), (64, 0, 128)], np.uint8)


@pytest.mark.parametrize("lists", [{"default": 5}, {"train": 3, "validation": 2}])
def test_cvat_segmentation_mask(tmp_path, lists):
    names = [f"frame_{index:06d}" for index in range(5)]
    for name in names:
        save(tmp_path / f"JPEGImages/{name}.jpg", RGB)
        save(tmp_path / f"SegmentationClass/{name}.png", COLOURS[IDS])
        save(tmp_path / f"SegmentationObject/{name}.png", COLOURS[IDS])
    rest = list(names)
    for split, count in lists.items():
        taken, rest = rest[:count], rest[count:]
        text(tmp_path / f"ImageSets/Segmentation/{split}.txt", "\n".join(taken))
    text(tmp_path / "labelmap.txt", CVAT)
    options = {"ratios": (3, 2)} if "default" in lists else {}
    spec, examples, said = opened(tmp_path, "train", **options)
    assert spec.classes == ("background", "car", "road") and spec.palette[1] == (10, 128, 0)
    assert len(examples) == 3 and np.array_equal(examples[0].read()[1], IDS) and "CVAT" in said
    assert len(opened(tmp_path, "val", **options)[1]) == 2
    text(tmp_path / "labelmap.txt", CVAT + "sky:1,2\n")
    assert f"Line 5 of {tmp_path / 'labelmap.txt'} is 'sky:1,2'" in refusal(tmp_path)


@pytest.mark.parametrize("subsets", [{"default": 4}, {"Train": 3, "Validation": 1}])
def test_cvat_camvid(tmp_path, subsets):
    text(tmp_path / "label_colors.txt", "0 0 0 Void\n10 128 0 Car\n64 0 128 Road\n")
    for subset, count in subsets.items():
        lines = []
        for index in range(count):
            save(tmp_path / subset / f"{subset}{index}.png", RGB)
            save(tmp_path / f"{subset}annot" / f"{subset}{index}.png", COLOURS[IDS])
            lines.append(f"/{subset}/{subset}{index}.png /{subset}annot/{subset}{index}.png\n")
        text(tmp_path / f"{subset}.txt", "".join(lines))
    options = {"ratios": (3, 1)} if "default" in subsets else {}
    spec, examples, said = opened(tmp_path, "train", **options)
    assert spec.classes == ("Void", "Car", "Road") and "CamVid export" in said
    assert len(examples) == 3 and np.array_equal(examples[0].read()[1], IDS)
    assert len(opened(tmp_path, "val", **options)[1]) == 1


@pytest.mark.parametrize("newer", [False, True])
def test_labelme(tmp_path, newer):
    masks = "SegmentationClass" if newer else "SegmentationClassPNG"
    void = np.where(IDS == 2, 255, IDS).astype(np.uint8)
    for index in range(4):
        save(tmp_path / f"JPEGImages/{index}.jpg", RGB)
        paletted(tmp_path / masks / f"{index}.png", void if index == 0 else IDS)
        npy = tmp_path / ("SegmentationClassNpy" if newer else "SegmentationClass") / f"{index}.npy"
        npy.parent.mkdir(exist_ok=True)
        np.save(npy, IDS)
        save(tmp_path / f"SegmentationClassVisualization/{index}.jpg", RGB)
    text(tmp_path / "class_names.txt", "_background_\ncar\nroad")
    spec, examples, said = opened(tmp_path, "train", ratios=(3, 1))
    assert spec.classes == ("_background_", "car", "road") and "labelme" in said and len(examples) == 3
    both = [*examples, *opened(tmp_path, "val", ratios=(3, 1))[1]]
    found = {example.name: example.read()[1] for example in both}
    assert np.array_equal(found["0"], void) and np.array_equal(found["3"], IDS)


def label(name: str, colour: list[int], evaluate: bool = True, readable: str = "") -> dict:
    return {
        "name": name,
        "readable": readable or name.rpartition("--")[2],
        "color": colour,
        "instances": False,
        "evaluate": evaluate,
    }


@pytest.mark.parametrize("version", ["1.2", "2.0", "old"])
def test_mapillary_vistas(tmp_path, version):
    labels = [
        label("construction--flat--road", [128, 64, 128], readable="Road"),
        label("object--vehicle--car", [0, 0, 142], readable="Car"),
        label("void--unlabeled", [0, 0, 0], evaluate=False, readable="Unlabeled"),
    ]
    config = "config.json" if version == "old" else f"config_v{version}.json"
    below = "labels" if version == "old" else f"v{version}/labels"
    text(tmp_path / config, json.dumps({"labels": labels, "version": version, "mapping": "public"}))
    for split, count in (("training", 2), ("validation", 1)):
        for index in range(count):
            save(tmp_path / split / "images" / f"{split}{index}.jpg", RGB)
            paletted(tmp_path / split / below / f"{split}{index}.png", IDS)
            paletted(tmp_path / split / "instances" / f"{split}{index}.png", IDS)
    save(tmp_path / "testing/images/t.jpg", RGB)
    spec, examples, said = opened(tmp_path, "train")
    assert spec.classes == ("Road", "Car") and spec.palette == ((128, 64, 128), (0, 0, 142))
    assert len(examples) == 2 and len(opened(tmp_path, "val")[1]) == 1 and "Mapillary Vistas" in said
    assert np.array_equal(examples[0].read()[1], np.where(IDS == 2, 255, IDS))
    text(tmp_path / config, "{}")
    assert f"{config} is not the configuration" in refusal(tmp_path)


def test_classes_json_names_places_and_goes_before_an_export(tmp_path):
    for split in ("train", "valid"):
        save(tmp_path / split / "rgb" / "a.png", RGB)
        save(tmp_path / split / "truth" / "a_L.png", IDS)
    said = {"classes": ["x", "y", "z"], "images": "{split}/rgb", "masks": "{split}/truth", "mask_end": "_L"}
    text(tmp_path / "classes.json", json.dumps(said))
    spec, examples, _ = opened(tmp_path, "val")
    assert spec.splits == ("train", "val") and np.array_equal(examples[0].read()[1], IDS)
    text(tmp_path / "classes.json", json.dumps({**said, "images": "../rgb"}))
    assert "\"images\" is '../rgb'" in refusal(tmp_path)
    cvat = tmp_path / "cvat"
    text(cvat / "labelmap.txt", CVAT)
    for index in range(3):
        save(cvat / f"JPEGImages/{index}.jpg", RGB)
        save(cvat / f"SegmentationClass/{index}.png", COLOURS[IDS])
    merged = [{"name": "void", "colour": [0, 0, 0]}, {"name": "all", "colours": [[10, 128, 0], [64, 0, 128]]}]
    text(cvat / "classes.json", json.dumps({"by": "colours", "classes": merged}))
    spec, examples, _ = opened(cvat, "train", ratios=(2, 1))
    assert spec.classes == ("void", "all") and np.array_equal(examples[0].read()[1], np.minimum(IDS, 1))


def test_a_folder_of_none_of_them_is_one_sentence(tmp_path):
    with pytest.raises(UserError) as caught:
        data.load("folder", "train", tmp_path)
    assert "Roboflow" in str(caught.value) and "classes.json" in str(caught.value)
    assert "\n" not in str(caught.value)
