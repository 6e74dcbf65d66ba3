"""The thresholds as models against cv2 and scikit-image, on the device as in the graph, and their counting pass."""

import json

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from export import run_tflite, tflite
from runtime import threshold_segmenter as device
from runtime.errors import UserError
from tests.tiny import REPOSITORY, assert_refused, run, write_camvid
from training.engine import threshold_training
from zoo.threshold import OtsuThresholds, grey_level

NAMES = ("crossing", "evening_shops", "rain", "sunny_street")


def images() -> list[np.ndarray]:
    """RGB: photographs, noise, few grey values, two humps, one colour."""
    rng = np.random.default_rng(21)
    found = []
    for name in NAMES:
        photo = cv2.imread(str(REPOSITORY / "examples" / f"{name}.jpg"))[..., ::-1]
        found.append(cv2.resize(photo, (97, 65), interpolation=cv2.INTER_AREA))
    for trial in range(10):
        found.append(rng.integers(0, 256, (65, 97, 3)))
        few = rng.integers(0, 256, trial % 7 + 1)
        found.append(np.repeat(rng.choice(few, (65, 97, 1)), 3, axis=2))
        humps = np.where(rng.random((65, 97, 1)) < 0.3, rng.normal(60, 20, (65, 97, 3)), 170)
        found.append(np.clip(humps + rng.normal(0, 15, (65, 97, 3)), 0, 255))
    return [np.ascontiguousarray(image, dtype=np.uint8) for image in found]


def grey(rgb: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


def regions(model: keras.Model):
    """The regions that a model sees, by a table that names them."""
    table = model.get_layer("logits").table
    table.assign(np.eye(*table.shape))
    call = tf.function(lambda rgb: tf.argmax(model(rgb, training=False)["logits"], axis=-1))
    return lambda rgb: call(tf.constant(rgb[None])).numpy()[0]


def test_grey_is_cv2s_on_all_colours():
    values = np.arange(1 << 24, dtype=np.uint32).reshape(16, 1 << 20)
    for row in values:
        rgb = np.stack([row >> 16, (row >> 8) & 255, row & 255], -1).astype(np.uint8)[None]
        ours = grey_level(tf.constant(rgb.astype(np.float32)))
        np.testing.assert_array_equal(ours, grey(rgb))


@pytest.mark.parametrize("value", [0, 100, 127, 255])
def test_a_fixed_threshold_is_cv2s(value):
    seen = regions(zoo.build("threshold", classes=2, value=value))
    for rgb in images():
        expected = cv2.threshold(grey(rgb), value, 1, cv2.THRESH_BINARY)[1]
        np.testing.assert_array_equal(seen(rgb), expected)
        np.testing.assert_array_equal(device.binary(rgb, value=value).ids, expected)


def test_otsu_is_cv2s():
    seen = regions(zoo.build("otsu", classes=2))
    for rgb in images():
        expected = cv2.threshold(grey(rgb), 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[1]
        np.testing.assert_array_equal(seen(rgb), expected)
        np.testing.assert_array_equal(device.otsu(rgb).ids, expected)


@pytest.mark.parametrize("levels", [3, 4])
def test_several_levels_are_skimages(levels):
    """Thresholds equal to threshold_multiotsu's, in the graph and on the device."""
    filters = pytest.importorskip("skimage.filters", reason="requirements-parity.txt is not installed")
    seen = regions(zoo.build("otsu", classes=levels, levels=levels))
    find = tf.function(OtsuThresholds(levels))
    compared = 0
    for rgb in images():
        own = device.multi_otsu_values(rgb, levels)
        np.testing.assert_array_equal(find(tf.constant(grey(rgb)[None], tf.float32))[0], own)
        np.testing.assert_array_equal(seen(rgb), device.multi_otsu(rgb, levels).ids)
        if len(np.unique(grey(rgb))) >= levels:
            expected = filters.threshold_multiotsu(grey(rgb), levels)
            np.testing.assert_array_equal(own, expected)
            np.testing.assert_array_equal(seen(rgb), np.digitize(grey(rgb), expected, right=True))
            compared += 1
    assert compared > 25


def test_fewer_values_than_levels_are_a_region_each():
    flat = np.full((8, 9, 3), 90, np.uint8)
    assert not regions(zoo.build("otsu", classes=3, levels=3))(flat).any()
    assert device.multi_otsu_values(flat, 3) == (90, 255)
    two = flat.copy()
    two[:4] = 200
    np.testing.assert_array_equal(regions(zoo.build("otsu", classes=4, levels=4))(two), grey(two) == 200)
    # cv2: an image of one grey has the threshold 0, so all of it but black lies above
    assert regions(zoo.build("otsu", classes=2))(flat).all()


def test_a_batch_is_its_images():
    batch = np.stack(images()[:6])
    for levels in (2, 3, 4):
        model = zoo.build("otsu", classes=7, levels=levels)
        together = np.asarray(model(batch)["logits"])
        alone = np.concatenate([model(batch[index : index + 1])["logits"] for index in range(6)])
        np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "dynamic", "int8"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("threshold", {}), ("otsu", {"levels": 2}), ("otsu", {"levels": 3}), ("otsu", {"levels": 4})],
)
def test_every_precision_is_exact(name, arguments, precision):
    model = zoo.build(name, classes=5, image_size=(65, 97), **arguments)
    rng = np.random.default_rng(2)
    model.get_layer("logits").table.assign(rng.uniform(-9, 0, model.get_layer("logits").table.shape))
    chosen = images()[:8]
    flatbuffer = tflite.convert(model, (65, 97), precision, "scores", chosen)
    assert len(flatbuffer) < 200_000
    call = run_tflite.runner(flatbuffer)
    for rgb in chosen:
        np.testing.assert_array_equal(call(rgb), np.asarray(model(rgb[None])["logits"])[0])


def test_votes_are_the_logarithm_of_shares():
    counts = np.array([[98, 0], [0, 0]])
    np.testing.assert_allclose(
        threshold_training.votes(counts), np.log([[0.99, 0.01], [0.5, 0.5]]), rtol=1e-6
    )
    weighed = np.exp(threshold_training.votes(np.array([[79, 19]]), [1.0, 4.0]))
    np.testing.assert_allclose(weighed, [[0.5, 0.5]], rtol=1e-6)
    table = np.array([[0.0, -1.0], [-1.0, 0.0]])
    np.testing.assert_array_equal(
        threshold_training.confusion_matrix(np.array([[5, 2], [1, 7]]), table), [[5, 1], [2, 7]]
    )


@pytest.mark.slow
def test_the_counting_pass_learns_and_is_finished(tmp_path):
    data = write_camvid(tmp_path / "camvid")
    command = ["otsu", "--data", "camvid", "--data-dir", str(data), "--set", "levels=3", "--name", "o"]
    done = run(tmp_path, "training.train", *command)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs/o"
    scores = json.loads((folder / "evaluation/camvid-val/scores.json").read_text(encoding="utf-8"))
    assert f"best mIoU {100 * scores['miou']:.2f}%" in done.stdout
    assert len((folder / "history.csv").read_text(encoding="utf-8").splitlines()) == 2

    # What was learnt is what cv2 and NumPy count.
    counts = np.zeros((3, 256))
    for path in sorted((data / "train").iterdir()):
        rgb = cv2.imread(str(path))[..., ::-1]
        ids = cv2.imread(str(data / "trainannot" / path.name), cv2.IMREAD_GRAYSCALE)
        labels = np.where(ids > 10, 255, ids)
        np.add.at(counts, (device.multi_otsu(np.ascontiguousarray(rgb), 3).ids, labels), 1)
    model = zoo.build("otsu", classes=11, levels=3)
    model.load_weights(folder / "best.weights.h5")
    shares = counts[:, :11] + 1
    expected = np.log(shares / shares.sum(1, keepdims=True))
    np.testing.assert_allclose(model.get_layer("logits").table, expected, rtol=1e-5)

    again = run(tmp_path, "training.train", *command)
    assert again.returncode == 0 and "this run is finished: 6 images" in again.stdout
    assert_refused(run(tmp_path, "training.train", *command, "--set", "levels=4"), "--fresh")
    measured = run(tmp_path, "training.evaluate", "runs/o")
    assert measured.returncode == 0, measured.stderr
    after = json.loads((folder / "evaluation/camvid-val/scores.json").read_text(encoding="utf-8"))
    assert after["confusion_matrix"] == scores["confusion_matrix"]


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("threshold", "value", 256),
        ("threshold", "value", -1),
        ("threshold", "value", 1.5),
        ("otsu", "levels", 1),
        ("otsu", "levels", 5),
        ("otsu", "classes", 1),
    ],
)
def test_what_makes_no_sense_is_refused(name, argument, value):
    with pytest.raises(ValueError, match=argument):
        zoo.build(name, **{argument: value})


def test_the_device_refuses_other_levels():
    with pytest.raises(UserError, match="levels is 5"):
        device.multi_otsu_values(images()[0], 5)
