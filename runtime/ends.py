"""What a `.tflite` takes and gives, and whether that is what a segmenter does (runtime/segmenter.py)."""

from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from runtime.bundle import Bundle
from runtime.class_names import MOST_CLASSES
from runtime.errors import UserError

WANTED = "a segmenter takes one (1, H, W, 3) image and gives class ids (1, H, W) or scores (1, H, W, C)"


def checked_ends(
    interpreter: Interpreter, path: Path, bundle: Bundle | None
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None]:
    """Details of the one input, the one output and, of a mask file of ours, the coarse scores, None where it has none;
    UserError when they are not those of a segmenter."""
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    coarse = None
    if bundle is not None and bundle.output == "mask" and len(outputs) == 2:
        outputs, coarse = outputs[:1], outputs[1]
        shape = coarse["shape"]
        if len(shape) != 4 or shape[0] != 1 or shape[3] != len(bundle.labels) or min(shape) < 1:
            raise UserError(
                f"{path} gives a second output of shape {_shown(shape)}; "
                f"scores (1, h, w, {len(bundle.labels)}) are right."
            )
    if len(inputs) != 1 or len(outputs) != 1:
        raise UserError(f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; {WANTED}.")
    taken, given = inputs[0], outputs[0]
    # A batch that is free is run as 1; a free height or width has no size to resize to.
    free = [tensor for tensor in (taken, given) if -1 in list(tensor["shape_signature"])[1:]]
    if free:
        shape = _shown(free[0]["shape_signature"])
        raise UserError(
            f"{path} leaves its size open (shape {shape}); export it with a fixed height and width."
        )
    shape = taken["shape"]
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
        raise UserError(f"{path} takes an input of shape {_shown(shape)}; {WANTED}.")
    if taken["dtype"] not in (np.uint8, np.int8, np.float32):
        raise UserError(
            f"{path} takes {np.dtype(taken['dtype']).name} pixels; uint8, int8 and float32 segmenters run."
        )
    shape = given["shape"]
    if (
        len(shape) not in (3, 4)
        or shape[0] != 1
        or min(shape) < 1
        or np.dtype(given["dtype"]).kind not in "iuf"
    ):
        kind = np.dtype(given["dtype"]).name
        raise UserError(f"{path} gives an output of shape {_shown(shape)}, {kind}; {WANTED}.")
    if not _same_aspect(taken["shape"][1:3], shape[1:3]):
        raise UserError(
            f"{path} turns {_shown(taken['shape'])} into {_shown(shape)}, no map of it; {WANTED}."
        )
    if len(shape) == 4 and shape[3] > MOST_CLASSES:
        raise UserError(
            f"{path} gives {shape[3]} classes; up to {MOST_CLASSES} fit into ids of 8 bits beside void."
        )
    return taken, given, coarse


def _same_aspect(source: Any, target: Any) -> bool:
    """Whether `target` (h, w) can be the map of an image of size `source`: the same factor both ways, give or
    take the rounding of a stride of 32. Detectors and classifiers with three or four axes fail this."""
    rows, columns = (max(1.0, before / after) for before, after in zip(source, target, strict=True))
    slack = 1 + max(1 / target[0], 1 / target[1])
    return rows <= 64 and columns <= 64 and 1 / slack <= rows / columns <= slack


def _shown(shape: Any) -> str:
    return "(" + ", ".join(str(int(side)) for side in shape) + ")"
