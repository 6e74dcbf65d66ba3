"""What was corrected and kept: the database and its files, the data set `feedback`, and the run it goes on from."""

import json
import sqlite3
import threading
import zipfile
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import corrections
from runtime.errors import UserError
from runtime.segmenter import Segmentation
from training import data

LABELS, PALETTE = ("road", "car", "sky"), ((1, 2, 3), (4, 5, 6), (7, 8, 9))


def found(seed: int, labels=LABELS, size=(20, 30)) -> Segmentation:
    draws = np.random.default_rng(seed)
    ids = draws.integers(0, len(labels), size).astype(np.uint8)
    rgb = draws.integers(0, 256, (*size, 3)).astype(np.uint8)
    return Segmentation(ids, tuple(labels), PALETTE[: len(labels)], 0.1, rgb)


def keep(folder: Path, seed: int, **options) -> corrections.Record:
    one = found(seed, **options)
    mended = one.ids.copy()
    mended[:10] = seed % len(one.labels)
    mended[0, 0] = 255
    return corrections.keep(folder, one, mended, f"{seed}.jpg", "models/a.tflite")


def test_what_is_kept_comes_back(tmp_path):
    one = found(3)
    mended = one.ids.copy()
    mended[:5] = 1
    record = corrections.keep(tmp_path, one, mended, "street.jpg", "models/a.tflite")
    assert corrections.records(tmp_path) == [record]
    rgb, predicted, corrected = corrections.images(tmp_path, record)
    assert (rgb == one.rgb).all() and (predicted == one.ids).all() and (corrected == mended).all()
    assert (record.id, record.name, record.model) == (1, "street.jpg", "models/a.tflite")
    assert (record.labels, record.palette, record.height, record.width) == (LABELS, PALETTE, 20, 30)
    assert record.changed == (one.ids[:5] != 1).sum() / 600
    raw = sqlite3.connect(tmp_path / "feedback.sqlite").execute("SELECT id, name, changed FROM records")
    assert raw.fetchall() == [(1, "street.jpg", int((one.ids[:5] != 1).sum()))]
    mask = cv2.imread(str(tmp_path / "files" / "000001-corrected.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(mask, mended)


def test_looking_makes_nothing(tmp_path):
    assert corrections.records(tmp_path / "none") == [] and corrections.delete(tmp_path / "none", [1]) == 0
    assert not (tmp_path / "none").exists()


def test_the_held_out_part_hangs_on_the_number_alone_and_no_number_is_given_twice(tmp_path):
    for seed in range(7):
        keep(tmp_path, seed)
    assert [record.id for record in corrections.records(tmp_path) if record.held_out] == [2, 7]
    assert corrections.delete(tmp_path, [7, 1, 99]) == 2
    assert not list((tmp_path / "files").glob("000007*")) and not list((tmp_path / "files").glob("000001*"))
    assert keep(tmp_path, 50).id == 8
    assert [record.id for record in corrections.records(tmp_path)] == [2, 3, 4, 5, 6, 8]


def test_the_same_image_kept_again_replaces_its_record(tmp_path):
    one = found(3)
    corrections.keep(tmp_path, one, one.ids, "a.jpg", "m")
    again = corrections.keep(tmp_path, one, np.full_like(one.ids, 2), "b.jpg", "m")
    assert [record.id for record in corrections.records(tmp_path)] == [1] and again.name == "b.jpg"
    assert (corrections.images(tmp_path, again)[2] == 2).all()
    other = Segmentation(one.ids, ("a", "b", "c"), PALETTE, 0.1, one.rgb)
    assert corrections.keep(tmp_path, other, one.ids, "a.jpg", "m").id == 2  # of other classes


def test_nothing_is_kept_when_the_mask_is_wrong_or_the_disk_refuses(tmp_path, monkeypatch):
    one = found(1)
    with pytest.raises(UserError, match=r"the corrected mask is uint8 \(3, 3\)"):
        corrections.keep(tmp_path, one, np.zeros((3, 3), np.uint8), "a", "m")
    with pytest.raises(UserError, match="holds the id 3; ids go to 2"):
        corrections.keep(tmp_path, one, np.full_like(one.ids, 3), "a", "m")
    assert not list(tmp_path.iterdir())
    whole, calls = corrections.write_whole, []

    def full_disk(path: Path, content: bytes) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise UserError(f"{path} cannot be written: no space left on device.")
        whole(path, content)

    monkeypatch.setattr(corrections, "write_whole", full_disk)
    with pytest.raises(UserError, match="no space left"):
        corrections.keep(tmp_path, one, one.ids, "a", "m")
    assert corrections.records(tmp_path) == [] and not list((tmp_path / "files").iterdir())


def test_a_damaged_database_is_one_sentence(tmp_path):
    (tmp_path / "feedback.sqlite").write_bytes(b"no database" * 1000)
    for act in (lambda: corrections.records(tmp_path), lambda: keep(tmp_path, 0)):
        with pytest.raises(UserError, match=r"feedback.sqlite cannot be used"):
            act()


def test_many_may_keep_at_once(tmp_path):
    threads = [threading.Thread(target=keep, args=(tmp_path, seed)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = corrections.records(tmp_path)
    assert [record.id for record in records] == list(range(1, 13))
    for record in records:  # each with its own files
        assert (corrections.images(tmp_path, record)[0] == found(int(record.name[:-4])).rgb).all()


def test_the_zip_is_a_data_folder(tmp_path):
    for seed in range(7):
        keep(tmp_path, seed)
    content = corrections.exported(tmp_path, range(1, 7))
    with zipfile.ZipFile(BytesIO(content)) as archive:
        archive.extractall(tmp_path / "out")
        assert archive.read("masks/val/000002.png") == (tmp_path / "files/000002-corrected.png").read_bytes()
        facts = json.loads(archive.read("records.json"))
    assert [(row["id"], row["held_out"]) for row in facts] == [(n, n == 2) for n in range(1, 7)]
    spec, train = data.load("folder", "train", tmp_path / "out")
    assert spec.classes == LABELS and spec.palette == PALETTE and len(train) == 5
    (held,) = data.load("folder", "val", tmp_path / "out")[1]
    assert np.array_equal(held.read()[1], corrections.images(tmp_path, corrections.records(tmp_path)[1])[2])
    keep(tmp_path, 20, labels=("a", "b"))
    with pytest.raises(UserError, match="different classes"):
        corrections.exported(tmp_path, range(9))
    with pytest.raises(UserError, match="none of these records"):
        corrections.exported(tmp_path, [77])


def test_the_data_set_trains_on_one_part_and_scores_on_the_other(tmp_path):
    for seed in range(8):
        keep(tmp_path, seed)
    keep(tmp_path, 20, labels=("a", "b"))
    spec, train = data.load("feedback", "train", tmp_path)
    _, held = data.load("feedback", "val", tmp_path)
    assert (spec.name, spec.classes, spec.palette, spec.size) == ("classes3", LABELS, PALETTE, (20, 30))
    assert [one.name for one in train] == ["000001", "000003", "000004", "000005", "000006", "000008"]
    assert [one.name for one in held] == ["000002", "000007"]
    rgb, ids = held[0].read()
    assert (rgb == found(1).rgb).all() and ids[0, 0] == 255 and (ids[1:10] == 1).all()
    assert (ids[10:] == found(1).ids[10:]).all()
    other, few = data.load("feedback", "train", tmp_path, "classes2")
    assert other.classes == ("a", "b") and [one.name for one in few] == ["000009"]
    with pytest.raises(UserError, match="1 corrections, none of them val; keep more"):
        data.load("feedback", "val", tmp_path, "classes2")


def test_a_known_set_of_classes_has_its_name(tmp_path):
    from training.data.labels import taxonomies

    names = taxonomies.classes("road11")
    one = Segmentation(np.zeros((4, 4), np.uint8), names, tuple((i, i, i) for i in range(11)), 0.1,
                       np.zeros((4, 4, 3), np.uint8))  # fmt: skip
    corrections.keep(tmp_path, one, one.ids, "a", "m")
    assert data.spec("feedback", None, tmp_path).name == "road11"
    assert data.spec("feedback", None, tmp_path).palette[3] == (3, 3, 3)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(UserError, match="holds no corrections"):
        data.load("feedback", "train", tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        data.load("feedback", "train", tmp_path / "nowhere")
    record = keep(tmp_path, 0)
    corrections.path_of(tmp_path, record.id, "corrected").unlink()
    with pytest.raises(UserError, match="000001-corrected.png"):
        data.load("feedback", "train", tmp_path)


def test_init_takes_the_architecture_of_the_run(tmp_path):
    from training.runs.recipe import Recipe
    from training.train import assemble, parser

    run = tmp_path / "run"
    run.mkdir()
    options = {"rates": (3, 6), "aspp_filters": 32, "decoder_filters": 24}
    made = Recipe.of(
        model="deeplabv3plus", data="scenes", backbone="mobilenet_v2", output_stride=16, model_options=options
    )
    (run / "recipe.json").write_text(made.to_json(), encoding="utf-8")
    command = ["deeplabv3plus", "--data", "feedback", "--data-dir", str(tmp_path), "--init", str(run)]
    recipe = assemble(parser().parse_args(command))
    model = recipe.model
    assert (model.backbone, model.output_stride, model.options) == ("mobilenet_v2", 16, options)
    how = recipe.optimisation
    assert (how.learning_rate, how.epochs) == (1e-4, 20)  # the row of RECIPES for feedback
    other = assemble(parser().parse_args([*command, "--set", "aspp_filters=48"]))
    assert other.model.options == {**options, "aspp_filters": 48}
    with pytest.raises(UserError, match="is a deeplabv3plus, not a unet"):
        assemble(parser().parse_args(["unet", *command[1:]]))
