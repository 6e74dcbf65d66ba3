"""What weights have learnt from: the data of a run, and of all that it began with or was taught by."""

import hashlib
import json
from pathlib import Path

import pytest

from runtime.errors import UserError
from training.data import DATASETS
from training.runs import learnt_from
from training.runs.recipe import Recipe

YOURS = {"folder", "feedback", "hf", "tfds"}


def recipe(**changes) -> Recipe:
    return Recipe.of(**{"model": "deeplabv3plus", "data": "camvid", "data_dir": "somewhere", **changes})


def told(sources: list[learnt_from.Source]) -> list[tuple[str, str]]:
    return [(one["what"], one["how"]) for one in sources]


def card(path: Path, **more) -> Path:
    facts = {"format": 1, "model": "unet", "arguments": {}, "classes": None, "palette": None,
             "source": {"kind": "test", "name": "their", "sha256": ""}, "weights_sha256": ""}  # fmt: skip
    path.with_name(path.name.replace(".weights.h5", ".json")).write_text(json.dumps({**facts, **more}))
    path.write_bytes(b"")
    return path


def test_every_data_set_has_its_terms_or_is_the_users_own():
    for name in DATASETS:
        (found,) = (
            learnt_from.of(recipe(data=name)) if name != "scenes" else learnt_from.of(recipe(data=name))
        )
        assert (found["terms"] == learnt_from.OWN) is (name in YOURS), name
        assert found["read"] or name in YOURS


def test_a_mixture_has_learnt_from_each_of_its_parts():
    found = learnt_from.of(recipe(data="camvid+scenes", data_dir={"camvid": "somewhere"}))
    assert told(found) == [("CamVid", "data"), ("Kerbside's drawn scenes", "data")]


def test_what_it_began_with_and_was_taught_by_counts_too(tmp_path: Path):
    coco = {"what": "COCO", "how": "data", "terms": "theirs", "read": "there"}
    taught = card(tmp_path / "teacher.weights.h5", learnt_from=[coco])
    first = tmp_path / "first"
    first.mkdir()
    (first / "recipe.json").write_text(recipe(data="cityscapes", backbone_weights="imagenet").to_json())
    found = learnt_from.of(recipe(init=str(first), teacher=str(taught)))
    assert told(found) == [
        ("CamVid", "data"), ("Cityscapes", "init"), ("ImageNet", "init"), ("COCO", "teacher")
    ]  # fmt: skip
    assert "commercial" in found[1]["terms"] and found[3]["terms"] == "theirs"
    older = card(tmp_path / "older.weights.h5")
    unknown = learnt_from.of(recipe(init=str(older)))[1]
    assert unknown["what"] == str(older) and unknown["terms"].startswith("not known here")


def test_what_has_gone_is_not_known_and_a_spoilt_card_is_said(tmp_path: Path):
    for gone in ("gone.tflite", "gone.weights.h5"):
        (found,) = learnt_from.of(recipe(teacher=str(tmp_path / gone)))[1:]
        assert found["terms"].startswith("not known here")
    spoilt = card(tmp_path / "spoilt.weights.h5", learnt_from=["CamVid"])
    with pytest.raises(UserError, match=r"spoilt\.weights\.h5 does not say what it has learnt from"):
        learnt_from.of(recipe(init=str(spoilt)))


def test_a_public_file_is_known_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "renamed.tflite"
    file.write_bytes(b"a public backbone")
    key = hashlib.sha256(b"a public backbone").hexdigest()
    monkeypatch.setitem(learnt_from.FILES, key, ("Theirs, MIT", ("imagenet", "cityscapes")))
    found = learnt_from.of(recipe(backbone_weights=str(file)))[1:]
    assert told(found) == [("ImageNet", "backbone"), ("Cityscapes", "backbone")]
    assert found[0]["terms"].endswith("(by way of Theirs, MIT)")
    file.write_bytes(b"another")
    assert told(learnt_from.of(recipe(backbone_weights=str(file))))[1:] == [(str(file), "backbone")]


def test_a_public_checkpoint_that_is_converted_whole_is_known_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(learnt_from.FILES, "abc", ("Theirs, MIT", ("imagenet", "cityscapes")))
    facts = {"source": {"kind": "test", "name": "their", "sha256": "abc"}}
    assert told(learnt_from.of_card(facts)) == [("Cityscapes", "data"), ("ImageNet", "backbone")]
    assert learnt_from.of_card({"source": {"sha256": "abd"}}) == learnt_from.of_card({}) == []
    own = {"what": "COCO", "how": "data", "terms": "theirs", "read": ""}
    assert learnt_from.of_card({**facts, "learnt_from": [own]}) == [own]


def test_a_run_keeps_it_while_what_it_began_with_is_there(tmp_path: Path):
    taught = card(tmp_path / "t.weights.h5", learnt_from=[
        {"what": "COCO", "how": "data", "terms": "theirs", "read": ""}])  # fmt: skip
    run = tmp_path / "run"
    run.mkdir()
    learnt_from.keep(run, recipe(teacher=str(taught)))
    taught.with_name("t.json").unlink()
    assert told(learnt_from.read(run)) == [("CamVid", "data"), ("COCO", "teacher")]
    assert learnt_from.line(learnt_from.read(run)) == "CamVid (data), COCO (teacher)"
    (run / learnt_from.NAME).write_text('[{"what": 3}]')
    with pytest.raises(UserError, match=r"learnt_from\.json is not what a run keeps"):
        learnt_from.read(run)
