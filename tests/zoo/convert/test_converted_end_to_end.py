"""A public checkpoint's way through the house: converted, measured, exported, fine-tuned."""

import json
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

import zoo
from export.__main__ import main as export_main
from runtime import Segmenter
from runtime.errors import UserError
from tests.tiny import assert_refused, run, write_camvid
from training import evaluate
from training.data import camvid
from training.runs import converted_weights
from training.runs.converted_weights import recipe_fields
from zoo.convert import model_config
from zoo.convert.checkpoint import Match

CAMVID = next(iter(camvid.TAXONOMIES.values()))
ARGUMENTS = {"classes": 11, "backbone": "mobilenet_v2", "output_stride": 16, "rates": (1, 2), "aspp_filters": 8,
             "decoder_filters": 8, "low_level_filters": 8}  # fmt: skip


def write(folder: Path, classes: tuple[str, ...] | None, palette=None, **arguments) -> Path:
    """What zoo.convert leaves of a checkpoint with random weights."""
    keras.utils.set_random_seed(1)
    built = {**ARGUMENTS, **({"classes": len(classes)} if classes else {}), **arguments}
    model = zoo.build("deeplabv3plus", **built)
    match = Match("somewhere", "deeplabv3plus", built, str, {}, classes=classes, palette=palette)
    path = folder / "public.weights.h5"
    model_config.write(path, model, model_config.of(match, built, "public.pth", "ab" * 32))
    return path


def test_classes_and_palette_travel_into_the_exported_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = tuple(f"thing {index}" for index in range(11))
    palette = tuple((index, 2 * index, 3 * index) for index in range(11))
    weights = write(tmp_path, names, palette)
    images = tmp_path / "pictures"
    images.mkdir()
    for index in range(4):
        noise = np.random.default_rng(index).integers(0, 256, (40, 60, 3), np.uint8)
        cv2.imwrite(str(images / f"{index}.png"), noise)
    options = ["--precision", "fp32", "--size", "32x48"]
    assert export_main([str(weights), "--images", str(images), *options]) == 0
    (file,) = (tmp_path / "export").glob("*.tflite")
    assert file.name == "public-fp32-mask-32x48.tflite"
    segmenter = Segmenter(file)
    assert segmenter.bundle is not None
    assert (segmenter.bundle.labels, segmenter.bundle.palette) == (names, palette)
    # Keras' own ids were the truth: that is a likeness, and no score
    assert segmenter.bundle.miou is None
    assert segmenter.bundle.facts["parity"]["truth"] == "Keras' own class ids"
    assert segmenter.bundle.facts["source"]["name"] == "public.pth"


@pytest.mark.slow
def test_they_are_measured_and_fine_tuned_on_data_of_their_classes(tmp_path: Path) -> None:
    """By name, whatever the order is; and what training starts from may have other classes."""
    weights = write(tmp_path, tuple(name.upper() for name in CAMVID.classes[::-1]))
    data = write_camvid(tmp_path / "camvid")
    done = run(tmp_path, "training.evaluate", str(weights), "--data", "camvid", "--data-dir", str(data))
    assert done.returncode == 0 and "Bicyclist" in done.stdout, done.stderr
    (tmp_path / "two").mkdir()
    weights = write(tmp_path / "two", ("car", "sidewalk"))
    training = ("training.train", "deeplabv3plus", "--data", "camvid", "--data-dir", str(data))
    init = ("--init", str(weights), "--epochs", "1", "--batch", "2", "--crop", "32x32")
    done = run(tmp_path, *training, *init, "--name", "tuned")
    assert done.returncode == 0, done.stderr
    assert "carried over by name, 2 of 2 classes there: Pavement (there sidewalk), Car." in done.stdout
    assert "arning" not in done.stderr and "could not be loaded" not in done.stderr
    recipe = json.loads((tmp_path / "runs/tuned/recipe.json").read_text())
    assert recipe["backbone"] == "mobilenet_v2" and recipe["model_options"]["rates"] == [1, 2]
    done = run(tmp_path, *training, *init, "--set", "aspp_filters=9", "--name", "wrong")
    assert_refused(done, str(weights), "has the layer aspp", "is needed")


def test_data_is_matched_by_the_names_of_the_classes(tmp_path: Path) -> None:
    found = converted_weights.load(write(tmp_path, tuple(name.upper() for name in CAMVID.classes)))
    assert found.on("camvid", "somewhere", None).data.taxonomy == next(iter(camvid.TAXONOMIES))
    assert found.spec.palette == CAMVID.palette
    assert found.on("scenes", None, None).data.taxonomy == "camvid11"  # Cityscapes' ids, mapped
    with pytest.raises(UserError, match="has the classes"):
        found.on("voc", "somewhere", None)


def test_unnamed_classes_are_numbered_and_coloured(tmp_path: Path) -> None:
    spec = converted_weights.load(write(tmp_path, None)).spec
    assert spec.classes[:2] == ("class 0", "class 1") and len(set(spec.palette)) == 11


def test_what_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    weights = write(tmp_path, None)
    with pytest.raises(UserError, match="--data.*--images"):
        export_main([str(weights)])
    with pytest.raises(UserError, match="--data"):
        evaluate.main([str(weights)])
    with pytest.raises(UserError, match="is a deeplabv3plus, not a unet"):
        recipe_fields(weights, "unet")
    model_config.config_path(weights).unlink()
    with pytest.raises(UserError, match="public.json"):
        converted_weights.load(weights)


def test_every_image_of_a_folder_has_its_own_name(tmp_path):
    for name in ("a.jpg", "a.png", "b.png", "drive/a.png", "._a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [example.name for example in converted_weights.unlabelled(tmp_path)]
    assert sorted(found) == ["a.jpg", "a.png", "b", "drive__a"]
