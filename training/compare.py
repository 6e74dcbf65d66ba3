"""Several runs and files on the same images: python -m training.compare RUN RUN FILE.tflite FILE.weights.h5 ...

One table and one plot, written to a folder as a page, PNG, JSON and Markdown: mIoU with its interval, the difference to
the first with its own (the images are the same, so it is paired), size, and time, all in turn in one process. An
evaluation that was made before of the same weights and data is used; one that is missing is made.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import cache, measurement, metrics, report, translation
from evaluation.measurement import Evaluation, Predict
from evaluation.predictor import Data, Predictor, open_predictor
from evaluation.report import comparison_page
from evaluation.report.comparison_page import Row
from runtime.errors import UserError, exit_on_user_error
from training import data
from training.command_line import Parser
from training.data import mixture
from training.data.labels import taxonomies
from training.data.spec import DatasetSpec, Example
from training.progress_bar import counter
from training.runs.checkpoints import check_folder
from training.runs.settings import split_options
from zoo.convert.files import h5

TIMED_IMAGES, ROUNDS = 8, 3


@dataclass(frozen=True)
class Images:
    """What all are measured on; `options` are those of the data set."""

    name: str
    split: str
    folder: Any
    options: dict[str, Any]
    spec: DatasetSpec
    examples: list[Example]
    mapping: taxonomies.Targets | None


def _parser() -> Parser:
    command = Parser(
        prog="python -m training.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "predictors",
        metavar="RUN_OR_FILE",
        nargs="+",
        help="run folders, FILE.weights.h5 of zoo.convert, .tflite",
    )
    command.add_argument("--data", help="the data set; the one that the first was trained on if not given")
    command.add_argument("--data-dir", metavar="DIR", nargs="+")
    command.add_argument(
        "--classes", metavar="TAXONOMY", help="classes that all can be read as, such as road11"
    )
    command.add_argument("--split", default="val")
    command.add_argument("--skip-bad", action="store_true")
    command.add_argument("--threads", type=int, default=2, help="of a .tflite")
    command.add_argument("--out", metavar="DIR", default="runs/comparison", help="%(default)s if not given")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    if len(args.predictors) < 2:
        raise UserError(f"{args.predictors[0]} alone has nothing to be compared with: name two or more")
    check_folder(Path(args.out))
    own, mapping = taxonomies.named(args.classes) if args.classes else (None, None)
    there = Data(args.data, args.data_dir, own)
    found = [open_predictor(Path(text), args.threads, data=there) for text in args.predictors]
    shown = _images(args, found, own, mapping)
    labels = _labels(args.predictors)
    fitted = [_fitted(label, predictor, shown) for label, predictor in zip(labels, found, strict=True)]
    measured = [_measured(label, *fit, shown) for label, fit in zip(labels, fitted, strict=True)]
    _same_pixels(labels, measured, shown)
    milliseconds = side_by_side([predictor.predict for predictor, *_ in fitted], shown.examples)
    rows = [
        _row(label, text, predictor, one, measured[0], speed)
        for label, text, predictor, one, speed in zip(
            labels, args.predictors, found, measured, milliseconds, strict=True
        )
    ]
    what = f"{shown.name} {shown.split}, {len(shown.examples)} images"
    comparison_page.write(Path(args.out), rows, what, list(measured[0].spec.classes))
    print(f"{comparison_page.text(rows)}\n\non {what}; written to {args.out}")
    return 0


def _labels(paths: Sequence[str]) -> list[str]:
    """The last part of each path, or the whole where two are the same."""
    short = [Path(path).name or path for path in paths]
    return [name if short.count(name) == 1 else path for name, path in zip(short, paths, strict=True)]


def _images(
    args: argparse.Namespace, found: Sequence[Predictor], own: str | None, mapping: taxonomies.Targets | None
) -> Images:
    """The data named, or else that of the first which knows its own; with that one's options and folder."""
    name = args.data or next((predictor.data for predictor in found if predictor.data), "")
    if not name:
        raise UserError("none of them says what it was trained on: name the data with --data")
    knowing = [predictor for predictor in found if predictor.data == name]
    # A .tflite knows the name of its data, a run the folder and the options too.
    base = next((predictor for predictor in knowing if predictor.data_dir or predictor.data_options), None)
    base = base or next(iter(knowing), None)
    options = split_options(base.data_options, args.split) if base else {}
    # A run has --data-dir in the place of its own folder already.
    folder = base.data_dir if base and base.data_dir else mixture.folders(args.data_dir, name)
    taxonomy = own or (base.taxonomy if base else None)
    if taxonomy is None and found[0].labels:
        taxonomy = translation.common(found[0].labels, data.specs(name, folder, options))
    spec, examples = data.load(
        name,
        args.split,
        folder,
        taxonomy,
        skip_bad=args.skip_bad,
        say=print,
        progress=counter("checking"),
        **(options | ({"mapping": mapping} if own else {})),
    )
    return Images(name, args.split, folder, options, spec, examples, mapping)


def _fitted(
    label: str, predictor: Predictor, shown: Images
) -> tuple[Predictor, DatasetSpec, list[Example], dict[str, Any]]:
    """The subject, classes and images in common classes, and what scores.json says of the mapping."""
    way = translation.between(predictor.labels, shown.spec, shown.mapping) if predictor.labels else None
    if way is None:
        return predictor, shown.spec, shown.examples, {}
    print(f"{label}: {way.text()}")
    return *way.apply(predictor, shown.examples), way.to_json()


def _measured(
    label: str,
    predictor: Predictor,
    spec: DatasetSpec,
    examples: list[Example],
    mapped: dict[str, Any],
    shown: Images,
) -> Evaluation:
    """The evaluation that is kept beside the subject, or a new one, which is kept there."""
    about = cache.provenance(predictor, shown.name, shown.split, shown.folder, shown.options) | mapped
    folder = predictor.folder / f"{shown.name}-{shown.split}"
    found = cache.load(folder, about, spec, [example.name for example in examples])
    if found:
        print(f"{label}: as measured before, in {folder}")
        return found
    print(f"{label}: measured now, kept in {folder}", flush=True)
    found = measurement.measure_or_refuse(label, examples, spec, predictor.predict)
    if not found.matrix.any():
        raise UserError(f"{shown.name} {shown.split} has no labels that count for {label}: name other data")
    history = report.read_history(predictor.run) if predictor.run else []
    title = f"{label} on {shown.name} {shown.split}"
    result = {**measurement.result(found), **about}
    report.write_evaluation(folder, found, result, predictor.predict, examples, title, history=history)
    return found


def _same_pixels(labels: Sequence[str], measured: Sequence[Evaluation], shown: Images) -> None:
    """UserError unless the true pixels of every class are the same for all: only then are scores comparable."""
    first = measured[0]
    for label, other in zip(labels[1:], measured[1:], strict=True):
        same = other.spec.classes == first.spec.classes
        if not (same and np.array_equal(other.counts[:, 1], first.counts[:, 1])):
            raise UserError(
                f"{labels[0]} and {label} have different classes, so that on {shown.name} they are scored on different "
                "pixels: name classes that both can be read as with --classes, such as road11"
            )


def side_by_side(predicts: Sequence[Predict], examples: Sequence[Example]) -> list[float]:
    """Median milliseconds an image of each, over up to 8 images spread over all, taken in turn, three times."""
    step = max(1, len(examples) // TIMED_IMAGES)
    seen = [example.read()[0] for example in examples[::step][:TIMED_IMAGES]]
    seconds = np.zeros((ROUNDS, len(seen), len(predicts)))
    for number in range(-1, ROUNDS):  # the first round traces graphs and fills caches
        for place, rgb in enumerate(seen):
            for index, predict in enumerate(predicts):
                before = time.perf_counter()
                predict(rgb)
                if number >= 0:
                    seconds[number, place, index] = time.perf_counter() - before
    return [float(1000 * np.median(seconds[..., index])) for index in range(len(predicts))]


def _row(label: str, text: str, predictor: Predictor, one: Evaluation, base: Evaluation, speed: float) -> Row:
    scores = metrics.scores(one.matrix, one.spec.classes)
    assert predictor.weights is not None
    return Row(
        label,
        text,
        scores,
        metrics.bootstrap(one.counts),
        scores["miou"] - float(metrics.mean_iou(metrics.counts(base.matrix))),
        metrics.bootstrap(one.counts, base=base.counts) if one is not base else None,
        parameters(predictor.weights),
        predictor.weights.stat().st_size,
        speed,
    )


def parameters(weights: Path) -> int | None:
    """The numbers in a .weights.h5, BatchNorm's statistics among them; None for another kind of file."""
    if weights.suffix != ".h5":
        return None
    with h5.opened(weights) as file:
        return sum(item.size for _, item in h5.arrays(file))


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
