"""The one pass over a split, and the command around it, with models that are a line of NumPy."""

import csv
import json
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from evaluation import measurement, metrics
from evaluation.predictor import Predictor
from runtime.errors import UserError
from tests.cities import CITIES, city, guess, official_scores
from training import evaluate
from training.data.spec import DatasetSpec, Example

SPEC = DatasetSpec("two", ("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)), ("val",), (32, 40))


def draw(seed: int, shape: tuple[int, int] = (32, 40)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, shape).astype(np.uint8)
    rgb = np.stack([np.where(rng.random(shape) < 0.8, truth, 0)] * 3, -1).astype(np.uint8)
    truth[:3] = 255
    return rgb, truth


def some(count: int, shape: tuple[int, int] = (32, 40)) -> list[Example]:
    return [Example(f"p{index}", partial(draw, index, shape)) for index in range(count)]


def score(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probabilities = np.full((*rgb.shape[:2], 3), 0.1, np.float32)
    np.put_along_axis(probabilities, rgb[..., :1].astype(int), 0.8, axis=-1)
    return rgb[..., 0], probabilities


def test_every_image_counts_once_and_in_order():
    order = []
    measured = measurement.measure(some(7), SPEC, guess, then=lambda seen: order.append(seen.name))
    expected = [metrics.confusion_matrix(truth, guess(rgb), 3) for rgb, truth in map(draw, range(7))]
    assert (measured.matrix == sum(expected)).all()
    assert measured.names == order == [f"p{index}" for index in range(7)]
    assert measured.counts.shape == (7, 3, 3)
    for found, matrix in zip(measured.counts, expected, strict=True):
        assert (found == [np.diag(matrix), matrix.sum(1), matrix.sum(0)]).all()
    assert 0 <= measured.seconds < 1


def test_memory_does_not_grow_with_the_split():
    """Images with their scores of 1 MB each: eight times as many take no more."""
    extra = measurement.chosen(measurement.asked("all"), 3)

    def peak(count: int) -> int:
        tracemalloc.start()
        measured = measurement.measure(some(count, (256, 256)), SPEC, guess, score=score, extra=extra)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert set(measured.extra) == {"boundary", "trimap", "ap", "ece"}
        return found

    peak(2)  # what is imported and cached on first use
    assert peak(24) < 1.4 * peak(3)


def test_what_the_command_line_may_ask_for():
    assert measurement.asked("none") == [] and measurement.asked("ap, boundary") == ["ap", "boundary"]
    with pytest.raises(
        UserError, match="--metrics boundry: there is no metric called 'boundry'; there is boundary"
    ):
        measurement.asked("boundry")
    with pytest.raises(UserError, match="m.tflite gives class ids, and ece need scores"):
        measurement.chosen(["boundary", "ece"], 3, lacking="m.tflite")
    said: list[str] = []
    everything = measurement.asked("all")
    assert list(measurement.chosen(everything, 3)) == ["boundary", "trimap", "ap", "ece"]
    assert list(measurement.chosen(everything, 3, lacking="m.tflite", say=said.append)) == [
        "boundary",
        "trimap",
    ]
    assert len(said) == 1 and "ap and ece need scores" in said[0]


def test_a_class_too_many_and_a_image_of_another_size_are_refused():
    with pytest.raises(ValueError, match="outside 0..2"):
        measurement.measure(some(2), SPEC, lambda rgb: np.full(rgb.shape[:2], 3, np.uint8))
    with pytest.raises(ValueError, match="outside 0..2"):
        measurement.measure(some(2), SPEC, lambda rgb: np.full(rgb.shape[:2], 300, np.int64))
    with pytest.raises(ValueError, match="labels are"):
        measurement.measure(some(2), SPEC, lambda rgb: np.zeros((3, 3), np.uint8))


def test_a_image_that_cannot_be_read_ends_the_pass_with_its_sentence():
    def broken() -> tuple[np.ndarray, np.ndarray]:
        raise UserError("bad.png is empty")

    with pytest.raises(UserError, match="bad.png is empty"):
        measurement.measure([*some(2), Example("bad", broken), *some(2)], SPEC, guess)


@pytest.fixture
def cities(tmp_path, monkeypatch):
    """Two cities with labels, one without, and a subject that reads its answer from the image."""
    for seed, name in enumerate(CITIES[:3]):
        city(tmp_path / "data", name, seed)
    hidden = city(tmp_path / "data", CITIES[3], 3, split="test")
    for path in hidden.parent.iterdir():
        path.unlink()
    hidden.parent.rmdir()
    hidden.parent.parent.rmdir()

    def scored(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        probabilities = np.full((*rgb.shape[:2], 19), 0.01, np.float32)
        np.put_along_axis(probabilities, rgb[..., :1].astype(int), 0.82, axis=-1)
        return guess(rgb), probabilities

    found = Predictor(
        guess, scored, "cityscapes", str(tmp_path / "data"), "cityscapes19", {}, tmp_path / "out"
    )
    monkeypatch.setattr(evaluate, "open_predictor", lambda *_: found)
    return tmp_path


def test_the_command_reports_our_numbers_and_the_official_ones(cities, capsys):
    assert evaluate.main(["runs/x", "--metrics", "all", "--submission", str(cities / "sub")]) == 0
    printed = capsys.readouterr().out
    for words in ("95% CI", "boundary iou", "trimap iou", "average precision", "calibration error"):
        assert words in printed
    assert f"predictions as the benchmark takes them written to {cities / 'sub'}" in printed
    folder = cities / "out" / "cityscapes-val"
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    official = official_scores(cities / "data", cities / "sub")
    for key, theirs in (
        ("mean_class_iou", "averageScoreClasses"),
        ("mean_category_iiou", "averageScoreInstCategories"),
    ):
        assert scores["cityscapes"][key] == pytest.approx(official[theirs], abs=1e-9)
    assert scores["images"] == 3 and scores["miou_interval"]["low"] < scores["miou"]
    with open(folder / "scores.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {"iou", "boundary_iou", "ap"} <= set(rows[0])


def test_the_command_scores_corrupted_images_too(cities, capsys):
    asked = ["runs/x", "--metrics", "none", "--corruptions", "contrast,gaussian_blur", "--severities", "1,5"]
    assert evaluate.main(asked) == 0
    printed = capsys.readouterr().out
    assert (
        "gaussian_blur     1: " in printed
        and "mean iou, corrupted" in printed
        and "worst corruption" in printed
    )
    scores = json.loads((cities / "out/cityscapes-val/scores.json").read_text(encoding="utf-8"))
    blurred = scores["corruptions"]["miou"]["gaussian_blur"]
    assert blurred["5"] < blurred["1"] < scores["miou"]
    with pytest.raises(UserError, match="none called 'rain'"):
        evaluate.main(["runs/x", "--corruptions", "rain"])


def test_a_split_without_labels_can_be_submitted_but_not_scored(cities, capsys):
    assert evaluate.main(["runs/x", "--split", "test", "--submission", str(cities / "sub")]) == 0
    assert "no labels that count here, so there are no scores" in capsys.readouterr().out
    assert [path.name for path in (cities / "sub").iterdir()] == [f"{CITIES[3]}_pred_labelIds.png"]
    assert not (cities / "out").exists()
    with pytest.raises(UserError, match="gtFine/test does not exist"):
        evaluate.main(["runs/x", "--split", "test"])


def test_submissions_are_for_cityscapes_only(cities):
    with pytest.raises(UserError, match="scenes with the classes .*use --data cityscapes"):
        evaluate.main(["runs/x", "--data", "scenes", "--submission", str(cities / "sub")])
    with pytest.raises(UserError, match="cityscapes8 .*use --data cityscapes --classes cityscapes19"):
        evaluate.main(["runs/x", "--classes", "cityscapes8", "--submission", str(cities / "sub")])
    assert not (cities / "sub").exists()


def test_a_subject_without_scores_is_told_so(cities, capsys, monkeypatch):
    found = evaluate.open_predictor()
    ids_only = Predictor(**{**found.__dict__, "score": None})
    monkeypatch.setattr(evaluate, "open_predictor", lambda *_: ids_only)
    with pytest.raises(UserError, match="m.tflite gives class ids, and ap need scores: .*--output scores"):
        evaluate.main(["m.tflite", "--metrics", "ap"])
    assert evaluate.main(["m.tflite", "--metrics", "all"]) == 0
    assert "m.tflite gives class ids, and ap and ece need scores" in capsys.readouterr().out
    assert "ap" not in json.loads(Path(cities / "out/cityscapes-val/scores.json").read_text(encoding="utf-8"))
