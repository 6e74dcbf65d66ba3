"""Measure a run or a .tflite file: python -m training.evaluate runs/NAME | FILE.tflite [--data ... --split val].

One confusion matrix over the split gives every score. A run and a file take the same way; only the function
that turns a picture into class ids differs.
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
from training import metrics
from training.data.spec import Example
from training.progress import bar, counter
from training.quiet import start_tensorflow
from training.train import Parser

Predict = Callable[[np.ndarray], np.ndarray]


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


def subject(path: Path, threads: int) -> Subject:
    """Open a run folder or a .tflite."""
    return _file(path, threads) if path.suffix == ".tflite" else _run(path)


def _file(path: Path, threads: int) -> Subject:
    from runtime import Segmenter
    from runtime.bundle import read_bundle

    segmenter, bundle = Segmenter(path, threads=threads), read_bundle(path)
    return Subject(
        lambda rgb: segmenter.segment(rgb).ids,
        str(bundle.facts.get("data", "")) if bundle else "",
        None,
        str(bundle.facts.get("taxonomy", "")) if bundle else "",
        {},
        path.parent / "evaluation" / path.stem,
        bundle.labels if bundle else None,
    )


def _run(path: Path) -> Subject:
    start_tensorflow()
    import tensorflow as tf

    from training.run import load

    run = load(path)
    model = run.model()

    @tf.function(reduce_retracing=True)
    def logits_to_ids(image: Any) -> Any:
        return tf.argmax(model(image, training=False)["logits"], axis=-1, output_type=tf.int32)

    recipe = run.recipe
    return Subject(
        lambda rgb: logits_to_ids(tf.constant(rgb[None])).numpy()[0],
        recipe.data,
        recipe.data_dir,
        recipe.taxonomy,
        recipe.data_options,
        run.folder / "evaluation",
    )


def main(argv: Sequence[str] | None = None) -> int:
    command = Parser(
        prog="python -m training.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("subject", metavar="RUN_OR_TFLITE", help="a run folder, or a .tflite file")
    command.add_argument("--data", help="the data set; the one it was trained on if not given")
    command.add_argument("--data-dir", metavar="DIR")
    command.add_argument("--classes", metavar="TAXONOMY")
    command.add_argument("--split", default="val")
    command.add_argument("--skip-bad", action="store_true")
    command.add_argument("--threads", type=int, default=2, help="of a .tflite")
    command.add_argument("--out", metavar="DIR", help="where the scores go; beside the subject if not given")
    args = command.parse_args(argv)

    from training import data, report
    from training.recipe import split_options

    found = subject(Path(args.subject), args.threads)
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
    folder = Path(args.out) if args.out else found.folder / f"{name}-{args.split}"
    report.write_scores(folder, result, matrix, f"{Path(args.subject).name} on {name} {args.split}")
    print(metrics.table(result))
    print(f"\n{len(examples)} pictures, {1000 * seconds:.1f} ms each (median); written to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
