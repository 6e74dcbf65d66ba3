"""What people corrected, kept on this machine: a SQLite database with the images and masks as files beside it.

    DIR/feedback.sqlite
    DIR/files/000001-picture.png  000001-prediction.png  000001-corrected.png

Nothing is kept unless `keep` is called. An image is kept as its pixels, so that what a camera writes into a file
(place, time, owner) is not. Masks are grey PNGs of class ids; each record has the model's class names and colours.
The same image kept again, with the same classes, replaces its record, so that no image is twice in the data.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import sqlite3
import time
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime import strict_json
from runtime.bundle import Colour
from runtime.errors import UserError
from runtime.files import make_folder, write_whole
from runtime.image import checked_bytes, png, read_rgb
from runtime.segmenter import Segmentation

DATABASE, FILES = "feedback.sqlite", "files"
KINDS = ("picture", "prediction", "corrected")
HELD_OUT_EVERY, HELD_OUT_FROM = 5, 2  # the records 2, 7, 12, ...
WAIT = 10.0  # seconds for another process that writes

_TABLE = """
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice, so that the held-out part never changes
    kept TEXT NOT NULL,                    -- UTC, ISO 8601
    name TEXT NOT NULL,                    -- of the image, as it was uploaded
    sha256 TEXT NOT NULL,                  -- of its pixels
    height INTEGER NOT NULL,
    width INTEGER NOT NULL,
    model TEXT NOT NULL,
    labels TEXT NOT NULL,                  -- JSON: names in the order of their ids
    palette TEXT NOT NULL,                 -- JSON: [[red, green, blue], ...]
    changed INTEGER NOT NULL,              -- pixels that the correction changed
    UNIQUE (sha256, labels)
)
"""


@dataclass(frozen=True)
class Record:
    """A row of the database. `changed` is the share of pixels, 0..1, that the correction changed."""

    id: int
    kept: str
    name: str
    sha256: str
    height: int
    width: int
    model: str
    labels: tuple[str, ...]
    palette: tuple[Colour, ...]
    changed: float

    @property
    def held_out(self) -> bool:
        """Whether it is for scoring (the split val) and never trained on: every fifth record, from the second on."""
        return self.id % HELD_OUT_EVERY == HELD_OUT_FROM


def keep(folder: Path, found: Segmentation, corrected: np.ndarray, name: str, model: str) -> Record:
    """Keep image, prediction and corrected mask, uint8 (H, W) of class ids or 255; the record that was made.

    UserError when the mask does not fit, or the disk refuses; then nothing is kept.
    """
    if corrected.shape != found.ids.shape or corrected.dtype != np.uint8:
        raise UserError(
            f"the corrected mask is {corrected.dtype} {corrected.shape}; uint8 {found.ids.shape} is needed."
        )
    stray = corrected[(corrected >= len(found.labels)) & (corrected != 255)]
    if stray.size:
        raise UserError(f"the corrected mask holds the id {stray[0]}; ids go to {len(found.labels) - 1}.")
    images = dict(zip(KINDS, (found.rgb, found.ids, corrected), strict=True))
    sha256 = hashlib.sha256(f"{found.rgb.shape}".encode() + found.rgb.tobytes()).hexdigest()
    labels, palette = json.dumps(found.labels), json.dumps([list(map(int, c)) for c in found.palette])
    height, width = found.ids.shape
    changed = int((corrected != found.ids).sum())
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    row = (now, name, sha256, height, width, model, labels, palette, changed)
    make_folder(folder / FILES)
    with _opened(folder) as database:
        database.execute(_TABLE)
        database.execute("BEGIN IMMEDIATE")
        old = database.execute("SELECT id FROM records WHERE sha256 = ? AND labels = ?", (sha256, labels))
        known = next((int(found_id) for (found_id,) in old), None)
        if known is None:
            marks = ", ".join("?" * len(row))
            columns = "kept, name, sha256, height, width, model, labels, palette, changed"
            made = database.execute(f"INSERT INTO records ({columns}) VALUES ({marks})", row)
            number = int(made.lastrowid or 0)
        else:
            number = known
            database.execute(
                "UPDATE records SET kept = ?, name = ?, model = ?, palette = ?, changed = ? WHERE id = ?",
                (now, name, model, palette, changed, number),
            )
        try:
            for kind, image in images.items():
                write_whole(path_of(folder, number, kind), png(image))
        except UserError:
            if known is None:
                _remove_files(folder, number)
            raise
    return next(record for record in records(folder) if record.id == number)


def records(folder: Path) -> list[Record]:
    """What is kept, the oldest first; [] where nothing is. UserError when the database cannot be read."""
    if not (folder / DATABASE).is_file():
        return []
    with _opened(folder, writing=False) as database:
        there = database.execute("SELECT name FROM sqlite_master WHERE name = 'records'").fetchone()
        rows = database.execute("SELECT * FROM records ORDER BY id").fetchall() if there else []
    return [_record(*row) for row in rows]


def path_of(folder: Path, number: int, kind: str) -> Path:
    """The file of a record: `kind` is image, prediction or corrected."""
    return folder / FILES / f"{number:06d}-{kind}.png"


def images(folder: Path, record: Record) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RGB (H, W, 3), predicted ids and corrected ids (H, W) of a record, uint8; UserError when a file is damaged."""
    rgb, predicted, corrected = (read_rgb(path_of(folder, record.id, kind)) for kind in KINDS)
    for kind, image in zip(KINDS, (rgb, predicted, corrected), strict=True):
        if image.shape[:2] != (record.height, record.width):
            raise UserError(
                f"{path_of(folder, record.id, kind)} is {image.shape[1]}x{image.shape[0]} pixels; its record says "
                f"{record.width}x{record.height}, so delete the record."
            )
    return rgb, predicted[..., 0], corrected[..., 0]


def delete(folder: Path, numbers: Collection[int]) -> int:
    """Forget these records and remove their files; how many there were."""
    if not (folder / DATABASE).is_file():
        return 0
    with _opened(folder) as database:
        database.execute("PRAGMA secure_delete = ON")
        database.execute("BEGIN IMMEDIATE")
        gone = sum(
            database.execute("DELETE FROM records WHERE id = ?", (number,)).rowcount for number in numbers
        )
    for number in numbers:
        _remove_files(folder, number)
    return gone


def exported(folder: Path, numbers: Collection[int]) -> bytes:
    """A zip that `--data folder` reads once unpacked: images/SPLIT/, masks/SPLIT/, predictions/SPLIT/, classes.json,
    and records.json with the rest.

    UserError when the records are not of one set of classes, or there are none.
    """
    chosen = [record for record in records(folder) if record.id in numbers]
    if not chosen:
        raise UserError(f"{folder} has none of these records; choose some that are there.")
    if len({record.labels for record in chosen}) > 1:
        raise UserError("these records have different classes; export those of one model at a time.")
    palette = chosen[-1].palette
    classes = [
        {"name": label, "id": index, "colour": list(palette[index])}
        for index, label in enumerate(chosen[0].labels)
    ]
    facts = [{**dataclasses.asdict(record), "held_out": record.held_out} for record in chosen]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:  # PNGs are compressed already
        archive.writestr("classes.json", json.dumps({"name": "feedback", "classes": classes}, indent=1))
        archive.writestr("records.json", json.dumps(facts, indent=1))
        for record in chosen:
            split = "val" if record.held_out else "train"
            for kind, place in zip(KINDS, ("images", "predictions", "masks"), strict=True):
                data, _, _ = checked_bytes(path_of(folder, record.id, kind))
                archive.writestr(f"{place}/{split}/{record.id:06d}.png", data)
    return made.getvalue()


@contextlib.contextmanager
def _opened(folder: Path, *, writing: bool = True) -> Iterator[sqlite3.Connection]:
    """The database; what was written is kept when the block ends well, and else undone."""
    path = folder / DATABASE
    mode = "rwc" if writing else "ro"
    try:
        database = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=WAIT, isolation_level=None
        )
        try:
            yield database
            if database.in_transaction:
                database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        finally:
            database.close()
    except sqlite3.Error as error:
        raise UserError(
            f"{path} cannot be used ({error}); look whether the disk and the file are right."
        ) from error


def _remove_files(folder: Path, number: int) -> None:
    for kind in KINDS:
        path = path_of(folder, number, kind)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{path} cannot be removed: {error.strerror or error}.") from error


def _record(number: int, kept: str, name: str, sha256: str, height: int, width: int, *rest: object) -> Record:
    model, labels, palette, changed = rest
    try:
        names = tuple(map(str, strict_json.parse(str(labels))))
        colours = tuple((int(r), int(g), int(b)) for r, g, b in strict_json.parse(str(palette)))
        share = int(str(changed)) / (height * width)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise UserError(
            f"record {number} of {DATABASE} is damaged ({error}); delete that row of it."
        ) from error
    return Record(number, kept, name, sha256, height, width, str(model), names, colours, share)
