"""A model of one set of classes on data of another: what is mapped, what is void, what is a mistake."""

import json
from pathlib import Path

import numpy as np
import pytest

from evaluation import metrics, translation
from evaluation.predictor import Predictor
from runtime import Segmenter
from runtime.errors import UserError
from tests.tiny import REPOSITORY
from training import data, evaluate
from training.data.labels import taxonomies
from training.data.spec import DatasetSpec, Example

SHIPPED = REPOSITORY / "models" / "deeplabv3plus_mobilenet_edgetpu_camvid_int8.tflite"


def spec(name: str) -> DatasetSpec:
    return taxonomies.spec(name, splits=("val",), size=(4, 4))


def predictor(ids: np.ndarray, classes: int) -> Predictor:
    """It sees the same in every image; the probability of what it sees is 0.6, the rest is spread evenly."""

    def score(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probabilities = np.full((*ids.shape, classes), 0.4 / (classes - 1), np.float32)
        np.put_along_axis(probabilities, ids[..., None], np.float32(0.6), axis=-1)
        return ids, probabilities

    return Predictor(lambda rgb: ids, score, "", None, "", {}, Path("."))


def test_nothing_is_translated_where_the_classes_are_the_same_however_they_are_spelt():
    names = [name.upper().replace(" ", "_") for name in taxonomies.classes("cityscapes19")]
    assert translation.between(names, spec("cityscapes19")) is None


def test_predictions_of_the_19_are_scored_over_camvids_11():
    """By hand: a rider on a bicycle is a Bicyclist, a bus a Car; nothing is void and nothing without counterpart."""
    found = translation.between(taxonomies.classes("cityscapes19"), spec("camvid11"))
    assert found is not None and found.missing == () and found.spec == spec("camvid11")
    names = ("rider", "bicycle", "motorcycle", "bus", "terrain", "traffic light", "wall")
    ids = [taxonomies.classes("cityscapes19").index(name) for name in names]
    expected = ["Bicyclist", "Bicyclist", "Bicyclist", "Car", "Tree", "SignSymbol", "Building"]
    assert [found.spec.classes[found.predictions[index]] for index in ids] == expected
    assert "without_counterpart" in found.to_json()["translation"]


def test_what_the_model_cannot_give_is_void_and_what_has_no_counterpart_is_a_mistake():
    """A model of the 11 over the 19: road right, Car where there is road, and a car that it can never call car."""
    eleven, nineteen = taxonomies.classes("camvid11"), spec("cityscapes19")
    found = translation.between(eleven, nineteen)
    assert found is not None
    assert set(found.missing) == set(nineteen.classes) - {
        "road",
        "sidewalk",
        "fence",
        "pole",
        "sky",
        "person",
    }
    ids = np.array([[eleven.index("Road"), eleven.index("Car")], [eleven.index("Car"), eleven.index("Sky")]])
    truth = np.array([[0, 0], [nineteen.classes.index("car"), 0]], np.uint8)
    own, common, (example,) = found.apply(
        predictor(ids, 11), [Example("a", lambda: (np.zeros((2, 2, 3), np.uint8), truth))]
    )
    assert common.classes == (*nineteen.classes, translation.NO_COUNTERPART)
    rgb, label = example.read()
    assert label.tolist() == [[0, 0], [255, 0]]
    result = metrics.scores(
        metrics.confusion_matrix(label, own.predict(rgb), len(common.classes)), common.classes
    )
    assert result["classes"]["road"]["iou"] == pytest.approx(1 / 3)  # one right, one Car, one Sky
    assert result["miou"] == pytest.approx(1 / 3) and result["pixels"] == 3
    assert "car" in found.text() and "Car" in found.text()


def test_probabilities_of_one_target_are_added_up():
    found = translation.between(taxonomies.classes("cityscapes19"), spec("cityscapes8"))
    assert found is not None and found.missing == ("void",)
    ids = np.array([[0, 13], [11, 10]])
    own, common, _ = found.apply(predictor(ids, 19), [])
    assert own.score is not None
    seen, probabilities = own.score(np.zeros((2, 2, 3), np.uint8))
    assert probabilities.shape == (2, 2, 8) and np.allclose(probabilities.sum(axis=-1), 1.0)
    assert [common.classes[index] for index in seen.ravel()] == ["flat", "vehicle", "human", "sky"]
    rest = 0.4 / 18
    assert probabilities[0, 0, 1] == pytest.approx(0.6 + rest)  # road, and sidewalk beside it
    assert probabilities[0, 1, 7] == pytest.approx(0.6 + 5 * rest)  # car, and the other five vehicles


def test_the_classes_in_which_both_tell_most_apart():
    """CamVid can be read in the 19, but six of them are all it has there; a model of 8 is best measured in 8."""
    known = data.specs("camvid")
    assert translation.common(taxonomies.classes("cityscapes19"), known) == "camvid11"
    assert translation.common(taxonomies.classes("road11"), known) == "camvid11"
    assert translation.common(taxonomies.classes("cityscapes8"), data.specs("scenes")) == "cityscapes8"
    assert translation.common(taxonomies.classes("camvid11"), data.specs("scenes")) == "camvid11"
    assert translation.common(("x", "y"), data.specs("scenes")) is None


def test_ones_own_mapping_of_both():
    mine = DatasetSpec("mine", ("ground", "rest"), ((0, 0, 0), (1, 1, 1)), ("val",), (4, 4))
    found = translation.between(("lawn", "street"), mine, {"street": "ground", "lawn": None, "other": "rest"})
    assert found is not None and found.missing == ("rest",)
    assert found.predictions[:2].tolist() == [2, 0]
    with pytest.raises(UserError, match="no mapping from the model's classes .lawn, street.*--classes"):
        translation.between(("lawn", "street"), mine)
    with pytest.raises(UserError, match="none of the classes of mine"):
        translation.between(("lawn",), mine, {"lawn": None})


def test_the_same_names_in_another_order_go_by_name():
    """Each prediction keeps its class; a class that one of the two lacks is void or a mistake, as with the table."""
    mine = DatasetSpec("mine", ("road", "car", "tree"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)), ("val",), (4, 4))
    found = translation.between(("Tree", "ROAD", "car"), mine)
    assert found is not None and found.spec == mine and found.missing == ()
    assert found.predictions[:3].tolist() == [2, 0, 1]
    assert translation.common(("Tree", "ROAD", "car"), {"mine": mine}) == "mine"
    fewer = translation.between(("car", "road"), mine)
    assert fewer is not None and fewer.missing == ("tree",) and fewer.predictions[:2].tolist() == [1, 0]
    more = translation.between(("sky", "car", "road", "tree"), mine)
    assert more is not None and more.predictions[:4].tolist() == [3, 1, 0, 2]
    assert more.spec.classes[3] == translation.NO_COUNTERPART
    with pytest.raises(UserError, match="no mapping"):  # neither holds the other
        translation.between(("road", "sky"), mine)
    with pytest.raises(UserError, match="no mapping"):  # told apart by their signs alone
        translation.between(("road", "car+", "car-"), mine)


@pytest.mark.slow  # draws the images of a whole report
def test_a_camvid_file_on_drawn_scenes_says_what_it_did(tmp_path, capsys):
    """End to end with the file that ships here, against its ids and the raw ids counted by hand."""
    command = [
        str(SHIPPED),
        "--data",
        "scenes",
        "--classes",
        "cityscapes8",
        "--metrics",
        "none",
        "--threads",
        "1",
    ]
    assert evaluate.main([*command, "--data-option", "count=2", "size=96x192", "--out", str(tmp_path)]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["translation"]["cannot_be_given"] == ["void"]
    assert scores["translation"]["without_counterpart"] == ["Bicyclist"]
    assert "It cannot give void" in capsys.readouterr().out
    segmenter = Segmenter(SHIPPED, threads=1)
    tree = segmenter.labels.index("Tree")
    hit = union = 0
    for example in data.load("scenes", "val", None, "cityscapes34", count=2, size=(96, 192))[1]:
        rgb, raw = example.read()
        truth = np.isin(raw, (21, 22))  # vegetation and terrain
        counted = raw > 6  # the rest is void, which the model cannot give
        seen = segmenter.segment(rgb).ids == tree
        hit += (truth & seen)[counted].sum()
        union += (truth | seen)[counted].sum()
    assert scores["classes"]["nature"]["iou"] == pytest.approx(hit / union)
