"""Masks that people bring: which ids or colours they hold, and a legend that says which class each stands for.

A legend is a dict from a value, an id or a colour (r, g, b), to a class id, or to 255 where it stands for nothing.
As JSON it is what `--data folder` reads as classes.json:

    {"by": "colours", "classes": [{"name": "road", "colours": [[128, 64, 128]]}], "ignore": [[0, 0, 0]]}
    {"by": "ids", "classes": [{"name": "road", "ids": [7]}], "ignore": [0, 255]}
"""

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime import strict_json
from runtime.bundle import Colour
from runtime.errors import UserError
from runtime.image import Palette, checked_bytes, read_rgb

IGNORED = 255
IDS, COLOURS = "ids", "colours"
MOST = 256  # values of one mask; a photograph has thousands of colours
MAX_LEGEND_BYTES = 1_000_000
LOSSLESS = ("PNG", "BMP")

Value = int | Colour
Legend = dict[Value, int]


@dataclass(frozen=True)
class PaintedMask:
    """A mask before anyone said what it means.

    `by` is what a pixel holds, "ids" or "colours"; `values` are those that occur, the most frequent first, `shares`
    0..1 how much of the mask each is, and `places` uint8 (H, W) is each pixel's place in `values`.
    `kinds` are what the file could be read by: a paletted or grey one by both.
    """

    by: str
    values: tuple[Value, ...]
    shares: tuple[float, ...]
    places: np.ndarray
    kinds: tuple[str, ...]


def read_mask(
    source: str | os.PathLike[str] | bytes, name: str | None = None, by: str | None = None
) -> PaintedMask:
    """Read an 8-bit PNG or BMP as ids or as colours; `by` is "ids", "colours", or None: ids where it can be.

    Ids are a paletted PNG's indices, or the value of an image that is grey in every pixel.
    Raises UserError when the file cannot be trusted, is of a kind that blurs ids (JPEG, WebP), has more than 256
    colours, or cannot be read by what was asked for.
    """
    data, shown, header = checked_bytes(source, name)
    if header.kind not in LOSSLESS:
        raise UserError(
            f"{shown} is a {header.kind}, which may blur ids and colours; save the mask as a PNG."
        )
    rgb = read_rgb(data, name=shown)
    paletted = header.kind == "PNG" and header.paletted
    grey = bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all())
    kinds = (IDS, COLOURS) if paletted or grey else (COLOURS,)
    by = by or kinds[0]
    if by not in kinds:
        raise UserError(f"{shown} is painted in colours; read it by colours, not by {by}.")
    pixels = rgb
    if by == IDS and paletted:
        pixels = read_rgb(_indices_as_grey(data), name=shown)
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    codes = red << 16 | green << 8 | blue  # (H, W), one number a colour
    seen = np.zeros(1 << 24, bool)  # by a table, for sorting many pixels takes long
    seen[codes] = True
    found = np.flatnonzero(seen)
    if len(found) > MOST:
        raise UserError(
            f"{shown} has {len(found)} colours; a mask has one a class, {MOST} at the most, so save it without "
            "smoothing, as a PNG."
        )
    table = np.zeros(1 << 24, np.uint8)
    table[found] = np.arange(len(found))
    counts = np.bincount(table[codes].ravel(), minlength=len(found))
    order = np.argsort(-counts, kind="stable")
    table[found[order]] = np.arange(len(found))
    values = tuple(int(code) & 255 if by == IDS else _rgb(int(code)) for code in found[order])
    shares = tuple(float(count) / codes.size for count in counts[order])
    return PaintedMask(by, values, shares, table[codes], kinds)


def to_ids(mask: PaintedMask, legend: Mapping[Value, int]) -> np.ndarray:
    """Class ids, uint8 (H, W): what the legend says of each value; 255, ignored, where it says nothing."""
    return np.array([legend.get(value, IGNORED) for value in mask.values], np.uint8)[mask.places]


def suggested(mask: PaintedMask, palette: Palette) -> Legend:
    """A legend to begin with: ids stand for themselves, colours for the class that has this very colour in the
    model's palette; the rest is ignored."""
    own = {tuple(map(int, colour)): index for index, colour in reversed(list(enumerate(palette)))}
    if mask.by == IDS:
        return {
            value: value if isinstance(value, int) and value < len(palette) else IGNORED
            for value in mask.values
        }
    return {value: own.get(value, IGNORED) if isinstance(value, tuple) else IGNORED for value in mask.values}


def legend_json(by: str, legend: Mapping[Value, int], labels: Sequence[str]) -> bytes:
    """The legend as JSON, by the classes' names, so that it outlives the order of their ids."""
    plain = {value: list(value) if isinstance(value, tuple) else value for value in legend}
    classes = [
        {"name": name, by: [plain[value] for value, index in legend.items() if index == place]}
        for place, name in enumerate(labels)
    ]
    ignore = [plain[value] for value, index in legend.items() if index >= len(labels)]
    content = {"by": by, "classes": [row for row in classes if row[by]], "ignore": ignore}
    return json.dumps(content, indent=1).encode() + b"\n"


def read_legend(data: bytes, labels: Sequence[str], name: str = "the legend") -> tuple[str, Legend]:
    """What a legend is by, and the legend, for a model of these labels; UserError in one sentence."""
    if len(data) > MAX_LEGEND_BYTES:
        raise UserError(f"{name} has {len(data)} bytes; a legend has {MAX_LEGEND_BYTES} at the most.")
    try:
        content = strict_json.parse(data, MAX_LEGEND_BYTES)
        by = content["by"]
        if by not in (IDS, COLOURS):
            raise ValueError(f'"by" is {strict_json.shown(by)}')
        rows = [(str(row["name"]), _values(row, by)) for row in content["classes"]]
        legend: Legend = {_value(value, by): IGNORED for value in content.get("ignore", [])}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        if isinstance(error, TypeError | AttributeError):  # Python's words, of no use to a visitor
            reason = "a list or an object stands where another value should"
        raise UserError(
            f"{name} is no legend ({reason}); a right one is "
            '{"by": "colours", "classes": [{"name": "road", "colours": [[128, 64, 128]]}], "ignore": []}.'
        ) from error
    for label, values in rows:
        if label not in labels:
            raise UserError(
                f"{name} names the class {strict_json.shown(label)}; the model has {', '.join(labels)}."
            )
        for value in values:
            if value in legend:
                raise UserError(f"{name} says twice what {value} stands for; take one out.")
            legend[value] = list(labels).index(label)
    return by, legend


def check_fits(mask: PaintedMask, rgb: np.ndarray, mask_name: str, name: str) -> None:
    """UserError unless mask and image have the same height and width."""
    if mask.places.shape != rgb.shape[:2]:
        raise UserError(
            f"{mask_name} is {mask.places.shape[1]}x{mask.places.shape[0]} pixels but {name} is "
            f"{rgb.shape[1]}x{rgb.shape[0]}; both have to be the same size."
        )


def _indices_as_grey(png: bytes) -> bytes:
    """A paletted PNG with its palette replaced by greys, so that any decoder gives its indices."""
    ramp = bytes(value for index in range(256) for value in (index, index, index))
    parts, at = [png[:8]], 8
    bits = png[24]
    while at < len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        kind = png[at + 4 : at + 8]
        if kind == b"PLTE":
            body = kind + ramp[: 3 << bits]
            parts.append((len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big"))
        elif kind != b"tRNS":
            parts.append(png[at:end])
        at = end
        if kind == b"IEND":
            break
    return b"".join(parts)


def _rgb(code: int) -> Colour:
    return code >> 16, code >> 8 & 255, code & 255


def _id(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 255:
        raise ValueError(f"{strict_json.shown(value)} is no id from 0 to 255")
    return value


def _colour(value: Any) -> Colour:
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError(f"{strict_json.shown(value)} is no colour [red, green, blue]")
    red, green, blue = map(_id, value)
    return red, green, blue


def _value(value: Any, by: str) -> Value:
    return _id(value) if by == IDS else _colour(value)


def _values(row: dict[str, Any], by: str) -> list[Value]:
    """Of one class: its "ids" or "id", its "colours" or "colour"."""
    single = by[:-1]
    given = row[by] if by in row or single not in row else [row[single]]
    return [_value(value, by) for value in given]
