"""A `.onnx` before the Segmenter, by ONNX Runtime (an extra): as much of LiteRT's interpreter as is asked of one."""

from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import UserError, first_line

PACKAGE, EXTRA = "onnxruntime", "onnx"
_KINDS = {
    "tensor(uint8)": np.uint8, "tensor(int8)": np.int8, "tensor(float)": np.float32, "tensor(float16)": np.float16,
    "tensor(double)": np.float64, "tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_,
}  # fmt: skip


def session(model: bytes | str, threads: int) -> Any:
    """An InferenceSession on the CPU of a file's bytes or path."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors; a warning is for who wrote the file
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxInterpreter:
    """LiteRT's methods on an InferenceSession; `texts` are the file's metadata_props."""

    def __init__(self, path: Path, threads: int) -> None:
        try:
            self._session = session(path.read_bytes(), threads)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
        except Exception as error:  # its classes have no base of their own
            raise UserError(f"{path} cannot be loaded by ONNX Runtime: {first_line(error)}.") from error
        self.texts: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._image: np.ndarray | None = None
        self._results: list[np.ndarray] = []

    def get_input_details(self) -> list[dict[str, Any]]:
        return [_detail(place, one) for place, one in enumerate(self._session.get_inputs())]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [_detail(place, one) for place, one in enumerate(self._session.get_outputs())]

    def set_tensor(self, index: int, value: np.ndarray) -> None:
        self._image = value

    def invoke(self) -> None:
        """Raises RuntimeError where ONNX Runtime refuses."""
        name = self._session.get_inputs()[0].name
        try:
            self._results = self._session.run(None, {name: self._image})
        except Exception as error:
            raise RuntimeError(first_line(error)) from error

    def get_tensor(self, index: int) -> np.ndarray:
        return self._results[index]


def _detail(place: int, tensor: Any) -> dict[str, Any]:
    """As LiteRT tells it: a side that is free is -1 in `shape_signature` and 1 in `shape`."""
    signature = [side if isinstance(side, int) else -1 for side in tensor.shape]
    return {
        "index": place,
        "shape": np.array([1 if side < 0 else side for side in signature], np.int64),
        "shape_signature": np.array(signature, np.int64),
        "dtype": _KINDS.get(tensor.type, np.object_),
        "quantization": (0.0, 0),
    }
