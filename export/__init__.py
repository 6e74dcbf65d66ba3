"""From a run folder to a file that others can use: the table of targets and what an export is asked for."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.spec import Example

# Names, not functions: `python -m export --help` must not wait for TensorFlow.
EXPORTERS: dict[str, str] = {
    "tflite": "export.tflite",
    "saved_model": "export.savedmodel",
}
PRECISIONS = ("fp32", "fp16", "dynamic", "int8")
OUTPUTS = ("mask", "scores")


@dataclass(frozen=True)
class Job:
    """One export. `size` is (height, width); `out` the file or folder that appears when the gate is passed.

    `parity_images` None means the whole val split. `allow_loss` None means the bound of `parity.BOUNDS`, else
    the mIoU points that may be lost.
    """

    precision: str
    size: tuple[int, int]
    output: str
    out: Path
    calibration_images: int = 100
    parity_images: int | None = None
    allow_loss: float | None = None
    threads: int = 2


# A split's name -> its examples, read when they are asked for.
Examples = Callable[[str], list[Example]]


def exporter(name: str) -> Callable[[Any, Job, Examples], Path]:
    """The function `export(run, job, examples)` of a row of EXPORTERS; it returns the path that it wrote."""
    function: Callable[[Any, Job, Examples], Path] = importlib.import_module(EXPORTERS[name]).export
    return function
