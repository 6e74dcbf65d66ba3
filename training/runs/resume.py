"""A run that is there already: --resume takes all from its folder, and more epochs than it had are another run."""

import argparse
import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.files import write_json
from training.data.mixture import MAPPING, WEIGHTS
from training.runs import best_weights
from training.runs.recipe import Recipe, at, from_json

# What may stand beside --resume: where things lie now, and what is no part of the recipe.
BESIDE = ("resume", "data_dir", "teacher", "epochs", "worker_timeout", "track", "track_uri")
# Fields of a recipe and their flags; a crop is HxW, what is a dict or a tuple takes several words.
FLAGS = {
    "skip_bad": "--skip-bad",
    "data_options": "--data-set",
    "backbone": "--backbone",
    "output_stride": "--output-stride",
    "model_options": "--set",
    "crop": "--crop",
    "batch": "--batch",
    "accumulate": "--accumulate",
    "seed": "--seed",
    "augmentation": "--augment",
    "loss": "--loss",
    "loss_options": "--loss-set",
    "auxiliary_weight": "--auxiliary-weight",
    "class_weights": "--class-weights",
    "optimizer": "--optimizer",
    "learning_rate": "--learning-rate",
    "backbone_rate": "--backbone-rate",
    "rates": "--rates",
    "freeze": "--freeze",
    "freeze_bn": "--freeze-bn",
    "weight_decay": "--weight-decay",
    "schedule": "--schedule",
    "schedule_options": "--schedule-set",
    "warmup_epochs": "--warmup-epochs",
    "clip_norm": "--clip-norm",
    "ema": "--ema",
    "bn_momentum": "--bn-momentum",
    "precision": "--precision",
    "patience": "--patience",
    "teacher": "--teacher",
    "teacher_weight": "--teacher-weight",
    "teacher_temperature": "--teacher-temperature",
}
IGNORED = (
    "init",
    "backbone_weights",
    "epochs",
    "teacher_sha256",
)  # weights come from the run; a path has its hash

Assemble = Callable[[Sequence[str]], Recipe]  # the words of a command line -> its recipe


def opened(args: argparse.Namespace, usual: Mapping[str, Any], runs: Path) -> tuple[Recipe, Path]:
    """The recipe and the folder that --resume names, its data and teacher where the command line says. UserError for a
    folder that is no run, and for a flag that the recipe decides; `usual` are the values of flags not given."""
    for name, value in vars(args).items():
        if name not in BESIDE and value != usual[name]:
            flag = "the model" if name == "model" else f"--{name.replace('_', '-')}"
            raise UserError(
                f"--resume {args.resume} goes on by the run's own recipe: leave {flag} out, or begin another run"
            )
    run_folder = Path(args.resume)
    if not run_folder.is_dir() and (runs / args.resume).is_dir():
        run_folder = runs / args.resume
    if not run_folder.is_dir():
        raise UserError(f"--resume {args.resume} is not a run folder: name one, such as {runs}/NAME")
    if not (run_folder / "recipe.json").is_file():
        raise UserError(
            f"--resume {args.resume} is no run, it holds no recipe.json: name one, such as {runs}/NAME"
        )
    recipe = at(from_json(run_folder / "recipe.json"), args.data_dir)
    given = {key: getattr(args, key) for key in ("teacher", "epochs") if getattr(args, key) is not None}
    return dataclasses.replace(recipe, **given), run_folder


def refuse_more_epochs(recipe: Recipe, run_folder: Path, assemble: Assemble) -> None:
    """UserError with the command that goes on, when a run is asked for more epochs than it was begun with: its rate has
    followed a schedule that ends with them."""
    path = run_folder / "recipe.json"
    if not path.is_file() or not (run_folder / best_weights.NAME).is_file():
        return
    kept = from_json(path)
    more = recipe.epochs - kept.epochs
    if more <= 0 or recipe.differences(dataclasses.replace(kept, epochs=recipe.epochs)):
        return
    command = going_on(recipe, run_folder, more, assemble)
    if command:
        raise UserError(
            f"{run_folder} is a run of {kept.epochs} epochs, over which its learning rate fell; {more} more are a run "
            f"of their own, from its best weights: {command}"
        )


def going_on(recipe: Recipe, run_folder: Path, epochs: int, assemble: Assemble) -> str | None:
    """The command of a new run that starts from the best weights of a run and has its recipe but for the epochs; None
    where flags cannot say some part of it."""
    words = [recipe.model, "--data", recipe.data, *_folders(recipe), "--init", str(run_folder)]
    words += ["--quantize"] if recipe.quantize else []
    words += _classes(recipe, run_folder)
    words += ["--epochs", str(epochs), "--name", _free_name(run_folder)]
    try:
        bare = assemble(words)
        for name, flag in FLAGS.items():
            words += _flag(flag, getattr(bare, name), getattr(recipe, name))
        if _compared(assemble(words)) != _compared(recipe):
            return None
    except UserError:
        return None
    return f"python -m training.train {shlex.join(words)}"


def _compared(recipe: Recipe) -> dict[str, Any]:
    return {key: value for key, value in recipe.as_dict().items() if key not in IGNORED}


def _folders(recipe: Recipe) -> list[str]:
    if isinstance(recipe.data_dir, dict):
        return ["--data-dir", *(f"{name}={place}" for name, place in recipe.data_dir.items())]
    return ["--data-dir", recipe.data_dir] if recipe.data_dir else []


def _classes(recipe: Recipe, run_folder: Path) -> list[str]:
    """A mapping of one's own is written beside the run: the file that it was read from may be gone."""
    mapping = recipe.data_options.get(MAPPING)
    if mapping is None:
        return ["--classes", recipe.taxonomy] if recipe.taxonomy else []
    path = run_folder / "mapping" / f"{recipe.taxonomy}.json"
    write_json(path, mapping)
    return ["--classes", str(path)]


def _flag(flag: str, bare: Any, wanted: Any) -> list[str]:
    """The words that turn the value of the bare command into the one that is wanted."""
    if bare == wanted or wanted is None:
        return []
    if flag == "--crop":
        return [flag, "x".join(map(str, wanted))]
    if flag == "--skip-bad":
        return [flag]
    if dataclasses.is_dataclass(wanted) and not isinstance(wanted, type):
        bare, wanted = dataclasses.asdict(bare), dataclasses.asdict(wanted)
    if isinstance(wanted, dict):
        new = {key: value for key, value in wanted.items() if _text(bare.get(key, "")) != _text(value)}
        weights = new.pop(WEIGHTS, None) if flag == "--data-set" else None
        new.pop(MAPPING, None)
        words = [flag, *(f"{key}={_text(value)}" for key, value in new.items())] if new else []
        return [*words, *_flag("--mix", {}, weights)]
    return [flag, *map(str, wanted)] if isinstance(wanted, tuple) else [flag, _text(wanted)]


def _text(value: Any) -> str:
    """What command_line.setting reads back."""
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value)) or "()"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _free_name(run_folder: Path) -> str:
    number = 2
    while (run_folder.with_name(f"{run_folder.name}-{number}")).exists():
        number += 1
    return f"{run_folder.name}-{number}"
