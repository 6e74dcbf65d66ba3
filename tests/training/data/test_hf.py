"""`--data hf`: data sets that the library `datasets` writes here, read local and as a stream."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import UserError
from tests.tiny import assert_refused, environment
from training import data
from training.data import hf_source
from training.data.files import stream_copy

datasets = pytest.importorskip("datasets", reason="requirements-extras.txt is not installed")
datasets.disable_progress_bars()
datasets.config.TORCH_AVAILABLE = False  # or it imports PyTorch, seconds, to be a DataLoader's data set too

NAMES = ["road", "car", "sky", "void"]
IDS = (np.arange(48).reshape(6, 8) % 4).astype(np.uint8)


def png(array: np.ndarray) -> dict:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def rows(count: int, ids=IDS, first: int = 0, image: str = "image", label: str = "annotation"):
    """`count` images, each of one grey, which is its number; the columns' names may be others."""
    images = [png(np.full((6, 8, 3), first + index, np.uint8)) for index in range(count)]
    kinds = {image: datasets.Image(), label: datasets.Image(), "scene": datasets.Value("string")}
    content = {image: images, label: [png(ids)] * count, "scene": ["street"] * count}
    return datasets.Dataset.from_dict(content, features=datasets.Features(kinds))


def parquet(folder: Path, **parts) -> str:
    folder.mkdir()
    for split, part in parts.items():
        part.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return str(folder)


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("local") / "yard"
    path = parquet(folder, train=rows(7), validation=rows(3, first=7))
    (folder / "id2label.json").write_text(json.dumps(dict(enumerate(NAMES))), encoding="utf-8")
    return path


def load(path: str, cache: Path, split: str = "train", **options):
    return data.load("hf", split, cache, path=path, **options)


def greys(examples) -> list[int]:
    return [int(example.read()[0][0, 0, 0]) for example in examples]


def test_splits_that_a_maker_gives_stay_what_they_are(tmp_path):
    classes = tuple(NAMES)
    path = str(tmp_path / "held_out")
    datasets.DatasetDict({"validation": rows(4)}).save_to_disk(path)
    assert greys(load(path, tmp_path, "val", classes=classes)[1]) == [0, 1, 2, 3]
    with pytest.raises(UserError, match="no train split, only val.*pool=val"):
        load(path, tmp_path, classes=classes)
    path = str(tmp_path / "without_val")
    datasets.DatasetDict({"train": rows(10), "test": rows(2, first=50)}).save_to_disk(path)
    parts = {
        split: greys(load(path, tmp_path, split, classes=classes)[1]) for split in ("train", "val", "test")
    }
    assert parts["test"] == [50, 51] and sorted(parts["train"] + parts["val"]) == list(range(10))
    path = str(tmp_path / "twice")
    datasets.DatasetDict({"train": rows(2), "valid": rows(1), "validation": rows(1)}).save_to_disk(path)
    with pytest.raises(UserError, match="valid and validation both mean val: say which with splits="):
        load(path, tmp_path, classes=classes)
    chosen = load(path, tmp_path, "val", classes=classes, splits=("train", "valid"))[1]
    assert greys(chosen) == [0]


def test_parquet_with_id2label(local, tmp_path):
    spec, examples = load(local, tmp_path)
    assert (spec.name, spec.classes, spec.splits) == ("yard", tuple(NAMES), ("train", "val"))
    assert greys(examples) == list(range(7))
    image, ids = examples[3].read()
    assert image.shape == (6, 8, 3) and ids.dtype == np.uint8 and np.array_equal(ids, IDS)
    assert greys(load(local, tmp_path, "val")[1]) == [7, 8, 9]
    spec, examples = load(local, tmp_path, "val", ignore=3, classes=tuple(NAMES), count=2)
    assert spec.classes == ("road", "car", "sky") and len(examples) == 2
    assert np.array_equal(examples[0].read()[1], np.where(IDS == 3, 255, IDS))
    assert np.array_equal(examples[0].raw()[1], IDS)
    assert load(local, tmp_path, "val", ignore=3)[0].classes == ("road", "car", "sky")


def test_ratios_and_named_splits(local, tmp_path):
    parts = {
        split: greys(load(local, tmp_path, split, ratios=(6, 2, 2), seed=1)[1])
        for split in ("train", "val", "test")
    }
    assert {split: len(part) for split, part in parts.items()} == {"train": 6, "val": 2, "test": 2}
    assert sorted(sum(parts.values(), [])) == list(range(10))
    assert greys(load(local, tmp_path, "train", splits=("validation", "train"))[1]) == [7, 8, 9]


def test_other_columns_and_one_split(tmp_path):
    path = parquet(tmp_path / "d", train=rows(10, image="pixel_values", label="gt"))
    spec, examples = load(path, tmp_path / "cache", classes=tuple(NAMES))
    assert len(examples) == 8 and spec.splits == ("train", "val", "test")  # 0.8, 0.1, 0.1 by seed 0
    named = load(path, tmp_path / "cache", classes=tuple(NAMES), image="pixel_values", label="gt")[1]
    assert greys(named) == greys(examples)
    for option, word in (("image", "pixel_values, gt, scene"), ("label", "pixel_values, gt, scene")):
        with pytest.raises(UserError, match=f"no column photo; it has {word}"):
            load(path, tmp_path / "cache", classes=tuple(NAMES), **{option: "photo"})
    with pytest.raises(UserError, match="The column scene .* holds no images"):
        load(path, tmp_path / "cache", classes=tuple(NAMES), image="scene", label="gt")
    with pytest.raises(UserError, match="The column scene .* neither images nor rows of ids"):
        load(path, tmp_path / "cache", classes=tuple(NAMES), label="scene")


def test_rows_of_ids_with_class_labels_local_and_streamed(tmp_path):
    kinds = {
        "image": datasets.Image(),
        "label": datasets.List(datasets.List(datasets.ClassLabel(names=NAMES))),
    }
    part = datasets.Dataset.from_dict(
        {"image": [png(np.zeros((6, 8, 3), np.uint8))] * 2, "label": [IDS.tolist()] * 2},
        features=datasets.Features(kinds),
    )
    path = parquet(tmp_path / "d", train=part, val=part)
    for stream in (False, True):
        spec, examples = load(path, tmp_path / "kept", stream=stream)
        assert spec.classes == tuple(NAMES)
        assert np.array_equal(examples[1].read()[1], IDS)


def test_a_folder_of_images_with_metadata(tmp_path):
    for split in ("train", "test"):
        folder = tmp_path / "d" / split
        folder.mkdir(parents=True)
        lines = []
        for index in range(3):
            Image.fromarray(np.full((6, 8, 3), 50 * index, np.uint8)).save(
                folder / f"{index}.jpg", quality=100
            )
            Image.fromarray(IDS).save(folder / f"{index}_mask.png")
            lines.append(json.dumps({"file_name": f"{index}.jpg", "mask_file_name": f"{index}_mask.png"}))
        (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    options = {"classes": tuple(NAMES), "splits": ("train", "test")}
    for stream in (False, True):
        spec, examples = load(str(tmp_path / "d"), tmp_path / "kept", stream=stream, **options)
        assert greys(examples) == [0, 50, 100] and spec.splits == ("train", "val")
        assert np.array_equal(examples[0].read()[1], IDS)


def test_save_to_disk_and_colours(tmp_path):
    colours = np.array([(128, 64, 128), (0, 0, 142), (70, 130, 180), (0, 0, 0)], np.uint8)
    part = rows(2, colours[IDS])
    datasets.DatasetDict(train=part, val=part).save_to_disk(tmp_path / "disk")
    table = tmp_path / "classes.json"
    classes = [{"name": n, "colour": c} for n, c in zip(NAMES[:3], colours.tolist(), strict=False)]
    table.write_text(
        json.dumps({"by": "colours", "classes": classes, "ignore": ["#000000"]}), encoding="utf-8"
    )
    spec, examples = load(str(tmp_path / "disk"), tmp_path, classes=str(table))
    assert spec.palette[0] == (128, 64, 128)
    assert np.array_equal(examples[0].read()[1], np.where(IDS == 3, 255, IDS))
    assert np.array_equal(examples[0].raw()[1], colours[IDS])


# A stream, copied


def test_a_stream_is_copied_as_far_as_it_is_asked_for_and_then_needs_no_library(local, tmp_path, monkeypatch):
    options = {"stream": True, "classes": tuple(NAMES)}
    spec, examples = load(local, tmp_path, count=4, **options)
    assert spec.splits == ("train", "val") and greys(examples) == [0, 1, 2, 3]
    assert len(list(tmp_path.rglob("*.image"))) == 4
    assert greys(load(local, tmp_path, count=6, **options)[1]) == list(range(6))
    assert greys(load(local, tmp_path, **options)[1]) == list(range(7))
    assert greys(load(local, tmp_path, "val", count=2, **options)[1]) == [7, 8]
    monkeypatch.setattr(hf_source, "library", lambda: pytest.fail("everything is there already"))
    assert greys(load(local, tmp_path, **options)[1]) == list(range(7))
    assert greys(load(local, tmp_path, count=5, **options)[1]) == list(range(5))


def test_a_copy_that_was_cut_short_goes_on_where_it_stopped(tmp_path):
    """The counter in the stream's state says what is read a second time: nothing but what came after the last note."""
    taken: list[int] = []
    fail_at = 7

    def start(state):
        at = {"next": state["next"] if state else 0}

        def pairs():
            while at["next"] < 12:
                if at["next"] == fail_at:
                    raise UserError("the connection is gone")
                at["next"] += 1
                taken.append(at["next"] - 1)
                yield b"image %d" % (at["next"] - 1), b"label"

        return pairs(), lambda: dict(at)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_copy, "NOTED_EVERY", 3)
        with pytest.raises(UserError):
            stream_copy.copied(tmp_path / "train", start, 0, 12)
        assert taken == list(range(7))
        fail_at = -1
        files = stream_copy.copied(tmp_path / "train", start, 0, 12)
    assert taken == [*range(7), *range(6, 12)]
    assert [image.read_bytes() for image, _ in files] == [b"image %d" % index for index in range(12)]


def test_a_damaged_index_is_named(local, tmp_path):
    options = {"stream": True, "classes": tuple(NAMES)}
    load(local, tmp_path, count=1, **options)
    (index,) = tmp_path.rglob("index.json")
    index.write_text('{"count"', encoding="utf-8")
    with pytest.raises(UserError, match="index.json is damaged .* delete"):
        load(local, tmp_path, **options)
    with pytest.raises(UserError, match="--data-dir"):
        data.load("hf", "train", None, path=local, **options)


# Bad input


@pytest.mark.parametrize(
    "options, words",
    [
        ({"path": ""}, ["path=ORG/NAME"]),
        ({"splits": "dev"}, ["no split dev", "train, validation"]),
        ({"splits": ("train", "validation", "train", "train")}, ["train, val and perhaps test"]),
        ({"classes": "gone.json"}, ["gone.json cannot be read"]),
        ({"classes": ("road", "road")}, ["yard", "'road' is there twice"]),
        ({"classes": ("road", "car")}, ["class id 2, 3", "0 to 1 and 255"]),
        ({"count": -1}, ["count=-1"]),
        ({"stream": "yes"}, ["stream=yes"]),
        ({"ignore": 65536}, ["ignore=65536"]),
        ({"ignore": "void"}, ["ignore=void"]),
        ({"speed": 1}, ["no option speed", "path, config"]),
    ],
)
def test_bad_options_are_one_sentence(local, tmp_path, options, words):
    with pytest.raises(UserError) as caught:
        load(**{"path": local, "cache": tmp_path, **options})
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_data_set_that_cannot_be_used(tmp_path):
    with pytest.raises(UserError, match="The data set .*gone cannot be opened"):
        load(str(tmp_path / "gone"), tmp_path)
    path = parquet(tmp_path / "d", train=rows(2))
    with pytest.raises(UserError, match="classes=road,car,sky"):
        load(path, tmp_path)
    damaged = rows(2).to_pandas()
    damaged.at[1, "annotation"] = {"bytes": damaged.at[1, "annotation"]["bytes"][:40], "path": None}
    kinds = datasets.Features(
        {"image": datasets.Image(), "annotation": datasets.Image(), "scene": datasets.Value("string")}
    )
    bad = datasets.Dataset.from_pandas(damaged, features=kinds)
    path = parquet(tmp_path / "bad", train=bad, val=bad)
    with pytest.raises(UserError, match="train 1 label is a truncated or damaged PNG"):
        load(path, tmp_path, classes=tuple(NAMES))
    assert len(load(path, tmp_path, classes=tuple(NAMES), skip_bad=True)[1]) == 1
    narrow = rows(2, IDS[:, :5])
    path = parquet(tmp_path / "narrow", train=narrow, val=narrow)
    with pytest.raises(UserError, match="train 0 label is 5x6 pixels but its image .* is 8x6"):
        load(path, tmp_path, classes=tuple(NAMES))


def test_without_the_library_there_is_one_sentence(local, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="pip install -r requirements-extras.txt"):
        load("elsewhere", tmp_path)


def test_without_the_hub_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    for stream in (False, True):
        with pytest.raises(
            UserError, match="some/where cannot be fetched, .*cannot be reached.* path=FOLDER"
        ):
            load("some/where", tmp_path, stream=stream)


@pytest.mark.slow
def test_without_the_hub_a_command_says_one_sentence(tmp_path):
    code = (
        "import sys; from runtime.errors import exit_on_user_error as run; from training import data\n"
        "sys.exit(run(lambda: data.load('hf', 'train', None, path='some/where')))"
    )
    offline = {**environment(), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=offline, capture_output=True, text=True)
    assert_refused(done, "some/where", "cannot be reached", "path=FOLDER")
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
