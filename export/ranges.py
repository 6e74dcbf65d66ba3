"""The ranges that int8 spreads its 256 steps over: those of each tensor itself, without its rarest values.

TensorFlow's calibrator (2.21) is wrong in two ways. LiteRT computes sums, products and differences in place: the result
takes the memory of the first operand, whose range is read after that too, so it becomes the union of its own and the
result's: a linear bottleneck gets the range of the residual sum behind it, the scaled image (0..2) that of the image
less its mean as well (-1..2). And a range reaches from the least to the largest value ever seen, so that one pixel's
outlier takes steps from all others. Here each tensor is an output of the graph, kept apart, and its range leaves out
a share RARE of an image's values at either end; over images it is the widest that is left. The network's input
keeps 0..255.

docs/results/export.md has what this gave on roads not seen.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from export import run_tflite, surgery

RARE = 1e-4
LOOKED_AT = 200_000  # values of a tensor of an image, by chance, to find what is rare
AT_ONCE = 256_000_000  # bytes of tensors that are outputs at the same time


def taken(calibrated: bytes, images: Sequence[np.ndarray], threads: int = 2) -> bytes:
    """A float file with calibrated ranges -> the same file with the ranges of its tensors over `images`, uint8
    (H, W, 3), which are those that it was calibrated on."""
    model = surgery.read(calibrated)
    graph = model.subgraphs[0]
    inputs = {int(index) for index in graph.inputs}
    watched = [
        int(op.outputs[0])
        for op in graph.operators
        if int(op.outputs[0]) not in inputs and _has_range(graph.tensors[int(op.outputs[0])])
    ]
    for group in _groups(graph, watched):
        low, high = _seen(model, group, images, threads)
        for index, least, most in zip(group, low, high, strict=True):
            found = graph.tensors[index].quantization
            found.min, found.max = np.array([least], np.float32), np.array([most], np.float32)
    return surgery.write(model)


def without_rare(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """The least and the largest of an image's values, less the share RARE at either end; of a small tensor all that
    there are, since nothing in it is rare."""
    flat = values.reshape(-1)
    if len(flat) > LOOKED_AT:
        flat = flat[rng.integers(len(flat), size=LOOKED_AT)]
    rank = int(RARE * len(flat))
    ordered = np.partition(flat, (rank, len(flat) - 1 - rank))
    return float(ordered[rank]), float(ordered[len(flat) - 1 - rank])


def _seen(
    model: Any, group: Sequence[int], images: Sequence[np.ndarray], threads: int
) -> tuple[np.ndarray, np.ndarray]:
    graph = model.subgraphs[0]
    kept, graph.outputs, signatures, model.signatureDefs = graph.outputs, list(group), model.signatureDefs, []
    file = run_tflite.interpreter(surgery.write(model), threads)
    graph.outputs, model.signatureDefs = kept, signatures
    (image,), outputs = file.get_input_details(), file.get_output_details()
    low, high, rng = np.full(len(group), np.inf), np.full(len(group), -np.inf), np.random.default_rng(0)
    for rgb in images:
        file.set_tensor(image["index"], rgb[None].astype(image["dtype"]))
        file.invoke()
        for number, output in enumerate(outputs):
            least, most = without_rare(file.get_tensor(output["index"]), rng)
            low[number], high[number] = min(low[number], least), max(high[number], most)
    return low, high


def _groups(graph: Any, watched: Sequence[int]) -> Iterator[list[int]]:
    """The tensors in turn, as many at once as AT_ONCE holds."""
    group: list[int] = []
    held = 0
    for index in watched:
        size = 4 * int(np.prod(graph.tensors[index].shape))
        if group and held + size > AT_ONCE:
            yield group
            group, held = [], 0
        group.append(index)
        held += size
    if group:
        yield group


def _has_range(tensor: object) -> bool:
    found = getattr(tensor, "quantization", None)
    return found is not None and found.min is not None and len(found.min) == 1
