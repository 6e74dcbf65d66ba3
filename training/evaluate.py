"""Measure a run, converted weights or a .tflite: python -m training.evaluate runs/NAME | FILE [--data ... --split val].

One confusion matrix over the split gives every score. All take the same way; only the function that turns a picture
into class ids differs. --tta and --window look at a picture several times (training/inference.py):

    python -m training.evaluate runs/NAME --tta 0.75,1.0,1.25,flip --window 512x1024 --stride 341x683
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import UserError, exit_on_user_error
from training import inference, metrics
from training.data.spec import Example
from training.progress import bar, counter
from training.quiet import start_tensorflow
from training.train import Parser

Predict = Callable[[np.ndarray], np.ndarray]
PLAIN = inference.Plan()


def evaluate(predict: Predict, examples: Sequence[Example], classes: int) -> tuple[np.ndarray, float]:
    """(C, C) confusion matrix of `predict(rgb (H, W, 3) uint8) -> ids (H, W)`, and the median seconds a picture."""
    matrix = np.zeros((classes, classes), np.int64)
    seconds = []
    with bar(len(examples), "picture") as progress:
        for example in examples:
            rgb, labels = example.read()
            before = time.monotonic()
            ids = predict(rgb)
            seconds.append(time.monotonic() - before)
            matrix += metrics.confusion_matrix(labels, ids, classes)
            progress.update()
    return matrix, float(np.median(seconds)) if seconds else float("nan")


@dataclass(frozen=True)
class Subject:
    """What is measured: how it predicts, what it was trained on, where its evaluation goes."""

    predict: Predict
    data: str
    data_dir: str | None
    taxonomy: str
    data_options: dict[str, Any]
    folder: Path
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Data:
    """What the command line says of the data; None where it says nothing."""

    name: str | None = None
    folder: str | None = None
    taxonomy: str | None = None


NO_DATA = Data()


def subject(path: Path, threads: int, plan: inference.Plan = PLAIN, data: Data = NO_DATA) -> Subject:
    """Open a run folder, FILE.weights.h5 of zoo.convert, or a .tflite, to be looked at as `plan` says."""
    return _file(path, threads, plan) if path.suffix == ".tflite" else _run(path, plan, data)


def _file(path: Path, threads: int, plan: inference.Plan) -> Subject:
    from runtime import Segmenter
    from runtime.bundle import read_bundle

    segmenter, bundle = Segmenter(path, threads=threads), read_bundle(path)
    if not plan.plain:
        _check_file(segmenter, plan)
    return Subject(
        (lambda rgb: segmenter.segment(rgb).ids) if plan.plain else _predict(segmenter.scores, plan),
        str(bundle.facts.get("data", "")) if bundle else "",
        None,
        str(bundle.facts.get("taxonomy", "")) if bundle else "",
        {},
        path.parent / "evaluation" / path.stem,
        bundle.labels if bundle else None,
    )


def _check_file(segmenter: Any, plan: inference.Plan) -> None:
    """UserError when a file of one size, or of class ids, cannot be looked at in this way."""
    size = f"{segmenter.size[0]}x{segmenter.size[1]}"
    if segmenter.output != "scores":
        raise UserError(
            f"{segmenter.path} gives class ids, and --tta and --window average scores: "
            "export it with --output scores"
        )
    if plan.window is None and plan.scales != (1.0,):
        raise UserError(
            f"{segmenter.path} brings every picture to {size}, so scales would change nothing: "
            f"add --window {size}, or use --tta flip"
        )
    if plan.window is not None and plan.window != segmenter.size:
        raise UserError(
            f"{segmenter.path} takes {size} and would resize windows of another size: use --window {size}"
        )


def _run(path: Path, plan: inference.Plan, data: Data) -> Subject:
    start_tensorflow()
    import tensorflow as tf

    from training.converted import Converted
    from training.loop import MODEL_TASKS
    from training.run import load

    run = load(path)
    if run.recipe.model in MODEL_TASKS:
        raise UserError(
            f"{path} is a {run.recipe.model}, which answers prompts: its history.csv has the mIoU on fixed prompts, "
            "and python -m export compares its files on them"
        )
    folder = run.folder / "evaluation"
    if isinstance(run, Converted):
        folder /= path.name.removesuffix(".weights.h5")
        if data.name:
            run = run.on(data.name, data.folder, data.taxonomy)
    model = run.model()

    @tf.function(reduce_retracing=True)
    def logits_of(image: Any) -> Any:
        return model(image, training=False)["logits"]

    @tf.function(reduce_retracing=True)
    def ids_of(image: Any) -> Any:
        return tf.argmax(logits_of(image), axis=-1, output_type=tf.int32)

    def logits(rgb: np.ndarray) -> np.ndarray:
        found: np.ndarray = logits_of(tf.constant(rgb[None])).numpy()[0]
        return found

    recipe = run.recipe
    return Subject(
        # Alone, only the ids leave TensorFlow: a large picture's logits are hundreds of megabytes.
        (lambda rgb: ids_of(tf.constant(rgb[None])).numpy()[0]) if plan.plain else _predict(logits, plan),
        recipe.data,
        recipe.data_dir,
        recipe.taxonomy,
        recipe.data_options,
        folder,
    )


def _predict(logits: inference.Logits, plan: inference.Plan) -> Predict:
    return lambda rgb: inference.scores(logits, rgb, plan).argmax(axis=-1)


def _look_flags(command: Parser) -> None:
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


def main(argv: Sequence[str] | None = None) -> int:
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
    _look_flags(command)
    args = command.parse_args(argv)
    plan = inference.plan(args.tta, args.window, args.stride)

    from training import data, report
    from training.recipe import split_options

    named = Data(args.data, args.data_dir, args.classes)
    found = subject(Path(args.subject), args.threads, plan, named)
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
        matrix, seconds = evaluate(found.predict, examples, len(spec.classes))
    except ValueError as error:
        raise UserError(
            f"{args.subject} does not fit the {len(spec.classes)} classes of {spec.name}: {error}"
        ) from error
    result = metrics.scores(matrix, spec.classes)
    place = "-".join(part for part in (name, args.split, str(plan)) if part)
    folder = Path(args.out) if args.out else found.folder / place
    title = f"{Path(args.subject).name} on {name} {args.split}"
    report.write_scores(folder, {**result, **plan.to_json()}, matrix, title)
    print(metrics.table(result))
    print(f"\n{len(examples)} pictures, {1000 * seconds:.1f} ms each (median); written to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
