"""The convolutions of a `.tflite`, quantised or not, as tensors of a checkpoint, and what its graph says beside them.

Convolutions come in the order of the graph, their BatchNorms folded into them. What is quantised comes as the numbers
that its 8 bits stand for.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SUFFIX = ".tflite"
MOST_ELEMENTS = 4  # of all constants, for each byte of the file: many tensors may name one buffer
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


@dataclass(frozen=True)
class Convolution:
    """`kernel` (h, w, channels, filters), or (h, w, channels, 1) of one by depth, `bias` (filters,), both float32;
    `stride`, `rate`; `size` is the (H, W) of what it puts out, `output` the number of that tensor."""

    kernel: np.ndarray
    bias: np.ndarray
    stride: int
    rate: int
    size: tuple[int, int]
    output: int


@dataclass(frozen=True)
class Network:
    """A file's convolutions, in the order of the graph; `joined`: which of them, by their place, each
    CONCATENATION puts first to last; `align_corners`: whether all of its resizing does that; `scale` and `zero`
    of the image's 8 bits, None where it is float."""

    convolutions: tuple[Convolution, ...]
    joined: tuple[tuple[int, ...], ...]
    align_corners: bool
    scale: float | None
    zero: int


def read(path: Path) -> Network:
    """Raises ValueError, the end of a sentence that begins with the file's name, when it is none or damaged."""
    from ai_edge_litert import schema_py_generated as schema

    data = path.read_bytes()
    try:
        if data[4:8] != b"TFL3":
            raise ValueError
        model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
        return _network(model, schema, MOST_ELEMENTS * len(data))
    except (ValueError, struct.error, IndexError, TypeError, AttributeError, KeyError) as error:
        raise ValueError("is no whole .tflite with constant weights") from error


def _network(model: Any, schema: Any, most: int) -> Network:
    graph = model.subgraphs[0]
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    kinds = [
        names.get(max(int(code.builtinCode), int(code.deprecatedBuiltinCode)), "")
        for code in (model.operatorCodes[op.opcodeIndex] for op in graph.operators)
    ]
    found: list[Convolution] = []
    for op, kind in zip(graph.operators, kinds, strict=True):
        if kind in CONVOLUTIONS:
            found.append(_convolution(model, graph, op, schema))
            most -= found[-1].kernel.size + found[-1].bias.size
            if most < 0:
                raise ValueError
    makers = {int(op.outputs[0]): op for op in graph.operators}
    places = {convolution.output: place for place, convolution in enumerate(found)}
    resizes = [
        op.builtinOptions
        for op, kind in zip(graph.operators, kinds, strict=True)
        if kind == "RESIZE_BILINEAR"
    ]
    image = graph.tensors[int(graph.inputs[0])]
    stated = image.type != schema.TensorType.FLOAT32
    return Network(
        convolutions=tuple(found),
        joined=tuple(
            tuple(_behind(int(number), makers, places) for number in op.inputs)
            for op, kind in zip(graph.operators, kinds, strict=True)
            if kind == "CONCATENATION"
        ),
        align_corners=bool(resizes) and all(options.alignCorners for options in resizes),
        scale=float(image.quantization.scale[0]) if stated else None,
        zero=int(image.quantization.zeroPoint[0]) if stated else 0,
    )


def _behind(number: int, makers: dict[int, Any], places: dict[int, int]) -> int:
    """The place of the convolution that a tensor comes from, by way of ops of one input; -1 where there is none."""
    for _ in makers:
        if number in places:
            return places[number]
        if number not in makers:
            break
        number = int(makers[number].inputs[0])
    return -1


def _convolution(model: Any, graph: Any, op: Any, schema: Any) -> Convolution:
    kernel, bias = (values(model, graph.tensors[int(number)], schema) for number in list(op.inputs)[1:3])
    output, options = int(op.outputs[0]), op.builtinOptions
    height, width = (int(side) for side in graph.tensors[output].shape[1:3])
    # (filters, h, w, channels) and, depthwise, (1, h, w, channels)
    turned = kernel.transpose(1, 2, 3, 0)
    return Convolution(
        turned, bias, int(options.strideH), int(options.dilationHFactor), (height, width), output
    )


def values(model: Any, tensor: Any, schema: Any) -> np.ndarray:
    """A constant as float32."""
    types = {
        schema.TensorType.FLOAT32: np.float32,
        schema.TensorType.INT8: np.int8,
        schema.TensorType.UINT8: np.uint8,
        schema.TensorType.INT32: np.int32,
    }
    stored = np.asarray(model.buffers[tensor.buffer].data).view(types[tensor.type]).reshape(tensor.shape)
    quantization = tensor.quantization
    if tensor.type == schema.TensorType.FLOAT32 or quantization is None or quantization.scale is None:
        return stored.astype(np.float32)
    along = [1] * stored.ndim
    if len(quantization.scale) > 1:
        along[quantization.quantizedDimension] = -1
    scale, zero = (
        np.asarray(part, np.float64).reshape(along) for part in (quantization.scale, quantization.zeroPoint)
    )
    return ((stored - zero) * scale).astype(np.float32)
