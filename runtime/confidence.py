"""How sure a model is of an image, by its scores and by what was measured at export (`export.confidence`).

The note of a file has, under "confidence", what is read here: `Facts`. A scores file has scores of every pixel, a mask
file may have a second output, scores of every fourth pixel either way; of both every fourth pixel is looked at. The
confidence of a pixel is the largest of its softmax probabilities, the scores divided by a temperature first, so that of
the pixels at 80% some 80% are right (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2).

Whether an image is unlike what the model knows is told by two means over it, each with a value below which it is said:
that of the highest score of each pixel (Hendrycks et al. 2022, "Scaling Out-of-Distribution Detection for Real-World
Settings": max-logit, here of a whole image), and that of the log of the share that the pixel's class has at its place
in labelled images. docs/results/runtime.md has what else was measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime import strict_json
from runtime.fit import Placing, join_scores
from runtime.image import resize_ids, resize_rgb

FACT = "confidence"  # its name in the note
STEP = 4  # pixels from one pixel whose scores are looked at to the next, either way
CELL = 16  # pixels a side of a cell in which places are counted
MOST_CELLS = 4096


@dataclass(frozen=True)
class Facts:
    """What was measured on `images` images of the split `split`.

    `temperature` divides scores before the softmax; `step` is that of a mask file's second output, 0 where it has none.
    `score` and `place` are (mean, least) of the two means over an image, None where they were not measured; `shares`,
    float32 (rows, columns, classes), are the shares of the classes in each cell of an image.
    """

    temperature: float = 1.0
    step: int = 0
    images: int = 0
    split: str = ""
    score: tuple[float, float] | None = None
    place: tuple[float, float] | None = None
    shares: np.ndarray | None = None


@dataclass(frozen=True)
class Evidence:
    """What a model gave of one image: `maps`, scores float32 (h, w, C) of each window that `place` has on the image
    (none of a file without scores), and the facts of its file."""

    maps: tuple[np.ndarray, ...]
    place: Placing
    facts: Facts

    def confidence(self) -> np.ndarray | None:
        """float32 (h, w), 0..1, of the image's own area, as coarse as it comes; None without scores."""
        return self._joined([likeliest(scores, self.facts.temperature) for scores in self.maps])

    def highest_score(self) -> float | None:
        """The mean over the image of each pixel's highest score; None without scores."""
        joined = self._joined([scores.max(axis=-1) for scores in self.maps])
        return None if joined is None else float(joined.mean())

    def _joined(self, planes: Sequence[np.ndarray]) -> np.ndarray | None:
        return join_scores([plane[..., None] for plane in planes], self.place, 0) if planes else None


def likeliest(scores: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """The largest softmax probability of each pixel: scores (h, w, C) -> float32 (h, w), 0..1."""
    highest = scores.max(axis=-1, keepdims=True)
    return 1 / np.exp((scores - highest) / np.float32(temperature)).sum(axis=-1, dtype=np.float32)


def place_likelihood(ids: np.ndarray, shares: np.ndarray) -> float:
    """The mean over an image of the log of the share that the class has in that cell: ids, uint8 (H, W), and shares,
    (rows, columns, classes); the nearer to 0, the more usual. Ids without a share do not count; NaN where none has."""
    rows, columns, classes = shares.shape
    small = resize_ids(ids, (rows * CELL, columns * CELL))
    cells = np.log(shares).repeat(CELL, axis=0).repeat(CELL, axis=1)
    known = small < classes
    if not known.any():
        return float("nan")
    found = np.take_along_axis(cells, np.where(known, small, 0)[..., None].astype(np.intp), axis=-1)[..., 0]
    return float(found[known].mean())


def doubt(ids: np.ndarray, evidence: Evidence | None) -> str:
    """A sentence when the image is unlike those that the model was measured on, else ""."""
    if evidence is None:
        return ""
    facts = evidence.facts
    known = f"the {facts.images} images that it was measured on"
    if facts.score:
        found = evidence.highest_score()
        if found is not None and found < facts.score[1]:
            return (
                f"The model is unsure here: its highest scores average {found:.1f}, "
                f"where they have {facts.score[0]:.1f} on {known}."
            )
    if facts.place and facts.shares is not None and place_likelihood(ids, facts.shares) < facts.place[1]:
        return f"The model may be wrong here: what it sees lies where it seldom lay in {known}."
    return ""


def at_size(confidence: np.ndarray | None, size: tuple[int, int]) -> np.ndarray | None:
    """A map of `Evidence.confidence` at the image's size (height, width), bilinear."""
    return None if confidence is None else resize_rgb(confidence, size)


WANTED: dict[str, Any] = {"temperature": float, "step": int, "images": int, "split": str}


def read_facts(note: Any, classes: int) -> Facts:
    """The facts of a note's "confidence"; ValueError, with the reason as a clause, when they cannot be so."""
    known = strict_json.checked(note, WANTED)
    if not known["temperature"] > 0 or known["step"] < 0:
        raise strict_json.JsonError("its temperature and its step have to be above 0")
    score, place = (_pair(known, name) for name in ("score", "place"))
    return Facts(
        float(known["temperature"]), known["step"], known["images"], known["split"], score, place,
        _shares(known.get("shares"), classes) if place else None,
    )  # fmt: skip


def _pair(note: dict[str, Any], name: str) -> tuple[float, float] | None:
    if note.get(name) is None:
        return None
    found = strict_json.checked(note[name], {"mean": float, "least": float})
    return float(found["mean"]), float(found["least"])


def _shares(rows: Any, classes: int) -> np.ndarray:
    if not strict_json.fits(rows, list[list[list[float]]]):
        raise strict_json.JsonError('its "shares" have to be rows of cells of numbers')
    widths, depths = {len(row) for row in rows}, {len(cell) for row in rows for cell in row}
    if len(widths) != 1 or depths != {classes} or len(rows) * len(rows[0]) > MOST_CELLS:
        raise strict_json.JsonError(f'its "shares" have to be a grid of cells of {classes} numbers')
    shares = np.array(rows, np.float32)
    if not (shares > 0).all():
        raise strict_json.JsonError('its "shares" have to be above 0')
    return shares
