"""What travels with an exported model: names, colours, provenance and measured scores, as one JSON.

Inside a `.tflite` the facts follow the convention of TFLite's metadata for associated files: a ZIP archive
appended to the flatbuffer, holding `kerbside.json` and `labels.txt`, that `zipfile` and `unzip -l` open.
LiteRT and MediaPipe ignore what stands behind the flatbuffer. Because a damaged flatbuffer mostly runs without
a word, its length and SHA-256 are among the facts.
"""

import hashlib
import importlib.metadata
import io
import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.version import VERSION
from training.runs.checkpoints import write_atomically

FORMAT = 1
FACTS_NAME = "kerbside.json"
LABELS_NAME = "labels.txt"
# ZIP cannot tell an earlier time; a fixed one makes equal exports equal bytes.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def facts(run: Any, *, precision: str, output: str, size: tuple[int, int], parity: dict[str, Any]) -> dict:
    """The JSON of a bundle. `parity` is `Parity.to_json()`; its file scores become the file's own `scores`."""
    recipe, spec = run.recipe, run.spec
    # Against images without labels, the file's mIoU is its likeness to Keras and no score.
    scores = parity["file"] if run.labelled else {}
    source = {"source": run.facts["source"]} if hasattr(run, "facts") else {}
    return {
        "format": FORMAT,
        "labels": list(spec.classes),
        "palette": [[int(value) for value in colour] for colour in spec.palette],
        "ignore_id": int(spec.ignore_id),
        "output": output,
        "size": [int(side) for side in size],
        "model": recipe.model,
        "data": recipe.data,
        "taxonomy": recipe.taxonomy,
        "recipe_sha256": recipe.sha256(),
        "weights_sha256": sha256_of(Path(run.weights_path).read_bytes()),
        "precision": precision,
        "versions": versions(),
        "scores": {"split": parity["split"], "images": parity["images"], **scores},
        "parity": parity,
        **source,
    }


def versions() -> dict[str, str]:
    """The versions of what made the file: TensorFlow, Keras, LiteRT, Kerbside."""
    found = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras")}
    found["ai_edge_litert"] = importlib.metadata.version("ai-edge-litert")
    return {**found, "kerbside": VERSION}


def append(flatbuffer: bytes, what: dict[str, Any]) -> bytes:
    """The flatbuffer with the archive behind it; equal input gives equal bytes."""
    what = {**what, "flatbuffer_sha256": sha256_of(flatbuffer), "flatbuffer_bytes": len(flatbuffer)}
    buffer = io.BytesIO(flatbuffer)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a") as archive:
        # Stored, not deflated: the compressor's version must not change the bytes.
        archive.writestr(zipfile.ZipInfo(FACTS_NAME, _ZIP_TIME), to_text(what))
        archive.writestr(zipfile.ZipInfo(LABELS_NAME, _ZIP_TIME), labels_text(what["labels"]))
    return buffer.getvalue()


def to_text(what: dict[str, Any]) -> str:
    """Strict JSON: a score that does not exist (NaN) becomes null."""
    return json.dumps(_without_nan(what), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def labels_text(labels: Sequence[str]) -> str:
    return "".join(f"{label}\n" for label in labels)


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_file(path: Path, data: bytes) -> None:
    """Under a temporary name, fsynced, renamed: the final name never holds half a file."""
    make_folder(path.parent)
    write_atomically(path, lambda temporary: _put(temporary, data))


def make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be made: {error.strerror or error}.") from error


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def replace_folder(finished: Path, path: Path) -> None:
    """Give the finished folder its final name; a folder that stood there goes only afterwards."""
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        if path.exists():
            os.replace(path, old)
        os.replace(finished, path)
    except OSError as error:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from error
    shutil.rmtree(old, ignore_errors=True)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    if isinstance(value, float) and value != value:
        return None
    return value
