"""Where a run's recipe, numbers and images can be watched: TensorBoard always, an MLflow store where asked for.

Whatever watches is told the whole history after each epoch and takes the epochs that it does not have yet. So a
resumed run repeats no step, and what a store missed while it could not be reached arrives later.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.image import metadata as image_metadata

from evaluation import report
from runtime.errors import UserError
from training.engine.loop import Track
from training.runs.recipe import Recipe
from training.tracking import mlflow_store

TRACKERS = ("tensorboard", "mlflow")
NUMBERS = ("learning_rate", "loss", "val_loss", "val_miou", "val_pixel_accuracy")


@contextmanager
def opened(run_folder: Path, recipe: Recipe, say: Callable[[str], None] = print) -> Iterator[Track]:
    """Give a function to be called with all rows of the history after each epoch. When the block ends, curves.png
    goes to the store and its run is closed: finished, stopped (to be gone on with) or failed."""
    with _tensorboard(run_folder, recipe) as board, mlflow_store.opened(run_folder, say) as store:

        def track(history: Sequence[dict[str, Any]]) -> None:
            board(history)
            store(history)

        yield track


def begin(run_folder: Path, recipe: Recipe, to: str | None, uri: str | None) -> None:
    """Before anything is computed: see that what shall watch the run can. `to` is one of TRACKERS, or None for
    what the run had before (TensorBoard alone if it is new); a `uri` of None is the run's own store, or
    mlflow.db beside the run folder. UserError when the store cannot be written."""
    known = mlflow_store.kept(run_folder)
    if uri and to != "mlflow":
        raise UserError(f"--track-uri {uri} names an MLflow store: add --track mlflow, or leave it out")
    if to == "tensorboard":
        mlflow_store.forget(run_folder)
    elif to == "mlflow" or known:
        mlflow_store.begin(
            run_folder, recipe, uri or (known.uri if known else mlflow_store.default_uri(run_folder.parent))
        )


@contextmanager
def _tensorboard(run_folder: Path, recipe: Recipe) -> Iterator[Track]:
    """tensorboard/: the recipe as text, NUMBERS as scalars, the previews as images; steps are epochs."""
    folder = run_folder / "tensorboard"
    there = _epochs_in(folder)
    writer = tf.summary.create_file_writer(str(folder))

    def track(history: Sequence[dict[str, Any]]) -> None:
        new = [row for row in history if row["epoch"] not in there]
        for row in new:
            with writer.as_default(step=row["epoch"]):
                for name in NUMBERS:
                    tf.summary.scalar(name, row[name])
                _image(report.preview_path(run_folder, row["epoch"]))
            there.add(row["epoch"])
        writer.flush()

    with writer.as_default(step=0):
        if not there:
            tf.summary.text("recipe", _markdown(recipe))
    try:
        yield track
    finally:
        writer.close()


def _image(path: Path) -> None:
    """A JPEG as it is: tf.summary.image would make a PNG of it, ten times the size."""
    rgb = cv2.imread(str(path)) if path.is_file() else None
    if rgb is None:
        return
    height, width = rgb.shape[:2]
    about = image_metadata.create_summary_metadata(display_name=None, description="")
    tf.summary.write(
        "previews", [str(width).encode(), str(height).encode(), path.read_bytes()], metadata=about
    )


def _markdown(recipe: Recipe) -> str:
    rows = (f"| {key} | `{json.dumps(value)}` |" for key, value in recipe.as_dict().items())
    return "\n".join(["| recipe | |", "|---|---|", *rows])


def _epochs_in(folder: Path) -> set[int]:
    """The epochs that earlier processes have written."""
    found = set()
    for path in sorted(folder.glob("events*")):
        for record in _records(path.read_bytes()):
            try:
                event = Event.FromString(record)
            except DecodeError:
                break
            if any(value.tag == "val_miou" for value in event.summary.value):
                found.add(int(event.step))
    return found


def _records(data: bytes) -> Iterator[bytes]:
    """The records of a TFRecord file: length (8 bytes), its CRC (4), content, its CRC (4). TensorFlow's own reader
    complains on stderr of a file that was cut off, which every killed run leaves."""
    at = 0
    while (end := at + 12 + int.from_bytes(data[at : at + 8], "little")) + 4 <= len(data):
        yield data[at + 12 : end]
        at = end + 4
