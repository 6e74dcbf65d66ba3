"""Measure a run, converted weights or a .tflite: python -m training.evaluate runs/NAME | FILE [--data ... --split val].

One pass over the split gives every score (training/evaluation). All take the same way; only the function that turns
an image into class ids differs. --tta and --window look at an image several times (evaluation/inference.py):

    python -m training.evaluate runs/NAME --tta 0.75,1.0,1.25,flip --window 512x1024 --stride 341x683

--corruptions scores the same images with noise, blur, fog and the like as well, in five severities:

    python -m training.evaluate runs/NAME --corruptions all

Cityscapes is scored by its official protocol as well, and --submission writes what its benchmark takes:

    python -m training.evaluate runs/NAME --data cityscapes --split test --submission DIR
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from evaluation import (
    boundary,
    cache,
    cityscapes_protocol,
    corruptions,
    inference,
    measurement,
    metrics,
    robustness,
    translation,
)
from evaluation.metric import Metric, Prediction
from evaluation.predictor import Data, Predictor, open_predictor
from runtime.errors import UserError, exit_on_user_error
from runtime.fit import FITS
from training import data
from training.command_line import Parser, add_data_option
from training.data import mixture
from training.data.labels import taxonomies
from training.data.spec import DatasetSpec, Example
from training.progress_bar import counter
from training.runs.checkpoints import check_folder
from training.runs.settings import split_options


def _parser() -> Parser:
    command = Parser(
        prog="python -m training.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "predictor", metavar="RUN_OR_FILE", help="a run folder, FILE.weights.h5 of zoo.convert, or a .tflite"
    )
    command.add_argument("--data", help="the data set; the one it was trained on if not given")
    command.add_argument("--data-dir", metavar="DIR", nargs="+", help="its folder, or NAME=DIR in a mixture")
    command.add_argument(
        "--classes",
        metavar="NAME|FILE.json",
        help="score over these, such as road11; the model's predictions are mapped where it has others",
    )
    command.add_argument(
        "--model-classes",
        metavar="NAME",
        help=f"what the model was trained on, if it does not say: {', '.join(taxonomies.SETS)}",
    )
    add_data_option(command)
    command.add_argument("--split", default="val")
    command.add_argument("--skip-bad", action="store_true")
    command.add_argument("--threads", type=int, default=2, help="of a .tflite")
    command.add_argument("--out", metavar="DIR", help="where the scores go; beside the subject if not given")
    command.add_argument(
        "--metrics",
        default=measurement.CHEAP,
        help=f"beside IoU: any of {', '.join(measurement.METRICS)}, or all or none; {measurement.CHEAP} if not given",
    )
    command.add_argument(
        "--trimap-widths",
        metavar="PIXELS",
        default=",".join(map(str, boundary.TRIMAP_WIDTHS)),
        help="how far from a true boundary the trimap IoUs look; %(default)s if not given",
    )
    command.add_argument(
        "--corruptions",
        metavar="NAMES|all",
        help=f"score corrupted images too, any of {', '.join(corruptions.CORRUPTIONS)}",
    )
    command.add_argument(
        "--severities",
        metavar="1,2,3,4,5",
        default=",".join(map(str, corruptions.SEVERITIES)),
        help="of the corruptions; all five if not given",
    )
    command.add_argument(
        "--submission",
        metavar="DIR",
        help="write the predictions of --data cityscapes as its benchmark takes them, labels or not",
    )
    command.add_argument(
        "--previous",
        metavar="DIR",
        help="the evaluation to show beside this one; the last one of other weights in its folder if not given",
    )
    _looking_flags(command)
    return command


def _looking_flags(command: Parser) -> None:
    look = command.add_argument_group("how an image is looked at")
    look.add_argument(
        "--tta",
        metavar="SCALES,flip",
        help="such as 0.75,1.0,1.25,flip: the mean of the probabilities at these scales, and mirrored",
    )
    look.add_argument(
        "--window", metavar="HxW", help="slide a window over the image and average the logits, in pixels"
    )
    look.add_argument(
        "--stride", metavar="HxW", help="from one window to the next; two thirds of --window if not given"
    )
    look.add_argument(
        "--fit",
        metavar="|".join(FITS),
        help="how a .tflite takes images of another shape than its own, as python -m runtime; auto if not given",
    )


class Job(NamedTuple):
    """What is measured on what: the subject, the data, what further is counted, what is done
    with each prediction, `about`, what scores.json says of it all, and the evaluation to be shown beside this one."""

    predictor: Predictor
    name: str
    spec: DatasetSpec
    examples: list[Example]
    extra: dict[str, Metric]
    write: Callable[[Prediction], None] | None
    about: dict[str, Any]
    previous: dict[str, Any] | None


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    plan = inference.plan(args.tta, args.window, args.stride)
    bad = corruptions.asked(args.corruptions) if args.corruptions else []
    severities = corruptions.asked_severities(args.severities)
    job = _assemble(args, plan)
    predictor = job.predictor
    fit = f"fit-{args.fit}" if args.fit else ""
    place = "-".join(part for part in (job.name, args.split, str(plan), fit) if part)
    folder = Path(args.out) if args.out else job.predictor.folder / place
    check_folder(folder)
    measured = measurement.measure_or_refuse(
        args.predictor,
        job.examples,
        job.spec,
        predictor.predict,
        score=predictor.score,
        extra=job.extra,
        then=job.write,
    )
    took = f"{len(job.examples)} images, {1000 * measured.seconds:.1f} ms each (median)"
    if job.write:
        print(f"{took}; predictions as the benchmark takes them written to {args.submission}")
    if not measured.matrix.any() and job.write:
        print(f"{job.name} {args.split} has no labels that count here, so there are no scores.")
        return 0
    if not measured.matrix.any():
        raise UserError(
            f"{job.name} {args.split} has no pixel of a class that counts here, all is void: there are no scores"
        )
    result = {**measurement.result(measured), **plan.to_json(), **job.about}
    if bad:
        print(f"clean: {metrics.percent(result['miou'], 1)}; corrupted, by severity:", flush=True)
        table = robustness.measure(bad, severities, job.examples, job.spec, predictor.predict)
        result["corruptions"] = robustness.result(result["miou"], table)
    _report(args, job, measured, result, folder)
    print(f"{measurement.text(result)}\n\n{took}; written to {folder}")
    return 0


def _assemble(args: argparse.Namespace, plan: inference.Plan) -> Job:
    """Open what is measured, its data, and what lies between the classes of both."""
    asked, widths = measurement.asked(args.metrics), measurement.trimap_widths(args.trimap_widths)
    own, mapping = taxonomies.named(args.classes) if args.classes else (None, None)
    there = Data(args.data, args.data_dir, own)
    found = open_predictor(Path(args.predictor), args.threads, plan, there, args.fit)

    from evaluation import report

    if args.model_classes:
        found = replace(found, labels=taxonomies.classes(args.model_classes))
    name = args.data or found.data
    if not name:
        raise UserError(f"{args.predictor} does not say what it was trained on: name the data with --data")
    own_dir = found.data_dir if name == found.data else None  # of a run, with --data-dir in its place
    data_dir = own_dir if found.run and own_dir else mixture.folders(args.data_dir, name) or own_dir
    options = {**(found.data_options if name == found.data else {}), **dict(args.data_options)}
    options = split_options(options, args.split)
    spec, examples, labelled = _load(args, name, data_dir, found, options)
    about = cache.provenance(found, name, args.split, data_dir, options)
    translated = translation.between(found.labels, spec, mapping) if found.labels else None
    if translated:
        if args.submission:
            raise UserError(
                f"--submission takes the model's own classes, and {args.predictor} has others than {spec.name}"
            )
        found, spec, examples = translated.apply(found, examples)
        about |= translated.to_json()
        print(f"{args.predictor}: {translated.text()}")
    names = [example.name for example in examples]
    extra: dict[str, Metric] = {}
    if labelled:
        lacking = "" if found.score else args.predictor
        extra = measurement.chosen(asked, len(spec.classes), widths, lacking=lacking)
        extra |= {} if translated else _official(name, data_dir, spec, names)
    write = None
    if args.submission:
        write = cityscapes_protocol.submission(spec.name, names, Path(args.submission))
    previous = report.read_scores(Path(args.previous), spec.classes) if args.previous else None
    return Job(found, name, spec, examples, extra, write, about, previous)


def _load(
    args: argparse.Namespace, name: str, data_dir: Any, found: Predictor, options: dict[str, Any]
) -> tuple[DatasetSpec, list[Example], bool]:
    """The classes, the examples of the split, and whether they have labels, without which a submission can be made."""
    same = name == found.data
    taxonomy = found.taxonomy if same else None
    options = dict(options)
    if args.classes:
        taxonomy, options["mapping"] = taxonomies.named(args.classes)
    elif not same and found.labels:
        taxonomy = translation.common(found.labels, data.specs(name, data_dir, options))
    if args.submission:
        spec = data.spec(name, taxonomy, data_dir, options)
        if name != "cityscapes" or spec.name not in cityscapes_protocol.LABEL_IDS:
            raise UserError(
                f"--submission is for the benchmark of Cityscapes: {name} with the classes {spec.name} is not what it "
                "takes; use --data cityscapes --classes cityscapes19"
            )
        if data_dir and not (Path(data_dir) / "gtFine" / args.split).is_dir():
            return spec, cityscapes_protocol.unlabelled(args.split, data_dir), False
    spec, examples = data.load(
        name,
        args.split,
        data_dir,
        taxonomy,
        skip_bad=args.skip_bad,
        say=print,
        progress=counter("checking"),
        **options,
    )
    return spec, examples, True


def _official(name: str, data_dir: Any, spec: DatasetSpec, names: Sequence[str]) -> dict[str, Metric]:
    """The official protocol, where the data set has one; what is left out of it is said."""
    if name != "cityscapes" or spec.name not in cityscapes_protocol.LABEL_IDS:
        return {}
    metric, note = cityscapes_protocol.official(spec.name, names, data_dir)
    if note:
        print(note)
    return {"cityscapes": metric} if metric else {}


def _report(
    args: argparse.Namespace,
    job: Job,
    measured: measurement.Evaluation,
    result: dict[str, Any],
    folder: Path,
) -> None:
    """Into the folder, with the curves of the training; and to the run's MLflow, if it has one."""
    from evaluation import report

    run = job.predictor.run
    history = report.read_history(run) if run else []
    title = f"{Path(args.predictor).name} on {job.name} {args.split}"
    report.write_evaluation(
        folder,
        measured,
        result,
        job.predictor.predict,
        job.examples,
        title,
        history=history,
        previous=job.previous,
    )
    if run:
        from training.tracking import mlflow_store  # imports TensorFlow, which a file does not need

        numbers = {f"{folder.name}/{key}": result[key] for key in ("miou", "pixel_accuracy")}
        mlflow_store.add(run, sorted(folder.glob("*.png")), f"evaluation/{folder.name}", numbers)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
