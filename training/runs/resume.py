"""A run that is there already: --resume takes all from its folder, and more epochs than it had are another run."""

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.files import write_json
from training.data.mixture import MAPPING
from training.runs import best_weights, recipe_flags
from training.runs.recipe import Recipe, from_json
from training.runs.settings import DataSettings, all_options

# What may stand beside --resume: where things lie now, and what is no part of the recipe.
BESIDE = (
    "resume", "data_dir", "teacher", "unlabeled", "epochs", "worker_timeout", "track", "track_uri", "verbose"
)  # fmt: skip
# What the command of a new run says by other means, or never: its weights come from the run.
SAID = (
    "model",
    "data",
    "data_dir",
    "taxonomy",
    "init",
    "backbone_weights",
    "quantize",
    "epochs",
    "teacher_sha256",
    "unlabeled_images",
)
IGNORED = (
    "init",
    "backbone_weights",
    "epochs",
    "teacher_sha256",
    "unlabeled_images",
)  # weights come from the run; a path has its hash

Assemble = Callable[[Sequence[str]], Recipe]  # the words of a command line -> its recipe


def opened(args: argparse.Namespace, usual: Mapping[str, Any], runs: Path) -> tuple[Recipe, Path]:
    """The recipe and the folder that --resume names; data, teacher and images without labels lie where the command line
    says. UserError for a folder that is no run, and for a flag that the recipe decides; `usual` are the values of flags
    not given."""
    flags = {"model": "the model", **{said.key: said.flag for said in all_options() if said.help}}
    for name, value in vars(args).items():
        if name not in BESIDE and value != usual[name]:
            flag = flags.get(name, f"--{name}")
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
    recipe = from_json(run_folder / "recipe.json").at(args.data_dir)
    given = {
        key: getattr(args, key)
        for key in ("teacher", "unlabeled", "epochs")
        if getattr(args, key) is not None
    }
    return recipe.changed(**given), run_folder


def refuse_more_epochs(recipe: Recipe, run_folder: Path, assemble: Assemble) -> None:
    """UserError with the command that goes on, when a run is asked for more epochs than it was begun with: its rate has
    followed a schedule that ends with them."""
    path = run_folder / "recipe.json"
    if not path.is_file() or not (run_folder / best_weights.NAME).is_file():
        return
    kept = from_json(path)
    epochs, before = recipe.optimisation.epochs, kept.optimisation.epochs
    more = epochs - before
    if more <= 0 or recipe.differences(kept.changed(epochs=epochs)):
        return
    command = going_on(recipe, run_folder, more, assemble)
    if command:
        raise UserError(
            f"{run_folder} is a run of {before} epochs, over which its learning rate fell; {more} more are a run "
            f"of their own, from its best weights: {command}"
        )


def going_on(recipe: Recipe, run_folder: Path, epochs: int, assemble: Assemble) -> str | None:
    """The command of a new run that starts from the best weights of a run and has its recipe but for the epochs; None
    where flags cannot say some part of it."""
    words = [recipe.model.name, "--data", recipe.data.name, *_folders(recipe.data), "--init", str(run_folder)]
    words += ["--quantize"] if recipe.model.quantize else []
    words += _classes(recipe.data, run_folder)
    words += ["--epochs", str(epochs), "--name", _free_name(run_folder)]
    try:
        bare, wanted = assemble(words).flat(), recipe.flat()
        for said in all_options():
            if said.key not in SAID:
                words += recipe_flags.words(said, bare[said.key], wanted[said.key])
        if _compared(assemble(words)) != _compared(recipe):
            return None
    except UserError:
        return None
    return f"python -m training.train {shlex.join(words)}"


def _compared(recipe: Recipe) -> dict[str, Any]:
    return {key: value for key, value in recipe.as_dict().items() if key not in IGNORED}


def _folders(data: DataSettings) -> list[str]:
    if isinstance(data.folder, dict):
        return ["--data-dir", *(f"{name}={place}" for name, place in data.folder.items())]
    return ["--data-dir", data.folder] if data.folder else []


def _classes(data: DataSettings, run_folder: Path) -> list[str]:
    """A mapping of one's own is written beside the run: the file that it was read from may be gone."""
    mapping = data.options.get(MAPPING)
    if mapping is None:
        return ["--classes", data.taxonomy] if data.taxonomy else []
    path = run_folder / "mapping" / f"{data.taxonomy}.json"
    write_json(path, mapping)
    return ["--classes", str(path)]


def _free_name(run_folder: Path) -> str:
    number = 2
    while (run_folder.with_name(f"{run_folder.name}-{number}")).exists():
        number += 1
    return f"{run_folder.name}-{number}"
