"""What came of one image or of many as one ZIP file."""

import io
import json
import zipfile
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from app import views
from runtime import strict_json
from runtime.errors import UserError
from runtime.folders import distinct
from runtime.image import png
from runtime.segmenter import Segmentation

ENDS = ("_mask.png", "_colour.png", "_overlay.png", ".json", "_polygons.json")  # of an image's files
SUMMARY = "summary.json"


def safe_stem(name: str) -> str:
    """The stem of a file's name as a stranger gave it, fit to be a name here: no folders, no control characters."""
    stem = PurePosixPath(name.replace("\\", "/")).stem
    kept = "".join(letter for letter in stem if letter.isprintable() and letter not in '<>:"|?*').strip(". ")
    return kept[:100] or "picture"


def own_names(names: Sequence[str]) -> list[str]:
    """A name for each image whose files (`files`) are nobody else's: the first of one name keeps it, the others get
    a number."""
    stems = [safe_stem(name) for name in names]
    short = [stem[:96] for stem in stems]  # room for a number within what safe_stem keeps
    own = distinct(stems, short, ENDS, [SUMMARY])
    return [
        name if stem == mine else f"{mine}.png" for name, stem, mine in zip(names, stems, own, strict=True)
    ]


def legend_json(found: Segmentation, name: str) -> bytes:
    """The image's name, its size, the seconds, and id, name, colour and share of each class."""
    return strict_json.written({"image": name, **found.report()})


def polygons_json(found: Segmentation, name: str) -> bytes:
    """The image's name, its size [H, W] and the outlines of its regions: see `runtime.polygons`."""
    facts = {"image": name, "size": list(found.ids.shape), "polygons": found.polygons()}
    return (json.dumps(facts) + "\n").encode()


def files(found: Segmentation, name: str, opacity: float, hidden: Collection[int] = ()) -> dict[str, bytes]:
    """All files of one image, by name. `opacity` (0..1) and `hidden` are those of the overlay alone."""
    stem = safe_stem(name)
    return {
        f"{stem}_mask.png": found.mask_png(),
        f"{stem}_colour.png": found.colour_png(),
        f"{stem}_overlay.png": png(views.overlay(found, opacity, hidden)),
        f"{stem}.json": legend_json(found, name),
        f"{stem}_polygons.json": polygons_json(found, name),
    }


def zipped(
    images: Iterable[tuple[str, Callable[[], Segmentation]]],
    opacity: float,
    hidden: Collection[int] = (),
    facts: dict[str, Any] | None = None,
) -> bytes:
    """A ZIP of the files of each image, given by its name and a function that segments it, one in memory at a time.

    `summary.json` holds `facts`, the names, and what could not be read; two images of one name get numbers.
    """
    jobs = list(images)
    names = own_names([name for name, _ in jobs])
    good, bad = [], []
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(path: str, data: bytes) -> None:
            entry = zipfile.ZipInfo(path, datetime.now().timetuple()[:6])
            entry.compress_type = zipfile.ZIP_STORED if path.endswith(".png") else zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)

        for own, (_, segment) in zip(names, jobs, strict=True):
            try:
                found = segment()
            except UserError as error:
                bad.append(str(error))
                continue
            good.append(own)
            for path, data in files(found, own, opacity, hidden).items():
                add(path, data)
        summary = {**(facts or {}), "images": good, "could_not_be_read": bad}
        add(SUMMARY, strict_json.written(summary))
    return buffer.getvalue()
