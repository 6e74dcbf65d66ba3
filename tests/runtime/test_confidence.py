"""How sure: confidence by arithmetic, the two rules by hand-made cases, what a note may say, JSON and videos."""

import dataclasses
import json
from functools import partial

import cv2
import numpy as np
import pytest

from export import coarse_scores
from runtime import Segmenter
from runtime.__main__ import main
from runtime.confidence import Evidence, Facts, doubt, likeliest, place_likelihood, read_facts
from runtime.errors import UserError
from runtime.fit import placing
from runtime.video import sureness
from tests import tiny_tflite as tiny
from tests.tiny import called

run = partial(called, main)
EVEN = np.full((2, 2, 3), 1 / 3)  # every class anywhere
NOTE = {"temperature": 2.0, "step": 4, "images": 7, "split": "val", "score": {"mean": 200.0, "least": 150.0}}


@pytest.fixture(scope="module")
def flatbuffer():
    """A mask of the largest channel, with coarse scores, which are the channels themselves."""
    return coarse_scores.add(tiny.mask_model(16, 24), 3)


@pytest.fixture(scope="module")
def sure(flatbuffer, tmp_path_factory):
    return tiny.write_bundle(
        tmp_path_factory.mktemp("sure") / "sure.tflite", flatbuffer, size=[16, 24], confidence=NOTE
    )


def test_the_likeliest_class_by_hand():
    scores = np.log(np.array([[[1, 2, 5], [4, 1, 1]]], np.float32))
    np.testing.assert_allclose(likeliest(scores), [[5 / 8, 4 / 6]], rtol=1e-6)
    # Over a temperature of 2 each power becomes its root.
    np.testing.assert_allclose(likeliest(scores, 2.0), [[5**0.5 / (1 + 2**0.5 + 5**0.5), 2 / 4]], rtol=1e-6)


def test_a_mask_file_tells_its_confidence_and_its_ids_stay_the_same(sure, flatbuffer, tmp_path):
    rgb, ids = tiny.colours(16, 24)
    found = Segmenter(sure).segment(rgb)
    assert (found.ids == ids).all()
    coarse = rgb[2::4, 2::4].astype(np.float64)  # the middle of each block of four
    powers = np.exp(coarse / 2.0)
    expected = powers.max(-1) / powers.sum(-1)
    np.testing.assert_allclose(found.evidence.confidence(), expected, rtol=1e-5)
    assert found.mean_confidence == pytest.approx(expected.mean(), rel=1e-5)
    assert found.confidence.shape == rgb.shape[:2] and found.confidence.dtype == np.float32
    np.testing.assert_allclose(found.confidence, cv2.resize(expected.astype(np.float32), (24, 16)), rtol=1e-5)
    assert found.evidence.highest_score() == pytest.approx(coarse.max(-1).mean())


def test_a_scores_file_has_the_confidence_of_the_same_pixels(tmp_path):
    path = tiny.write_bundle(
        tmp_path / "s.tflite", tiny.scores_model(16, 24), size=[16, 24], output="scores",
        confidence={**NOTE, "step": 0},
    )  # fmt: skip
    rgb, _ = tiny.colours(16, 24)
    segmenter = Segmenter(path)
    np.testing.assert_allclose(
        segmenter.segment(rgb).evidence.confidence(),
        likeliest(segmenter.scores(rgb)[2::4, 2::4], 2.0),
        rtol=1e-5,
    )


def test_files_that_do_not_say_have_no_confidence(model):
    rgb, _ = tiny.colours()
    found = Segmenter(model).segment(rgb)
    assert found.confidence is None and found.mean_confidence is None and found.doubt == ""
    assert found.report()["confidence"] is None and found.report()["doubt"] is None


def test_a_borders_scores_do_not_count(sure):
    """Letterboxed: the grey around the image has one score for all classes, a third each."""
    rgb = np.zeros((8, 24, 3), np.uint8)
    rgb[..., 1] = 200
    segmenter = Segmenter(sure)
    assert segmenter.placing((8, 24)).fit == "letterbox"
    inner = segmenter.segment(rgb).evidence.confidence()
    assert (
        inner.shape == (8, 24) and inner[2:6].min() > 0.99 and inner.min() > 0.6
    )  # the outermost are between


def test_low_scores_are_told(sure):
    rgb, ids = tiny.colours(16, 24)
    segmenter = Segmenter(sure)
    assert segmenter.segment(rgb).doubt == ""  # 220 everywhere
    dark = (rgb // 2).astype(np.uint8)  # 110, below 150
    assert segmenter.segment(dark).doubt == (
        "The model is unsure here: its highest scores average 110.0, where they have 200.0 on the 7 images that it was "
        "measured on."
    )


def test_the_rule_of_places_by_hand():
    ids = np.array([[0, 0], [1, 1]], np.uint8)
    shares = np.full((2, 1, 2), 0.5)
    assert place_likelihood(ids, shares) == pytest.approx(np.log(0.5))
    shares[0, 0], shares[1, 0] = (0.9, 0.1), (0.2, 0.8)
    assert place_likelihood(ids, shares) == pytest.approx((np.log(0.9) + np.log(0.8)) / 2)
    turned = ids[::-1].copy()
    assert place_likelihood(turned, shares) == pytest.approx((np.log(0.1) + np.log(0.2)) / 2)
    assert np.isnan(place_likelihood(np.full((2, 2), 255, np.uint8), shares))
    half = np.array([[0, 0], [255, 255]], np.uint8)  # what is ignored does not count
    assert place_likelihood(half, shares) == pytest.approx(np.log(0.9))

    facts = Facts(images=9, place=(-0.2, -1.0), shares=shares)
    evidence = Evidence((), placing("stretch", (2, 2), (2, 2)), facts)
    assert doubt(ids, evidence) == ""
    assert doubt(turned, evidence) == (
        "The model may be wrong here: what it sees lies where it seldom lay in the 9 images that it was measured on."
    )
    assert doubt(turned, dataclasses.replace(evidence, facts=Facts())) == "" == doubt(turned, None)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"temperature": 0}, "above 0"),
        ({"temperature": "warm"}, '"temperature" is'),
        ({"step": None}, '"step" is'),
        ({"score": {"mean": 1.0}}, 'no "least"'),
        ({"place": {"mean": 1.0, "least": 0.0}, "shares": [[[0.5, 0.5]]]}, "cells of 3 numbers"),
        ({"place": {"mean": 1.0, "least": 0.0}, "shares": [[[0.5, 0.5, 0.0]]]}, "above 0"),
        ({"place": {"mean": 1.0, "least": 0.0}, "shares": [[[0.5, 0.5, 0.1]], []]}, "grid of cells"),
        ({"place": {"mean": 1.0, "least": 0.0}, "shares": "all"}, "rows of cells"),
        ({"place": {"mean": 1.0, "least": 0.0}}, "shares"),
    ],
)
def test_a_note_that_cannot_be_so_is_refused(flatbuffer, tmp_path, changed, reason):
    path = tiny.write_bundle(
        tmp_path / "bad.tflite", flatbuffer, size=[16, 24], confidence={**NOTE, **changed}
    )
    with pytest.raises(UserError, match=reason):
        Segmenter(path)


def test_a_second_output_of_another_shape_is_refused(tmp_path):
    path = tiny.write_bundle(
        tmp_path / "bad.tflite", coarse_scores.add(tiny.mask_model(16, 24), 2), size=[16, 24]
    )
    with pytest.raises(UserError, match=r"second output of shape \(1, 4, 6, 2\); scores \(1, h, w, 3\)"):
        Segmenter(path)


def test_a_note_is_read_back():
    shares = np.arange(1, 13).reshape(2, 2, 3) / 12
    facts = read_facts({**NOTE, "place": {"mean": -1, "least": -2.5}, "shares": shares.tolist()}, 3)
    assert (facts.temperature, facts.step, facts.images, facts.split) == (2.0, 4, 7, "val")
    assert facts.score == (200.0, 150.0) and facts.place == (-1.0, -2.5)
    np.testing.assert_allclose(facts.shares, shares, rtol=1e-6)


def test_the_command_and_its_json_say_it(sure, tmp_path, capsys):
    rgb, _ = tiny.colours(16, 24)
    for name, image in (("clear", rgb), ("dark", rgb // 2)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image[..., ::-1])
    assert run(sure, tmp_path, "--out", tmp_path / "out") == 0
    clear, dark = (json.loads((tmp_path / "out" / f"{name}.json").read_text()) for name in ("clear", "dark"))
    assert clear["doubt"] is None and 0.99 < clear["confidence"] <= 1
    assert dark["doubt"].startswith("The model is unsure here") and dark["confidence"] <= clear["confidence"]
    assert "1 of 2 images are unlike what the model knows" in capsys.readouterr().out


def test_a_video_says_it_of_each_frame(sure, tmp_path, capsys):
    tiny.video(tmp_path / "drive.mp4", 3)
    assert run(sure, tmp_path / "drive.mp4", "--out", tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "drive.json").read_text())["confidence"]
    assert len(found["frames"]) == 3 and found["mean"] == pytest.approx(np.mean(found["frames"]), abs=1e-4)
    assert found["lowest"] == min(found["frames"]) and found["doubtful_frames"] == 0
    assert f"mean confidence {found['mean']:.0%}, lowest" in capsys.readouterr().out


def test_what_is_told_of_a_videos_frames():
    assert sureness([0.5, None, 0.25], 1) == {
        "mean": 0.375, "lowest": 0.25, "lowest_frame": 2, "doubtful_frames": 1, "frames": [0.5, None, 0.25],
    }  # fmt: skip
    assert sureness([None, None], 0) is None
    assert sureness([None, None], 2) == {"doubtful_frames": 2}
