"""Recipes: frozen, validated, the same from JSON; and the command line that makes them."""

import dataclasses
import inspect
import json
from pathlib import Path

import pytest

import zoo
from runtime.errors import UserError
from tests.tiny import assert_refused, called, run
from training import data, train
from training.command_line import Parser, add_data_option
from training.data.augmentation import Augmentation
from training.runs.recipe import Recipe, from_json
from training.runs.recipes import RECIPES
from training.runs.run_folders import recipe_table
from training.runs.settings import all_options, split_options

OLD = """{"model": "deeplabv3plus", "data": "camvid", "data_dir": "data", "taxonomy": "camvid11", "skip_bad": false,
"data_options": {}, "backbone": "mobilenet_v2", "backbone_weights": "none", "output_stride": 16,
"model_options": {"rates": [3, 6, 9, 12], "aspp_separable": true}, "init": null, "crop": [320, 320],
"batch": 8, "accumulate": 1, "epochs": 80, "seed": 0, "augmentation": {"scale": [0.6, 2.0], "rotation": 3.0,
"flip": 0.5, "brightness": 0.25, "contrast": 0.2, "saturation": 0.2, "hue": 0.02, "blur": 0.25,
"blur_sigma": [0.3, 1.2]}, "loss": "cross_entropy", "loss_options": {}, "auxiliary_weight": 0.4,
"class_weights": "inverse_log", "optimizer": "adamw", "learning_rate": 0.001, "backbone_rate": 0.3333,
"rates": {"classifier": 10.0}, "freeze": ["backbone/Conv1"], "freeze_bn": "none", "weight_decay": 0.0001,
"schedule": "poly", "schedule_options": {}, "warmup_epochs": 1.0, "clip_norm": 1.0, "ema": 0.998,
"bn_momentum": 0.95, "precision": "float32", "patience": 0, "teacher": "old.tflite", "teacher_sha256":
"abababababababababababababababababababababababababababababababab", "teacher_weight": 1.0,
"teacher_temperature": 1.0, "quantize": false}"""
OLD_SHA256 = "4b6ca58d081c46e1e687761dde8d49561369ed2fddc5687c341b245f3f3d391b"


def recipe(**changes) -> Recipe:
    return Recipe.of(**{"model": "deeplabv3plus", "data": "camvid", "data_dir": "somewhere", **changes})


def test_json_round_trip(tmp_path: Path) -> None:
    made = recipe(augmentation=Augmentation(scale=(0.7, 1.5)), model_options={"rates": (3, 6)}, crop=(64, 96))
    path = tmp_path / "recipe.json"
    path.write_text(made.to_json(), encoding="utf-8")
    assert from_json(path).as_dict() == made.as_dict()
    assert from_json(path).data.crop == (64, 96)
    assert not made.differences(from_json(path))


def test_the_hash_is_of_the_recipe_and_not_of_the_machine() -> None:
    assert recipe().sha256() == recipe(data_dir="elsewhere").sha256()
    assert recipe().sha256() != recipe(seed=1).sha256()
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe().run.seed = 3  # type: ignore[misc]


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
        Recipe.of(model=model, data=data_name, data_dir="somewhere", **row)


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
    assert (made.data.crop, made.optimisation.epochs) == ((64, 96), 3)
    assert made.model.options["rates"] == (2, 4) and made.model.options["dropout"] == 0.5
    assert made.model.options["aspp_filters"] == 128  # from the row
    assert made.data.augmentation.scale == (0.9, 1.1) and made.data.augmentation.rotation == 0
    assert made.model.backbone == "mobilenet_v2"


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
    made = Recipe.of(model="deeplabv3plus", data="scenes")
    assert made.model.backbone == parameters["backbone"].default == "resnet101"
    assert made.model.output_stride == parameters["output_stride"].default == 16
    assert Recipe.of(model="deeplabv3plus", data="scenes", output_stride=8).model.output_stride == 8


def test_a_model_without_a_backbone_refuses_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def bare(*, classes: int = 2, image_size: object = None) -> None: ...

    monkeypatch.setitem(zoo.MODELS, "bare", bare)
    made = Recipe.of(model="bare", data="scenes")
    assert (made.model.backbone, made.model.output_stride) == ("", 0)
    with pytest.raises(UserError, match="bare has no output stride to choose"):
        Recipe.of(model="bare", data="scenes", output_stride=8)
    with pytest.raises(UserError, match="bare has no backbone to choose"):
        Recipe.of(model="bare", data="scenes", backbone="resnet50")


def assembled(*words: str) -> Recipe:
    return train.assemble(train.parser().parse_args(list(words)))


def test_flags_of_before_work_and_are_not_shown() -> None:
    options, rates = ("train_count=7", "size=64x96"), ("classifier=10", "backbone/Conv1=0.5")
    old = assembled("unet", "--data-set", *options, "--rates", *rates)
    assert old == assembled("unet", "--data-option", *options, "--lr-mult", *rates)
    assert old.data.options["size"] == (64, 96) and old.optimisation.rates["classifier"] == 10
    shown = train.parser().format_help()
    assert "--data-option" in shown and "--lr-mult" in shown
    assert "--data-set" not in shown and "--rates" not in shown


def test_the_data_options_of_other_commands_have_both_names_too() -> None:
    for flag in ("--data-option", "--data-set"):
        command = Parser()
        add_data_option(command)
        assert command.parse_args([flag, "count=2", "size=64x96"]).data_options == [
            ("count", 2),
            ("size", (64, 96)),
        ]
        assert "--data-set" not in command.format_help()


def test_sam_has_no_validation_scale() -> None:
    assert assembled("unet", "--validation-scale", "1.5").run.validation_scale == 1.5
    with pytest.raises(UserError, match="sam sees all images at its own size"):
        recipe(model="sam", validation_scale=2.0)


def test_every_setting_has_a_key_of_its_own_and_a_flag_but_three() -> None:
    keys = [said.key for said in all_options()]
    assert len(keys) == len(set(keys)) == 45 and set(keys) == set(recipe().as_dict())
    assert [said.key for said in all_options() if not said.help] == [
        "model",
        "teacher_sha256",
        "unlabeled_images",
    ]


def test_the_table_shows_what_is_not_usual(tmp_path: Path) -> None:
    made = recipe(epochs=3, augmentation=Augmentation(flip=0.0))
    shown = {line.strip().split("  ")[0] for line in recipe_table(made, tmp_path).splitlines()}
    assert {"run folder", "model", "data", "data dir", "epochs", "augmentation"} <= shown
    assert not {"batch", "ema", "patience", "init"} & shown
    whole = recipe_table(made, tmp_path, whole=True)
    assert len(whole.splitlines()) == 1 + 45 and "ema" in whole


def test_a_run_of_before_opens_and_is_the_same_recipe(tmp_path: Path) -> None:
    """recipe.json as 0.2.0 wrote it; a checkpoint, an exported file and a peer know the recipe by this hash."""
    (tmp_path / "recipe.json").write_text(OLD, encoding="utf-8")
    found = from_json(tmp_path / "recipe.json")
    assert found.sha256() == OLD_SHA256
    later = {"unlabeled": None, "unlabeled_images": 0, "unlabeled_weight": 1.0, "validation_scale": 1.0}
    assert found.as_dict() == {**json.loads(OLD), **later}
    assert found.changed(unlabeled="a", unlabeled_images=3).sha256() != OLD_SHA256
    assert found.changed(validation_scale=2.0).sha256() != OLD_SHA256
    assert found.optimisation.freeze == ("backbone/Conv1",) and found.model.options["rates"] == [3, 6, 9, 12]
