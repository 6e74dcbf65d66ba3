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
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime import strict_json
from runtime.bundle import FORMAT, LABELS, NOTE
from runtime.files import file_sha256, write_whole
from runtime.version import VERSION
from training.runs.trained_model import TrainedModel

# ZIP cannot tell an earlier time; a fixed one makes equal exports equal bytes.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def facts(
    run: TrainedModel, *, precision: str, output: str, size: tuple[int, int], parity: dict[str, Any]
) -> dict:
    """The JSON of a bundle. `parity` is `Parity.to_json()`; its file scores become the file's own `scores`."""
    spec = run.spec
    # Against images without labels, the file's mIoU is its likeness to Keras and no score.
    scores = parity["file"] if run.labelled else {}
    source = {"source": run.source} if run.source else {}
    return {
        "format": FORMAT,
        "labels": list(spec.classes),
        "palette": [[int(value) for value in colour] for colour in spec.palette],
        "ignore_id": int(spec.ignore_id),
        "output": output,
        "size": [int(side) for side in size],
        "model": run.name,
        "data": run.data.name,
        "taxonomy": run.data.taxonomy,
        "recipe_sha256": run.sha256(),
        "weights_sha256": file_sha256(Path(run.weights_path)),
        "precision": precision,
        "learnt_from": [dict(one) for one in run.learnt_from],
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
    what = {
        **what,
        "flatbuffer_sha256": hashlib.sha256(flatbuffer).hexdigest(),
        "flatbuffer_bytes": len(flatbuffer),
    }
    buffer = io.BytesIO(flatbuffer)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a") as archive:
        # Stored, not deflated: the compressor's version must not change the bytes.
        archive.writestr(zipfile.ZipInfo(NOTE, _ZIP_TIME), to_text(what))
        archive.writestr(zipfile.ZipInfo(LABELS, _ZIP_TIME), labels_text(what["labels"]))
    return buffer.getvalue()


def write(path: Path, flatbuffer: bytes, what: dict[str, Any]) -> None:
    """FILE.tflite with its facts inside, and the facts as FILE.json beside it."""
    write_whole(path, append(flatbuffer, what))
    write_whole(path.with_suffix(".json"), to_text(what).encode())


def to_text(what: dict[str, Any]) -> str:
    """Strict JSON: a score that does not exist (NaN) becomes null."""
    return json.dumps(strict_json.without_nan(what), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def labels_text(labels: Sequence[str]) -> str:
    return "".join(f"{label}\n" for label in labels)
