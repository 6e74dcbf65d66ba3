"""Rewrites of a finished int8 file for where it runs: what the converter would not write. Those for XNNPACK give the
same answer sooner, those for Ethos-U leave nothing to the CPU.

Each leaves a file alone that does not have what it looks for. docs/results/export.md has what they gain.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from export import surgery

# LiteRT's ARG_MAX compares so many int8 values at once, and what is left over one by one.
LANES = 16
LAST_AXIS = 1 << 3  # its bit in the masks of a STRIDED_SLICE
PASSED_THROUGH = ("RESIZE_BILINEAR", "QUANTIZE", "STRIDED_SLICE")


def faster(flatbuffer: bytes, target: str = "xnnpack") -> bytes:
    """The rewrites for one of export.TARGETS."""
    model = surgery.read(flatbuffer)
    for rewrite in REWRITES.get(target, ()):
        rewrite(model)
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


def relu_by_quantize(model: Any) -> None:
    """int8 -> int8 RELU (RELU6) as a QUANTIZE from the scale before it to the scale behind it, which XNNPACK takes.

    Exact where the least int8 behind it stands for 0 (and the largest for at most 6): what lies below is cut off there
    by either. The converter fuses a RELU into what it follows unless something else wants that, too: the maps of
    DDRNet's two branches.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    for place, name in enumerate(surgery.op_names(model)):
        if name not in ("RELU", "RELU6"):
            continue
        op = graph.operators[place]
        before, behind = (graph.tensors[int(number)] for number in (op.inputs[0], op.outputs[0]))
        if before.type != schema.TensorType.INT8 or behind.type != schema.TensorType.INT8:
            continue
        scale, zero = behind.quantization.scale[0], behind.quantization.zeroPoint[0]
        if zero == -128 and (name == "RELU" or scale * (127 - zero) <= 6):
            surgery.insert_op(
                model, place, "QUANTIZE", op.inputs, op.outputs, schema.QuantizeOptionsT(), version=2
            )
            del graph.operators[place + 1]


def resize_by_twos(model: Any) -> None:
    """A bilinear resize by 4 or 8 as two or three by 2, which is all that Ethos-U has with half-pixel centres.

    Another function, a little smoother: the gate says what it costs.
    """
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    names = surgery.op_names(model)
    for place in reversed([place for place, name in enumerate(names) if name == "RESIZE_BILINEAR"]):
        op = graph.operators[place]
        source, wanted = (graph.tensors[int(number)] for number in (op.inputs[0], op.outputs[0]))
        (height, width), (tall, wide) = (tuple(map(int, one.shape[1:3])) for one in (source, wanted))
        factor = tall // height
        if factor not in (4, 8) or (tall, wide) != (height * factor, width * factor):
            continue
        if not op.builtinOptions.halfPixelCenters:
            continue
        last = int(op.inputs[0])
        for step in (2, 4)[: 1 if factor == 4 else 2]:
            sides = np.array([height * step, width * step], np.int32)
            size = surgery.append_tensor(model, graph.tensors[int(op.inputs[1])], sides.tobytes())
            between = surgery.append_tensor(model, source)
            graph.tensors[size].name = f"resize_{place}_by_{step}_size".encode()
            graph.tensors[between].name = f"resize_{place}_by_{step}".encode()
            graph.tensors[between].shape = np.array([1, *sides, source.shape[3]], np.int32)
            graph.tensors[between].shapeSignature = None
            options = schema.ResizeBilinearOptionsT()
            options.halfPixelCenters = True
            surgery.insert_op(model, place, "RESIZE_BILINEAR", [last, size], [between], options, version=3)
            last, place = between, place + 1
        op.inputs = np.array([last, op.inputs[1]], np.int32)


def ids_as_they_come(model: Any) -> None:
    """The mask as ARG_MAX gives it, int32: Ethos-U has no CAST."""
    graph, names = model.subgraphs[0], surgery.op_names(model)
    if names[-2:] != ["ARG_MAX", "CAST"]:
        return
    cast = graph.operators.pop()
    graph.outputs = np.array(cast.inputs, np.int32)
    for signature in model.signatureDefs or ():
        for output in signature.outputs:
            output.tensorIndex = int(cast.inputs[0])


# Edge TPU and GPU get the file as the converter writes it.
REWRITES: dict[str, tuple[Callable[[Any], None], ...]] = {
    "xnnpack": (image_by_float, widen_argmax, relu_by_quantize),
    "ethos-u55": (resize_by_twos, ids_as_they_come),
    "ethos-u65": (resize_by_twos, ids_as_they_come),
}
