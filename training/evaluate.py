"""Measure a run, converted weights or a .tflite: python -m training.evaluate runs/NAME | FILE [--data ... --split val].

One confusion matrix over the split gives every score. All take the same way; only the function that turns a picture
into class ids differs. --tta and --window look at a picture several times (training/inference.py):

    python -m training.evaluate runs/NAME --tta 0.75,1.0,1.25,flip --window 512x1024 --stride 341x683
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.errors import UserError, exit_on_user_error
from training import evaluation, inference, metrics
from training.progress import counter
from training.subject import Data, open_subject
from training.train import Parser


def _parser() -> Parser:
    command = Parser(
        prog="python -m training.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "subject", metavar="RUN_OR_FILE", help="a run folder, FILE.weights.h5 of zoo.convert, or a .tflite"
    )
    command.add_argument("--data", help="the data set; the one it was trained on if not given")
    command.add_argument("--data-dir", metavar="DIR")
    command.add_argument("--classes", metavar="TAXONOMY")
    command.add_argument("--split", default="val")
    command.add_argument("--skip-bad", action="store_true")
    command.add_argument("--threads", type=int, default=2, help="of a .tflite")
    command.add_argument("--out", metavar="DIR", help="where the scores go; beside the subject if not given")
    look = command.add_argument_group("how a picture is looked at")
    look.add_argument(
        "--tta",
        metavar="SCALES,flip",
        help="such as 0.75,1.0,1.25,flip: the mean of the probabilities at these scales, and mirrored",
    )
    look.add_argument(
        "--window", metavar="HxW", help="slide a window over the picture and average the logits, in pixels"
    )
    look.add_argument(
        "--stride", metavar="HxW", help="from one window to the next; two thirds of --window if not given"
    )
    return command


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    plan = inference.plan(args.tta, args.window, args.stride)

    from training import data, report
    from training.recipe import split_options

    named = Data(args.data, args.data_dir, args.classes)
    found = open_subject(Path(args.subject), args.threads, plan, named)
    name = args.data or found.data
    if not name:
        raise UserError(f"{args.subject} does not say what it was trained on: name the data with --data")
    same = name == found.data
    spec, examples = data.load(
        name,
        args.split,
        args.data_dir or (found.data_dir if same else None),
        args.classes or (found.taxonomy if same else None),
        skip_bad=args.skip_bad,
        say=print,
        progress=counter("checking"),
        **(split_options(found.data_options, args.split) if same else {}),
    )
    if found.labels and found.labels != spec.classes:
        raise UserError(
            f"{args.subject} has the classes {', '.join(found.labels)}, but {spec.name} has "
            f"{', '.join(spec.classes)}: name data of the same classes with --data and --classes"
        )
    try:
        measured = evaluation.measure(examples, spec, found.predict, score=found.score)
    except ValueError as error:
        raise UserError(
            f"{args.subject} does not fit the {len(spec.classes)} classes of {spec.name}: {error}"
        ) from error
    result = {**evaluation.result(measured), **plan.to_json()}
    place = "-".join(part for part in (name, args.split, str(plan)) if part)
    folder = Path(args.out) if args.out else found.folder / place
    title = f"{Path(args.subject).name} on {name} {args.split}"
    report.write_scores(folder, result, measured.matrix, title)
    print(metrics.table(result))
    print(f"\n{len(examples)} pictures, {1000 * measured.seconds:.1f} ms each (median); written to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
