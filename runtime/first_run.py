"""A `.tflite` file of which no hash says that it is whole, run once in a process of its own.

LiteRT trusts a file's contents: one changed byte can end the process that loads it. Files of ours state their SHA-256,
and what does not match is refused; for another's file there is only to try it.

    python -m runtime.first_run FILE.tflite THREADS
"""

import hashlib
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from runtime.confined import Bounds, run

MEGABYTES, SECONDS = 2048, 120.0  # beside four times the file, for weights that are unpacked
MOST_INPUT = 100_000_000  # numbers of one input; a larger one is left to whoever runs it

_PASSED: set[tuple[str, int]] = set()  # SHA-256 and threads, of this process


def once(path: Path, data: bytes, threads: int) -> None:
    """Load a file of these bytes and run it once on noise, elsewhere; nothing when it was done before.

    Raises UserError when the process that did so crashed or passed its bounds. What LiteRT refuses by itself is left to
    whoever loads it next, who has the sentence for it.
    """
    key = hashlib.sha256(data).hexdigest(), threads
    if key in _PASSED:
        return
    bounds = Bounds(MEGABYTES + 4 * len(data) // 2**20, SECONDS, SECONDS)
    run("runtime.first_run", [str(path.absolute()), str(threads)], str(path), bounds)
    _PASSED.add(key)


def main(path: str, threads: str) -> None:
    noise = np.random.default_rng(0)
    with suppress(ValueError, RuntimeError):
        interpreter = Interpreter(model_content=Path(path).read_bytes(), num_threads=int(threads))
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            shape = [int(side) for side in detail["shape"]]
            if not 0 <= int(np.prod(shape, dtype=np.float64)) <= MOST_INPUT:
                return
            values = noise.uniform(0, 255, shape)
            interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
        interpreter.invoke()


if __name__ == "__main__":
    main(*sys.argv[1:])
