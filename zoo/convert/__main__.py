"""python -m zoo.convert SOURCE --out FILE.weights.h5: a public checkpoint becomes a model of the zoo.

SOURCE is a file (.safetensors, .pth, Coral's .tflite), the folder of a model, the name of one on a hub or of
kerbside list, or a .weights.h5 of the zoo, which gets a head for another number of classes. FILE.json is
written beside the weights: what model they are of, its classes, and where they come from.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import keras

import zoo
from runtime.errors import UserError, exit_on_user_error
from runtime.model_names import ROWS
from runtime.stderr import stderr_closed
from zoo.convert import model_config, ours
from zoo.convert.conversion import convert, of_classes, some
from zoo.convert.files import hub
from zoo.convert.options import Options, parse


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m zoo.convert", description="Convert a public checkpoint to a model of the zoo."
    )
    made.add_argument(
        "source",
        help="a .safetensors, .pth, .tflite or .weights.h5 file, a model folder, a name of kerbside list, or a hub "
        "name such as OWNER/NAME",
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
    if not path.exists() and args.source in ROWS:
        path, name = hub.named(args.source), args.source
    elif not path.exists() and hub.is_name(args.source):
        path, name = hub.fetch(args.source), args.source
    convert(
        path,
        out,
        args.name or name,
        _say,
        source=args.source,
        options=_options(args.set),
        classes=args.classes,
    )
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
        arguments = of_classes(name, facts["arguments"], args.classes)
        model = zoo.build(name, **arguments)
        rows = None if arguments.get("classes") == before else [None] * arguments["classes"]
        with ours.opened(path) as stored:
            taken = ours.take(model, stored, rows)
    except ValueError as error:
        raise UserError(f"{args.source} {str(error).rstrip('.')}.") from error
    _say(f"{path.name}: {name} of the zoo; {len(taken.whole)} layers taken as they are")
    if rows:
        _say(f"classes: {len(rows)} in place of {before}")
        _say(f"new and random, to be trained: {some(taken.heads)}")
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


def _options(settings: Sequence[str]) -> Options:
    try:
        return Options(parse(settings))
    except ValueError as error:
        raise UserError(f"{error}.") from error


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
