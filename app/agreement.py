"""Several models on one image: how far they agree, and where they do not.

Classes are compared by name, without regard to case, so that models of different label sets meet where their names do;
models whose names have nothing in common agree nowhere.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from runtime.errors import UserError
from runtime.segmenter import Segmentation

STEPS = (
    (0, 0, 0),
    (240, 228, 66),
    (230, 159, 0),
    (213, 94, 0),
)  # extra answers 0 to 3: Okabe and Ito's warm ones


def common_ids(found: Sequence[Segmentation]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Each model's ids by the same numbers: int16 (N, H, W), and the names that they stand for.

    Raises UserError unless there are two models or more, all of one image's size.
    """
    if len(found) < 2:
        raise UserError(f"{len(found)} model is given; two or more are compared.")
    shapes = {one.ids.shape for one in found}
    if len(shapes) > 1:
        raise UserError(f"the masks are of sizes {sorted(shapes)}; masks of the same image are compared.")
    names: dict[str, int] = {}
    maps = []
    for one in found:
        table = [
            names.setdefault(one.name_of(index).casefold(), len(names)) if index in one.shares() else -1
            for index in range(256)
        ]
        maps.append(np.array(table, np.int16)[one.ids])
    return np.stack(maps), tuple(names)


def agreement(found: Sequence[Segmentation]) -> np.ndarray:
    """(N, N) share of pixels, 0..1, to which two models give the same class; 1 on the diagonal."""
    ids, _ = common_ids(found)
    return np.array([[float((one == other).mean()) for other in ids] for one in ids])


def extra_answers(found: Sequence[Segmentation]) -> np.ndarray:
    """uint8 (H, W): how many different classes the models give to a pixel, less one; 0 where all agree."""
    ids, _ = common_ids(found)
    ordered = np.sort(ids, axis=0)
    return (ordered[1:] != ordered[:-1]).sum(axis=0).astype(np.uint8)


def map_of_differences(found: Sequence[Segmentation]) -> np.ndarray:
    """The image in grey and darker, uint8 (H, W, 3), with the pixels on which models differ in STEPS' colours."""
    extra = extra_answers(found)
    grey = (found[0].rgb.mean(axis=2, keepdims=True) * 0.6).astype(np.uint8).repeat(3, axis=2)
    colours = np.array(STEPS, np.uint8)[np.minimum(extra, len(STEPS) - 1)]
    return np.where((extra > 0)[..., None], colours, grey)


def common_disputes(one: Segmentation, other: Segmentation, most: int = 8) -> list[dict[str, Any]]:
    """The pairs of classes that two models give to the same pixels where they differ, the most frequent first:
    `first`, `second` (names) and `share` of all pixels, 0..1; at most `most` rows."""
    ids, names = common_ids([one, other])
    pairs = ids[0].astype(np.int64) * len(names) + ids[1]
    counts = np.bincount(pairs[ids[0] != ids[1]], minlength=len(names) ** 2)
    shown = {name.casefold(): name for name in (*other.labels, *one.labels)}
    rows = []
    for pair in np.argsort(-counts, kind="stable")[:most]:
        if counts[pair]:
            first, second = (names[index] for index in divmod(int(pair), len(names)))
            share = float(counts[pair] / ids[0].size)
            rows.append(
                {"first": shown.get(first, first), "second": shown.get(second, second), "share": share}
            )
    return rows
