"""Several data sets as one: whose folder, option and weight, in which classes, how often, and in which order."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import UserError
from training import data
from training.data import mixture, pipeline
from training.data.augmentation import NONE
from training.data.labels import taxonomies
from training.data.spec import Example
from training.runs.recipe import Recipe
from training.runs.settings import split_options
from training.train import assemble, parser

SMALL = {"scenes.count": 3, "scenes.size": (48, 64)}


def camvid_folder(root: Path, count: int = 2) -> Path:
    """SegNet's layout; every id from 0 to 11 in each label map."""
    for split in ("train", "val"):
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            Image.fromarray(np.full((6, 8, 3), index, np.uint8)).save(root / split / f"{index}.png")
            ids = (np.arange(48, dtype=np.uint8) % 12).reshape(6, 8)
            Image.fromarray(ids).save(root / f"{split}annot" / f"{index}.png")
    return root


def test_a_mixture_is_its_parts_one_after_the_other_in_common_classes(tmp_path):
    folders = {"camvid": str(camvid_folder(tmp_path))}
    spec, examples = data.load("camvid+scenes", "train", folders, **SMALL)
    assert spec.name == "road11" and spec.classes == taxonomies.classes("road11")
    assert spec.splits == ("train", "val")  # scenes has no test
    assert [example.name for example in examples] == [
        *("camvid-0", "camvid-1"),
        *(f"scenes-scene_train_{index:06d}" for index in range(3)),
    ]
    label = examples[0].read()[1]
    names = taxonomies.targets("camvid11", "road11")
    expected = [spec.classes.index(str(to)) for to in names.values()] + [255]  # 11 is void
    assert label.ravel()[:12].tolist() == expected
    alone = data.load("scenes", "train", None, "road11", count=3, size=(48, 64))[1]
    for mixed, own in zip(examples[2:], alone, strict=True):
        assert all(np.array_equal(one, other) for one, other in zip(mixed.read(), own.read(), strict=True))


def test_what_a_part_does_not_tell_apart_is_void_in_its_images(tmp_path):
    """Among the 19, CamVid's Car is no car and no background."""
    spec, examples = data.load(
        "scenes+camvid", "val", {"camvid": str(camvid_folder(tmp_path))}, "cityscapes19", **SMALL
    )
    label = examples[-1].read()[1].ravel()[:12]
    car, road = (taxonomies.classes("camvid11").index(name) for name in ("Car", "Road"))
    assert label[car] == 255 and label[road] == spec.classes.index("road")


def test_the_usual_classes_are_the_parts_own_where_all_have_the_same_else_road11():
    assert next(iter(data.specs("bdd100k+cityscapes"))) == "cityscapes19"
    assert next(iter(data.specs("cityscapes+scenes"))) == "cityscapes19"
    assert next(iter(data.specs("cityscapes+camvid+scenes"))) == "road11"
    assert set(data.specs("camvid+scenes")) == {"road11", "cityscapes19", "cityscapes8", "camvid11", "idd7"}
    with pytest.raises(UserError, match="no classes in common.*voc.*scenes.*FILE.json"):
        data.specs("voc+scenes")


def test_a_mapping_of_ones_own_joins_what_has_nothing_in_common(tmp_path):
    mapping = dict.fromkeys([*taxonomies.classes("camvid11"), *taxonomies.classes("cityscapes19")])
    mapping |= {"road": "street", "Road": "street"}
    folders = {"camvid": str(camvid_folder(tmp_path))}
    spec, examples = data.load("camvid+scenes", "train", folders, "mine", mapping=mapping, **SMALL)
    assert spec.classes == ("street",) and spec.name == "mine"
    assert all(set(np.unique(example.read()[1])) <= {0, 255} for example in examples)
    with pytest.raises(UserError, match="leaves 'Road' without a target"):
        del mapping["Road"]
        data.spec("scenes+camvid", "mine", folders, {"mapping": mapping})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: data.load("scenes+kitti", "train"), ["kitti", "camvid"]),
        (lambda: data.load("scenes+scenes", "train"), ["twice", "--mix"]),
        (lambda: data.load("scenes+camvid", "train", "somewhere"), ["--data-dir somewhere", "scenes="]),
        (lambda: data.load("scenes+camvid", "train", {"voc": "x"}), ["voc", "scenes, camvid"]),
        (lambda: data.load("scenes+camvid", "train", {"camvid": "/nowhere"}), ["/nowhere"]),
        (lambda: data.load("scenes+camvid", "train", None, count=3), ["count", "scenes.count"]),
        (lambda: data.load("scenes+camvid", "train", None, **{"voc.count": 3}), ["voc.count"]),
        (lambda: data.load("scenes+camvid", "train", None, "cityscapes34"), ["cityscapes34", "road11"]),
        (lambda: data.load("scenes+camvid", "train", None, mix={"voc": 2}), ["--mix weighs voc"]),
        (lambda: data.load("scenes+camvid", "train", None, mix={"scenes": 0}), ["scenes=0", "above 0"]),
        (lambda: data.load("scenes+camvid", "train", None, mix={"scenes": "a"}), ["scenes=a"]),
        (lambda: data.load("scenes", "train", None, mix={"scenes": 2}), ["--mix", "scenes is but one"]),
        (lambda: mixture.folders(["a", "b"], "scenes+camvid"), ["--data-dir a", "NAME=DIR"]),
        (lambda: mixture.folders(["voc=a"], "scenes+camvid"), ["voc=a", "scenes=a"]),
        (lambda: Recipe.of(model="unet", data="camvid+scenes"), ["camvid", "--data-dir camvid=DIR"]),
        (lambda: Recipe.of(model="unet", data="scenes", taxonomy="camvid99"), ["camvid99", "road11"]),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(call, words):
    with pytest.raises(UserError) as refusal:
        call()
    assert all(word in str(refusal.value) for word in words), str(refusal.value)


def test_folders_of_the_command_line():
    assert mixture.folders(None, "camvid") is None
    assert mixture.folders(["a=b"], "camvid") == "a=b"  # a folder may have the sign in its name
    assert mixture.folders(["camvid=x"], "camvid") == "x"
    assert mixture.folders(["camvid=x", "voc=y"], "camvid+voc+scenes") == {"camvid": "x", "voc": "y"}


def test_the_command_line_makes_a_recipe_that_opens_again(tmp_path):
    words = "unet --data camvid+scenes --classes road11 --data-dir camvid=DIR --mix camvid=4 scenes=0.5"
    recipe = assemble(parser().parse_args([*words.split(), "--data-option", "scenes.train_count=9"]))
    assert recipe.data.folder == {"camvid": "DIR"} and recipe.data.taxonomy == "road11"
    assert recipe.data.options == {"scenes.train_count": 9, "mix": {"camvid": 4, "scenes": 0.5}}
    assert split_options(recipe.data.options, "train")["scenes.count"] == 9
    assert "scenes.count" not in split_options(recipe.data.options, "val")
    elsewhere = assemble(
        parser().parse_args([*words.replace("DIR", "HERE").split(), "--data-option", "scenes.train_count=9"])
    )
    assert elsewhere.sha256() == recipe.sha256() and not elsewhere.differences(recipe)


# How often, and in which order


def constant(value: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((4, 4, 3), value, np.uint8), np.full((4, 4), value, np.uint8)


def weighted(**parts: tuple[int, float]) -> list[Example]:
    """(count, weight) of each part; every image and label map is filled with its place in the list."""
    named = [(name, weight) for name, (count, weight) in parts.items() for _ in range(count)]
    return [
        Example(str(index), partial(constant, index), part=name, weight=weight)
        for index, (name, weight) in enumerate(named)
    ]


def test_weights_say_how_often_an_epoch_takes_each_image():
    """4 images of weight 3 and 10 of 0.5: 12 and 5 samples; over two epochs all of the 10 are not the same 5."""
    examples = weighted(few=(4, 3.0), many=(10, 0.5))
    assert pipeline.samples(examples) == 17
    seen = []
    for epoch in range(20):
        order = pipeline.epoch_order(7, epoch, examples, 1)
        counts = np.bincount(order, minlength=14)
        assert (counts[:4] == 3).all() and counts[4:].sum() == 5 and counts[4:].max() == 1
        assert np.array_equal(order, pipeline.epoch_order(7, epoch, examples, 1))
        seen.append(counts[4:])
    assert (np.sum(seen, axis=0) > 0).all() and len({tuple(row) for row in seen}) > 10
    assert not np.array_equal(
        pipeline.epoch_order(7, 0, examples, 1), pipeline.epoch_order(8, 0, examples, 1)
    )


def test_a_broken_weight_is_rounded_over_the_part_and_shared_out():
    """2.5 times 4 images is 10 samples: each comes twice, two of them a third time."""
    counts = np.bincount(pipeline.epoch_order(0, 0, weighted(a=(4, 2.5), b=(3, 1.0)), 1), minlength=7)
    assert sorted(counts[:4].tolist()) == [2, 2, 3, 3] and counts[4:].tolist() == [1, 1, 1]


def test_without_weights_the_order_is_that_of_any_data_set():
    """Bit for bit: a run that began before there were mixtures goes on in the same order."""
    expected = np.random.default_rng([3, 5]).permutation(12)[:12]
    assert np.array_equal(pipeline.epoch_order(3, 5, weighted(a=(7, 1.0), b=(5, 1.0)), 4), expected)


def test_a_weighted_epoch_is_resumed_at_any_step():
    examples = weighted(a=(2, 2.0), b=(3, 0.5))

    def labels(start: int, count: int) -> list[list[int]]:
        batches = pipeline.training_batches(
            examples, seed=1, batch=2, crop=(4, 4), augmentation=NONE, start_step=start, workers=1
        )
        return [batch[1].numpy()[:, 0, 0].tolist() for batch in batches.take(count)]

    whole = labels(0, 9)
    assert labels(4, 5) == whole[4:]
    assert pipeline.steps_per_epoch(pipeline.samples(examples), 2) == 3  # 4 of a and 2 of b


def test_memory_is_estimated_part_by_part():
    """The first image of the list is the smallest: what all take must not be judged by it."""
    small, large = (
        (lambda: (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8))),
        (lambda: (np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8))),
    )
    examples = [Example("s", small, part="s")] * 3 + [Example("l", large, part="l")] * 2
    needed = 3 * 4 * 4 * 4 + 2 * 40 * 40 * 4
    assert pipeline.DecodedCache(examples, limit_bytes=needed).enabled
    assert not pipeline.DecodedCache(examples, limit_bytes=needed - 1).enabled
