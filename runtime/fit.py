"""How an image of any shape comes before a model of one size, and how its map comes back: `Placing`.

The image is resized to `inner`, laid in the middle of a canvas, and seen through one window of the model's size, or
through several. `stretch`: all three are of one size, so that the image loses its aspect. `letterbox`: the image keeps
its aspect, and a border fills what is left of the canvas. `tiles`: the image keeps its aspect and fills a canvas larger
than a window. `auto`: one of these by the image's aspect (`chosen`); docs/results/runtime.md has what was measured.
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from runtime.errors import UserError
from runtime.image import resize_ids, resize_rgb

Size = tuple[int, int]  # (height, width), in pixels

FITS = ("auto", "letterbox", "stretch", "tiles")
GREY = (128, 128, 128)  # of a letterbox's border
OVERLAP = 0.25  # of a window with the next one, at least
MOST_WINDOWS = 32
WIDE, TALL = 2.0, 0.6  # the image's aspect over the frame's, beyond which one window does not do it justice
CLOSER = 1.3  # times the frame's longer side: what tiles bring an image to at least


@dataclass(frozen=True)
class Placing:
    """Where an image lies before a model that takes `frame`; all sizes are (height, width) in the model's pixels.

    `fit` is letterbox, stretch or tiles. A window of size `frame` begins at each pair of `tops` and `lefts`.
    """

    fit: str
    frame: Size
    inner: Size
    tops: tuple[int, ...] = (0,)
    lefts: tuple[int, ...] = (0,)

    @property
    def canvas(self) -> Size:
        return self.tops[-1] + self.frame[0], self.lefts[-1] + self.frame[1]

    @property
    def at(self) -> tuple[int, int]:
        """Top and left of the image on the canvas."""
        return (self.canvas[0] - self.inner[0]) // 2, (self.canvas[1] - self.inner[1]) // 2

    @property
    def windows(self) -> list[tuple[slice, slice]]:
        """Rows and columns of each window on the canvas."""
        height, width = self.frame
        return [
            (slice(top, top + height), slice(left, left + width)) for top in self.tops for left in self.lefts
        ]

    @property
    def whole(self) -> bool:
        """Whether the one window holds the image and nothing else."""
        return self.inner == self.frame == self.canvas


def checked_fit(fit: str, shown: str = "fit") -> str:
    """`fit`, or UserError unless it is one of FITS; `shown` is what it is called there."""
    if fit not in FITS:
        raise UserError(f"{shown} is '{fit}'; it has to be one of {', '.join(FITS)}.")
    return fit


@contextmanager
def naming(shown: object) -> Iterator[None]:
    """A UserError of the block begins with the file it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{shown}: {error}") from error


@functools.lru_cache(maxsize=64)
def placing(fit: str, size: Size, frame: Size) -> Placing:
    """Where an image of `size` lies before a model that takes `frame`; `fit` is one of FITS.

    UserError when tiles are asked for an image so wide or so tall that it needs more than MOST_WINDOWS.
    """
    return WAYS[chosen(size, frame) if fit == "auto" else fit](size, frame)


def chosen(size: Size, frame: Size) -> str:
    """The fit that `auto` takes, by the image's aspect over the frame's: tiles beyond WIDE and TALL (letterbox
    where that takes too many windows), else letterbox where the image is wider and stretch where it is narrower."""
    wider = (size[1] * frame[0]) / (size[0] * frame[1])
    if not TALL <= wider <= WIDE:
        return "tiles" if _count(_covering(size, frame), frame) <= MOST_WINDOWS else "letterbox"
    return "letterbox" if wider > 1 else "stretch"


def _stretch(size: Size, frame: Size) -> Placing:
    return Placing("stretch", frame, frame)


def _letterbox(size: Size, frame: Size) -> Placing:
    return Placing("letterbox", frame, _scaled(size, min(frame[0] / size[0], frame[1] / size[1])))


def _tiles(size: Size, frame: Size) -> Placing:
    inner = _covering(size, frame)
    count = _count(inner, frame)
    if count > MOST_WINDOWS:
        raise UserError(
            f"an image of {size[1]}x{size[0]} pixels takes {count} tiles of {frame[1]}x{frame[0]}, and up to "
            f"{MOST_WINDOWS} are run; choose another fit, such as letterbox."
        )
    return Placing("tiles", frame, inner, _starts(inner[0], frame[0]), _starts(inner[1], frame[1]))


WAYS = {"letterbox": _letterbox, "stretch": _stretch, "tiles": _tiles}


def _scaled(size: Size, scale: float) -> Size:
    """`size` times `scale`, to the nearest pixel, at least one."""
    return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))


def _covering(size: Size, frame: Size) -> Size:
    """The size at which an image is tiled: no side is shorter than the frame's, and one is CLOSER times as long."""
    down, across = size[0] / frame[0], size[1] / frame[1]
    scale = max(1.0, CLOSER * min(down, across) / max(down, across)) / min(down, across)
    height, width = _scaled(size, scale)
    return max(height, frame[0]), max(width, frame[1])


def _count(inner: Size, frame: Size) -> int:
    """How many windows of size `frame` cover `inner`."""
    return (1 + _steps(inner[0], frame[0])) * (1 + _steps(inner[1], frame[1]))


def _steps(length: int, window: int) -> int:
    """How often a window moves on to cover `length`, when it overlaps the one before it by OVERLAP at least."""
    return -(-(length - window) // max(1, int(window * (1 - OVERLAP))))


def _starts(length: int, window: int) -> tuple[int, ...]:
    """Where the windows begin that cover `length`, evenly spread."""
    steps = _steps(length, window)
    return tuple(round(step * (length - window) / max(1, steps)) for step in range(steps + 1))


def frames(rgb: np.ndarray, place: Placing) -> list[np.ndarray]:
    """An image, uint8 (H, W, 3) -> what each window shows of it, uint8 (h, w, 3) of the model's size."""
    small = resize_rgb(rgb, place.inner)
    if place.whole:
        return [small]
    (height, width), (top, left) = place.canvas, place.at
    below, right = height - place.inner[0] - top, width - place.inner[1] - left
    canvas = cv2.copyMakeBorder(small, top, below, left, right, cv2.BORDER_CONSTANT, value=GREY)
    return [canvas[window] for window in place.windows]


def join_ids(maps: Sequence[np.ndarray], place: Placing) -> np.ndarray:
    """Class ids of each window, uint8 (h, w) -> those of the image's own area, each pixel's taken from the window in
    which it lies most centrally; at size `inner`, or as they come where the window holds the image and nothing else."""
    if place.whole:
        return maps[0]
    canvas, left_over = np.empty(place.canvas, np.uint8), iter(maps)
    for top, rows in zip(place.tops, _nearest(place.tops, place.frame[0]), strict=True):
        for left, columns in zip(place.lefts, _nearest(place.lefts, place.frame[1]), strict=True):
            ids = resize_ids(next(left_over), place.frame)
            canvas[rows, columns] = ids[
                rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
            ]
    return _cut(canvas, place)


def join_scores(maps: Sequence[np.ndarray], place: Placing, index: int) -> np.ndarray:
    """One class's scores of each window, any number type (h, w, C) -> float32 (H, W) as `join_ids`, but blended where
    windows overlap: a window counts for less towards its edges."""
    planes = [np.ascontiguousarray(scores[..., index], dtype=np.float32) for scores in maps]
    if place.whole:
        return planes[0]
    canvas = np.zeros(place.canvas, np.float32)
    down, across = _shares(place.tops, place.frame[0]), _shares(place.lefts, place.frame[1])
    shares = (np.outer(rows, columns) for rows in down for columns in across)
    for plane, window, share in zip(planes, place.windows, shares, strict=True):
        canvas[window] += share * resize_rgb(plane, place.frame)
    return _cut(canvas, place)


def _nearest(starts: tuple[int, ...], side: int) -> list[slice]:
    """For windows along one axis, the part of the canvas whose nearest middle is each one's."""
    ends = [0, *((one + other + side) // 2 for one, other in pairwise(starts)), starts[-1] + side]
    return [slice(start, end) for start, end in pairwise(ends)]


def _shares(starts: tuple[int, ...], side: int) -> list[np.ndarray]:
    """For windows along one axis, how much each counts at its pixels, float32 (side,); those of a pixel sum to 1."""
    ramp = np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5)
    total = np.zeros(starts[-1] + side)
    for start in starts:
        total[start : start + side] += ramp
    return [(ramp / total[start : start + side]).astype(np.float32) for start in starts]


def _cut(canvas: np.ndarray, place: Placing) -> np.ndarray:
    top, left = place.at
    return canvas[top : top + place.inner[0], left : left + place.inner[1]]
