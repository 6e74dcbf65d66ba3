"""What a metric is that adds up over images: an array of fixed shape an image, and scores of the sum."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class Prediction(NamedTuple):
    """An image that was looked at: train ids of truth (255 is void) and prediction, uint8 (H, W)."""

    name: str
    truth: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray | None  # float32 (H, W, C), where a metric asked for them


@dataclass(frozen=True)
class Metric:
    """`count` is what one image adds, an array of fixed shape; `result` makes scores of the sum and the classes."""

    count: Callable[[Prediction], np.ndarray]
    result: Callable[[np.ndarray, Sequence[str]], dict[str, Any]]
    probabilities: bool = False  # whether `count` needs them
