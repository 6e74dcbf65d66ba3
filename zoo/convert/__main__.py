"""python -m zoo.convert SOURCE --out FILE.weights.h5: a public checkpoint becomes a model of the zoo.

SOURCE is a file (.safetensors, .pth), the folder of a model, the name of one on a hub, or a .weights.h5 of the zoo,
which gets a head for another number of classes. FILE.json is written beside the weights: what model they are of, its
classes, and where they come from.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

import zoo
from runtime.class_names import MOST_CLASSES
from runtime.errors import UserError, exit_on_user_error, first_line
from runtime.stderr import stderr_closed
from zoo.convert import model_config, ours, recognise
from zoo.convert.assign import Report, assign, check_size
from zoo.convert.checkpoint import Checkpoint, Match
from zoo.convert.files import hub, readers
from zoo.convert.options import Options, parse, text

SHOWN = 6  # names of tensors that a line lists before it counts the rest


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m zoo.convert", description="Convert a public checkpoint to a model of the zoo."
    )
    made.add_argument(
        "source",
        help="a .safetensors, .pth or .weights.h5 file, a model folder, or a hub name such as OWNER/NAME",
    )
    made.add_argument(
        "--out", required=True, metavar=f"FILE{model_config.SUFFIX}", help="FILE.json is written beside it"
    )
    made.add_argument(
        "--classes", type=int, metavar="N", help="another number of classes: the head is new and random"
    )
    made.add_argument(
        "--set",
        metavar="NAME=VALUE",
        nargs="+",
        default=[],
        help="what the checkpoint does not say: output_stride=8 rates=6,12,18, or mean=0.5,0.5,0.5",
    )
    made.add_argument("--name", help="what to call the checkpoint from now on (default: as SOURCE calls it)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    out = _checked_out(args.out)
    path, name = Path(args.source), Path(args.source).resolve().name
    if path.name.endswith(model_config.SUFFIX):
        return _convert_ours(path, args, out)
    _refuse_run(path)
    if not path.exists() and hub.is_name(args.source):
        path, name = hub.fetch(args.source), args.source
    options = _options(args.set)
    source = readers.read(path)
    with stderr_closed():  # the first tensor starts the devices, with notes that nobody can act upon
        keras.ops.zeros(1)
    try:
        match = _recognise(replace(source.checkpoint, options=options))
        arguments = _of_classes(match.model, match.arguments, args.classes)
        _say(f"{name}: {_described(match)}")
        model = _build(match, arguments)
        report = assign(model, match, new_head=args.classes is not None)
        _check_head(model, report, arguments)
    except ValueError as error:
        raise UserError(f"{args.source} {str(error).rstrip('.')}.") from error
    _tell(report, match, arguments)
    _tell_assumed(source.checkpoint, match)
    model_config.write(out, model, model_config.of(match, arguments, args.name or name, source.sha256))
    _say(_written(out))
    return 0


def _convert_ours(path: Path, args: argparse.Namespace, out: Path) -> int:
    """Weights of the zoo already: what changes is the number of classes."""
    if not model_config.config_path(path).is_file():
        _refuse_run(path.parent)
    if args.set:
        raise UserError(f"{args.source} says itself what it was built with: leave --set out.")
    facts = model_config.read(path)
    name, before = str(facts["model"]), facts["arguments"].get("classes")
    with stderr_closed():
        keras.ops.zeros(1)
    try:
        arguments = _of_classes(name, facts["arguments"], args.classes)
        model = zoo.build(name, **arguments)
        rows = None if arguments.get("classes") == before else [None] * arguments["classes"]
        with ours.opened(path) as stored:
            taken = ours.take(model, stored, rows)
    except ValueError as error:
        raise UserError(f"{args.source} {str(error).rstrip('.')}.") from error
    _say(f"{path.name}: {name} of the zoo; {len(taken.whole)} layers taken as they are")
    if rows:
        _say(f"classes: {len(rows)} in place of {before}")
        _say(f"new and random, to be trained: {_some(taken.heads)}")
        facts = {**facts, "classes": None, "palette": None}
    source = {**facts["source"], "name": args.name or facts["source"]["name"]}
    model_config.write(out, model, {**facts, "arguments": dict(arguments), "source": source})
    _say(_written(out))
    return 0


def _refuse_run(folder: Path) -> None:
    """UserError for the folder of a run, which is no model folder of a hub."""
    if (folder / "recipe.json").is_file():
        raise UserError(
            f"{folder} is a run: training starts from it as it is (--init {folder}), and python -m export {folder} "
            "--format weights makes a .weights.h5 of it."
        )


def _written(out: Path) -> str:
    return f"{out}  {out.stat().st_size / 1e6:.2f} MB, {model_config.config_path(out).name} beside it"


def _checked_out(out: str) -> Path:
    path = Path(out)
    if not path.name.endswith(model_config.SUFFIX) or path.name == model_config.SUFFIX:
        raise UserError(
            f"--out {out} should end in {model_config.SUFFIX}, such as segformer{model_config.SUFFIX}."
        )
    if path.is_dir():
        raise UserError(f"--out {out} is a folder; name a file in it.")
    return path


def _recognise(checkpoint: Checkpoint) -> Match:
    try:
        return recognise(checkpoint)
    except (KeyError, IndexError) as error:  # a source looked for what tells the variant
        raise ValueError(f"lacks {error!s:.200}, which would tell what variant it is") from error
    except (TypeError, AttributeError, ArithmeticError) as error:  # text where a number should be, say
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise ValueError(f"has a configuration that does not fit it ({reason})") from error


def _of_classes(model: str, arguments: Mapping[str, Any], classes: int | None) -> Mapping[str, Any]:
    """The arguments with the number of classes that was asked for."""
    if classes is None:
        return arguments
    if "classes" not in arguments:
        raise ValueError(f"is a {model}, which has no classes; leave --classes out")
    if classes < 2:
        raise ValueError(f"can have 2 classes or more, not {classes}")
    if classes > MOST_CLASSES:
        raise ValueError(
            f"can have up to {MOST_CLASSES} classes, which fit into ids of 8 bits, not {classes}"
        )
    return {**arguments, "classes": classes}


def _build(match: Match, arguments: Mapping[str, Any]) -> keras.Model:
    try:
        check_size(match, arguments)
        return zoo.build(match.model, **arguments)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"asks for a {match.model} that cannot be built: {first_line(error):.300}"
        ) from error


def _options(settings: Sequence[str]) -> Options:
    try:
        return Options(parse(settings))
    except ValueError as error:
        raise UserError(f"{error}.") from error


def _check_head(model: keras.Model, report: Report, arguments: Mapping[str, Any]) -> None:
    """What was left random must be of the classes, with or without one more for "nothing" (Mask2Former)."""
    sizes = {variable.path: variable.shape[-1] for variable in model.weights}
    for path in report.fresh:
        if sizes[path] - arguments["classes"] not in (0, 1):
            raise ValueError(
                f"has another size in {path}, which is not of the classes: its variant is not known"
            )


def _described(match: Match) -> str:
    options = ", ".join(f"{key} {value}" for key, value in match.arguments.items() if key != "classes")
    return f"{match.model} of {match.source}" + (f" ({options})" if options else "")


def _tell(report: Report, match: Match, arguments: Mapping[str, Any]) -> None:
    _say(f"tensors: {len(report.used)} used, {len(report.left_over)} left over, 0 missing")
    if report.left_over:
        _say(f"left over: {_some(report.left_over)}")
    if "classes" not in arguments:
        return
    found, asked = match.arguments["classes"], arguments["classes"]
    names = f": {_some(match.classes)}" if match.classes and found == asked else ""
    _say(f"classes: {asked}{names}" if found == asked else f"classes: {asked} in place of {found}")
    if report.fresh:
        _say(f"new and random, to be trained: {_some(report.fresh)}")


def _tell_assumed(checkpoint: Checkpoint, match: Match) -> None:
    """What nobody said, so that whoever trained otherwise can say it."""
    if match.assumed:
        pairs = " ".join(f"{name}={text(value)}" for name, value in match.assumed.items())
        _say(f"assumed, as nothing in it says so: {pairs}")
        _say("trained otherwise? convert it again with --set NAME=VALUE of these")
    if checkpoint.others:
        _say(f"beside the network, and not read: {_some(checkpoint.others)}")


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
