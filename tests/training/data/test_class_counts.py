"""What a split holds is counted while it is checked, and what cannot be learnt from it is refused before training."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import metrics
from runtime.errors import UserError
from tests.tiny_tflite import mask_model, write_bundle
from training import data, evaluate
from training.data import check_files
from training.data.labels import class_counts
from training.data.labels.class_counts import Occurrence, counted
from training.data.spec import Example
from training.distributed import ALONE
from training.engine import prepare_training
from training.engine.run_state import Progress
from training.runs import run_folders
from training.runs.recipe import Recipe

# Half of each mask is what the test says, half 0.
SIZE = (32, 32)


def yard(root: Path, content: object, train: object, val: object) -> Path:
    """A folder of two images a split; the lower half of a mask holds `train` or `val`, numbers side by side."""
    for split, held in (("train", train), ("val", val)):
        for name in "ab":
            columns = np.resize(np.atleast_1d(held), SIZE[1])
            ids = np.zeros(SIZE, np.uint8)
            ids[SIZE[0] // 2 :] = np.sort(columns)
            for kind, array in (("images", np.zeros((*SIZE, 3), np.uint8)), ("masks", ids)):
                path = root / kind / split / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    (root / "classes.json").write_text(json.dumps(content), encoding="utf-8")
    (root / "run").mkdir()
    return root


def recipe(root: Path, **changes: object) -> Recipe:
    return Recipe.of(**{"model": "otsu", "data": "folder", "data_dir": str(root), "crop": SIZE, **changes})


def trained(root: Path, said: list[str]) -> Progress:
    run_folders.claim(root / "run", recipe(root), fresh=False)
    return prepare_training.train(recipe(root), root / "run", say=said.append)


def refusal(root: Path, **changes: object) -> str:
    with pytest.raises(UserError) as caught:
        prepare_training.train(recipe(root, **changes), root / "run", say=lambda sentence: None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_counting_is_numpys_bincount_in_as_many_parts_as_float32_needs(monkeypatch):
    labels = np.random.default_rng(0).integers(0, 256, (37, 21)).astype(np.uint8)
    for exact in (1 << 24, 100, 5):
        monkeypatch.setattr(class_counts, "_EXACT", exact)
        assert np.array_equal(counted(labels), np.bincount(labels.ravel(), minlength=256))


def test_what_is_checked_is_counted_and_bad_files_are_not():
    def bad() -> tuple[np.ndarray, np.ndarray]:
        raise UserError("bad")

    maps = [np.array([[0, 1], [255, 1]], np.uint8), np.array([[1, 1]], np.uint8)]
    examples = [Example(str(index), lambda ids=ids: (ids, ids)) for index, ids in enumerate(maps)]
    found = Occurrence()
    good, problems = check_files.check([examples[0], Example("bad", bad), examples[1]], [], occurrence=found)
    assert len(good) == 2 and problems == ["bad"]
    assert found.pixels[[0, 1, 255]].tolist() == [1, 4, 1] and found.pixels.sum() == 6
    assert found.images[[0, 1, 255]].tolist() == [1, 2, 1] and found.around[[0, 1]].tolist() == [3, 5]
    assert found.void() == 1 / 6


def test_masks_of_0_and_255_say_what_to_write_and_then_train(tmp_path):
    root = yard(tmp_path, ["background", "car"], 255, 255)
    message = refusal(root)
    assert message == (
        "train has pixels of background alone, and a model learns to tell two classes or more apart: "
        "its masks hold the ids 0 (50.00%) and 255 (50.00%, void); if 255 is car, classes.json has to say so, "
        '{"name": "car", "id": 255}.'
    )
    (root / "classes.json").write_text('["background", {"name": "car", "id": 255}]', encoding="utf-8")
    said: list[str] = []
    progress = trained(root, said)
    # Two classes of half the pixels each in black images: everything is one of them, IoU 1/2 and 0.
    assert progress.best_miou == 0.25 and not any("pixel of" in sentence for sentence in said)


NONE_IS_ZERO = {"classes": [{"name": "road", "id": 1}, {"name": "car", "id": 2}], "ignore": [0, 255]}


def test_a_val_split_that_is_void_is_refused(tmp_path):
    assert refusal(yard(tmp_path, NONE_IS_ZERO, [1, 2], 0)) == (
        "val has no pixel of any class, and nothing can be scored on it: its masks hold the ids 0 (100.00%, void); "
        'if 0 is road, classes.json has to say so, {"name": "road", "id": 0}.'
    )


def test_classes_that_are_not_there_are_said_before_training_and_beside_the_score(tmp_path):
    names = ["road", "car", "bus", "tram", "sky"]
    root = yard(tmp_path, names, [1, 4], [1, 2])
    said: list[str] = []
    trained(root, said)
    expected = [
        "train has no pixel of bus, and val has: not learnt, and scored in the mean.",
        "neither train nor val has a pixel of tram: neither learnt nor scored.",
        "val has no pixel of sky: learnt, and not scored.",
    ]
    assert said[-3:] == expected and [sentence for sentence in said if sentence in expected] == 2 * expected


def test_much_void_is_said_with_the_ids_that_are(tmp_path):
    root = yard(tmp_path, NONE_IS_ZERO, [1, 2, 255], [1, 2])
    said: list[str] = []
    prepare_training._data(recipe(root), ALONE, said.append)
    found = next(sentence for sentence in said if "void" in sentence)
    # 16 rows of 0; of the other 16 a third, 10 of 32 columns, is 255.
    void = 100 * (16 + 16 * 10 / 32) / 32
    assert found.startswith(
        f"{void:.1f}% of the pixels of train are void, in the masks 0 (50.0%), 255 (15.6%)"
    )


def test_what_is_drawn_is_counted_too_and_weights_need_no_further_pass(monkeypatch):
    scenes = Recipe.of(
        model="otsu",
        data="scenes",
        data_options={"train_count": 3, "val_count": 2, "size": (48, 96)},
        crop=(48, 96),
    )
    spec, caches, found = prepare_training._data(scenes, ALONE, lambda sentence: None)
    for split, cache in caches.items():
        maps = [example.read()[1] for example in cache.examples]
        assert np.array_equal(
            found[split].pixels, sum(np.bincount(ids.ravel(), minlength=256) for ids in maps)
        )
    monkeypatch.setattr(prepare_training.DecodedCache, "read", None)
    weights = prepare_training._class_weights(
        Recipe.of(**{**scenes.flat(), "model": "deeplabv3plus", "loss": "ce", "class_weights": "inverse_log"}).loss,
        spec, found["train"], ALONE, lambda sentence: None,
    )  # fmt: skip
    shares = found["train"].pixels[: len(spec.classes)] / found["train"].pixels[: len(spec.classes)].sum()
    np.testing.assert_allclose(weights, 1 / np.log(1.10 + shares))


def test_drawing_is_not_paid_for_twice(monkeypatch):
    """Where the cache keeps nothing, a few are drawn, unless the classes are weighed by all of them."""
    examples = data.load("scenes", "train", count=9, size=(48, 96))[1]
    cache = prepare_training.DecodedCache(examples, limit_bytes=0)
    monkeypatch.setattr(prepare_training, "DRAWN_COUNTED", 3)
    for weights, images in (("none", 3), ("median_frequency", 9)):
        found = Occurrence()
        prepare_training._count_drawn("scenes", weights, cache, found)
        assert found.pixels.sum() == images * 48 * 96


@pytest.mark.parametrize(
    "fraction, shown", [(0.718, "71.80%"), (0.0, "0.00%"), (None, "-"), (float("nan"), "-"), (-1.0, "-")]
)
def test_a_score_that_does_not_exist_is_a_dash(fraction, shown):
    assert metrics.percent(fraction) == shown


def test_evaluation_of_a_void_split_is_refused(tmp_path):
    root = yard(tmp_path, NONE_IS_ZERO, [1, 2], 0)
    changes = {"labels": ["road", "car"], "palette": [[1, 2, 3], [4, 5, 6]], "size": SIZE}
    model = write_bundle(tmp_path / "m.tflite", mask_model(*SIZE), **changes)
    with pytest.raises(UserError, match="folder val has no pixel of a class that counts here, all is void"):
        evaluate.main(
            [str(model), "--data", "folder", "--data-dir", str(root), "--out", str(tmp_path / "out")]
        )
    assert not (tmp_path / "out").exists()
