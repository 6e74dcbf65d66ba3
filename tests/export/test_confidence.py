"""How sure a file is: the second output, the temperature, and the two rules, by arithmetic and through an export."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import export
from export import Job, add_confidence, confidence, tflite
from runtime.bundle import read_bundle
from runtime.confidence import likeliest, read_facts
from runtime.errors import UserError
from runtime.segmenter import Segmenter
from tests.exported import NAMES, colour_examples, colour_run
from training.data.spec import DatasetSpec, Example

SIZE = (33, 48)


def examples(split: str):
    return colour_examples(SIZE, 4)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    run = colour_run(tmp_path_factory.mktemp("run") / "colour", SIZE)
    job = Job(precision="fp32", size=SIZE, output="mask", out=run.folder / "mask.tflite", confidence=True)
    return export.exporter("tflite")(run, job, examples)


def test_a_mask_file_has_the_scores_of_every_fourth_pixel_as_its_second_output(file):
    rgb, _ = examples("val")[1].read()
    bundle = read_bundle(file)
    flatbuffer = file.read_bytes()[: bundle.facts["flatbuffer_bytes"]]
    litert = Interpreter(model_content=flatbuffer)
    litert.allocate_tensors()
    litert.set_tensor(litert.get_input_details()[0]["index"], rgb[None])
    litert.invoke()
    mask, coarse = (litert.get_tensor(one["index"]) for one in litert.get_output_details())
    ids, scores = tflite.predictor(flatbuffer, "mask")(rgb)  # the same file, cut before its ARG_MAX
    np.testing.assert_array_equal(mask[0], ids)
    assert coarse.shape == (1, 8, 12, len(NAMES))  # rows 2, 6, ... 30 of 33, columns 2, 6, ... 46 of 48
    np.testing.assert_array_equal(coarse[0], scores[2::4, 2::4])
    signature = litert.get_signature_list()["serving_default"]
    assert signature["outputs"][-1] == "coarse_scores" or "coarse_scores" in signature["outputs"]


def test_what_was_measured_travels_in_the_file_and_is_read_back(file):
    note = read_bundle(file).facts["confidence"]
    facts = read_facts(note, len(NAMES))
    assert (facts.step, facts.images, facts.split) == (4, 4, "val")
    assert facts.shares.shape == (confidence.ROWS, confidence.COLUMNS, len(NAMES))
    np.testing.assert_allclose(facts.shares.sum(axis=-1), 1, atol=1e-3)
    assert note["ece"]["after"] <= note["ece"]["before"] + 0.02
    assert note["score"]["good"] + note["score"]["bad"] == 8  # clean, and each under a corruption
    rgb, _ = examples("val")[1].read()
    segmenter = Segmenter(file)
    found = segmenter.segment(rgb)
    assert found.doubt == "" and segmenter.facts == segmenter.facts
    scores = tflite.predictor(file.read_bytes()[: read_bundle(file).facts["flatbuffer_bytes"]], "mask")(rgb)[
        1
    ]
    np.testing.assert_allclose(
        found.evidence.confidence(), likeliest(scores[2::4, 2::4], facts.temperature), rtol=1e-5
    )


def test_the_temperature_that_labels_were_drawn_with_is_found():
    rng = np.random.default_rng(0)
    scores = rng.normal(scale=4, size=(40_000, 5)).astype(np.float32)
    for temperature in (0.7, 2.5):
        noise = rng.gumbel(
            size=scores.shape
        )  # the argmax of scores / T + Gumbel noise is drawn from the softmax
        truth = (scores / temperature + noise).argmax(axis=1).astype(np.uint8)
        assert confidence.best_temperature(scores, truth) == pytest.approx(temperature, rel=0.03)
        assert confidence.calibration_error(scores, truth, temperature) < 0.01
    assert confidence.best_temperature(scores[:0], truth[:0]) == 1.0


def test_the_calibration_error_by_hand():
    """Four pixels at a confidence of 0.8, of which two are right: off by 0.3."""
    scores = np.log(np.tile(np.array([[0.8, 0.2]], np.float32), (4, 1)))
    assert confidence.calibration_error(scores, np.array([0, 0, 1, 1], np.uint8), 1.0) == pytest.approx(0.3)


def test_the_log_likelihood_by_hand():
    scores = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], np.float32))
    expected = (np.log(0.25) + np.log(0.8)) / 2
    assert confidence.log_likelihood(scores, np.array([1, 2], np.uint8), 1.0) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize(
    ("good", "bad", "value"),
    [
        ([8, 9, 10], [1, 2], 5),  # all good above, all bad below
        ([4, 8, 9, 10], [1, 2, 5], 6.5),  # 3/4 less 0 beats 1 less 1/3
        ([8, 9], [], 8),  # nothing bad was seen
        ([], [3, 5], 3),
        ([2], [2], 2),
    ],
)
def test_what_parts_good_images_from_bad_ones(good, bad, value):
    assert confidence.parting(good, bad) == value


def test_the_shares_of_a_cell_and_of_its_mirror_image():
    ids = np.zeros((confidence.ROWS, confidence.COLUMNS), np.uint8)
    ids[:, -1], ids[0, 0] = 1, 255
    shares = confidence.cell_shares(ids, 2)
    assert (
        shares[1, 0].tolist() == [1, 0] and shares[1, -1].tolist() == [0, 1] and np.isnan(shares[0, 0]).all()
    )
    both = confidence.smoothed(shares[None])
    np.testing.assert_allclose(both[1, 0], np.array([0.5 + 0.01, 0.5 + 0.01]) / 1.02)
    np.testing.assert_allclose(both[1, 3], np.array([1 + 0.01, 0.01]) / 1.02)
    np.testing.assert_allclose(
        both[0, 0], np.array([0.01, 1 + 0.01]) / 1.02
    )  # void here, the mirror image is known


def test_labels_that_lack_a_class_do_not_say_where_it_lies():
    """Of two classes the labels know one, and the file sees the other in the left half of each image."""
    spec = DatasetSpec("two", ("road", "wall"), ((1, 1, 1), (2, 2, 2)), ("train", "val"), (48, 64))
    seen = np.zeros((48, 64), np.uint8)
    seen[:, :32] = 1
    for labels, share in (
        (np.zeros_like(seen), 0.5),
        (seen[::-1, ::-1], 0.5),
        (np.eye(48, 64, dtype=np.uint8), 0.02),
    ):
        pictures = [
            Example(f"{n}", lambda labels=labels: (np.zeros((48, 64, 3), np.uint8), labels)) for n in range(4)
        ]
        found = confidence.place_rule(
            spec, True, lambda split, pictures=pictures: pictures, [], lambda rgb: (seen, None), (48, 64)
        )  # fmt: skip
        shares = np.array(found["shares"])
        assert shares.shape == (confidence.ROWS, confidence.COLUMNS, 2)
        assert shares[..., 1].mean() == pytest.approx(share, abs=0.02)  # of the image and its mirror image


def test_a_file_of_others_and_one_that_tells_already_are_refused(file, tmp_path):
    with pytest.raises(UserError, match="tells already"):
        add_confidence.main([str(file), "--data", "camvid", "--out", str(tmp_path / "x.tflite")])
    plain = tmp_path / "plain.tflite"
    plain.write_bytes(file.read_bytes()[: read_bundle(file).facts["flatbuffer_bytes"]])
    with pytest.raises(UserError, match="none of our files"):
        add_confidence.main([str(plain), "--data", "camvid", "--out", str(tmp_path / "x.tflite")])
