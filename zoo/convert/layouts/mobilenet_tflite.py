"""The MobileNet of a `.tflite` -> weights of our backbone: MobileNetV2, such as that of MLPerf Mobile's DeepLabV3+ on
ADE20K, and MobileNetEdgeTPU, such as that of Coral's DeepLab on Cityscapes.

Such a file's convolutions come in the order of the network, quantised or not, their BatchNorms folded into
them. The kernels here are the folded ones and each BatchNorm passes its input on, plus the bias: the same function,
but not yet one to train with, as BatchNorm then divides by what it sees (backbone_weights.recalibrate_norms).
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from zoo.backbones import edgetpu, mobilenet
from zoo.layers import NORM_EPSILON

SUFFIX = ".tflite"
# Backbone -> the names of its convolutions, in the order of the network.
NAMES = {
    "mobilenet_v2": mobilenet.convolution_names,
    "mobilenet_edgetpu": edgetpu.convolution_names,
}


def read(path: Path, backbone: str) -> dict[str, list[np.ndarray]]:
    """Layer name of our backbone -> its arrays, float32. ValueError when the file holds too few convolutions for it, or
    the backbone is not one of NAMES; whether their shapes fit is for who assigns them to see."""
    from ai_edge_litert import schema_py_generated as schema

    if backbone not in NAMES:
        raise ValueError(f"is a .tflite, which is read for {' and '.join(NAMES)}, not for {backbone}")
    data = path.read_bytes()
    try:
        if data[4:8] != b"TFL3":
            raise ValueError
        model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
        found = list(_convolutions(model, schema))
    except (ValueError, struct.error, IndexError, TypeError, AttributeError) as error:
        raise ValueError("is no whole .tflite with constant weights") from error
    names = NAMES[backbone]()
    if len(found) < len(names):
        raise ValueError(f"has {len(found)} convolutions; {backbone} has {len(names)}")
    weights = {}
    for name, (kernel, bias) in zip(names, found, strict=False):
        weights[name] = [kernel]
        one, zero = np.ones_like(bias), np.zeros_like(bias)
        weights[norm_name(name)] = [one, bias, zero, one * np.float32(1 - NORM_EPSILON)]
    return weights


def norm_name(convolution: str) -> str:
    """The BatchNorm behind a convolution."""
    return "bn_Conv1" if convolution == "Conv1" else f"{convolution}_BN"


def _convolutions(model: Any, schema: Any) -> Any:
    """(kernel as Keras has it, bias) of each convolution, in the order of the graph."""
    graph = model.subgraphs[0]
    kinds = {schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D}
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        if max(int(code.builtinCode), int(code.deprecatedBuiltinCode)) in kinds:
            kernel, bias = (
                _values(model, graph.tensors[int(number)], schema) for number in list(op.inputs)[1:3]
            )
            # (filters, h, w, channels) and, depthwise, (1, h, w, channels)
            yield kernel.transpose(1, 2, 3, 0), bias


def _values(model: Any, tensor: Any, schema: Any) -> np.ndarray:
    """A constant as float32."""
    types = {
        schema.TensorType.FLOAT32: np.float32,
        schema.TensorType.INT8: np.int8,
        schema.TensorType.UINT8: np.uint8,
        schema.TensorType.INT32: np.int32,
    }
    values = np.asarray(model.buffers[tensor.buffer].data).view(types[tensor.type]).reshape(tensor.shape)
    quantization = tensor.quantization
    if tensor.type == schema.TensorType.FLOAT32 or quantization is None or quantization.scale is None:
        return values.astype(np.float32)
    along = [1] * values.ndim
    if len(quantization.scale) > 1:
        along[quantization.quantizedDimension] = -1
    scale, zero = (
        np.asarray(part, np.float64).reshape(along) for part in (quantization.scale, quantization.zeroPoint)
    )
    return ((values - zero) * scale).astype(np.float32)
