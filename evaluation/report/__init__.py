"""Files of a run that people look at: previews, curves, and the folder of an evaluation.

An evaluation's folder: index.html (evaluation_page.py), scores.json, scores.csv, images.csv, confusion.csv, the
charts as PNG files, previous.json (what was measured before), and counts.npz, from which training.compare works.
"""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from evaluation import metrics, robustness
from evaluation.measurement import Evaluation, Predict
from evaluation.report import chart_images, evaluation_page
from evaluation.report.evaluation_page import Looked
from runtime import strict_json
from runtime.encoding import encoded
from runtime.errors import UserError, first_line
from runtime.figures import error_image
from runtime.files import write_whole
from runtime.image import colour
from training.data.spec import DatasetSpec, Example

PREVIEW_WIDTH = 360
SHOWN = 4  # best and worst images, each


def preview_path(run_folder: Path, epoch: int) -> Path:
    """Where the previews of an epoch, counted from 1, are."""
    return run_folder / "previews" / f"epoch-{epoch:04d}.jpg"


def preview(path: Path, samples: Sequence[tuple[np.ndarray, ...]], spec: DatasetSpec) -> None:
    """One row a sample: image, truth, prediction, errors. `samples` are (rgb, truth ids, predicted ids)."""
    rows = []
    for image, truth, predicted in samples:
        tiles = [
            np.clip(image, 0, 255).astype(np.uint8),
            colour(truth, spec.palette),
            colour(predicted, spec.palette),
            error_image(truth, predicted),
        ]
        height = max(1, round(PREVIEW_WIDTH * image.shape[0] / image.shape[1]))
        size = (PREVIEW_WIDTH, height)
        rows.append(np.hstack([cv2.resize(tile, size, interpolation=cv2.INTER_AREA) for tile in tiles]))
    if not rows:
        return
    height = max(row.shape[0] for row in rows)
    rows = [cv2.copyMakeBorder(row, 0, height - row.shape[0], 0, 0, cv2.BORDER_CONSTANT) for row in rows]
    sheet = np.vstack([_titles(4 * PREVIEW_WIDTH), *rows])
    write_whole(path, encoded(sheet, path.suffix))


def _titles(width: int) -> np.ndarray:
    strip = np.full((26, width, 3), 255, np.uint8)
    for index, title in enumerate(("image", "truth", "prediction", "errors")):
        at = (index * PREVIEW_WIDTH + 8, 19)
        cv2.putText(strip, title, at, cv2.FONT_HERSHEY_SIMPLEX, 0.55, (20, 20, 20), 1, cv2.LINE_AA)
    return strip


def draw_curves(path: Path, history: Sequence[dict[str, Any]]) -> None:
    """Losses, validation scores and learning rate over the epochs, as a PNG."""
    if history:
        write_whole(path, chart_images.png(chart_images.curves(history)))


def read_history(run_folder: Path) -> list[dict[str, float]]:
    """The rows of a run's history.csv as numbers; [] where there is none, and, said on stderr, where it cannot be read:
    a report needs it for its curves alone."""
    path = run_folder / "history.csv"
    if not path.is_file():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
        missing = [name for name in chart_images.COLUMNS if rows and name not in rows[0]]
        if not missing:
            return rows
        reason = f"it has no column {missing[0]}"
    except (OSError, ValueError, TypeError, csv.Error) as error:
        reason = first_line(error)
    print(f"{path} cannot be read ({reason}): the report has no curves of the training.", file=sys.stderr)
    return []


def write_evaluation(
    folder: Path,
    evaluation: Evaluation,
    result: dict[str, Any],
    predict: Predict,
    examples: Sequence[Example],
    title: str,
    *,
    history: Sequence[dict[str, float]] = (),
    previous: dict[str, Any] | None = None,
) -> None:
    """Write the whole folder of an evaluation; `examples` are those of the evaluation, in its order.

    `result`, which must have `weights_sha256`, becomes scores.json. The four best and worst images are read and
    predicted once more. What the folder held of other weights becomes previous.json and is shown beside the new
    scores, unless other scores are given as `previous`.
    """
    before = _keep_previous(folder, result)
    _write_tables(folder, {"title": title, **result}, evaluation.matrix)
    write_whole(folder / "counts.npz", _npz(names=np.array(evaluation.names), counts=evaluation.counts))
    quality = metrics.mean_iou(evaluation.counts)
    _write_images(folder / "images.csv", evaluation, quality)

    def look(index: int) -> Looked:
        rgb, truth = examples[index].read()
        return Looked(evaluation.names[index], quality[index], rgb, truth, np.asarray(predict(rgb)))

    best, worst = ([look(index) for index in chosen] for chosen in extremes(quality, SHOWN))
    for name, samples in (("best", best), ("worst", worst)):
        preview(folder / f"{name}.png", [sample[2:] for sample in samples], evaluation.spec)
    facts = evaluation_page.Facts(title, evaluation, result, previous or before, history, best, worst)
    drawn = evaluation_page.charts(facts)
    for name, (light, _) in drawn.items():
        write_whole(folder / f"{name}.png", light)
    write_whole(folder / "classes.png", evaluation_page.bars(facts))
    if "corruptions" in result:
        write_whole(folder / "corruptions.png", evaluation_page.corruption_bars(facts))
    draw_curves(folder / "curves.png", history)
    write_whole(folder / "index.html", evaluation_page.page(facts, drawn).encode())


def extremes(quality: np.ndarray, count: int) -> tuple[list[int], list[int]]:
    """The indices of the best and of the worst images, `count` each, best and worst first; NaN is neither, and
    no image is both."""
    order = [int(index) for index in np.argsort(quality, kind="stable") if not np.isnan(quality[index])]
    half = (len(order) + 1) // 2
    return order[::-1][: min(count, half)], order[: min(count, len(order) - half)]


def read_scores(path: Path, classes: Sequence[str]) -> dict[str, Any]:
    """Another evaluation's scores: a folder or its scores.json. UserError unless they are of these classes."""
    path = path / "scores.json" if path.is_dir() else path
    try:
        found: dict[str, Any] = strict_json.read(path)
        theirs = list(found["classes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--previous {path} is not an evaluation: name a folder evaluation/DATA-SPLIT, or its scores.json"
        ) from error
    if theirs != list(classes):
        raise UserError(f"--previous {path} has other classes, so that its bars cannot stand beside these")
    return found


def _keep_previous(folder: Path, result: dict[str, Any]) -> dict[str, Any] | None:
    """What the folder last held of other weights: scores.json moves to previous.json when its weights are known to be
    others."""
    kept = folder / "previous.json"
    try:
        last = read_scores(folder / "scores.json", list(result["classes"]))
        if last.get("weights_sha256", result["weights_sha256"]) != result["weights_sha256"]:
            write_whole(kept, (folder / "scores.json").read_bytes())
        return read_scores(kept, list(result["classes"]))
    except UserError:  # there is none, or one of other classes
        return None


def write_scores(folder: Path, result: dict[str, Any], matrix: np.ndarray, title: str) -> None:
    """What is known without the images: scores.json, the tables, confusion.png."""
    _write_tables(folder, {"title": title, **result}, matrix)
    write_whole(
        folder / "confusion.png",
        chart_images.png(chart_images.confusion(matrix, list(result["classes"]), title)),
    )


def _write_tables(folder: Path, result: dict[str, Any], matrix: np.ndarray) -> None:
    """scores.json, scores.csv (one class a line) and confusion.csv (pixel counts)."""
    names = list(result["classes"])
    write_whole(folder / "scores.json", metrics.as_json(result, matrix))
    write_whole(folder / "scores.csv", metrics.as_csv(result))
    counted = [[name, *row] for name, row in zip(names, matrix.tolist(), strict=True)]
    write_whole(folder / "confusion.csv", metrics.csv_bytes([["truth \\ prediction", *names], *counted]))
    if "corruptions" in result:
        write_whole(folder / "corruptions.csv", metrics.csv_bytes(robustness.rows(result["corruptions"])))


def _write_images(path: Path, evaluation: Evaluation, quality: np.ndarray) -> None:
    """One image a line, the worst first: its mIoU over the classes it holds, and its pixel accuracy."""
    hit, truth = evaluation.counts[:, 0].sum(axis=1), evaluation.counts[:, 1].sum(axis=1)
    accuracy = np.where(truth > 0, hit / np.maximum(1, truth), np.nan)
    order = np.argsort(quality, kind="stable")
    rows = [[evaluation.names[index], float(quality[index]), float(accuracy[index])] for index in order]
    write_whole(path, metrics.csv_bytes([["picture", "miou", "pixel_accuracy"], *rows]))


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
