"""Images of a score, drawn by OpenCV alone: where a prediction is wrong, and the confusion matrix."""

from collections.abc import Sequence

import cv2
import numpy as np

IGNORED = 255
RIGHT, WRONG, VOID = (40, 40, 40), (230, 60, 40), (255, 255, 255)
PAPER, INK, FAINT = (255, 255, 255), (29, 36, 32), (196, 202, 198)
FULL = (20, 74, 122)  # a share of 100%; 0 is the paper
CELL, SMALL_CELL = 46, 14  # pixels
WRITTEN = 24  # classes up to which every cell has its number
LETTER = 15  # pixels
CORNER = 150  # pixels: the least that the names take
LONGEST = 24  # letters of a name that are shown


def error_image(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Red where the prediction is wrong, dark where it is right, white where nothing counts; uint8 (H, W, 3)."""
    image = np.where((truth == predicted)[..., None], np.array(RIGHT), np.array(WRONG)).astype(np.uint8)
    image[truth == IGNORED] = VOID
    return image


def confusion_image(matrix: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """A (C, C) matrix of pixel counts, rows the truth, as uint8 (H, W, 3): each row in per cent of its true pixels.

    Classes that are neither there nor predicted are left out. Up to 24 classes every cell that rounds to a per cent
    or more has its number, of 1% to 100%; beyond that the colour alone speaks.
    """
    kept = [int(index) for index in np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1))]
    shown = [
        names[index] if len(names[index]) <= LONGEST else f"{names[index][: LONGEST - 1]}…" for index in kept
    ]
    counted = matrix[np.ix_(kept, kept)]
    shares = counted / np.maximum(1, counted.sum(axis=1, keepdims=True))
    written = len(kept) <= WRITTEN
    cell, letter = (CELL, LETTER) if written else (SMALL_CELL, SMALL_CELL - 3)
    margin = max([CORNER, *(_width(name, letter) + 14 for name in shown)])
    side = margin + cell * len(kept)
    image = np.full((side + 12, side + 12, 3), PAPER, np.uint8)
    for row, column in np.ndindex(shares.shape):
        share, left, top = shares[row, column], margin + column * cell, margin + row * cell
        tone = np.rint(np.array(PAPER) + share * (np.array(FULL) - np.array(PAPER)))
        image[top : top + cell, left : left + cell] = tone
        if written and share >= 0.005:
            text = f"{100 * share:.0f}"
            place = (left + (cell - _width(text, letter)) // 2, top + (cell + letter) // 2 - 2)
            _write(image, text, place, PAPER if share > 0.5 else INK, letter)
    for line in range(len(kept) + 1):
        at = margin + line * cell
        cv2.line(image, (margin, at), (side, at), FAINT, 1)
        cv2.line(image, (at, margin), (at, side), FAINT, 1)
    rows, heads = (
        _names(shown, cell, letter, margin, right=True),
        _names(shown, cell, letter, margin, right=False),
    )
    image[margin:side, :margin] = rows
    image[:margin, margin:side] = np.rot90(heads)
    for line, text in enumerate(("rows: truth", "columns: prediction", "% of the true pixels")):
        _write(image, text, (6, 22 + 20 * line), INK, 13)
    return image


def _names(names: Sequence[str], cell: int, letter: int, width: int, *, right: bool) -> np.ndarray:
    """A strip of names, one a cell, uint8 (cells, width, 3), against its right or its left edge."""
    strip = np.full((cell * len(names), width, 3), PAPER, np.uint8)
    for row, name in enumerate(names):
        left = width - 7 - _width(name, letter) if right else 7
        _write(strip, name, (left, row * cell + (cell + letter) // 2 - 2), INK, letter)
    return strip


def _write(image: np.ndarray, text: str, at: tuple[int, int], colour: Sequence[int], letter: int) -> None:
    cv2.putText(image, text, at, tuple(colour), cv2.FontFace("sans"), letter)


def _width(text: str, letter: int) -> int:
    """Pixels that the text takes."""
    left, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), cv2.FontFace("sans"), letter)
    return int(left + width)
