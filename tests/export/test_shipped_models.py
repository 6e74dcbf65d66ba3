"""What ships under models/: small, whole, and what it says it is."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from evaluation import metrics
from export.parity import spread
from runtime import Segmenter
from runtime.bundle import Bundle, read_bundle
from runtime.errors import UserError
from runtime.image import resize_ids, resize_rgb
from tests.shared import CAMVID, needs
from tests.tiny import REPOSITORY
from training import data
from training.runs import learnt_from
from training.runs.load_weights import load_weights
from training.runs.recipe import Recipe, default_recipe
from training.runs.trained_run import build_model
from zoo.convert import model_config

MODELS = REPOSITORY / "models"
FILES = sorted(MODELS.glob("*.tflite"))
WEIGHTS = MODELS / "deeplabv3plus_mobilenet_edgetpu_camvid.weights.h5"
each = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def name_of(path: Path) -> str:
    """NAME of NAME_PRECISION.tflite and NAME_HxW_PRECISION.tflite, which the weights and the configs have as well."""
    return re.sub(r"(_\d+x\d+)?_[a-z0-9]+$", "", path.stem)


def weights_of(path: Path) -> Path:
    return MODELS / f"{name_of(path)}.weights.h5"


def bundle_of(path: Path) -> Bundle:
    found = read_bundle(path)  # checks the SHA-256
    assert found is not None
    return found


def test_they_are_small() -> None:
    assert FILES
    assert all(path.stat().st_size <= 6e6 for path in FILES)
    assert all(path.stat().st_size <= 12e6 for path in MODELS.glob("*.weights.h5"))


@each
def test_each_carries_its_labels(path: Path) -> None:
    bundle = bundle_of(path)
    spec = data.spec(bundle.facts["data"], bundle.facts["taxonomy"])
    assert (bundle.labels, bundle.palette) == (spec.classes, spec.palette)


@each
def test_each_has_a_card_with_its_checksum_and_score(path: Path) -> None:
    """docs/models/NAME.md, for the file and for the float weights beside it."""
    text = (REPOSITORY / "docs" / "models" / f"{name_of(path)}.md").read_text(encoding="utf-8")
    for file in (path, weights_of(path)):
        assert f"`{hashlib.sha256(file.read_bytes()).hexdigest()}`" in text, file.name
        assert str(file.stat().st_size) in text
    facts, size = bundle_of(path).facts, re.search(r"_(\d+x\d+)_", path.stem)
    row = f"{facts['precision']} `.tflite`" + (f" of {size[1]}" if size else "")
    assert f"| {row} | {100 * facts['scores']['miou']:.2f} |" in text


@each
def test_the_weights_build_their_own_model(path: Path) -> None:
    classes = len(bundle_of(path).labels)
    assert model_config.rebuild(weights_of(path)).output["logits"].shape[-1] == classes


def test_another_files_card_is_refused(tmp_path: Path) -> None:
    shutil.copy(model_config.config_path(WEIGHTS), tmp_path)
    (tmp_path / WEIGHTS.name).write_bytes(WEIGHTS.read_bytes()[:-1])
    with pytest.raises(UserError, match="is not what .*json was written for"):
        model_config.rebuild(tmp_path / WEIGHTS.name)


@each
def test_the_weights_beside_the_file_are_those_it_was_made_from(path: Path) -> None:
    digest = hashlib.sha256(weights_of(path).read_bytes()).hexdigest()
    assert bundle_of(path).facts["weights_sha256"] == digest


@each
def test_the_recipe_of_today_takes_the_weights_and_agrees_with_the_file(path: Path) -> None:
    """On a drawn street, which neither has seen: the file and float give mostly the same classes.

    Fewer for the network that was read out of an 8-bit file, which knows photographs alone: 90% here, where on
    photographs LiteRT's own kernels agree with each other on 97% of its pixels (its card).
    """
    from training.data import scenes

    bundle = bundle_of(path)
    name, size = bundle.facts["model"], bundle.size
    facts = json.loads(model_config.config_path(weights_of(path)).read_text(encoding="utf-8"))
    if facts["source"]["kind"] == "Kerbside":
        row = {**default_recipe(name, "camvid"), "backbone": facts["arguments"]["backbone"]}
        model = build_model(Recipe.of(model=name, data="camvid", data_dir="d", **row), 11)
        load_weights(model, weights_of(path))
    else:
        model = model_config.rebuild(weights_of(path))
    image = resize_rgb(scenes.draw(0, 3, size).image, size)
    logits = np.asarray(model(image[None], training=False)["logits"])
    agreement = np.mean(logits[0].argmax(-1) == Segmenter(path).segment(image).ids)
    assert agreement > (0.95 if facts["source"]["kind"] == "Kerbside" else 0.85)


@needs(CAMVID)
@each
def test_the_score_it_states_is_the_score_it_has(path: Path) -> None:
    facts = bundle_of(path).facts
    examples = data.load("camvid", "val", CAMVID, facts["taxonomy"])[1]
    count = facts["scores"]["images"]
    examples = examples[::4] if count == len(examples) else spread(examples, count)
    segmenter = Segmenter(path)
    classes = len(segmenter.labels)
    matrix = np.zeros((classes, classes), np.int64)
    for example in examples:
        rgb, labels = example.read()  # resized as the gate does it
        ids = segmenter.segment(resize_rgb(rgb, segmenter.size)).ids
        matrix += metrics.confusion_matrix(labels, resize_ids(ids, labels.shape), classes)
    stated = facts["scores"]["miou"]
    assert metrics.scores(matrix, segmenter.labels)["miou"] == pytest.approx(stated, abs=0.02)


@each
def test_its_card_says_what_it_has_learnt_from_and_on_which_terms(path: Path) -> None:
    card = (REPOSITORY / "docs" / "models" / f"{name_of(path)}.md").read_text(encoding="utf-8")
    sources = learnt_from.of_card(model_config.read(weights_of(path)))
    assert [one["what"] for one in sources][0] == ("Cityscapes" if "cityscapes" in path.name else "CamVid")
    for one in sources:
        assert f"| {one['what']} | {one['how']} | {one['terms']} | {one['read']} |" in card
