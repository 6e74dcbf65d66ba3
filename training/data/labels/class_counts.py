"""How often each class occurs in a split, counted while its files are checked, and what can not be learnt from it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from runtime.errors import UserError
from training.data.spec import VOID_ID, DatasetSpec, Example

LISTED = 10  # names of classes in a sentence
LOOKED_AT = 40  # label maps whose raw ids are counted, where a sentence says what they hold
SHOWN_IDS = 6
MUCH_VOID = 0.5  # of the pixels of train: more than that is said
_EXACT = 1 << 24  # OpenCV counts in float32, exact up to here


def _zeros() -> np.ndarray:
    return np.zeros(VOID_ID + 1, np.int64)


@dataclass
class Occurrence:
    """Of each train id, int64 (256,): its pixels, the images that hold it, and all pixels that count of those images.
    The last, 255, is void; in `around` it is nothing."""

    pixels: np.ndarray = field(default_factory=_zeros)
    images: np.ndarray = field(default_factory=_zeros)
    around: np.ndarray = field(default_factory=_zeros)

    def add(self, pixels: np.ndarray, times: int = 1) -> None:
        """Count one image, by its `counted`; -1 times takes it back."""
        self.pixels += times * pixels
        self.images += times * (pixels > 0)
        self.around[pixels > 0] += times * pixels[:VOID_ID].sum()

    def of(self, classes: int) -> "Occurrence":
        """That of the first ids alone, which are the classes."""
        return Occurrence(self.pixels[:classes], self.images[:classes], self.around[:classes])

    def frequencies(self) -> np.ndarray:
        """Each id's share of the pixels, float64, which sum to 1."""
        return self.pixels / max(1, self.pixels.sum())

    def void(self) -> float:
        """The share of the pixels that are void, 0..1."""
        return float(self.pixels[VOID_ID] / max(1, self.pixels.sum()))


def counted(labels: np.ndarray) -> np.ndarray:
    """The pixels of each id, int64 (256,), of a label map, uint8 (H, W)."""
    rows = max(1, _EXACT // max(1, labels.shape[1]))
    found = _zeros()
    for start in range(0, labels.shape[0], rows):
        part = labels[start : start + rows]
        found += cv2.calcHist([part], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    return found


def refuse_unlearnable(
    spec: DatasetSpec,
    train: tuple[Occurrence, Sequence[Example]],
    val: tuple[Occurrence, Sequence[Example]],
    least: int,
) -> None:
    """UserError where train has fewer than `least` classes with pixels, or val none: it says what the masks hold."""
    for split, (found, examples), needed in (("train", train, least), ("val", val, 1)):
        there = [name for name, pixels in zip(spec.classes, found.pixels, strict=False) if pixels]
        if len(there) >= needed:
            continue
        has = f"pixels of {there[0]} alone" if there else "no pixel of any class"
        end = (
            "a model learns to tell two classes or more apart"
            if split == "train"
            else "nothing can be scored on it"
        )
        raise UserError(f"{split} has {has}, and {end}{_what_masks_hold(spec, found, examples)}.")


def _what_masks_hold(spec: DatasetSpec, found: Occurrence, examples: Sequence[Example]) -> str:
    """ ": its masks hold the ids 0 (81.20%) and 255 (18.80%, void); ..." with what to write instead."""
    shares = raw_shares(examples)
    if not shares:
        return f" ({100 * found.void():.2f}% of its pixels are void)"
    listed = [
        f"{raw} ({100 * share:.2f}%{', void' if void else ''})" for raw, share, void in shares[:SHOWN_IDS]
    ]
    more = " and others" if len(shares) > SHOWN_IDS else ""
    kind = "colours" if isinstance(shares[0][0], str) else "ids"
    last = f" and {listed[-1]}" if len(listed) > 1 else ""
    said = f": its masks hold the {kind} {', '.join(listed[:-1] or listed)}{last}{more}"
    absent = next(
        (name for name, pixels in zip(spec.classes, found.pixels, strict=False) if not pixels), None
    )
    void = next((raw for raw, _, is_void in shares if is_void and not isinstance(raw, str)), None)
    if absent is None or void is None:
        return said
    return f'{said}; if {void} is {absent}, classes.json has to say so, {{"name": "{absent}", "id": {void}}}'


def raw_shares(examples: Sequence[Example]) -> list[tuple[int | str, float, bool]]:
    """What some of the label files hold, the most first: (id, or colour as #rrggbb; its share of the pixels; whether it
    is void). Those of up to 40 examples from all over; [] where nothing is stored but train ids."""
    step = max(1, len(examples) // LOOKED_AT)
    pixels: Counter[int | str] = Counter()
    void: dict[int | str, bool] = {}
    for example in examples[::step][:LOOKED_AT]:
        if example.raw is None:
            return []
        raw, ids = example.raw()[1], example.read()[1]
        codes = raw.astype(np.int64)
        if raw.ndim == 3:
            codes = codes[..., 0] << 16 | codes[..., 1] << 8 | codes[..., 2]
        if codes.shape != ids.shape:
            continue
        found, first, counts = np.unique(codes, return_index=True, return_counts=True)
        for code, at, count in zip(found.tolist(), first.tolist(), counts.tolist(), strict=True):
            key = f"#{code:06x}" if raw.ndim == 3 else code
            pixels[key] += count
            void[key] = bool(ids.flat[at] == VOID_ID)
    total = sum(pixels.values())
    return [(key, count / total, void[key]) for key, count in pixels.most_common()]


def remarks(spec: DatasetSpec, train: Occurrence, val: Occurrence) -> list[str]:
    """Sentences on classes that are named and not there: to be said before training, and beside its score."""
    rows = list(zip(spec.classes, train.pixels, val.pixels, strict=False))
    nowhere = [name for name, learnt, scored in rows if not learnt and not scored]
    outside = [name for name, learnt, scored in rows if not learnt and scored]
    unscored = [name for name, learnt, scored in rows if learnt and not scored]
    found = []
    if outside:
        found.append(
            f"train has no pixel of {_listed(outside)}, and val has: not learnt, and scored in the mean."
        )
    if nowhere:
        found.append(f"neither train nor val has a pixel of {_listed(nowhere)}: neither learnt nor scored.")
    if unscored:
        found.append(f"val has no pixel of {_listed(unscored)}: learnt, and not scored.")
    return found


def void_remark(found: Occurrence, examples: Sequence[Example]) -> str:
    """A sentence where most of train is void, with the ids that are; "" where it is not."""
    if found.void() <= MUCH_VOID:
        return ""
    ids = [f"{raw} ({100 * share:.1f}%)" for raw, share, void in raw_shares(examples) if void][:SHOWN_IDS]
    of = f", in the masks {', '.join(ids)}" if ids else ""
    return f"{100 * found.void():.1f}% of the pixels of train are void{of}: is that what the masks mean?"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
