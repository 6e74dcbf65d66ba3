"""How much each class weighs in a loss that weights classes, from how often it occurs. NumPy only."""

from collections.abc import Callable, Iterable

import numpy as np


def inverse_log(frequencies: np.ndarray) -> np.ndarray:
    """1 / ln(1.10 + p), p the class's share of the counted pixels (Paszke et al., ENet, 2016, section 5.1, whose
    constant is 1.02; 1.10 bounds a weight at 10.5 where theirs reaches 50)."""
    return 1.0 / np.log(1.10 + frequencies)


def uniform(frequencies: np.ndarray) -> np.ndarray:
    return np.ones_like(frequencies)


CLASS_WEIGHTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"none": uniform, "inverse_log": inverse_log}


def class_frequencies(label_maps: Iterable[np.ndarray], classes: int) -> np.ndarray:
    """Each class's share of the counted pixels, (C,) float64 that sum to 1."""
    counts = np.zeros(classes, np.int64)
    for labels in label_maps:
        counts += np.bincount(labels.ravel(), minlength=256)[:classes]
    return counts / max(1, counts.sum())
