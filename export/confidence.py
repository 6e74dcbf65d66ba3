"""What a file says of how sure it is: temperature, and below what an image is called unlike those that it knows.

Measured through the file itself, at its own size, on images of val, of each every fourth pixel either way, as
`runtime.confidence` looks at them:

- The temperature has the least mean negative log likelihood on every second image (Guo et al. 2017, section 4.2); the
  expected calibration error before and after is that of the other images. Without labels it is 1.
- `score`: the mean over an image of each pixel's highest score. Each image is looked at a second time, under one of
  the corruptions in turn, in a severity of 1 to 5. `least` parts best the images of which nearly as many pixels are
  right as of clean ones (GOOD) from the others: the largest difference of the shares of both that lie above it.
- `place`: the shares of the classes in the cells of an image are those of label maps of train, and of their mirror
  images. One group (a drive, a city) after another is scored by the shares of the others: `least` is the lowest.
  Where the labels lack a class of the model, as other data's do, they would call it out of place wherever it is
  seen: then the model's own ids on the same images count in their place.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation import calibration, corruptions
from evaluation.metric import Prediction
from export import Examples
from export.parity import Predict, spread
from runtime.confidence import CELL, STEP, place_likelihood
from runtime.image import resize_ids, resize_rgb
from training.data.spec import VOID_ID, DatasetSpec, Example
from training.progress_bar import counter

IMAGES, LABEL_MAPS = (
    60,
    200,
)  # of val that scores are taken of, and of train that places are counted in; at most
GOOD = 0.8  # of the share of right pixels of clean images
PIXELS = 4096  # of an image that the temperature learns from, at most
ROWS, COLUMNS = 6, 8  # cells of an image
FLOOR = 0.01  # added to every share, so that what was never seen is seldom, not impossible
FOLDS = 4  # of images that are of one group
LOWEST, HIGHEST = np.log(0.1), np.log(10)  # of temperatures


def measured(
    candidate: Predict,
    spec: DatasetSpec,
    labelled: bool,
    size: tuple[int, int],
    examples: Examples,
    step: int,
) -> dict[str, Any]:
    """The facts of runtime.confidence, ready for the note: `candidate` is the file, which takes `size` (height, width),
    `step` that of its second output, 0 where it has none."""
    classes, seen = len(spec.classes), spread(examples("val"), IMAGES)
    told, names = counter("how sure"), list(corruptions.CORRUPTIONS)
    clean, spoilt = [], []
    for place, example in enumerate(seen):
        rgb, label = example.read()
        rgb, truth = resize_rgb(rgb, size), resize_ids(label, size)
        scores = coarse(candidate(rgb)[1])[..., :classes]
        truth = coarse(truth) if labelled else scores.argmax(-1).astype(np.uint8)
        clean.append((scores, truth))
        severity = corruptions.SEVERITIES[place % len(corruptions.SEVERITIES)]
        rgb = corruptions.corrupted(rgb, names[place % len(names)], severity, example.name)
        spoilt.append((coarse(candidate(rgb)[1])[..., :classes], truth))
        told(place + 1, len(seen))
    found = {
        "temperature": 1.0, "step": step, "images": len(seen), "split": "val", "ece": None,
        "score": score_rule(clean, spoilt), **place_rule(spec, labelled, examples, clean, candidate, size),
    }  # fmt: skip
    if labelled:
        temperature = best_temperature(*_pixels(clean[::2]))
        scores, truth = _pixels(clean[1::2] or clean)
        errors = [calibration_error(scores, truth, value) for value in (1.0, temperature)]
        found |= {
            "temperature": round(temperature, 4),
            "ece": dict(zip(("before", "after"), errors, strict=True)),
        }
        print(
            f"  temperature {temperature:.3f}, calibration error {100 * errors[0]:.2f} to {100 * errors[1]:.2f}%"
        )
    return found


def coarse(plane: np.ndarray) -> np.ndarray:
    """Every fourth pixel either way of (H, W, ...)."""
    return plane[STEP // 2 :: STEP, STEP // 2 :: STEP]


Seen = Sequence[tuple[np.ndarray, np.ndarray]]  # scores (h, w, C) and truth (h, w) of each image


def _pixels(seen: Seen) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n, C) and truth (n,) of the pixels that count, up to PIXELS an image, evenly spread."""
    kept = []
    for scores, truth in seen:
        places = np.flatnonzero(truth != VOID_ID)
        places = places[:: -(-len(places) // PIXELS) or 1]
        kept.append((scores.reshape(-1, scores.shape[-1])[places], truth.ravel()[places]))
    return np.concatenate([one for one, _ in kept]), np.concatenate([other for _, other in kept])


def log_likelihood(scores: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    """The mean log probability of the true class: scores (n, C), truth (n,)."""
    scaled = (scores - scores.max(axis=1, keepdims=True)) / np.float32(temperature)
    right = np.take_along_axis(scaled, truth[:, None].astype(np.intp), axis=1)[:, 0]
    return float((right - np.log(np.exp(scaled).sum(axis=1))).mean(dtype=np.float64))


def best_temperature(scores: np.ndarray, truth: np.ndarray) -> float:
    """The temperature of the largest likelihood, 0.1 to 10, by golden section: there is one maximum."""
    if not len(truth):
        return 1.0
    low, high, ratio = LOWEST, HIGHEST, (np.sqrt(5) - 1) / 2
    while high - low > 1e-3:
        one, other = high - ratio * (high - low), low + ratio * (high - low)
        if log_likelihood(scores, truth, np.exp(one)) > log_likelihood(scores, truth, np.exp(other)):
            high = other
        else:
            low = one
    return float(np.exp((low + high) / 2))


def calibration_error(scores: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    """Expected calibration error, 0..1, of the softmax of scores (n, C) over a temperature."""
    powers = np.exp((scores - scores.max(axis=1, keepdims=True)) / np.float32(temperature))
    found = powers / powers.sum(axis=1, keepdims=True)
    seen = Prediction("", truth[None], found.argmax(1).astype(np.uint8)[None], found[None])
    counts = calibration.confidence_counts(seen, scores.shape[1])
    pixels, sure, right = counts
    return float(np.abs(right - sure).sum() / pixels.sum())


def score_rule(clean: Seen, spoilt: Seen) -> dict[str, float]:
    """Mean and least of the highest scores; see above. `good` and `bad` are how many images lay on either side."""
    means = [float(scores.max(axis=-1).mean()) for scores, _ in (*clean, *spoilt)]
    right = [_right(*one) for one in (*clean, *spoilt)]
    usual = float(np.nanmean(right[: len(clean)]))
    good = [mean for mean, share in zip(means, right, strict=True) if not share < GOOD * usual]
    bad = [mean for mean, share in zip(means, right, strict=True) if share < GOOD * usual]
    return {
        "mean": round(float(np.mean(means[: len(clean)])), 4), "least": round(parting(good, bad), 4),
        "good": len(good), "bad": len(bad),
    }  # fmt: skip


def _right(scores: np.ndarray, truth: np.ndarray) -> float:
    """The share of right pixels; NaN where none counts."""
    counted = truth != VOID_ID
    return float((scores.argmax(-1) == truth)[counted].mean()) if counted.any() else float("nan")


def parting(good: Sequence[float], bad: Sequence[float]) -> float:
    """The value with the largest difference of the shares of good and bad that lie at or above it, midway between
    two that were seen, the lowest of several; the lowest good one where there is no bad one."""
    if not bad or not good:
        return min(good or bad)
    seen = sorted({*good, *bad})
    between = [(one + other) / 2 for one, other in zip(seen, seen[1:], strict=False)] or seen
    above = [np.mean(np.array(good) >= value) - np.mean(np.array(bad) >= value) for value in between]
    return float(between[int(np.argmax(above))])


def place_rule(
    spec: DatasetSpec,
    labelled: bool,
    examples: Examples,
    clean: Seen,
    candidate: Predict,
    size: tuple[int, int],
) -> dict[str, Any]:
    """`place` and `shares`; of images without labels, and of labels that lack a class, by the model's own ids."""
    classes = len(spec.classes)
    if labelled:
        chosen = spread(examples("train"), LABEL_MAPS)
        maps = [example.read()[1] for example in chosen]
        groups = _groups(chosen)
        if len(set().union(*map(np.unique, maps)) - {VOID_ID}) < classes:
            maps = [candidate(resize_rgb(example.read()[0], size))[0] for example in chosen]
    else:
        maps = [truth for _, truth in clean]
        groups = [place * FOLDS // len(maps) for place in range(len(maps))]
    counted = np.stack([cell_shares(ids, classes) for ids in maps])
    likelihoods = []
    for group in sorted(set(groups)):
        own = np.array([one == group for one in groups])
        others = smoothed(counted[~own] if not own.all() else counted)
        likelihoods += [place_likelihood(maps[place], others) for place in np.flatnonzero(own)]
    kept = np.array([value for value in likelihoods if np.isfinite(value)] or [0.0])
    return {
        "place": {"mean": round(float(kept.mean()), 4), "least": round(float(kept.min()), 4)},
        "shares": np.round(smoothed(counted), 4).tolist(),
    }


def _groups(chosen: Sequence[Example]) -> list[int]:
    """The group of each example; where all are of one, a fold of neighbours."""
    names = [example.group for example in chosen]
    if len(set(names)) > 1:
        return [sorted(set(names)).index(name) for name in names]
    return [place * FOLDS // len(chosen) for place in range(len(chosen))]


def cell_shares(ids: np.ndarray, classes: int) -> np.ndarray:
    """The share of each class in each cell of an image, void left out; NaN in a cell of nothing but void."""
    small = resize_ids(ids, (ROWS * CELL, COLUMNS * CELL)).reshape(ROWS, CELL, COLUMNS, CELL)
    counts = np.stack([(small == index).sum(axis=(1, 3)) for index in range(classes)], axis=-1)
    with np.errstate(invalid="ignore"):
        shares: np.ndarray = counts / counts.sum(axis=-1, keepdims=True)
    return shares


def smoothed(counted: np.ndarray) -> np.ndarray:
    """The mean of (N, rows, columns, C) and of its mirror images, FLOOR added; (rows, columns, C), sums of 1."""
    both = np.concatenate([counted, counted[:, :, ::-1]])
    known = ~np.isnan(both)
    mean = np.where(known, both, 0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    return ((mean + FLOOR) / (mean + FLOOR).sum(axis=-1, keepdims=True)).astype(np.float32)
