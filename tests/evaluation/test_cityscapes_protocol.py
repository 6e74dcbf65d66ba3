"""The official protocol against cityscapesscripts on generated cities with instances, and what a submission is."""

import math

import numpy as np
import pytest

from evaluation import cityscapes_protocol, measurement
from evaluation.cityscapes_protocol import LABEL_IDS
from evaluation.metric import Prediction
from runtime.errors import UserError
from tests import references
from tests.cities import CITIES, SHAPE, city, guess, official_scores, save
from training.data import cityscapes


@pytest.fixture
def root(tmp_path):
    for seed, name in enumerate(CITIES):
        city(tmp_path, name, seed)
    return tmp_path


def assert_equal_scores(found: dict, official: dict) -> None:
    pairs = [
        (found["mean_class_iou"], official["averageScoreClasses"]),
        (found["mean_class_iiou"], official["averageScoreInstClasses"]),
        (found["mean_category_iou"], official["averageScoreCategories"]),
        (found["mean_category_iiou"], official["averageScoreInstCategories"]),
    ]
    for rows, iou, iiou in (
        ("classes", "classScores", "classInstScores"),
        ("categories", "categoryScores", "categoryInstScores"),
    ):
        for name, row in found[rows].items():
            pairs += [(row["iou"], official[iou][name]), (row["iiou"], official[iiou][name])]
        left_out = set(official[iou]) - set(found[rows])
        assert all(math.isnan(official[iou][name]) for name in left_out)
    for ours, theirs in pairs:
        assert ours == pytest.approx(theirs, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("ids", [tuple(range(34)), (0, 7, 11, 23, 24, 26, 33), (4, 7, 9, 29, 30)])
def test_all_scores_equal_cityscapesscripts_and_its_tools_take_the_submission(tmp_path, ids):
    """Also where classes are absent, with groups, ignored instances and instance number 0."""
    for seed, name in enumerate(CITIES):
        city(tmp_path, name, seed, ids=ids)
    examples, problems = cityscapes.examples("val", tmp_path, "cityscapes19")
    assert not problems
    names = [example.name for example in examples]
    metric, note = cityscapes_protocol.official("cityscapes19", names, tmp_path)
    assert note == ""
    folder = tmp_path / "submission"
    write = cityscapes_protocol.submission("cityscapes19", names, folder)
    spec = cityscapes.TAXONOMIES["cityscapes19"]
    measured = measurement.measure(examples, spec, guess, extra={"cityscapes": metric}, then=write)
    assert len(list(folder.iterdir())) == len(CITIES)
    assert_equal_scores(measured.extra["cityscapes"], official_scores(tmp_path, folder))


def test_predictions_of_ignored_labels_count_as_the_authors_count_them(root):
    """A model of all 34 classes may say trailer, which is in the category vehicle but is not evaluated."""
    examples, _ = cityscapes.examples("val", root, "cityscapes34")
    names = [example.name for example in examples]
    rng = np.random.default_rng(0)
    metric, _ = cityscapes_protocol.official("cityscapes34", names, root)
    write = cityscapes_protocol.submission("cityscapes34", names, root / "submission")
    total = 0
    for example in examples:
        truth = example.read()[1]
        predicted = np.where(rng.random(SHAPE) < 0.5, rng.integers(0, 34, SHAPE), truth).astype(np.uint8)
        predicted[:2] = 34  # a class that Cityscapes does not have, of a model trained on another data set
        seen = Prediction(example.name, truth, predicted, None)
        write(seen)
        total = total + metric.count(seen)
    assert_equal_scores(metric.result(total, []), official_scores(root, root / "submission"))


def test_tables_are_the_authors():
    script = references.cityscapesscripts()
    sizes = {
        name: size for name, size in script.args.avgClassSize.items() if name not in ("caravan", "trailer")
    }
    assert cityscapes_protocol.INSTANCE_SIZES == sizes
    for label in script.labels:
        if label.id >= 0:
            assert (label.id in cityscapes_protocol.INSTANCE_IDS) == label.hasInstances
            assert bool(cityscapes_protocol.EVALUATED[label.id]) == (not label.ignoreInEval)
            assert cityscapes.CATEGORIES[cityscapes_protocol.CATEGORY[label.id]] == label.category
            assert label.ignoreInEval or LABEL_IDS["cityscapes19"][label.trainId] == label.id


def test_our_own_class_iou_is_the_official_one_where_every_class_is_there(root):
    examples, _ = cityscapes.examples("val", root, "cityscapes19")
    metric, _ = cityscapes_protocol.official("cityscapes19", [example.name for example in examples], root)
    spec = cityscapes.TAXONOMIES["cityscapes19"]
    measured = measurement.measure(examples, spec, guess, extra={"cityscapes": metric})
    found = measurement.result(measured)
    assert found["miou"] == pytest.approx(found["cityscapes"]["mean_class_iou"], abs=1e-12)
    text = measurement.text(found)
    assert "official protocol of Cityscapes" in text and "mean of the categories" in text


def test_without_instance_files_iiou_is_left_out_and_said(root):
    (root / "gtFine/val/ulm/ulm_000009_000019_gtFine_instanceIds.png").unlink()
    metric, note = cityscapes_protocol.official("cityscapes19", CITIES, root)
    assert "iIoU is left out" in note and "ulm_000009_000019_gtFine_instanceIds.png" in note
    seen = Prediction(CITIES[0], np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8), None)
    found = metric.result(metric.count(seen), [])
    assert math.isnan(found["mean_class_iiou"]) and found["mean_class_iou"] >= 0
    metric, note = cityscapes_protocol.official("cityscapes19", ["bonn_000000_000000"], root)
    assert metric is None and "bonn_000000_000000_gtFine_labelIds.png" in note


@pytest.mark.parametrize(
    "array, word",
    [
        (np.zeros(SHAPE, np.uint8), "mode L"),
        (np.zeros((5, 6), np.uint16), "6x5 pixels"),
        (np.full(SHAPE, 11001, np.uint16), "label id 11"),
        (None, "damaged"),
    ],
)
def test_bad_instance_files_are_named(root, array, word):
    path = root / "gtFine/val/aachen/aachen_000000_000019_gtFine_instanceIds.png"
    if array is None:
        path.write_bytes(path.read_bytes()[:60])
    else:
        save(path, array)
    metric, _ = cityscapes_protocol.official("cityscapes19", CITIES[:1], root)
    with pytest.raises(UserError, match=f"{path.name}.*{word}"):
        metric.count(Prediction(CITIES[0], np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8), None))


def test_submission_refuses_what_the_benchmark_would(tmp_path):
    with pytest.raises(UserError, match="scene_7 is no official name"):
        cityscapes_protocol.submission("cityscapes19", ["scene_7"], tmp_path)
    (tmp_path / "full").mkdir()
    save(tmp_path / "full" / "aachen_000000_000019.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(UserError, match="aachen_000000_000019.png: --submission has to name an empty"):
        cityscapes_protocol.submission("cityscapes19", CITIES, tmp_path / "full")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="file/x cannot be written"):
        cityscapes_protocol.submission("cityscapes19", CITIES, tmp_path / "file" / "x")
