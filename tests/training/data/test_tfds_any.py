"""`--data tfds`: builders that the test defines and TensorFlow Datasets itself prepares."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from runtime.errors import UserError
from training import data

IDS = (np.arange(48).reshape(6, 8) % 3).astype(np.uint8)


def png(array: np.ndarray) -> io.BytesIO:
    """As a file: TFDS takes its bytes as they are, and needs no TensorFlow for them."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    file.seek(0)
    return file


class KerbsideTinyStreets(tfds.core.GeneratorBasedBuilder):
    """Images of one grey each, their label as an image with names, and as a plain tensor."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        kinds = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "segmentation_mask": tfds.features.LabeledImage(
                labels=["road", "car", "sky"], shape=(None, None, 1)
            ),
            "ids": tfds.features.Tensor(shape=(6, 8), dtype=np.int32),
            "name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(kinds))

    def _split_generators(self, dl_manager):
        del dl_manager
        return {"train": self._generate_examples(0, 5), "validation": self._generate_examples(5, 3)}

    def _generate_examples(self, first, count):
        for index in range(first, first + count):
            yield (
                index,
                {
                    "image": np.full((6, 8, 3), index, np.uint8),
                    "segmentation_mask": IDS[..., None],
                    "ids": IDS.astype(np.int32) + 1,
                    "name": str(index),
                },
            )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tfds")


def load(folder: Path, split: str = "train", builder: str = "kerbside_tiny_streets", **options):
    return data.load("tfds", split, folder, builder=builder, **options)


def greys(examples) -> list[int]:
    return sorted(int(example.read()[0][0, 0, 0]) for example in examples)


def test_a_builder_is_prepared_and_read_by_number(folder):
    spec, examples = load(folder)
    assert (spec.name, spec.classes, spec.splits) == (
        "kerbside_tiny_streets",
        ("road", "car", "sky"),
        ("train", "val"),
    )
    assert greys(examples) == [0, 1, 2, 3, 4]
    image, ids = examples[2].read()
    assert image.shape == (6, 8, 3) and image.dtype == np.uint8
    assert ids.dtype == np.uint8 and np.array_equal(ids, IDS) and np.array_equal(examples[2].raw()[1], IDS)
    assert greys(load(folder, "val")[1]) == [5, 6, 7]
    assert list(folder.rglob("*array_record*"))
    prepared = next(folder.rglob("dataset_info.json")).parent
    assert greys(load(None, "val", builder=str(prepared))[1]) == [5, 6, 7]


def test_a_plain_tensor_with_a_file_of_names(folder, tmp_path):
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"classes": {"1": "road", "2": "car"}, "ignore": [3]}), encoding="utf-8")
    spec, examples = load(folder, label="ids", classes=str(names))
    assert spec.classes == ("road", "car")
    assert np.array_equal(examples[0].read()[1], np.where(IDS == 2, 255, IDS))
    assert np.array_equal(examples[0].raw()[1], IDS + 1)


def test_names_and_splits_by_option(folder):
    assert load(folder, classes=("a", "b", "c"))[0].classes == ("a", "b", "c")
    spec, examples = load(folder, ignore=0)
    assert spec.classes == ("car", "sky")
    assert np.array_equal(examples[0].read()[1], np.where(IDS == 0, 255, IDS.astype(int) - 1))
    assert greys(load(folder, splits=("validation", "train"))[1]) == [5, 6, 7]
    parts = [greys(load(folder, split, ratios=(4, 2, 2))[1]) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [4, 2, 2] and sorted(sum(parts, [])) == list(range(8))
    assert (
        len(load(folder, "train", splits="train")[1]) == 3
    )  # no val: 0.8, 0.1, 0.1 of five, the others rounded up


@pytest.mark.parametrize(
    "options, words",
    [
        ({"builder": ""}, ["builder=NAME"]),
        ({"builder": "no_such_streets"}, ["no_such_streets", "not found"]),
        ({"image": "photo"}, ["no feature photo", "segmentation_mask"]),
        ({"label": "name"}, ["name", "is no image"]),
        ({"label": "ids"}, ["classes=road,car,sky"]),
        ({"label": "ids", "classes": ("a", "b", "c")}, ["class id 3", "0 to 2 and 255"]),
        ({"label": "image", "classes": "a"}, ["class id 2"]),
        ({"splits": "dev"}, ["no split dev", "train, validation"]),
        ({"ignore": "road"}, ["ignore=road"]),
        ({"count": 3}, ["no option count", "builder, image, label"]),
    ],
)
def test_bad_options_are_one_sentence(folder, options, words):
    with pytest.raises(UserError) as caught:
        load(folder, **options)
    assert all(word in str(caught.value) for word in words), caught.value


def test_records_that_cannot_be_read_by_number_are_refused(tmp_path):
    tfds.builder("kerbside_tiny_streets", data_dir=str(tmp_path)).download_and_prepare()
    with pytest.raises(UserError, match="prepared as tfrecord.*convert_format"):
        load(tmp_path)


def test_what_cannot_be_prepared_says_why(tmp_path, monkeypatch):
    def broken(*args):
        raise OSError("the zip is not there\nand more")

    monkeypatch.setattr(KerbsideTinyStreets, "_split_generators", broken)
    with pytest.raises(
        UserError, match=r"TFDS cannot prepare kerbside_tiny_streets: the zip is not there\.$"
    ):
        load(tmp_path)
