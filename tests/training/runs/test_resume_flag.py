"""--resume, and the command that goes on from a finished run: words in, recipe out, nothing is trained."""

import json
import shlex
from pathlib import Path

import pytest

from runtime.errors import UserError
from training import data, train
from training.runs import resume
from training.runs.recipe import Recipe

CAMVID = ["deeplabv3plus", "--data", "camvid", "--data-dir", "some where"]
ROWS = {
    "the row of RECIPES": CAMVID,
    "most flags": [
        *CAMVID, "--set", "rates=2,4", "dropout=0.5", "aspp_separable=true", "--crop", "64x96", "--batch", "6",
        "--accumulate", "3", "--optimizer", "sgd", "--learning-rate", "3e-05", "--backbone-rate", "0.1",
        "--lr-mult", "backbone/Conv1=0.01", "classifier=10", "--freeze", "backbone/a", "decoder", "--freeze-bn",
        "backbone", "--weight-decay", "0", "--schedule", "step", "--schedule-set", "gamma=0.5",
        "milestones=0.5,0.9", "--warmup-epochs", "0.5", "--clip-norm", "0", "--ema", "0", "--bn-momentum", "0.9",
        "--precision", "mixed_bfloat16", "--patience", "7", "--seed", "5", "--augment", "scale=0.9,1.1",
        "rotation=0", "--loss", "ce+0.5*dice", "--loss-set", "label_smoothing=0.1", "dice.smooth=1",
        "--auxiliary-weight", "0.2", "--class-weights", "median_frequency", "--skip-bad", "--classes", "road11",
    ],
    "drawn scenes": ["unet", "--data", "scenes", "--data-option", "size=128x256", "train_count=40"],
    "a mixture": [
        "segformer", "--data", "camvid+scenes", "--data-dir", "camvid=d", "--mix", "camvid=2", "scenes=0.5",
        "--data-option", "scenes.train_count=7", "--classes", "road11",
    ],
    "a mapping": [*CAMVID, "--classes", "own.json"],
    "a schedule of its own": [*CAMVID, "--schedule", "constant"],
}  # fmt: skip


def assembled(words: list[str]) -> Recipe:
    return train.assemble(train.parser().parse_args(words))


def kept(folder: Path, recipe: Recipe) -> Path:
    """A run folder, as far as the command of the next run looks at it."""
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(recipe.to_json(), encoding="utf-8")
    (folder / "best.weights.h5").write_bytes(b"weights")
    return folder


@pytest.mark.parametrize("row", ROWS)
def test_the_command_that_goes_on_makes_the_same_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    monkeypatch.chdir(tmp_path)
    mapping = {name: "other" for name in data.spec("camvid").classes} | {"Road": "drivable", "Car": None}
    Path("own.json").write_text(json.dumps(mapping), encoding="utf-8")
    recipe = assembled(ROWS[row])
    kept(Path("runs/first"), recipe)
    Path("own.json").unlink()
    asked = recipe.changed(epochs=recipe.optimisation.epochs + 3)
    with pytest.raises(UserError) as refused:
        resume.refuse_more_epochs(asked, Path("runs/first"), assembled)
    text = str(refused.value)
    assert "\n" not in text and f"runs/first is a run of {recipe.optimisation.epochs} epochs" in text
    words = shlex.split(text.rpartition("python -m training.train ")[2])
    again = assembled(words)
    found = again.differences(recipe.changed(epochs=3, init="runs/first"))
    assert [clause for clause in found if not clause.startswith("backbone_weights")] == []
    assert words[words.index("--name") + 1] == "first-2" and again.data.folder == recipe.data.folder


def test_other_differences_are_no_more_epochs(tmp_path: Path) -> None:
    recipe = assembled(CAMVID)
    folder = kept(tmp_path / "first", recipe)
    epochs = recipe.optimisation.epochs
    for changes in ({"epochs": epochs - 1}, {"epochs": epochs + 1, "seed": 3}, {}):
        resume.refuse_more_epochs(recipe.changed(**changes), folder, assembled)


def opened(*words: str) -> tuple[Recipe, Path]:
    usual = vars(train.parser().parse_args([]))
    return resume.opened(train.parser().parse_args(words), usual, train.RUNS)


def test_resume_needs_nothing_but_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = assembled(ROWS["a mixture"])
    kept(Path("runs/first"), recipe)
    for name in ("runs/first", "runs/first/", "first", str(tmp_path / "runs/first")):
        found, folder = opened("--resume", name)
        assert found.as_dict() == recipe.as_dict() and folder.resolve() == tmp_path / "runs/first"
    moved, _ = opened("--resume", "first", "--data-dir", "camvid=there")
    assert moved.data.folder == {"camvid": "there"} and not moved.differences(recipe)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--resume", "runs/none"], "runs/none is not a run folder"),
        (["--resume", "empty"], "empty is no run, it holds no recipe.json"),
        (["--resume", "runs/first", "--batch", "3"], "leave --batch out"),
        (["--resume", "runs/first", "--fresh"], "leave --fresh out"),
        (["--resume", "runs/first", "--set", "rates=1"], "leave --set out"),
        (["unet", "--resume", "runs/first"], "leave the model out"),
        ([], "name a model, such as deeplabv3plus, or a run to go on with by --resume"),
        (["unet", "--name", "../out"], "no folder below runs/"),
        (["unet", "--name", "a/../../out"], "no folder below runs/"),
        (["unet", "--name", "/tmp/out"], "no folder below runs/"),
        (["unet", "--name", ""], "no folder below runs/"),
        (["unet", "--name", "."], "no folder below runs/"),
    ],
)
def test_what_cannot_be_resumed_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    kept(Path("runs/first"), assembled(CAMVID))
    Path("empty").mkdir()
    with pytest.raises(UserError, match=said):
        train.main(words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "runs"]


def test_options_that_make_no_model_are_said_before_any_data_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no data at all."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="depth must be a whole number of at least 2, not 0"):
        train.main(["unet", "--data", "camvid", "--data-dir", "gone", "--set", "depth=0"])
