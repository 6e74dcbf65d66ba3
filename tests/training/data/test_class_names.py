"""Names of classes, and how many there may be: bytes hold 255 beside void; more are refused wherever they appear."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

import zoo
from export import keras_model, parity, provenance
from runtime import class_names
from runtime.bundle import foreign_labels, numbered, spread_palette
from runtime.errors import UserError
from runtime.outlines import chosen_classes
from runtime.segmenter import Segmenter
from tests.tiny_tflite import convert, mask_model, write_bundle
from training.data.spec import DatasetSpec, Example
from training.runs import converted_weights
from zoo.convert import conversion, model_config
from zoo.convert.checkpoint import Match

MORE = (256, 257, 300)
SIZE = (4, 320)  # a column an id


def channels_of(count: int) -> bytes:
    """(1, 4, 320, 3) -> scores (1, 4, 320, count): nonsense of the right shape."""
    import tensorflow as tf

    return convert(lambda rgb: tf.repeat(tf.cast(rgb[..., :1], tf.float32), count, axis=-1), (1, *SIZE, 3))


@pytest.mark.parametrize("count", [255, *MORE])
def test_more_classes_than_bytes_hold_are_refused_wherever_they_appear(tmp_path, count):
    names, palette = numbered(count), spread_palette(count)
    model = mask_model(*SIZE)
    ours = write_bundle(tmp_path / "o.tflite", model, labels=names, palette=palette, size=SIZE)
    (tmp_path / "scores.tflite").write_bytes(channels_of(count))
    facts = {"format": model_config.FORMAT, "model": "fcn", "arguments": {"classes": count}, "classes": None,
             "palette": None,
             "source": {"kind": "x", "name": "x", "sha256": ""}}  # fmt: skip
    for build in (
        lambda: zoo.build("otsu", classes=count),
        lambda: DatasetSpec("data", names, palette, ("train",), SIZE),
        lambda: Segmenter(ours),
        lambda: Segmenter(tmp_path / "scores.tflite"),
        lambda: converted_weights.Converted(tmp_path, tmp_path / "w.weights.h5", "", facts).spec,
    ):
        if count == 255:
            build()
            continue
        with pytest.raises((UserError, ValueError), match=f"{count} classes.* 255"):
            build()


def _asked(match, count):
    return conversion.of_classes(match.model, match.arguments, count)


@pytest.mark.parametrize("count", [255, *MORE])
def test_a_checkpoint_of_more_classes_is_not_converted(count):
    """Its own number, or the one asked for."""
    match = Match("x", "otsu", {"classes": count}, str, {})
    if count == 255:
        assert conversion._build(match, _asked(match, 255)).output["logits"].shape[-1] == 255
        return
    with pytest.raises(ValueError, match=f"cannot be built: there are {count} classes"):
        conversion._build(match, _asked(match, None))
    with pytest.raises(ValueError, match=f"up to 255 classes.* not {count}"):
        _asked(match, count)


def test_every_model_of_the_zoo_refuses_256_classes():
    for name in zoo.names():
        if name != "sam":  # which has no classes
            with pytest.raises(ValueError, match="256 classes"):
                zoo.build(name, classes=256)


def test_a_plain_model_of_300_classes_is_not_exported(tmp_path):
    image = keras.Input((32, 32, 3))
    model = keras.Model(image, {"logits": keras.layers.Conv2D(300, 1)(image)})
    images = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(UserError, match="300 classes"):
        keras_model.export_model(model, classes=numbered(300), images=images, out=tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


def test_the_gate_sees_ids_that_came_round():
    """A model of 300 classes whose file gives ids modulo 256, as bytes do: 44 of 300 columns are another class."""
    logits = np.broadcast_to(np.eye(300, dtype=np.float32), (2, 300, 300))  # column i is class i
    ids = np.broadcast_to(np.arange(300), (2, 300))
    example = Example("a", lambda: (np.zeros((2, 300, 3), np.uint8), ids.astype(np.uint16)))
    spec = SimpleNamespace(name="data", classes=numbered(300))

    def file(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return logits.argmax(-1).astype(np.uint8), logits

    found = parity.measure(lambda rgb: (parity.ids_of(logits), logits), file, [example], spec, (2, 300))
    assert found.agreement == 256 / 300 and found.keras["miou"] == 1.0
    # 44 classes are never given, and 44 have one pixel right and one wrong: IoU 0 and 1/2.
    assert found.file["miou"] == pytest.approx((212 + 44 / 2) / 300)
    with pytest.raises(UserError, match="pixels agree"):
        parity.gate(found, "fp32", "m.tflite")


def test_both_sides_of_the_gate_keep_wide_ids():
    """What they are made of: a Keras model and a scores file of 300 channels, whose class is 299 everywhere."""
    from export import tflite

    image = keras.Input((4, 320, 3))
    bias = keras.initializers.Constant(np.arange(300))
    last = keras.layers.Conv2D(300, 1, kernel_initializer="zeros", bias_initializer=bias)
    rgb = np.zeros((*SIZE, 3), np.uint8)
    assert (parity.keras_predict(keras.Model(image, {"logits": last(image)}))(rgb)[0] == 299).all()

    import tensorflow as tf

    def rising(rgb: tf.Tensor) -> tf.Tensor:
        return tf.cast(rgb[..., :1], tf.float32) + tf.range(300, dtype=tf.float32)

    assert (tflite.predictor(convert(rising, (1, *SIZE, 3)), "scores")(rgb)[0] == 299).all()


@pytest.mark.parametrize(
    "names, word",
    [
        (["a", ""], "class 1 is empty"),
        (["a\nb"], "line break"),
        (["a\u2028b"], "line break"),
        (["a\x00b"], "control"),
        (["\ud800"], "control"),
        (["a", "b", "a"], "'a' is there twice"),
    ],
)
def test_names_that_would_shift_labels_are_refused_and_strangers_mended(names, word):
    with pytest.raises(ValueError, match=word):
        class_names.check_names(names)
    fixed = class_names.mended(names)
    class_names.check_names(fixed)
    assert len(fixed) == len(names)


def test_mended_names():
    assert class_names.mended(["a", "a", " b\n c ", "", "a (2)"]) == (
        "a",
        "a (2)",
        "b c",
        "class 3",
        "a (2) (2)",
    )
    match = Match("x", "fcn", {"classes": 2}, str, {}, classes=("a\nb", "a\nb"))
    found = model_config.of(match, {"classes": 2}, "n", "s")
    assert found["classes"] == ["a b", "a b (2)"]


LABELS = ("bus, coach", "bus", "car", "sign, traffic, yellow")


@pytest.mark.parametrize(
    "text, ids",
    [
        ("car", {2}),
        ("bus, coach", {0}),
        ("bus,car", {1, 2}),
        ("car, bus, coach", {0, 2}),
        ("sign, traffic, yellow,bus", {1, 3}),
    ],
)
def test_names_with_commas_can_be_chosen(text, ids):
    assert chosen_classes(text, LABELS) == ids


def test_a_name_that_is_none_is_named():
    with pytest.raises(UserError, match="--polygon-classes 'coach' is no class"):
        chosen_classes("car,coach", LABELS)


def test_labels_keep_their_places(tmp_path):
    """One a line, commas and all; an empty line is a class too, and no other letter ends a line."""
    assert provenance.labels_text(LABELS).split("\n")[:-1] == list(LABELS)
    path = write_bundle(
        tmp_path / "f.tflite", mask_model(), labels=["a", "", "b\x0bc", "d,e"], palette=[[0] * 3] * 4
    )
    assert foreign_labels(path) == ("a", "class 1", "b\x0bc", "d,e")
