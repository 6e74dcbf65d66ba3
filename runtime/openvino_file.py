"""A `.xml` of OpenVINO, with its `.bin`, before the Segmenter (an extra): as much of LiteRT's interpreter as is asked
of one."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from runtime.bundle import LABELS, NOTE
from runtime.errors import UserError, first_line

PACKAGE, EXTRA = "openvino", "openvino"
RT_INFO = "kerbside"  # below which our facts stand


def library() -> Any:
    """OpenVINO, which with openvino_telemetry at hand would report each import and conversion to its makers unasked."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # an import of it fails now
    import openvino

    return openvino


def compiled(model: Any, threads: int) -> Any:
    """A model for the CPU. In float32: on newer CPUs bfloat16 would be OpenVINO's choice, with other numbers."""
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    return library().Core().compile_model(model, "CPU", options)


class OpenVinoInterpreter:
    """LiteRT's methods on a compiled model; `texts` are our facts in the file."""

    def __init__(self, path: Path, threads: int) -> None:
        if not path.exists():
            raise UserError(f"{path} does not exist; name a .xml file of OpenVINO.")
        if not path.with_suffix(".bin").is_file():
            raise UserError(
                f"{path} needs {path.with_suffix('.bin').name}, its weights, beside it: copy both."
            )
        try:
            model = library().Core().read_model(path)
            self._compiled = compiled(model, threads)
        except RuntimeError as error:
            raise UserError(f"{path} cannot be loaded by OpenVINO: {_reason(error)}.") from error
        self._inputs, self._outputs = model.inputs, model.outputs
        self._request = self._compiled.create_infer_request()
        stated = {name: [RT_INFO, name] for name in (NOTE, LABELS) if model.has_rt_info([RT_INFO, name])}
        self.texts = {name: str(model.get_rt_info(place).value) for name, place in stated.items()}
        self._image: np.ndarray | None = None

    def get_input_details(self) -> list[dict[str, Any]]:
        return [_detail(place, one) for place, one in enumerate(self._inputs)]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [_detail(place, one) for place, one in enumerate(self._outputs)]

    def set_tensor(self, index: int, value: np.ndarray) -> None:
        self._image = value

    def invoke(self) -> None:
        """Raises RuntimeError where OpenVINO refuses."""
        self._request.infer([self._image])

    def get_tensor(self, index: int) -> np.ndarray:
        found: np.ndarray = self._request.get_output_tensor(
            index
        ).data.copy()  # the next call writes there again
        return found


def _reason(error: Exception) -> str:
    """OpenVINO says first where in its source an exception was thrown."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (told or lines or [first_line(error)])[-1].rstrip(".")


def _detail(place: int, tensor: Any) -> dict[str, Any]:
    """As LiteRT tells it: a side that is free is -1 in `shape_signature` and 1 in `shape`."""
    shape = tensor.partial_shape
    signature = (
        [side.get_length() if side.is_static else -1 for side in shape] if shape.rank.is_static else []
    )
    return {
        "index": place,
        "shape": np.array([1 if side < 0 else side for side in signature], np.int64),
        "shape_signature": np.array(signature, np.int64),
        "dtype": tensor.element_type.to_dtype().type,
        "quantization": (0.0, 0),
    }
