"""Pictures and tables of a run: previews, curves, confusion matrix, scores as JSON and CSV."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from runtime.image import colour
from training.checkpoints import write_atomically
from training.data.spec import IGNORE_ID, DatasetSpec

RIGHT, WRONG, VOID = (40, 40, 40), (230, 60, 40), (255, 255, 255)
PREVIEW_WIDTH = 360


def error_picture(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Red where the prediction is wrong, dark where it is right, white where nothing counts; uint8 (H, W, 3)."""
    picture = np.where((truth == predicted)[..., None], np.array(RIGHT), np.array(WRONG)).astype(np.uint8)
    picture[truth == IGNORE_ID] = VOID
    return picture


def preview_path(run_folder: Path, epoch: int) -> Path:
    """Where the previews of an epoch, counted from 1, are."""
    return run_folder / "previews" / f"epoch-{epoch:04d}.jpg"


def preview(path: Path, samples: Sequence[tuple[np.ndarray, ...]], spec: DatasetSpec) -> None:
    """One row a sample: picture, truth, prediction, errors. `samples` are (rgb, truth ids, predicted ids)."""
    rows = []
    for image, truth, predicted in samples:
        tiles = [
            np.clip(image, 0, 255).astype(np.uint8),
            colour(truth, spec.palette),
            colour(predicted, spec.palette),
            error_picture(truth, predicted),
        ]
        height = max(1, round(PREVIEW_WIDTH * image.shape[0] / image.shape[1]))
        size = (PREVIEW_WIDTH, height)
        rows.append(np.hstack([cv2.resize(tile, size, interpolation=cv2.INTER_AREA) for tile in tiles]))
    if not rows:
        return
    height = max(row.shape[0] for row in rows)
    rows = [cv2.copyMakeBorder(row, 0, height - row.shape[0], 0, 0, cv2.BORDER_CONSTANT) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_picture(path, np.vstack([_titles(4 * PREVIEW_WIDTH), *rows]))


def _titles(width: int) -> np.ndarray:
    strip = np.full((26, width, 3), 255, np.uint8)
    for index, title in enumerate(("picture", "truth", "prediction", "errors")):
        at = (index * PREVIEW_WIDTH + 8, 19)
        cv2.putText(strip, title, at, cv2.FONT_HERSHEY_SIMPLEX, 0.55, (20, 20, 20), 1, cv2.LINE_AA)
    return strip


def _write_picture(path: Path, rgb: np.ndarray) -> None:
    _, data = cv2.imencode(path.suffix, np.ascontiguousarray(rgb[..., ::-1]))
    write_atomically(path, lambda temporary: _put(temporary, data.tobytes()))


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def write_scores(folder: Path, result: dict[str, Any], matrix: np.ndarray, title: str) -> None:
    """scores.json, scores.csv (one class a line), confusion.csv (pixel counts) and confusion.png."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(result["classes"])
    content = json.dumps({**result, "confusion_matrix": matrix.tolist()}, indent=2)
    write_atomically(
        folder / "scores.json",
        lambda temporary: _put(temporary, content.replace("NaN", "null").encode() + b"\n"),
    )
    columns = list(result["classes"][names[0]])
    _write_csv(
        folder / "scores.csv",
        [["class", *columns]]
        + [[name, *(result["classes"][name][column] for column in columns)] for name in names],
    )
    _write_csv(
        folder / "confusion.csv",
        [["truth \\ prediction", *names]]
        + [[name, *row] for name, row in zip(names, matrix.tolist(), strict=True)],
    )
    draw_confusion(folder / "confusion.png", matrix, names, title)


def _write_csv(path: Path, rows: list[list[Any]]) -> None:
    def write(temporary: Path) -> None:
        with open(temporary, "w", newline="") as file:
            csv.writer(file).writerows(rows)

    write_atomically(path, write)


def draw_confusion(path: Path, matrix: np.ndarray, names: Sequence[str], title: str) -> None:
    """The confusion matrix, each row in per cent of its true pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    share = 100 * matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    side = 2.6 + 0.46 * len(names)
    figure = Figure(figsize=(side + 0.8, side), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    axes.set_title(title)
    for row in range(len(names)):
        for column in range(len(names)):
            if share[row, column] >= 0.5:
                tone = "white" if share[row, column] > 55 else "black"
                axes.text(
                    column, row, f"{share[row, column]:.0f}", ha="center", va="center", color=tone, fontsize=8
                )
    figure.colorbar(picture, ax=axes, label="% of the true pixels", shrink=0.8)
    write_atomically(path, lambda temporary: figure.savefig(temporary))


def draw_curves(path: Path, history: Sequence[dict[str, Any]]) -> None:
    """Loss and mIoU over the epochs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not history:
        return
    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(9, 3.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for key, label in (("loss", "training"), ("val_loss", "validation")):
        left.plot(epochs, [row[key] for row in history], label=label)
    left.set(xlabel="epoch", ylabel="loss")
    left.legend()
    right.plot(epochs, [100 * row["val_miou"] for row in history], color="tab:green")
    right.set(xlabel="epoch", ylabel="validation mIoU, %")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    write_atomically(path, lambda temporary: figure.savefig(temporary))
