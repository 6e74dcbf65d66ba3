"""From a run folder to a file that others can use: the table of targets and what an export is asked for."""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import UserError
from training.command_line import size as parse_size
from training.data.spec import Example

if TYPE_CHECKING:  # it brings Keras
    from training.runs.trained_model import StoredModel

# Names, not functions: `python -m export --help` must not wait for TensorFlow.
EXPORTERS: dict[str, str] = {
    "tflite": "export.tflite",
    "saved_model": "export.savedmodel",
    "onnx": "export.onnx_model",
    "openvino": "export.openvino_model",
    "weights": "export.float_weights",
}
# Of models that are no semantic segmenters (training.engine.validation.TASKS): the exporter of the task, by target.
TASK_EXPORTERS: dict[tuple[str, str], str] = {("prompted", "tflite"): "export.prompted_tflite"}
PRECISIONS = ("fp32", "fp16", "dynamic", "mixed", "int8")
# What a target that is no .tflite can be written in; its default stands first.
OTHER_PRECISIONS: dict[str, tuple[str, ...]] = {
    "saved_model": ("fp32",),
    "onnx": ("fp32", "int8"),
    "openvino": ("fp32", "fp16", "int8"),
    "weights": ("fp32", "fp16"),
}
# What a target needs beyond the extra `train`; the extra that brings it has the target's name.
PACKAGES: dict[str, tuple[str, ...]] = {
    "onnx": ("tf2onnx", "onnx", "onnxruntime"),
    "openvino": ("openvino", "nncf"),
}
# The end of a file's name; a SavedModel is a folder.
SUFFIXES = {"tflite": ".tflite", "onnx": ".onnx", "openvino": ".xml", "weights": ".weights.h5"}
# A model's own default; int8 where it has no row. docs/results/export.md has the figures.
DEFAULT_PRECISION: dict[str, str] = {
    "segformer": "mixed",
    "mask2former": "mixed",
    "threshold": "fp32",  # nothing to quantise
    "otsu": "fp32",
}
CALIBRATED = ("mixed", "int8")  # that compute in 8 bits, in ranges learnt from images
OUTPUTS = ("mask", "scores")
# What a .tflite in int8 is rewritten for (rewrite.py), and what `kerbside fit` looks at (offload.py).
TARGETS = ("xnnpack", "gpu", "ethos-u55", "ethos-u65", "edgetpu")
INT8_TARGETS = ("ethos-u55", "ethos-u65", "edgetpu")  # that compute in 8 bits alone
MASK_STRIDES = (1, 2, 4)
SMALLEST, LARGEST = 32, 8192  # pixels, a side of a file's image


@dataclass(frozen=True)
class Job:
    """One export. `size` is (height, width); `out` the file or folder that appears when the gate is passed.

    `parity_images` None means the whole val split. `allow_loss` None means the bound of `parity.BOUNDS`, else
    the mIoU points that may be lost. `keep_float` names ops of an int8 or mixed file that stay in float32.
    `mask_stride` 2 or 4: ids of a mask file on every second or fourth pixel (mask_stride.py).
    `target`: a row of TARGETS, which an int8 file is rewritten for. `confidence`: the file says how sure it is
    (confidence.py), a mask file for xnnpack by a second output.
    """

    precision: str
    size: tuple[int, int]
    output: str
    out: Path
    calibration_images: int = 100
    parity_images: int | None = None
    allow_loss: float | None = None
    keep_float: tuple[str, ...] = ()
    threads: int = 2
    mask_stride: int = 1
    target: str = "xnnpack"
    confidence: bool = False


def checked_size(text: str) -> tuple[int, int]:
    """HxW -> (height, width); UserError unless a file can be of that size."""
    size = parse_size(text)
    if not all(SMALLEST <= side <= LARGEST for side in size):
        raise UserError(
            f"size {text} cannot be exported: height and width must be {SMALLEST} to {LARGEST} pixels."
        )
    return size


def check_installed(name: str) -> None:
    """UserError when the packages of a target are not installed."""
    missing = [package for package in PACKAGES.get(name, ()) if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(
            f"--format {name} needs {' and '.join(missing)}, not installed here: pip install '.[{name}]' in the "
            "checkout"
        )


# A split's name -> its examples, read when they are asked for.
Examples = Callable[[str], list[Example]]


def exporter(name: str, task: str = "semantic") -> Callable[["StoredModel", Job, Examples], Path]:
    """The function `export(run, job, examples)` of a row of EXPORTERS, or of TASK_EXPORTERS for another task; it
    returns the path that it wrote. UserError when there is none."""
    if task != "semantic" and (task, name) not in TASK_EXPORTERS:
        formats = ", ".join(target for known, target in TASK_EXPORTERS if known == task)
        raise UserError(f"a {task} model cannot be exported as {name}: choose --format {formats}")
    module = EXPORTERS[name] if task == "semantic" else TASK_EXPORTERS[task, name]
    function: Callable[[StoredModel, Job, Examples], Path] = importlib.import_module(module).export
    return function
