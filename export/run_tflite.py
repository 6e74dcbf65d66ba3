"""Running a `.tflite` through LiteRT, as the exporters and their checks do."""

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from runtime.stderr import stderr_on_failure


def interpreter(flatbuffer: bytes, threads: int = 2) -> Any:
    """A LiteRT interpreter, ready to run."""
    with stderr_on_failure():
        litert = Interpreter(model_content=flatbuffer, num_threads=threads)
        litert.allocate_tensors()
    return litert


def runner(flatbuffer: bytes, threads: int = 2) -> Callable[[np.ndarray], np.ndarray]:
    """uint8 (H, W, 3) -> the file's first output without its batch axis; quantised scores become float32."""
    litert = interpreter(flatbuffer, threads)
    (image,), (result, *_) = litert.get_input_details(), litert.get_output_details()
    scale, zero = result["quantization"]

    def run(rgb: np.ndarray) -> np.ndarray:
        litert.set_tensor(image["index"], rgb[None])
        litert.invoke()
        values: np.ndarray = litert.get_tensor(result["index"])[0]
        return (values.astype(np.float32) - zero) * np.float32(scale) if scale else values

    return run
