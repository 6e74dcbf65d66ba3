"""Every JSON file that somebody may hand in, through the function that takes it: refused in one sentence, or read."""

from pathlib import Path

import pytest

from app import painted
from evaluation import report
from runtime import bundle
from runtime.errors import UserError
from training.data.files import stream_copy
from training.data.labels import classes, taxonomies
from training.distributed import from_environment
from training.runs import recipe
from training.runs.trained_run import CLASSES, read_classes
from training.tracking import mlflow_store
from zoo.convert import model_config
from zoo.convert.files import readers

LABELS = ("road", "car")


def a_run(read):
    """The reader of a folder, given the file in it."""
    return lambda path: read(path.parent)


# What the file is called, and what reads it. A new reader of JSON is one line here.
READERS = {
    "recipe": ("recipe.json", recipe.from_json),
    "classes of a run": (CLASSES, a_run(read_classes)),
    "tracking of a run": (mlflow_store.KEPT, a_run(mlflow_store.kept)),
    "copied data": ("index.json", a_run(stream_copy._index)),
    "classes of data": ("classes.json", classes.read),
    "mapping of classes": ("mine.json", taxonomies.read_mapping),
    "config": ("public.json", model_config.read),
    "configuration": ("config.json", readers._json),
    "scores": ("scores.json", lambda path: report.read_scores(path, LABELS)),
    "legend": ("legend.json", lambda path: painted.read_legend(path.read_bytes(), LABELS, str(path))),
    "TF_CONFIG": ("tf.json", lambda path: from_environment(path.read_bytes().decode("latin-1"))),
}
WRONG = {
    "deep": b'{"classes": ' + b"[" * 100_000,
    "deep and closed": b"[" * 1000 + b"]" * 1000,
    "1e999": b'{"classes": ["road"], "by": 1e999}',
    "NaN": b'{"classes": ["road"], "by": NaN}',
    "twice": b'{"classes": ["road"], "classes": ["car"]}',
    "not UTF-8": b'{"classes": ["\xff\xfe"]}',
    "surrogate": rb'{"classes": ["\ud800"]}',
    "long": b'"' + b"x" * 9_000_000 + b'"',
    "number": b"3",
    "null": b"null",
    "empty": b"",
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, reader: str, wrong: str) -> None:
    name, read = READERS[reader]
    (tmp_path / name).write_bytes(WRONG[wrong])
    if (reader, wrong) == ("TF_CONFIG", "empty"):
        return  # as good as none
    with pytest.raises(UserError) as caught:
        read(tmp_path / name)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700 and ("TF_CONFIG" in message or str(tmp_path) in message)


@pytest.mark.parametrize("reader", ["classes of data", "mapping of classes", "legend"])
def test_a_byte_order_mark_is_taken(tmp_path: Path, reader: str) -> None:
    """Windows' editor writes one."""
    right = {
        "classes of data": '{"classes": ["Stra\u00dfe", "car"]}',
        "mapping of classes": '{"road": "Stra\u00dfe", "car": null}',
        "legend": '{"by": "ids", "classes": [{"name": "road", "ids": [7]}]}',
    }
    name, read = READERS[reader]
    (tmp_path / name).write_text(right[reader], encoding="utf-8-sig")
    plain = tmp_path / "plain" / name
    plain.parent.mkdir()
    plain.write_text(right[reader], encoding="utf-8")
    assert str(read(tmp_path / name)) == str(read(plain))


RECIPE = recipe.Recipe.of(model="deeplabv3plus", data="scenes").as_dict()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch": True}, "batch is True, and has to be a whole number"),
        ({"seed": 1.5}, "seed is 1.5, and has to be a whole number"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast', and has to be a number"),
        ({"model_options": "rates"}, "model_options is 'rates', and has to be an object"),
        ({"data_options": ["size"]}, "data_options is"),
        ({"rates": {"backbone": True}}, "rates is {'backbone': True}"),
        ({"freeze": "backbone"}, "freeze is 'backbone', and has to be a list, each text"),
        ({"crop": [64.5, 64]}, "crop is (64.5, 64), and has to be a list of 2, each a whole number"),
        ({"quantize": 1}, "quantize is 1, and has to be true or false"),
        ({"init": 3}, "init is 3, and has to be text or null"),
        ({"augmentation": {**RECIPE["augmentation"], "flip": True}}, "augmentation flip is True"),
        ({"augmentation": {**RECIPE["augmentation"], "scale": [1, "2"]}}, "scale is (1, '2')"),
        ({"augmentation": "none"}, "\"augmentation\" is 'none'"),
    ],
)
def test_a_recipe_takes_no_value_of_another_type(tmp_path: Path, change: dict, words: str) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(recipe.json.dumps({**RECIPE, **change}), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        recipe.from_json(path)
    assert words in str(caught.value) and str(path) in str(caught.value)


def test_the_bundle_knows_the_types_of_its_facts() -> None:
    assert set(bundle.NEEDED) == {
        *("format", "labels", "palette", "ignore_id", "output", "size"),
        *("flatbuffer_bytes", "flatbuffer_sha256"),
    }
