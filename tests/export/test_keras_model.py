"""A plain keras.Model, without a run folder, becomes a file by one call (README's ten lines do the same)."""

import json

import keras
import numpy as np
import pytest

from export.keras_model import export_model
from runtime import Segmenter
from runtime.errors import UserError
from tests.exported import COLOURS, NAMES, colour_examples, colour_model

SIZE = (33, 48)
PAIRS = [example.read() for example in colour_examples(SIZE, 4)]
IMAGES, LABELS = np.stack([image for image, _ in PAIRS]), np.stack([label for _, label in PAIRS])


@pytest.fixture(scope="module")
def free() -> keras.Model:
    """A model of known answers that takes images of any size."""
    return colour_model((None, None))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_file_says_what_the_model_says_and_what_it_was_measured_on(tmp_path, free, precision):
    path = export_model(
        free,
        classes=NAMES,
        images=IMAGES,
        labels=LABELS,
        palette=COLOURS,
        precision=precision,
        out=tmp_path / "street.tflite",
    )
    found = Segmenter(path)
    assert (found.labels, found.palette, found.size) == (NAMES, COLOURS, SIZE)
    for image, label in PAIRS:
        assert (found.segment(image).ids == label)[label != 255].mean() > 0.999
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert facts["scores"]["miou"] > 0.99 and facts["parity"]["truth"] == "labels"
    assert facts["scores"]["images"] == 2  # of four: int8 learnt its ranges from the others


def test_without_labels_the_models_own_ids_are_the_truth(tmp_path, free):
    path = export_model(
        free, classes=NAMES, images=list(IMAGES), precision="fp32", size=(20, 31), out=tmp_path / "a.tflite"
    )
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert facts["size"] == [20, 31] and facts["parity"]["keras"]["miou"] == 1.0
    assert Segmenter(path).bundle.miou is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": NAMES[:3]}, "with 3 classes"),
        ({"palette": COLOURS[:2]}, "palette has 2 colours"),
        ({"precision": "int4"}, "int4"),
        ({"output": "both"}, "mask, scores"),
        ({"out": "street.h5"}, r"\.tflite"),
        ({"images": IMAGES.astype(np.float32)}, "image 0 is float32"),
        ({"images": []}, "images is empty"),
        ({"images": "nowhere", "labels": None}, "nowhere"),
        ({"labels": LABELS[:1]}, "4 images and 1 labels"),
        ({"labels": LABELS[:, :9]}, "label 0"),
        ({"labels": LABELS.astype(int) - 1}, "label 0 holds -1"),
        ({"model": keras.Sequential([keras.Input((*SIZE, 3)), keras.layers.Conv2D(4, 1)])}, "logits"),
        ({"model": colour_model((16, 16))}, "33x48"),
    ],
)
def test_what_is_of_no_use_is_named_before_anything_is_converted(tmp_path, free, change, words):
    given = {"model": free, "classes": NAMES, "images": IMAGES, "labels": LABELS, "out": "street.tflite"}
    given |= change
    with pytest.raises(UserError, match=words):
        export_model(given.pop("model"), **{**given, "out": tmp_path / given["out"]})
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_as_good_as_the_model_is_not_written(tmp_path, free, monkeypatch):
    from export import tflite
    from tests.exported import perturb

    honest = tflite.convert
    monkeypatch.setattr(tflite, "convert", lambda *given, **also: perturb(honest(*given, **also)))
    with pytest.raises(UserError, match="not as good"):
        export_model(
            free, classes=NAMES, images=IMAGES, labels=LABELS, precision="fp32", out=tmp_path / "a.tflite"
        )
    assert not list(tmp_path.glob("*.tflite"))
