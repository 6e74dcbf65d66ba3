"""Files of one class: a network that ends in a sigmoid gives one score a pixel, where others give one a class."""

from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

# What may stand between the sigmoid and the output, with the same pixels.
PASSED = (
    "QUANTIZE",
    "DEQUANTIZE",
    "RESHAPE",
    "CAST",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    "DELEGATE",
)
Quantization = tuple[float, int]


def operations(interpreter: Interpreter) -> list[dict[str, Any]]:
    """The graph as LiteRT runs it, one entry an operation: `op_name`, and tensors' indices as `inputs`, `outputs`.

    LiteRT has no public way to it; the name was seen in ai-edge-litert 2.3.0.
    """
    found: list[dict[str, Any]] = interpreter._get_ops_details()
    return found


def ends_in_sigmoid(interpreter: Interpreter, output: dict[str, Any]) -> bool:
    """Whether an output is what a sigmoid gives: fractions of 0..1, and no class ids."""
    steps = operations(interpreter)
    index = int(output["index"])
    for step in reversed(steps):
        if index not in [int(one) for one in step["outputs"]]:
            continue
        if step["op_name"] == "LOGISTIC":
            return True
        if step["op_name"] not in PASSED:
            return False
        if step["op_name"] != "DELEGATE":  # which repeats the steps that it took over
            index = int(step["inputs"][0])
    return False


def both_classes(raw: np.ndarray, quantization: Quantization) -> np.ndarray:
    """The score (h, w) of a class, quantised or not, -> those of all else and of the class, float32 (h, w, 2)."""
    scale, zero = quantization
    score = (raw.astype(np.float32) - zero) * np.float32(scale) if scale else raw.astype(np.float32)
    return np.stack([1 - score, score], axis=-1)
