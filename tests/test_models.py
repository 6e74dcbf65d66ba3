"""What ships under models/: small, whole, and what it says it is."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from runtime import Segmenter
from runtime.bundle import read_bundle
from runtime.errors import UserError
from runtime.image import resize_rgb
from tests.tiny import REPOSITORY
from training import data, metrics
from training.recipe import Recipe, default_recipe
from training.run import build_model
from training.weights import load_weights
from zoo.convert import card

MODELS = REPOSITORY / "models"
FILES = sorted(MODELS.glob("*.tflite"))
CAMVID = REPOSITORY.parent / "shared" / "data" / "camvid"
INT8 = MODELS / "deeplabv3plus_mobilenet_v2_camvid_int8.tflite"
WEIGHTS = MODELS / "deeplabv3plus_mobilenet_v2_camvid.weights.h5"


def test_they_are_small() -> None:
    assert FILES
    assert all(path.stat().st_size <= 6e6 for path in FILES)
    assert all(path.stat().st_size <= 12e6 for path in MODELS.glob("*.weights.h5"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_carries_its_labels_and_its_measured_score(path: Path) -> None:
    bundle = read_bundle(path)  # checks the SHA-256
    assert bundle is not None
    spec = data.spec(bundle.facts["data"], bundle.facts["taxonomy"])
    assert (bundle.labels, bundle.palette) == (spec.classes, spec.palette)
    assert bundle.facts["scores"]["miou"] > 0.7


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_has_a_card_with_its_checksum_and_score(path: Path) -> None:
    """docs/models/NAME.md, for the file and for the float weights beside it."""
    name = path.stem.removesuffix("_int8")
    text = (REPOSITORY / "docs" / "models" / f"{name}.md").read_text()
    for file in (path, MODELS / f"{name}.weights.h5"):
        assert f"`{hashlib.sha256(file.read_bytes()).hexdigest()}`" in text, file.name
        assert str(file.stat().st_size) in text
    bundle = read_bundle(path)
    assert bundle is not None
    assert f"| int8 `.tflite` | {100 * bundle.facts['scores']['miou']:.2f} |" in text


def test_the_weights_build_their_own_model_and_another_files_card_is_refused(tmp_path: Path) -> None:
    assert card.rebuild(WEIGHTS).output["logits"].shape[-1] == 11
    shutil.copy(card.card_path(WEIGHTS), tmp_path)
    (tmp_path / WEIGHTS.name).write_bytes(WEIGHTS.read_bytes()[:-1])
    with pytest.raises(UserError, match="is not what .*json was written for"):
        card.rebuild(tmp_path / WEIGHTS.name)


def test_the_weights_beside_the_file_are_those_it_was_made_from() -> None:
    bundle = read_bundle(INT8)
    assert bundle is not None
    assert bundle.facts["weights_sha256"] == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()


def test_the_recipe_of_today_takes_the_weights_and_agrees_with_the_file() -> None:
    """On a drawn street, which neither has seen: int8 and float give mostly the same classes."""
    from training.data import scenes

    row = default_recipe("deeplabv3plus", "camvid")
    model = build_model(Recipe(model="deeplabv3plus", data="camvid", data_dir="d", **row), 11)
    load_weights(model, WEIGHTS)
    picture = resize_rgb(scenes.draw(0, 3, (360, 480)).image, (360, 480))
    logits = np.asarray(model(picture[None], training=False)["logits"])
    agreement = np.mean(logits[0].argmax(-1) == Segmenter(INT8).segment(picture).ids)
    assert agreement > 0.95


@pytest.mark.skipif(not CAMVID.is_dir(), reason="CamVid is not beside this checkout")
def test_the_score_it_states_is_the_score_it_has() -> None:
    examples = data.load("camvid", "val", CAMVID)[1][::4]
    segmenter = Segmenter(INT8)
    matrix = np.zeros((11, 11), np.int64)
    for example in examples:
        rgb, labels = example.read()
        matrix += metrics.confusion_matrix(labels, segmenter.segment(rgb).ids, 11)
    assert segmenter.bundle is not None
    stated = segmenter.bundle.facts["scores"]["miou"]
    assert metrics.scores(matrix, segmenter.labels)["miou"] == pytest.approx(stated, abs=0.02)
