"""What can be measured: a run, converted weights or an exported file, each opened as a function of an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import inference
from evaluation.measurement import Predict, Score
from runtime.errors import UserError
from runtime.fit import checked_fit
from runtime.other_formats import FORMATS
from training.data import mixture
from training.start_tensorflow import start_tensorflow

PLAIN = inference.Plan()


@dataclass(frozen=True)
class Predictor:
    """What is measured: how it predicts, what it was trained on, where its evaluation goes.

    `score` is None where it gives class ids alone (a `.tflite` of the variant mask). `weights` is the file that it
    is known by, `run` the run folder that it came from, if there is one. `fit` is how a `.tflite`, which has one size,
    takes images of another shape (runtime/fit.py).
    """

    predict: Predict
    score: Score | None
    data: str
    data_dir: str | dict[str, str] | None
    taxonomy: str
    data_options: dict[str, Any]
    folder: Path
    labels: tuple[str, ...] | None = None
    weights: Path | None = None
    run: Path | None = None
    fit: str | None = None


@dataclass(frozen=True)
class Data:
    """What the command line says of the data; None where it says nothing."""

    name: str | None = None
    folders: Sequence[str] | None = None  # as --data-dir was given
    taxonomy: str | None = None


NO_DATA = Data()


def open_predictor(
    path: Path, threads: int, plan: inference.Plan = PLAIN, data: Data = NO_DATA, fit: str | None = None
) -> Predictor:
    """Open a run folder, FILE.weights.h5 of zoo.convert, or a .tflite, .onnx or .xml, to be looked at as `plan` says;
    `fit` (a row of `runtime.fit.FITS`, auto if not given) is for a .tflite, and a UserError elsewhere."""
    if path.suffix in (".tflite", *FORMATS):
        return _file(path, threads, plan, checked_fit(fit or "auto", "--fit"))
    if fit is not None:
        raise UserError(
            f"--fit {fit} is for a .tflite, which takes one size; {path} takes each image at its own: leave it out"
        )
    return _run(path, plan, data)


def _file(path: Path, threads: int, plan: inference.Plan, fit: str) -> Predictor:
    from runtime import Segmenter  # LiteRT, which a run does without

    segmenter = Segmenter(path, threads=threads)
    bundle = segmenter.bundle
    if not plan.plain:
        _check_file(segmenter, plan)

    def scores(rgb: np.ndarray) -> np.ndarray:
        return segmenter.scores(rgb, fit)

    score = _score(scores, plan) if segmenter.output == "scores" else None
    return Predictor(
        (lambda rgb: segmenter.segment(rgb, fit).ids) if plan.plain else _predict(scores, plan),
        score,
        str(bundle.facts.get("data", "")) if bundle else "",
        None,
        str(bundle.facts.get("taxonomy", "")) if bundle else "",
        {},
        path.parent / "evaluation" / path.stem,
        bundle.labels if bundle else None,
        segmenter.path,
        next((above for above in path.resolve().parents[:2] if (above / "recipe.json").is_file()), None),
        fit,
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
            f"{segmenter.path} brings every image to {size}, so scales would change nothing: "
            f"add --window {size}, or use --tta flip"
        )
    if plan.window is not None and plan.window != segmenter.size:
        raise UserError(
            f"{segmenter.path} takes {size} and would resize windows of another size: use --window {size}"
        )


def _run(path: Path, plan: inference.Plan, data: Data) -> Predictor:
    start_tensorflow()  # and only now what brings it: a `.tflite` does without
    import tensorflow as tf

    from training.engine.validation import MODEL_TASKS
    from training.runs.converted_weights import Converted
    from training.runs.trained_run import load

    run = load(path)
    if run.name in MODEL_TASKS:
        raise UserError(
            f"{path} is a {run.name}, which answers prompts: its history.csv has the mIoU on fixed prompts, "
            "and python -m export compares its files on them"
        )
    folder = run.folder / "evaluation"
    if isinstance(run, Converted):
        folder /= path.name.removesuffix(".weights.h5")
        if data.name and not run.facts.get("classes"):  # their number has to tell which classes they are
            run = run.on(data.name, mixture.folders(data.folders, data.name), data.taxonomy)
    elif data.name in (None, run.data.name):
        run = run.at(data.folders)
    model = run.model()

    @tf.function(reduce_retracing=True)
    def logits_of(image: Any) -> Any:
        return model(image, training=False)["logits"]

    @tf.function(reduce_retracing=True)
    def ids_of(image: Any) -> Any:
        # Ids of up to 256 classes fit into a byte, which is copied and counted fastest.
        return tf.cast(tf.argmax(logits_of(image), axis=-1, output_type=tf.int32), tf.uint8)

    def logits(rgb: np.ndarray) -> np.ndarray:
        found: np.ndarray = logits_of(tf.constant(rgb[None])).numpy()[0]
        return found

    return Predictor(
        # Alone, only the ids leave TensorFlow: a large image's logits are hundreds of megabytes.
        (lambda rgb: ids_of(tf.constant(rgb[None])).numpy()[0]) if plan.plain else _predict(logits, plan),
        _score(logits, plan),
        run.data.name,
        run.data.folder,
        run.data.taxonomy,
        run.data.options,
        folder,
        run.spec.classes,
        run.weights_path,
        None if isinstance(run, Converted) else run.folder,
    )


def _predict(logits: inference.Logits, plan: inference.Plan) -> Predict:
    return lambda rgb: inference.scores(logits, rgb, plan).argmax(axis=-1)


def _score(logits: inference.Logits, plan: inference.Plan) -> Score:
    def score(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = inference.scores(logits, rgb, plan)
        ids = found.argmax(axis=-1)
        return ids, inference.probabilities(found)

    return score
