"""The ranges that int8 calibrates, where the converter's own are wrong.

LiteRT computes sums, products and differences in place: the result takes the memory of the first operand. TensorFlow's
calibrator (2.21) reads an operand's range after that too, so its range becomes the union of its own and the result's,
and its 256 steps are spread over values that it never has: a linear bottleneck gets the range of the residual sum
behind it, the scaled image (0..2) that of the image less its mean as well (-1..2), at steps wider than those of
uint8. Here each operand is kept apart, as an output of the graph, and its range is taken anew.
"""

from collections.abc import Sequence

import numpy as np

from export import run_tflite, surgery

# Ops that never write into their operand's memory: nothing that only they read has to be looked at.
APART = (
    "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "RESIZE_BILINEAR", "PAD",
    "AVERAGE_POOL_2D", "MAX_POOL_2D", "CONCATENATION", "MEAN", "ARG_MAX",
)  # fmt: skip


def corrected(calibrated: bytes, images: Sequence[np.ndarray], threads: int = 2) -> bytes:
    """A float file with calibrated ranges -> the same file, with true ranges of what may be overwritten in place.
    `images`, uint8 (H, W, 3), are those that it was calibrated on."""
    model = surgery.read(calibrated)
    graph = model.subgraphs[0]
    results = {int(op.outputs[0]) for op in graph.operators}
    read = {
        int(index)
        for op, name in zip(graph.operators, surgery.op_names(model), strict=True)
        if name not in APART
        for index in op.inputs
    }
    watched = [index for index in sorted(results & read) if _has_range(graph.tensors[index])]
    if not watched:
        return calibrated
    kept, graph.outputs, signatures, model.signatureDefs = graph.outputs, watched, model.signatureDefs, []
    file = run_tflite.interpreter(surgery.write(model), threads)
    graph.outputs, model.signatureDefs = kept, signatures
    (image,), outputs = file.get_input_details(), file.get_output_details()
    low, high = np.full(len(watched), np.inf), np.full(len(watched), -np.inf)
    for rgb in images:
        file.set_tensor(image["index"], rgb[None].astype(image["dtype"]))
        file.invoke()
        for number, output in enumerate(outputs):
            values = file.get_tensor(output["index"])
            low[number], high[number] = min(low[number], values.min()), max(high[number], values.max())
    for index, least, most in zip(watched, low, high, strict=True):
        found = graph.tensors[index].quantization
        found.min, found.max = np.array([least], np.float32), np.array([most], np.float32)
    return surgery.write(model)


def _has_range(tensor: object) -> bool:
    found = getattr(tensor, "quantization", None)
    return found is not None and found.min is not None and len(found.min) == 1
