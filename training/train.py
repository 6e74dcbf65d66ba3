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
from training.command_line import Parser, setting, size
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
    for flags in (_data_flags, _model_flags, _training_flags, _loss_flags, _teacher_flags, _run_flags):
        flags(command)
    return command


def _data_flags(command: Parser) -> None:
    data = command.add_argument_group("data")
    data.add_argument(
        "--data", default="scenes", help="scenes (drawn, the default), cityscapes, camvid+scenes, ..."
    )
    data.add_argument(
        "--data-dir", metavar="DIR", nargs="+", help="the data set's folder, or camvid=DIR cityscapes=DIR"
    )
    data.add_argument(
        "--classes",
        metavar="NAME|FILE.json",
        help="other classes: cityscapes8, road11, or a mapping of your own",
    )
    data.add_argument(
        "--mix",
        metavar="NAME=WEIGHT",
        nargs="+",
        default=[],
        help="how often an epoch takes an image of each data set of a mixture: cityscapes=0.5 camvid=2",
    )
    data.add_argument(
        "--skip-bad", action="store_true", default=None, help="go on without files that are bad"
    )
    data.add_argument(
        "--data-set",
        metavar="NAME=VALUE",
        nargs="+",
        default=[],
        help="options of the data set: size=128x256 count=400, or scenes.count=400 in a mixture",
    )


def _model_flags(command: Parser) -> None:
    model = command.add_argument_group("model")
    model.add_argument("--backbone", help="resnet50, resnet101, mobilenet_v2, ...")
    model.add_argument(
        "--backbone-weights", metavar="none|imagenet|FILE", help="what the backbone starts from"
    )
    model.add_argument("--output-stride", type=int, choices=(8, 16, 32))
    model.add_argument(
        "--set",
        metavar="NAME=VALUE",
        nargs="+",
        default=[],
        help="options of the model: rates=3,6,9,12 dropout=0.1",
    )
    model.add_argument(
        "--init",
        metavar="RUN_OR_FILE",
        help="start from a run's best weights, or a .weights.h5, of any classes",
    )


def _training_flags(command: Parser) -> None:
    run = command.add_argument_group("training")
    run.add_argument("--epochs", type=int, metavar="N")
    run.add_argument("--crop", metavar="HxW", help="the size of a training crop, in pixels")
    run.add_argument("--batch", type=int, metavar="N")
    run.add_argument(
        "--accumulate",
        type=int,
        metavar="N",
        help="take the batch in N parts one after another, to save memory",
    )
    run.add_argument("--optimizer", help="adamw or sgd")
    run.add_argument("--learning-rate", type=float, metavar="RATE")
    run.add_argument(
        "--backbone-rate", type=float, metavar="FACTOR", help="the backbone's rate, relative to it"
    )
    run.add_argument(
        "--rates",
        dest="layer_rates",
        metavar="LAYER=FACTOR",
        nargs="+",
        default=[],
        help="rates of layers whose path begins so, relative to --learning-rate: backbone/stage1=0.1 decoder=2",
    )
    run.add_argument(
        "--freeze", metavar="LAYER", nargs="+", help="train no layer whose path begins so, such as backbone"
    )
    run.add_argument("--freeze-bn", metavar="none|backbone|all", help="keep these BatchNorms as they are")
    run.add_argument("--weight-decay", type=float, metavar="DECAY")
    run.add_argument("--schedule", help="poly, linear, cosine, step, one_cycle or constant")
    run.add_argument(
        "--schedule-set",
        metavar="NAME=VALUE",
        nargs="+",
        default=[],
        help="options of the schedule: gamma=0.1 milestones=0.6,0.8",
    )
    run.add_argument("--warmup-epochs", type=float, metavar="N")
    run.add_argument(
        "--clip-norm", type=float, metavar="NORM", help="of all gradients together; 0: not clipped"
    )
    run.add_argument("--ema", type=float, metavar="DECAY", help="of the averaged weights; 0: none")
    run.add_argument("--bn-momentum", type=float, metavar="M")
    run.add_argument("--precision", help="float32, mixed_bfloat16 or mixed_float16")
    run.add_argument(
        "--quantize",
        action="store_true",
        default=None,
        help="go on from --init with 8 bits simulated, for an int8 export (docs/training.md)",
    )
    run.add_argument(
        "--patience", type=int, metavar="N", help="stop after N epochs without a better mIoU; 0: never"
    )
    run.add_argument("--seed", type=int)
    run.add_argument(
        "--augment",
        metavar="NAME=VALUE",
        nargs="+",
        default=[],
        help="augmentation: scale=0.5,2.0 rotation=5 blur=0.1",
    )


def _loss_flags(command: Parser) -> None:
    run = command.add_argument_group("loss")
    run.add_argument("--loss", help="terms of training/losses, such as ce, ohem or ce+0.5*dice")
    run.add_argument(
        "--loss-set",
        metavar="NAME=VALUE",
        nargs="+",
        default=[],
        help="options of the loss: label_smoothing=0.1 dice.smooth=1",
    )
    run.add_argument(
        "--auxiliary-weight",
        type=float,
        metavar="WEIGHT",
        help="of the auxiliary head's loss, if there is one",
    )
    run.add_argument(
        "--class-weights",
        metavar="NAME|W,W,...",
        help="none, inverse_log, median_frequency, effective_number, or a number for each class",
    )


def _teacher_flags(command: Parser) -> None:
    teacher = command.add_argument_group("distillation")
    teacher.add_argument(
        "--teacher",
        metavar="RUN_OR_FILE",
        help="learn from a run, a .weights.h5, or a .tflite with scores too",
    )
    teacher.add_argument("--teacher-weight", type=float, metavar="WEIGHT", help="of what it says; 1")
    teacher.add_argument("--teacher-temperature", type=float, metavar="T", help="that softens both; 1")


def _run_flags(command: Parser) -> None:
    several = command.add_argument_group("several machines (docs/distributed.md)")
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


def assemble(args: argparse.Namespace) -> Any:
    """The Recipe of a command line: the row of RECIPES, then the flags that were given."""
    import dataclasses

    from training.data import mixture
    from training.data.augment import Augmentation
    from training.data.labels import taxonomies
    from training.engine.teacher import fingerprint
    from training.runs import initial_weights
    from training.runs.recipe import Recipe, default_recipe

    values: dict[str, Any] = dict(default_recipe(args.model, args.data, bool(args.quantize)))
    if args.init:
        values.update(initial_weights.architecture(Path(args.init), args.model))
    fields = {field.name for field in dataclasses.fields(Recipe)}
    values.update({key: value for key, value in vars(args).items() if key in fields and value is not None})
    if args.crop:
        values["crop"] = size(args.crop)
    values["model_options"] = {**values.get("model_options", {}), **dict(map(setting, args.set))}
    if args.schedule:  # the options of the row's schedule are not those of another one
        values.pop("schedule_options", None)
    for name, given in (("schedule_options", args.schedule_set), ("rates", args.layer_rates)):
        values[name] = {**values.get(name, {}), **dict(map(setting, given))}
    values["loss_options"] = {**values.get("loss_options", {}), **dict(map(setting, args.loss_set))}
    values["data_options"] = {**values.get("data_options", {}), **dict(map(setting, args.data_set))}
    values["data_dir"] = mixture.folders(args.data_dir, args.data)
    if args.mix:
        values["data_options"]["mix"] = dict(map(setting, args.mix))
    if args.classes:
        values["taxonomy"], mapping = taxonomies.named(args.classes)
        values["data_options"] |= {"mapping": mapping} if mapping else {}
    if args.augment:
        try:
            values["augmentation"] = dataclasses.replace(
                values.get("augmentation", Augmentation()), **dict(map(setting, args.augment))
            )
        except (TypeError, ValueError) as error:
            valid = ", ".join(field.name for field in dataclasses.fields(Augmentation))
            raise UserError(f"--augment: {error}; it takes {valid}") from error
    values["freeze"] = tuple(values.get("freeze", ()))
    if values.get("teacher"):
        values["teacher_sha256"] = fingerprint(Path(values["teacher"]))
    return Recipe(**values)


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
        run_folder = RUNS / (args.name or f"{recipe.model}-{recipe.data}")
    if cluster.size > 1:
        distributed.agree(cluster, "version", distributed.versions())
        distributed.agree(cluster, "recipe", recipe.shared())
    refuse_own_folder(recipe, run_folder)
    with run_folders.held(run_folder) if cluster.chief else nullcontext():
        if cluster.chief:
            if not args.fresh:
                resume.refuse_more_epochs(recipe, run_folder, _assembled)
            print(run_folders.recipe_table(recipe, run_folder), flush=True)
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
    if recipe.model not in MODEL_TASKS:  # a prompted model has no classes to evaluate or to show
        next_commands = [
            f"python -m training.evaluate {run_folder}",
            *next_commands,
            "streamlit run streamlit_app.py",
        ]
    print(f"\n{best} in {run_folder}. Next:\n" + "\n".join(f"  {command}" for command in next_commands))


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
