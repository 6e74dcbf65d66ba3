"""What travels inside a `.tflite`: labels, palette and provenance, in a ZIP behind the flatbuffer.

TFLite's own convention for associated files: the flatbuffer comes first, an ordinary ZIP archive follows,
and each reader takes its part of the one file. Ours holds `labels.txt` (one label a line) and
`kerbside.json`, whose `flatbuffer_bytes` and `flatbuffer_sha256` tell a damaged file, since most damaged
models run without a word.
Source: https://www.tensorflow.org/lite/models/convert/metadata (layout of the file and of ModelMetadata).
"""

import colorsys
import functools
import hashlib
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from runtime import strict_json
from runtime.class_names import MOST_CLASSES
from runtime.errors import UserError
from runtime.strict_json import shown

FORMAT = 1
NOTE, LABELS = "kerbside.json", "labels.txt"
MAX_NOTE_BYTES = 4_000_000  # a few kB in practice; keeps a ZIP bomb in a stranger's file out
MAX_ARCHIVE_BYTES, MAX_ENTRIES = 16_000_000, 64  # of the whole archive: two files of a few kB in practice
MAX_LABEL, MAX_LABELS = 200, 10_000  # letters of one, and lines; ids have 8 bits
# The types of the facts in a note that somebody here reads; those NEEDED are in every file of ours.
FACTS: dict[str, Any] = {
    "format": int,
    "labels": list[str],
    "palette": list[tuple[int, int, int]],
    "ignore_id": int,
    "output": str,
    "size": tuple[int, int],
    "flatbuffer_bytes": int,
    "flatbuffer_sha256": str,
    "model": str,
    "data": str,
    "taxonomy": str,
    "precision": str,
    "weights_sha256": str,
    "scores": dict[str, Any],
}
NEEDED = tuple(FACTS)[:8]
_COPY_AGAIN = "copy or export it again"
_BAD_ARCHIVE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError),
    *(
        NotImplementedError,
        RuntimeError,
        ValueError,
    ),  # of encryption, of names that are no text, of places outside
)

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Bundle:
    """The note inside one of our files: `size` is (height, width), `facts` the whole of kerbside.json, of
    which the properties are what is asked for most ("" where it is not stated)."""

    labels: tuple[str, ...]
    palette: tuple[Colour, ...]
    ignore_id: int
    output: str
    size: tuple[int, int]
    facts: dict[str, Any]

    @property
    def model(self) -> str:
        return str(self.facts.get("model", ""))

    @property
    def data(self) -> str:
        return str(self.facts.get("data", ""))

    @property
    def taxonomy(self) -> str:
        return str(self.facts.get("taxonomy", ""))

    @property
    def precision(self) -> str:
        return str(self.facts.get("precision", ""))

    @property
    def miou(self) -> float | None:
        """As measured at export, 0..1; None when it was not."""
        scores = self.facts.get("scores")
        value = scores.get("miou") if isinstance(scores, dict) else None
        return float(value) if strict_json.fits(value, float) else None  # type: ignore[arg-type]


def read_bundle(path: str | os.PathLike[str]) -> Bundle | None:
    """The note inside `path`, or None when someone else made the file.

    Raises UserError, one sentence, when the file is missing, is no TFLite file, is damaged (its SHA-256 is
    not the one it states) or carries a note of another format.
    """
    path = Path(path)
    data = read_model(path)
    archive = _entries(path)
    if NOTE not in archive:
        # A ZIP loses its directory when its end is cut off, yet the entry's own header still names it.
        if NOTE.encode() in data[-MAX_NOTE_BYTES:]:
            raise UserError(f"{path} is truncated: the archive at its end is incomplete; {_COPY_AGAIN}.")
        return None
    try:
        facts = strict_json.parse(archive[NOTE], MAX_NOTE_BYTES)
        bundle = _bundle(facts, path)
        length, stated = facts["flatbuffer_bytes"], facts["flatbuffer_sha256"]
    except ValueError as error:
        raise UserError(f"{path} carries a {NOTE} that cannot be read ({error}); {_COPY_AGAIN}.") from error
    found = hashlib.sha256(data[:length]).hexdigest()
    if found != stated:
        raise UserError(
            f"{path} is damaged: its model has SHA-256 {found[:12]}, not {stated[:12]} as it states; "
            f"{_COPY_AGAIN}."
        )
    return bundle


def note_of(text: bytes, path: Path) -> Bundle:
    """The note of a file that is no flatbuffer; UserError when it cannot be read."""
    try:
        return _bundle(strict_json.parse(text, MAX_NOTE_BYTES), path, NEEDED[:-2])
    except ValueError as error:
        raise UserError(f"{path} carries a {NOTE} that cannot be read ({error}); {_COPY_AGAIN}.") from error


def read_note(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The facts of the note inside `path`, unchecked: only the ZIP is read, so that a list of many files is quick.

    {} where there is no note that can be read, and without the facts that are of another type than ours. Loading the
    model is what checks it (`read_bundle`).
    """
    try:
        facts = strict_json.parse(_entries(Path(path)).get(NOTE, b"{}"), MAX_NOTE_BYTES)
    except (UserError, ValueError, OSError):
        return {}
    facts = facts if isinstance(facts, dict) else {}
    return {key: value for key, value in facts.items() if strict_json.fits(value, FACTS.get(key, Any))}


def same_weights(paths: Sequence[Path]) -> list[list[Path]]:
    """Files made of the same weights at the same size and output in different precisions, such as fp32 and int8: lists
    of two or more, float first."""
    order = ("fp32", "fp16", "dynamic", "mixed", "int8")
    groups: dict[str, dict[str, Path]] = {}
    for path in paths:
        note = read_note(path)
        precision, weights = note.get("precision"), note.get("weights_sha256")
        if weights and precision in order:
            key = json.dumps([weights, note.get("size"), note.get("output")])
            groups.setdefault(key, {}).setdefault(precision, path)
    lists = [[group[name] for name in order if name in group] for group in groups.values()]
    return [found for found in lists if len(found) > 1]


def read_model(path: Path) -> bytes:
    """The bytes of a file that begins as a TFLite flatbuffer does, else UserError."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a .tflite file.")
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; name a .tflite file.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise UserError(
            f"{path} is not a TFLite model (bytes 4 to 8 are {data[4:8]!r} where b'TFL3' should stand); "
            "name a .tflite file."
        )
    return data


def foreign_labels(path: str | os.PathLike[str]) -> tuple[str, ...] | None:
    """Labels in someone else's file: the lines of its only associated .txt file, if it has one."""
    texts = [text for name, text in _entries(Path(path)).items() if name.lower().endswith(".txt")]
    if len(texts) != 1:
        return None
    # Not splitlines, which ends lines at other letters too; an empty line is a class without a name.
    text = texts[0].decode("utf-8", errors="replace").rstrip()
    if text.count("\n") >= MAX_LABELS:
        return None
    lines = [line.strip()[:MAX_LABEL] for line in text.split("\n")]
    return tuple(line or f"class {place}" for place, line in enumerate(lines)) if any(lines) else None


def stated_normalisation(data: bytes) -> tuple[list[float], list[float]] | None:
    """(mean, std) that TFLite metadata states for the first input, where x = (rgb - mean) / std; None if it
    states none. One value each, or one a channel. `data` is the whole file.

    Field numbers are those of tensorflow/lite/schema/schema.fbs and metadata_schema.fbs.
    """
    try:
        model = _Table(data, _u32(data, 0))
        for entry in model.tables(6):  # Model.metadata
            if entry.text(0) == b"TFLITE_METADATA":
                content = model.tables(4)[entry.u32(1)].ubytes(0)  # Model.buffers[Metadata.buffer].data
                tensor = _Table(content, _u32(content, 0)).tables(3)[0].tables(2)[0]
                for unit in tensor.tables(4):  # TensorMetadata.process_units
                    if unit.u8(0) == 1:  # ProcessUnitOptions.NormalizationOptions
                        options = unit.table(1)
                        mean, std = options.floats(0), options.floats(1)
                        return (mean, std) if mean and std and all(std) else None
    except (struct.error, IndexError, KeyError):
        return None  # no metadata or metadata of another make: nothing is stated
    return None


def numbered(count: int) -> tuple[str, ...]:
    """Labels for a model that names none."""
    return tuple(f"class {index}" for index in range(count))


@functools.cache
def spread_palette(count: int) -> tuple[Colour, ...]:
    """Well separated colours, id 0 black: each next one is the farthest, in CIE Lab, from all before it."""
    shades = [
        (hue / 32, part, value) for hue in range(32) for part in (0.5, 0.75, 1) for value in (0.5, 0.75, 1)
    ]
    rgb = np.array([(0.0, 0.0, 0.0)] + [colorsys.hsv_to_rgb(*shade) for shade in shades], np.float32)
    return farthest(rgb, cv2.cvtColor(rgb[None], cv2.COLOR_RGB2LAB), 1, count)


def farthest(rgb: np.ndarray, lab: np.ndarray, first: int, count: int) -> tuple[Colour, ...]:
    """`count` of the colours `rgb`, (N, 3), 0..1: the `first` ones, then each time the farthest from all before it.

    `lab`, (K, N, 3), is how K kinds of vision see them, of which the one that sees least difference counts.
    """
    chosen, distance = list(range(min(first, count))), np.full(len(rgb), np.inf)
    for place in range(count):
        if place == len(chosen):
            chosen.append(int(distance.argmax()))
        apart = np.linalg.norm(lab - lab[:, chosen[place] : chosen[place] + 1], axis=2).min(axis=0)
        distance = np.minimum(distance, apart)
    colours = np.rint(rgb[chosen] * 255).astype(int)
    return tuple((int(red), int(green), int(blue)) for red, green, blue in colours)


def _bundle(content: Any, path: Path, needed: Sequence[str] = NEEDED) -> Bundle:
    version = strict_json.checked(content, {"format": int})["format"]
    if version != FORMAT:
        raise UserError(
            f"{path} carries a note of format {version}, but this runtime reads format {FORMAT}; "
            "use a matching version of Kerbside."
        )
    facts = strict_json.checked(content, {key: FACTS[key] for key in needed})
    height, width = facts["size"]
    labels = tuple(facts["labels"])
    palette = tuple((red, green, blue) for red, green, blue in facts["palette"])
    if len(labels) != len(palette) or facts["output"] not in ("mask", "scores"):
        raise ValueError(f"{len(labels)} labels, {len(palette)} colours, output {shown(facts['output'])}")
    if not all(0 <= channel <= 255 for colour in palette for channel in colour):
        raise ValueError("its colours have to be of numbers from 0 to 255")
    if len(labels) > MOST_CLASSES:
        raise UserError(
            f"{path} has {len(labels)} classes; up to {MOST_CLASSES} fit into ids of 8 bits, which it gives."
        )
    return Bundle(labels, palette, facts["ignore_id"], facts["output"], (height, width), facts)


def _entries(path: Path) -> dict[str, bytes]:
    """The note and the texts in the archive behind the flatbuffer, by name; none when there is no archive.

    Only the end of the file is looked at, and of the archive only what is asked of it here: few entries, small, stored
    or deflated, so that no archive takes more memory than its bounds.
    """
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_ARCHIVE_BYTES))
            tail = io.BytesIO(file.read())
        if not zipfile.is_zipfile(tail):
            return {}
        with zipfile.ZipFile(tail) as archive:
            infos, number = archive.infolist(), len(archive.infolist())
            asked = [
                info for info in infos if info.filename == NOTE or info.filename.lower().endswith(".txt")
            ]
            small = [info for info in asked if info.file_size <= MAX_NOTE_BYTES]
            total = sum(info.file_size for info in small)
            if number > MAX_ENTRIES or total > MAX_ARCHIVE_BYTES:
                raise UserError(
                    f"{path} is damaged: the archive at its end has {number} entries, of which {total / 1e6:.1f} MB "
                    f"would be read; {_COPY_AGAIN}."
                )
            return {info.filename: _entry(archive, info) for info in small}
    except _BAD_ARCHIVE as error:
        raise UserError(
            f"{path} is damaged: the archive at its end cannot be read ({shown(str(error))}); {_COPY_AGAIN}."
        ) from error


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"{info.filename} is packed by method {info.compress_type}")
    return archive.read(info)


def _u32(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


class _Table:
    """A flatbuffer table: fields are found through its vtable, vectors and tables through relative offsets.
    An absent field reads as KeyError, a place outside `data` as struct.error."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def _field(self, number: int) -> int:
        vtable = self.at - struct.unpack_from("<i", self.data, self.at)[0]
        (length,) = struct.unpack_from("<H", self.data, vtable)
        if 4 + 2 * number >= length:
            raise KeyError(number)
        (offset,) = struct.unpack_from("<H", self.data, vtable + 4 + 2 * number)
        if not offset:
            raise KeyError(number)
        return self.at + int(offset)

    def _vector(self, number: int) -> tuple[int, int]:
        field = self._field(number)
        start = field + _u32(self.data, field)
        length = _u32(self.data, start)
        if length > len(self.data):
            raise struct.error(f"a vector of {length} elements in {len(self.data)} bytes")
        return start + 4, length

    def u8(self, number: int) -> int:
        return self.data[self._field(number)]

    def u32(self, number: int) -> int:
        return _u32(self.data, self._field(number))

    def ubytes(self, number: int) -> bytes:
        start, length = self._vector(number)
        return self.data[start : start + length]

    text = ubytes

    def floats(self, number: int) -> list[float]:
        start, length = self._vector(number)
        return list(struct.unpack_from(f"<{length}f", self.data, start))

    def table(self, number: int) -> "_Table":
        field = self._field(number)
        return _Table(self.data, field + _u32(self.data, field))

    def tables(self, number: int) -> list["_Table"]:
        start, length = self._vector(number)
        places = [start + 4 * index for index in range(length)]
        return [_Table(self.data, place + _u32(self.data, place)) for place in places]
