"""Train a model: python -m training.train deeplabv3plus [--data scenes] [options].

The same command goes on where it stopped; --fresh starts over.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from runtime.errors import UserError, exit_on_user_error
from training import distributed
from training.command_line import Parser
from training.runs.recipe_flags import add_flags, changed
from training.start_tensorflow import start_tensorflow

RUNS = Path("runs")


def parser() -> Parser:
    command = Parser(
        prog="python -m training.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="An option that is not given takes its value from RECIPES in training/runs/recipes.py.",
    )
    command.add_argument("model", nargs="?", help="a model of the zoo, such as deeplabv3plus")
    add_flags(command)
    _folder_flags(command)
    return command


def _folder_flags(command: Parser) -> None:
    """What is no part of a recipe."""
    several = command.add_argument_group("several machines (docs/how-to/distributed.md)")
    several.add_argument(
        "--worker-timeout",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="how long the workers of TF_CONFIG wait for each other, at the start and when one is lost; 600",
    )
    folder = command.add_argument_group("run folder")
    folder.add_argument("--name", metavar="RUN", help="the folder below runs/; MODEL-DATA if not given")
    folder.add_argument(
        "--resume",
        metavar="runs/NAME",
        help="go on with this run by its own recipe; with --data-dir if its data has moved",
    )
    folder.add_argument(
        "--fresh", action="store_true", help="throw away what is in the run folder and start over"
    )
    folder.add_argument(
        "--track",
        choices=("tensorboard", "mlflow"),
        help="where the run is shown: tensorboard (the default), or an MLflow store too",
    )
    folder.add_argument(
        "--track-uri", metavar="URI", help="of the MLflow store; sqlite:///.../runs/mlflow.db if not given"
    )
    folder.add_argument(
        "--verbose", action="store_true", help="show the whole recipe, what is usual in it too"
    )


def assemble(args: argparse.Namespace) -> Any:
    """The Recipe of a command line: the row of RECIPES, then the flags that were given."""
    # Imported here: they bring TensorFlow, and --help and a wrong flag answer at once.
    from training.data import mixture, unlabeled
    from training.data.labels import taxonomies
    from training.engine.teacher import fingerprint
    from training.runs import initial_weights
    from training.runs.recipe import Recipe, default_recipe

    row: dict[str, Any] = default_recipe(args.model, args.data, bool(args.quantize))
    if args.init:
        row = {**row, **initial_weights.architecture(Path(args.init), args.model)}
    if args.schedule:  # the options of the row's schedule are not those of another one
        row = {key: value for key, value in row.items() if key != "schedule_options"}
    given = {**vars(args), "data_dir": mixture.folders(args.data_dir, args.data)}
    options = dict(args.data_options or ())
    if args.mix:
        options[mixture.WEIGHTS] = dict(args.mix)
    if args.taxonomy:
        given["taxonomy"], mapping = taxonomies.named(args.taxonomy)
        options |= {mixture.MAPPING: mapping} if mapping else {}
    values = changed(row, {**given, "data_options": options})
    if values.get("teacher"):
        values["teacher_sha256"] = fingerprint(Path(values["teacher"]))
    if values.get("unlabeled"):
        values["unlabeled_images"] = len(unlabeled.listed(Path(values["unlabeled"])))
    return Recipe.of(**values)


def _assembled(words: Sequence[str]) -> Any:
    return assemble(parser().parse_args(words))


def _check_name(name: str | None) -> None:
    """UserError when --name leads out of runs/."""
    if name is None:
        return
    path = Path(os.path.normpath(name))
    if not name or path.is_absolute() or path.parts[:1] in ((), ("..",)):
        raise UserError(f"--name '{name}' is no folder below {RUNS}/: choose a name, such as first")


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if not args.model and not args.resume:
        raise UserError("name a model, such as deeplabv3plus, or a run to go on with by --resume runs/NAME")
    _check_name(args.name)
    with distributed.joined(os.environ.get("TF_CONFIG"), seconds=args.worker_timeout) as cluster:
        return _train(args, cluster)


def _train(args: argparse.Namespace, cluster: distributed.Cluster) -> int:
    # TensorFlow is imported late: --help and a wrong flag answer at once.
    start_tensorflow(devices=cluster.size == 1)
    from training import tracking
    from training.engine import loop, prepare_training
    from training.engine.teacher import refuse_own_folder
    from training.runs import resume, run_folders

    if args.resume:
        recipe, run_folder = resume.opened(args, vars(parser().parse_args([])), RUNS)
    else:
        recipe = assemble(args)
        run_folder = RUNS / (args.name or f"{recipe.model.name}-{recipe.data.name}")
    if cluster.size > 1:
        distributed.agree(cluster, "version", distributed.versions())
        distributed.agree(cluster, "recipe", recipe.shared())
    refuse_own_folder(recipe.loss.teacher, run_folder)
    with run_folders.held(run_folder) if cluster.chief else nullcontext():
        if cluster.chief:
            if not args.fresh:
                resume.refuse_more_epochs(recipe, run_folder, _assembled)
            print(run_folders.recipe_table(recipe, run_folder, args.verbose), flush=True)
            run_folders.claim(run_folder, recipe, args.fresh and not distributed.started_over())
            tracking.begin(run_folder, recipe, args.track, args.track_uri)
        cluster.exchange("the folder is the chief's")
        try:
            progress = prepare_training.train(recipe, run_folder, cluster=cluster)
        except loop.Stopped as stopped:
            print(f"{stopped}.", file=sys.stderr)
            return 130
    if cluster.chief:
        _say_what_is_next(recipe, run_folder, progress)
    return 0


def _say_what_is_next(recipe: Any, run_folder: Path, progress: Any) -> None:
    from evaluation.metrics import percent
    from training.engine.validation import MODEL_TASKS

    best = "there is no mIoU yet"
    if progress.best_epoch >= 0 and progress.best_miou >= 0:
        best = f"best mIoU {percent(progress.best_miou)} (epoch {progress.best_epoch + 1})"
    next_commands = [f"python -m export {run_folder} --format tflite"]
    if recipe.model.name not in MODEL_TASKS:  # a prompted model has no classes to evaluate or to show
        next_commands = [
            f"python -m training.evaluate {run_folder}",
            *next_commands,
            "streamlit run streamlit_app.py",
        ]
    print(f"\n{best} in {run_folder}. Next:\n" + "\n".join(f"  {command}" for command in next_commands))


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
