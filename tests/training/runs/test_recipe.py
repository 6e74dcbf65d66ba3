"""Recipes: frozen, validated, the same from JSON; and the command line that makes them."""

import dataclasses
import inspect
from pathlib import Path

import pytest

import zoo
from runtime.errors import UserError
from tests.tiny import assert_refused, called, run
from training import data, train
from training.data.augment import Augmentation
from training.runs.recipe import Recipe, from_json, split_options
from training.runs.recipes import RECIPES


def recipe(**changes) -> Recipe:
    return Recipe(**{"model": "deeplabv3plus", "data": "camvid", "data_dir": "somewhere", **changes})


def test_json_round_trip(tmp_path: Path) -> None:
    made = recipe(augmentation=Augmentation(scale=(0.7, 1.5)), model_options={"rates": (3, 6)}, crop=(64, 96))
    path = tmp_path / "recipe.json"
    path.write_text(made.to_json(), encoding="utf-8")
    assert from_json(path).as_dict() == made.as_dict()
    assert from_json(path).crop == (64, 96)
    assert not made.differences(from_json(path))


def test_the_hash_is_of_the_recipe_and_not_of_the_machine() -> None:
    assert recipe().sha256() == recipe(data_dir="elsewhere").sha256()
    assert recipe().sha256() != recipe(seed=1).sha256()
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "deeplab"}, ["deeplab", "deeplabv3plus"]),
        ({"data": "kitti"}, ["kitti", "cityscapes", "camvid"]),
        ({"backbone": "vgg"}, ["vgg", "resnet101", "mobilenet_v2"]),
        ({"taxonomy": "camvid99"}, ["camvid99", "camvid11"]),
        ({"optimizer": "adam"}, ["adam", "adamw", "sgd"]),
        ({"schedule": "stairs"}, ["stairs", "poly"]),
        ({"precision": "half"}, ["half", "mixed_bfloat16"]),
        ({"class_weights": "median"}, ["median", "inverse_log"]),
        ({"data_dir": None}, ["--data-dir"]),
        ({"batch": 0}, ["batch is 0"]),
        ({"learning_rate": float("nan")}, ["learning_rate is nan"]),
        ({"crop": (16, 64)}, ["crop"]),
        ({"epochs": 0}, ["epochs is 0"]),
        ({"model_options": {"ratess": (3, 6)}}, ["no option ratess", "rates, aspp_filters"]),
        ({"model_options": {"aspp_filters": "abc"}}, ["--set aspp_filters is 'abc'", "a whole number"]),
        ({"model_options": {"aspp_filters": True}}, ["--set aspp_filters is True", "a whole number"]),
        ({"model_options": {"classes": 5}}, ["no option classes"]),
        ({"model_options": "abc"}, ["model_options"]),
        ({"seed": 1.5}, ["seed"]),
        ({"batch": True}, ["batch"]),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_and_the_valid_ones_are_listed(changes, words) -> None:
    with pytest.raises(UserError) as refusal:
        recipe(**changes)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"model": "deeplabv3plus", "colour": 3}'])
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "recipe.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="recipe.json is not a recipe"):
        from_json(tmp_path / "recipe.json")


def test_every_row_of_recipes_is_valid() -> None:
    for (model, data_name), row in RECIPES.items():
        Recipe(model=model, data=data_name, data_dir="somewhere", **row)


def test_flags_win_over_the_row() -> None:
    args = train.parser().parse_args(
        [
            "deeplabv3plus",
            "--data",
            "camvid",
            "--data-dir",
            "d",
            "--crop",
            "64x96",
            "--epochs",
            "3",
            "--set",
            "rates=2,4",
            "dropout=0.5",
            "--augment",
            "scale=0.9,1.1",
            "rotation=0",
        ]  # fmt: skip
    )
    made = train.assemble(args)
    assert (made.crop, made.epochs) == ((64, 96), 3)
    assert made.model_options["rates"] == (2, 4) and made.model_options["dropout"] == 0.5
    assert made.model_options["aspp_filters"] == 128  # from the row
    assert made.augmentation.scale == (0.9, 1.1) and made.augmentation.rotation == 0
    assert made.backbone == "mobilenet_v2"


def test_options_of_one_split() -> None:
    options = {"size": [128, 256], "train_count": 7, "val_count": 3}
    assert split_options(options, "train") == {"size": (128, 256), "count": 7}
    assert split_options(options, "val") == {"size": (128, 256), "count": 3}


@pytest.mark.parametrize(("name", "words"), [("scenes", ["speed", "size"]), ("camvid", ["speed", "ratios"])])
def test_an_unknown_option_of_a_data_set_is_refused(name: str, words: list[str]) -> None:
    with pytest.raises(UserError) as refusal:
        data.load(name, "train", "somewhere", speed=3)
    for word in words:
        assert word in str(refusal.value)


def test_help_is_readable_and_fast(tmp_path: Path) -> None:
    done = run(tmp_path, "training.train", "--help")
    assert done.returncode == 0
    for word in (
        "deeplabv3plus",
        "--data-dir",
        "--crop HxW",
        "--fresh",
        "--backbone-weights none|imagenet|FILE",
    ):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["segnet"], ["segnet", "deeplabv3plus"]),
        (["deeplabv3plus", "--crop", "big"], ["big", "HEIGHTxWIDTH"]),
        (["deeplabv3plus", "--epochs", "many"], ["--epochs", "many"]),
        (["deeplabv3plus", "--augment", "zoom=2"], ["zoom", "scale"]),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    tmp_path: Path,
    arguments: list[str],
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert called(train.main, *arguments) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ") and all(word in line for word in words)
    assert not (tmp_path / "runs").exists()


def test_so_it_is_in_a_process_of_its_own(tmp_path: Path) -> None:
    assert_refused(run(tmp_path, "training.train", "segnet"), "segnet", "deeplabv3plus")
    assert not (tmp_path / "runs").exists()


def test_backbone_and_output_stride_are_the_models_own_unless_given() -> None:
    parameters = inspect.signature(zoo.MODELS["deeplabv3plus"]).parameters
    made = Recipe(model="deeplabv3plus", data="scenes")
    assert made.backbone == parameters["backbone"].default == "resnet101"
    assert made.output_stride == parameters["output_stride"].default == 16
    assert Recipe(model="deeplabv3plus", data="scenes", output_stride=8).output_stride == 8


def test_a_model_without_a_backbone_refuses_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def bare(*, classes: int = 2, image_size: object = None) -> None: ...

    monkeypatch.setitem(zoo.MODELS, "bare", bare)
    made = Recipe(model="bare", data="scenes")
    assert (made.backbone, made.output_stride) == ("", 0)
    with pytest.raises(UserError, match="bare has no output stride to choose"):
        Recipe(model="bare", data="scenes", output_stride=8)
    with pytest.raises(UserError, match="bare has no backbone to choose"):
        Recipe(model="bare", data="scenes", backbone="resnet50")
