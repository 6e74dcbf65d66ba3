"""Scores of a whole image from a model that sees parts of it, or several versions of it.

Sliding windows, as mmsegmentation's `slide_inference`: windows of one size, a stride apart, those at the border
shifted inwards so that they lie within the image; logits are averaged where windows overlap. Multi-scale and flip,
as its `aug_test`: the image at each scale, as it is and mirrored; the logits are brought back to the image's own
size, and the softmax probabilities are averaged. With both, windows of the same size slide over each scaled image.

Whatever gives logits of an image can be asked: `Logits` is a Keras model or a `.tflite` with scores. In memory at
one time are the logits of one view at its own size and two arrays of the image's size, float32 (H, W, classes);
what lies between, a band of rows or one class.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from runtime.errors import UserError
from runtime.image import resize_rgb
from training import command_line

# RGB, uint8 (h, w, 3), of any size -> logits, float32 (h, w, classes).
Logits = Callable[[np.ndarray], np.ndarray]
Size = tuple[int, int]

LARGEST_SCALE = 8.0
DEFAULT_OVERLAP = (
    1 / 3
)  # of a window with the next, where no stride is given; mmsegmentation's for Cityscapes
BAND = 64  # rows whose softmax is taken at a time


@dataclass(frozen=True)
class Plan:
    """How an image is looked at: `scales` of its size, mirrored as well or not, in windows or whole.

    `window` and `stride` are (height, width) in pixels, both or neither.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window: Size | None = None
    stride: Size | None = None

    @property
    def views(self) -> int:
        """How many versions of an image the model sees."""
        return len(self.scales) * (1 + self.flip)

    @property
    def plain(self) -> bool:
        """Whether this is the image itself, whole, once."""
        return self == Plan()

    def to_json(self) -> dict[str, Any]:
        tta = (
            {"scales": list(self.scales), "flip": self.flip}
            if self.views > 1 or self.scales != (1.0,)
            else None
        )
        return {"tta": tta, "window": _listed(self.window), "stride": _listed(self.stride)}

    def __str__(self) -> str:
        """Such as "tta-0.75,1,flip-window-512x1024-stride-341x683"; "" when plain."""
        parts = []
        if self.views > 1 or self.scales != (1.0,):
            parts.append("tta-" + ",".join([f"{scale:g}" for scale in self.scales] + ["flip"] * self.flip))
        for name, size in (("window", self.window), ("stride", self.stride)):
            if size:
                parts.append(f"{name}-{size[0]}x{size[1]}")
        return "-".join(parts)


def plan(tta: str | None = None, window: str | None = None, stride: str | None = None) -> Plan:
    """The Plan of a command line: "0.75,1.0,flip", "512x1024", "341x683". UserError, one sentence, on bad values.

    Without a scale the image keeps its size; without a stride, windows overlap by a third.
    """
    scales, flip = _tta(tta) if tta is not None else ((1.0,), False)
    if window is None:
        if stride is not None:
            raise UserError(f"--stride {stride} needs --window: say how large a window is, such as 512x1024")
        return Plan(scales, flip)
    size = command_line.size(window, "--window")
    if stride is None:
        step = (_two_thirds(size[0]), _two_thirds(size[1]))
    else:
        step = command_line.size(stride, "--stride")
    if step[0] > size[0] or step[1] > size[1]:
        raise UserError(
            f"--stride {step[0]}x{step[1]} is larger than --window {size[0]}x{size[1]}: "
            "pixels between two windows would never be looked at"
        )
    return Plan(scales, flip, size, step)


def _tta(text: str) -> tuple[tuple[float, ...], bool]:
    parts = [part.strip().lower() for part in text.split(",")]
    scales = []
    for part in parts:
        if part == "flip":
            continue
        try:
            scale = float(part)
        except ValueError:
            scale = float("nan")
        if not 0 < scale <= LARGEST_SCALE:  # NaN lands here too
            raise UserError(
                f"--tta {text}: '{part}' is neither flip nor a scale above 0 and up to {LARGEST_SCALE:g}, "
                "such as 0.75,1.0,1.25,flip"
            )
        scales.append(scale)
    if len(set(scales)) < len(scales) or parts.count("flip") > 1:
        raise UserError(f"--tta {text} names something twice: each scale, and flip, counts once")
    return tuple(scales) or (1.0,), "flip" in parts


def _two_thirds(side: int) -> int:
    return max(1, round(side * (1 - DEFAULT_OVERLAP)))


def _listed(size: Size | None) -> list[int] | None:
    return list(size) if size else None


def scores(logits: Logits, rgb: np.ndarray, how: Plan) -> np.ndarray:
    """float32 (H, W, classes) at the size of `rgb`, uint8 (H, W, 3): the class is its argmax.

    Logits when the image is seen once at its own size, else the mean of the views' probabilities.
    """
    if how.views == 1 and how.scales == (1.0,):
        return _view(logits, rgb, how)
    size = (rgb.shape[0], rgb.shape[1])
    total: np.ndarray | None = None
    for scale in how.scales:
        scaled = resize_rgb(rgb, scaled_size(size, scale))
        for mirrored in (False, True)[: 1 + how.flip]:
            found = _view(logits, np.ascontiguousarray(scaled[:, ::-1]) if mirrored else scaled, how)
            found = resize_scores(found[:, ::-1] if mirrored else found, size)
            if total is None:
                total = np.zeros_like(found)
            _add_softmax(total, found)
    assert total is not None  # a plan has one scale at least
    total /= how.views
    return total


def scaled_size(size: Size, scale: float) -> Size:
    """(height, width) times `scale`, to the nearest pixel, halves upwards, at least one."""
    height, width = (max(1, int(side * scale + 0.5)) for side in size)
    return height, width


def _view(logits: Logits, rgb: np.ndarray, how: Plan) -> np.ndarray:
    if how.window is None or how.stride is None:
        return logits(rgb)
    return sliding(logits, rgb, how.window, how.stride)


def sliding(logits: Logits, rgb: np.ndarray, window: Size, stride: Size) -> np.ndarray:
    """float32 (H, W, classes): the mean logits of all the windows that a pixel lies in.

    `window` and `stride` are (height, width); a window larger than the image is clipped to it.
    """
    height, width = rgb.shape[:2]
    total: np.ndarray | None = None
    seen = np.zeros((height, width, 1), np.float32)
    for rows in spans(height, window[0], stride[0]):
        for columns in spans(width, window[1], stride[1]):
            found = logits(np.ascontiguousarray(rgb[rows, columns]))
            if total is None:
                total = np.zeros((height, width, found.shape[2]), np.float32)
            total[rows, columns] += found
            seen[rows, columns] += 1
    assert total is not None  # there is one window at least
    total /= seen
    return total


def spans(length: int, window: int, stride: int) -> Iterator[slice]:
    """Windows along one axis: `stride` apart, the last one shifted inwards to end at the border."""
    steps = -(-max(length - window, 0) // stride)  # how often a window moves on
    for step in range(steps + 1):
        end = min(step * stride + window, length)
        yield slice(max(end - window, 0), end)


def resize_scores(values: np.ndarray, size: Size) -> np.ndarray:
    """float32 (h, w, C) -> (H, W, C), bilinear with half-pixel centres, nothing smoothed when shrinking."""
    if values.shape[:2] == size:
        return values
    resized = np.empty((*size, values.shape[2]), np.float32)
    for index in range(values.shape[2]):
        plane = np.ascontiguousarray(values[..., index])
        resized[..., index] = cv2.resize(plane, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return resized


def _add_softmax(total: np.ndarray, logits: np.ndarray) -> None:
    for start in range(0, len(logits), BAND):
        rows = slice(start, start + BAND)
        powers = np.exp(logits[rows] - logits[rows].max(axis=-1, keepdims=True))
        total[rows] += powers / powers.sum(axis=-1, keepdims=True)


def probabilities(values: np.ndarray) -> np.ndarray:
    """float32 (H, W, C): the softmax of logits (H, W, C), or `values` themselves where every pixel's are
    probabilities already: from 0 to 1, with a sum of 1 (0.9 to 1.1, since a file may have rounded them to bytes)."""
    bands = [slice(start, start + BAND) for start in range(0, len(values), BAND)]
    if all(_sums_to_one(values[rows]) for rows in bands):
        return values
    total = np.zeros_like(values, np.float32)
    _add_softmax(total, values)
    return total


def _sums_to_one(values: np.ndarray) -> bool:
    return bool(values.min() >= 0 and values.max() <= 1 and np.abs(values.sum(axis=-1) - 1).max() < 0.1)
