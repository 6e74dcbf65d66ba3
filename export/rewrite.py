"""Rewrites of a finished int8 file that give the same answer sooner: what the converter would not write.

Each leaves a file alone that does not have what it looks for. docs/export.md has what they gain.
"""

from collections import Counter
from typing import Any

import numpy as np

from export import surgery

# LiteRT's ARG_MAX compares so many int8 values at once, and what is left over one by one.
LANES = 16
LAST_AXIS = 1 << 3  # its bit in the masks of a STRIDED_SLICE
PASSED_THROUGH = ("RESIZE_BILINEAR", "QUANTIZE", "STRIDED_SLICE")


def faster(flatbuffer: bytes) -> bytes:
    """Both rewrites."""
    model = surgery.read(flatbuffer)
    image_by_float(model)
    widen_argmax(model)
    return surgery.write(model)


def image_by_float(model: Any) -> None:
    """uint8 -> int8 of the image in two steps, by float32: XNNPACK takes each of them, and not the one they replace.

    Exact: both have scale 1, and float32 holds 0 to 255.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph, names = model.subgraphs[0], surgery.op_names(model)
    first = graph.operators[0]
    image = graph.tensors[int(first.inputs[0])]
    if names[0] != "QUANTIZE" or image.type != schema.TensorType.UINT8:
        return
    number = surgery.append_tensor(model, image)
    between = graph.tensors[number]
    between.name, between.type = b"image_float", schema.TensorType.FLOAT32
    between.quantization = None
    surgery.insert_op(model, 0, "DEQUANTIZE", first.inputs, [number], schema.DequantizeOptionsT())
    first.inputs = np.array([number], np.int32)


def widen_argmax(model: Any) -> None:
    """Scores of as many classes as ARG_MAX likes best: behind the last class stand copies of the first.

    The first of equal scores wins, so no copy is ever an answer.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph, names = model.subgraphs[0], surgery.op_names(model)
    if "ARG_MAX" not in names:
        return
    makers = {int(op.outputs[0]): place for place, op in enumerate(graph.operators)}
    readers = Counter(int(number) for op in graph.operators for number in op.inputs)
    scores = [int(graph.operators[names.index("ARG_MAX")].inputs[0])]
    while names[makers[scores[-1]]] in PASSED_THROUGH:
        scores.append(int(graph.operators[makers[scores[-1]]].inputs[0]))
    classifier = graph.operators[makers[scores[-1]]]
    if names[makers[scores[-1]]] != "CONV_2D" or len(classifier.inputs) != 3:
        return
    if any(not _keeps_channels(graph.operators[makers[number]]) for number in scores):
        return
    if any(readers[number] > 1 for number in scores):  # something else wants the scores as they are
        return
    weights, bias = (graph.tensors[int(number)] for number in classifier.inputs[1:])
    classes = int(weights.shape[0])
    copies = -classes % LANES
    if weights.type != schema.TensorType.INT8 or not copies:
        return
    for constant, kind in ((weights, np.int8), (bias, np.int32)):
        values = np.asarray(model.buffers[constant.buffer].data).view(kind).reshape(constant.shape)
        widened = _with_copies(values, copies)
        constant.buffer = surgery.append_buffer(model, widened.tobytes())
        constant.shape = np.array(widened.shape, np.int32)
        quantization = constant.quantization
        if len(quantization.scale) == classes:
            quantization.scale = _with_copies(quantization.scale, copies)
            quantization.zeroPoint = _with_copies(quantization.zeroPoint, copies)
    for number in scores:
        shape = np.array(graph.tensors[number].shape)
        shape[-1] = classes + copies
        graph.tensors[number].shape = shape


def _keeps_channels(operator: Any) -> bool:
    """Whether a slice, if it is one, takes all of the last of four axes, however many there are."""
    options = operator.builtinOptions
    masks = [getattr(options, name, LAST_AXIS) for name in ("beginMask", "endMask")]
    return all(mask & LAST_AXIS for mask in masks)


def _with_copies(values: np.ndarray, copies: int) -> np.ndarray:
    return np.concatenate([values, np.repeat(values[:1], copies, axis=0)])
