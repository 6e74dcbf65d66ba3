"""Class ids that do not flicker from one frame of a video to the next."""

from collections.abc import Callable

import numpy as np

from runtime.errors import UserError


def steady(frames: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function of one frame's class ids, uint8 (H, W), to those that are shown, called frame after frame.

    A pixel takes a new class once that class was seen there in `frames` frames in a row; until then it keeps
    the one it has. Noise that comes and goes is not shown, what moves is shown `frames` - 1 frames late.
    1 shows each frame as it is. Raises UserError unless `frames` is 1 to 255.
    """
    if not 1 <= frames <= 255:
        raise UserError(f"--smooth is {frames}; it has to be 1 (each frame as it is) to 255 frames.")
    shown = candidate = np.zeros((0, 0), np.uint8)
    seen = np.zeros((0, 0), np.uint8)

    def smooth(ids: np.ndarray) -> np.ndarray:
        nonlocal shown, candidate, seen
        if ids.shape != shown.shape:
            shown, candidate, seen = ids.copy(), ids, np.full(ids.shape, 255, np.uint8)
            return shown
        again = ids == candidate
        seen = np.where(again, np.minimum(seen, 254) + np.uint8(1), np.uint8(1))
        candidate = ids
        shown = np.where(seen >= frames, ids, shown)
        return shown

    return smooth
