"""Evaluations that were made already: what they are of, and what is kept of each image."""

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.measurement import Evaluation
from evaluation.predictor import Predictor
from runtime import strict_json
from runtime.files import file_sha256
from training.data.spec import DatasetSpec


def provenance(
    found: Predictor, data: str, split: str, data_dir: Any, options: dict[str, Any]
) -> dict[str, Any]:
    """What an evaluation is of, for scores.json: two of one provenance have the same scores, as long as the files of
    the data stay what they are."""
    return {
        "weights_sha256": file_sha256(found.weights) if found.weights else "",
        **({"fit": found.fit} if found.fit else {}),
        "data": {
            "name": data,
            "split": split,
            "folder": _absolute(data_dir),
            "options": json.loads(json.dumps(options)),
        },
    }


def _absolute(folder: Any) -> Any:
    if isinstance(folder, dict):
        return {name: _absolute(path) for name, path in folder.items()}
    return str(Path(folder).resolve()) if folder else None


def load(folder: Path, like: dict[str, Any], spec: DatasetSpec, names: list[str]) -> Evaluation | None:
    """The evaluation in a folder, without its further metrics and its seconds, if it is of the provenance (and of the
    translation, if any) that `like` says, of these classes and images, each looked at once; else None."""
    try:
        scores = strict_json.checked(strict_json.read(folder / "scores.json"), {"classes": dict[str, Any]})
        with np.load(folder / "counts.npz", allow_pickle=False) as stored:
            found, counts = stored["names"].tolist(), stored["counts"]
        matrix = np.array(scores["confusion_matrix"], np.int64)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error):
        return None
    same = all(
        scores.get(key) == like.get(key)
        for key in ("weights_sha256", "fit", "data", "translation", "tta", "window")
    )
    if not (same and list(scores["classes"]) == list(spec.classes) and found == names):
        return None
    return Evaluation(spec, matrix, names, counts, float("nan"), {})
