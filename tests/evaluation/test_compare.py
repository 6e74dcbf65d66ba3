"""training.compare: paired intervals against SciPy's bootstrap, files on the same images, kept evaluations."""

import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from scipy import stats

from evaluation import measurement, metrics
from runtime.errors import UserError
from tests import tiny_tflite as tiny
from training import compare
from training.data.spec import Example

SIZE = (8, 12)


def random_counts(seed: int, images: int = 40) -> np.ndarray:
    """(N, 3, 4) counts of real little confusion matrices; the last class is not in every image, and what is hard is
    hard for every seed."""
    draws, common = np.random.default_rng(seed), np.random.default_rng(0)
    truth = common.integers(0, 4, (images, 200))
    truth[::3][truth[::3] == 3] = 0
    wrong = draws.random(truth.shape) < common.uniform(0.05, 0.6, (images, 1)) + 0.02 * seed
    predicted = np.where(wrong, draws.integers(0, 4, truth.shape), truth)
    return np.array(
        [metrics.counts(metrics.confusion_matrix(*pair, 4)) for pair in zip(truth, predicted, strict=True)]
    )


def test_the_interval_of_a_difference_is_that_of_scipy_s_paired_bootstrap() -> None:
    one, base = random_counts(1), random_counts(2)

    def difference(picked: np.ndarray) -> float:
        return metrics.mean_iou(one[picked].sum(axis=0)) - metrics.mean_iou(base[picked].sum(axis=0))

    reference = stats.bootstrap(
        (np.arange(len(one)),), difference, vectorized=False, n_resamples=2000, method="percentile", rng=5
    ).confidence_interval
    found = metrics.bootstrap(one, base=base, resamples=4000)
    assert found is not None
    width = reference.high - reference.low
    assert found["low"] == pytest.approx(reference.low, abs=0.1 * width)
    assert found["high"] == pytest.approx(reference.high, abs=0.1 * width)
    # Unpaired, it would be wider: what is hard in one image is hard for both.
    alone = [metrics.resampled(counts, 1000, seed) for seed, counts in enumerate((one, base))]
    assert np.ptp(np.percentile(alone[0] - alone[1], [2.5, 97.5])) > 1.5 * (found["high"] - found["low"])


def test_a_model_does_not_differ_from_itself() -> None:
    found = metrics.bootstrap(random_counts(1), base=random_counts(1))
    assert (found["low"], found["high"]) == (0, 0)
    assert metrics.bootstrap(random_counts(1)[:1], base=random_counts(2)[:1]) is None


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of coloured bands in a folder, a file that is always right, and one that sees 2x2 blocks."""
    root = tmp_path_factory.mktemp("compare")
    for kind in ("images/train", "images/val", "masks/train", "masks/val"):
        (root / "data" / kind).mkdir(parents=True)
    (root / "data" / "classes.json").write_text(json.dumps({"classes": list(tiny.LABELS)}), encoding="utf-8")
    for index in range(7):
        rgb, ids = (np.roll(array, index, axis=1) for array in tiny.colours(*SIZE))
        file = f"{'train' if index == 6 else 'val'}/{index}.png"
        cv2.imwrite(str(root / "data" / "images" / file), rgb[..., ::-1])
        cv2.imwrite(str(root / "data" / "masks" / file), ids)
    tiny.write_bundle(root / "right.tflite", tiny.mask_model(*SIZE))
    tiny.write_bundle(root / "coarse.tflite", tiny.scores_model(*SIZE, stride=4), output="scores")
    return root


def run(place: Path, *more: str, names: tuple[str, ...] = ("right.tflite", "coarse.tflite")) -> dict:
    arguments = [str(place / name) for name in names]
    data = ["--data", "folder", "--data-dir", str(place / "data"), "--out", str(place / "out")]
    assert compare.main([*arguments, *data, *more]) == 0
    return json.loads((place / "out" / "comparison.json").read_text(encoding="utf-8"))


def test_files_are_compared_on_the_same_images(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run(place)
    right, coarse = found["subjects"]
    assert found["on"] == "folder val, 6 images" and right["scores"]["miou"] == 1.0
    assert 0.2 < coarse["scores"]["miou"] < 0.95
    assert coarse["difference"] == pytest.approx(coarse["scores"]["miou"] - 1)
    assert (
        coarse["difference_interval"]["low"]
        <= coarse["difference"]
        <= coarse["difference_interval"]["high"]
        < 0
    )
    assert right["difference_interval"] is None and right["bytes"] == (place / "right.tflite").stat().st_size
    assert right["milliseconds"] > 0
    printed = capsys.readouterr().out
    assert printed.count("measured now") == 2 and "100.00" in printed and "-> " not in printed
    page, markdown = (
        (place / "out" / name).read_text(encoding="utf-8") for name in ("index.html", "comparison.md")
    )
    assert "coarse.tflite" in page and "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert "| right.tflite | 100.00 |" in markdown and "| blue | 100.0 |" in markdown
    assert cv2.imread(str(place / "out" / "comparison.png")).std() > 1

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(measurement, "measure", refuse)
    again = run(place, names=("coarse.tflite", "right.tflite"))
    assert [row["scores"] for row in again["subjects"]] == [coarse["scores"], right["scores"]]
    assert capsys.readouterr().out.count("as measured before") == 2
    # Other weights under the same name, or other images, are other evaluations.
    whole = (place / "coarse.tflite").read_bytes()
    (place / "coarse.tflite").write_bytes((place / "right.tflite").read_bytes())
    with pytest.raises(AssertionError, match="measured again"):
        run(place)
    (place / "coarse.tflite").write_bytes(whole)
    (place / "data" / "masks" / "val" / "5.png").unlink()
    with pytest.raises(AssertionError, match="measured again"):
        run(place, "--skip-bad")


def test_what_cannot_be_compared_is_one_sentence(place: Path) -> None:
    with pytest.raises(UserError, match="alone has nothing to be compared with"):
        compare.main([str(place / "right.tflite")])
    other = tiny.write_bundle(
        place / "other.tflite", tiny.mask_model(*SIZE), labels=["cat", "dog", "cow"], palette=[[0, 0, 0]] * 3
    )
    with pytest.raises(UserError, match=r"no mapping from the model's classes \(cat, dog, cow\)"):
        run(place, "--skip-bad", names=("right.tflite", other.name))
    with pytest.raises(UserError, match="absent.tflite does not exist"):
        run(place, names=("right.tflite", "absent.tflite"))


def test_times_are_taken_in_turn() -> None:
    calls = []
    predicts = [lambda rgb, name=name: calls.append((name, int(rgb[0, 0, 0]))) for name in "ab"]
    examples = [
        Example(str(index), lambda index=index: (np.full((1, 1, 3), index, np.uint8), None))
        for index in range(2)
    ]
    assert len(compare.side_by_side(predicts, examples)) == 2
    one_round = [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert calls == one_round * (1 + compare.ROUNDS)


def test_parameters_are_counted_in_the_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        file["layers/conv/vars/0"] = np.zeros((3, 3, 2, 4))
        file["layers/conv/vars/1"] = np.zeros(4)
    assert compare.parameters(tmp_path / "a.weights.h5") == 76
    assert compare.parameters(tmp_path / "a.tflite") is None
    assert compare._labels(["runs/a", "runs/b", "x/c.tflite", "y/c.tflite"]) == [
        "a",
        "b",
        "x/c.tflite",
        "y/c.tflite",
    ]
