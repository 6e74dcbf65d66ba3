"""Bias correction: takes out of an int8 file the mean error that rounding its weights put in.

Rounding a filter shifts the mean of each output channel, and the shift grows from layer to layer. Layer by layer,
in the order of the graph, the mean of each channel over a few images is brought back to that of the float file
by changing the layer's int32 bias, so the file keeps its ops, its size and its speed.

Source: Nagel, van Baalen, Blankevoort, Welling, "Data-free quantization through weight equalization and bias
correction" (2019), appendix D (empirical bias correction). Deviation: means are taken after the fused activation,
where both files can be read; an error there is divided by the share of values that ReLU lets through.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from export import run_tflite, surgery

LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D")
# Layers that are watched at once: what a large image's feature maps take in memory, against packing anew.
GROUP = 8
# A channel that ReLU almost always clips answers a change of its bias by this share of it, at least.
LEAST_ACTIVE = 0.25


def correct(
    quantised: bytes, reference: bytes, images: Sequence[np.ndarray], threads: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> bytes:  # fmt: skip
    """`quantised` with new biases. Both files come from one model; `images` are uint8 (H, W, 3).

    Layers are paired by the name of their output; one without a partner, in float, or whose bias another layer
    shares, stays as it is.
    """
    model, float_model = surgery.read(quantised), surgery.read(reference)
    partners = {layer.name: layer for layer in _layers(float_model)}
    layers = [
        layer for layer in _layers(model) if layer.name in partners and layer.quantised and not layer.shared
    ]
    for start in range(0, len(layers), GROUP):
        group = layers[start : start + GROUP]
        float_file = _observed(float_model, [partners[layer.name] for layer in group])
        wanted = _means(float_file, range(len(group)), images, threads)
        watched = bytearray(_observed(model, group))
        for number, layer in enumerate(group):
            ((found, active),) = _means(bytes(watched), [number], images, threads)
            bias = model.buffers[layer.buffer].data.view(np.int32)
            error = (wanted[number][0] - found) / np.maximum(active, LEAST_ACTIVE)
            steps = np.round(error / layer.scales)
            corrected = np.clip(bias + steps, -(2**31), 2**31 - 1).astype(np.int32).view(np.uint8)
            model.buffers[layer.buffer].data = corrected
            _buffer(watched, layer.buffer)[:] = corrected
            if progress:
                progress(start + number + 1, len(layers))
    result = bytearray(quantised)
    for layer in layers:
        _buffer(result, layer.buffer)[:] = model.buffers[layer.buffer].data
    return bytes(result)


class _Layer:
    """A convolution of a graph: its place and output, and its bias: buffer, scale a channel, shared or not."""

    def __init__(self, model: Any, place: int) -> None:
        graph = model.subgraphs[0]
        op = graph.operators[place]
        self.place = place
        bias = graph.tensors[op.inputs[2]]
        self.output, self.buffer = int(op.outputs[0]), int(bias.buffer)
        self.name = graph.tensors[self.output].name
        self.shared = sum(tensor.buffer == bias.buffer for tensor in graph.tensors) > 1
        scale = bias.quantization.scale if bias.quantization else None
        self.quantised = scale is not None
        self.scales = np.ones(1) if scale is None else np.asarray(scale, np.float64)


def _layers(model: Any) -> list[_Layer]:
    graph, names = model.subgraphs[0], surgery.op_names(model)
    places = [place for place, name in enumerate(names) if name in LAYERS]
    return [
        _Layer(model, place)
        for place in places
        if len(graph.operators[place].inputs) == 3 and graph.operators[place].inputs[2] >= 0
    ]


def _observed(model: Any, layers: list[_Layer]) -> bytes:
    """The same graph up to the last of these layers, with what they give as its outputs."""
    graph = model.subgraphs[0]
    kept = graph.operators, graph.outputs, model.signatureDefs
    graph.operators = graph.operators[: max(layer.place for layer in layers) + 1]
    graph.outputs, model.signatureDefs = [layer.output for layer in layers], []
    try:
        return surgery.write(model)
    finally:
        graph.operators, graph.outputs, model.signatureDefs = kept


def _means(
    flatbuffer: bytes, numbers: Sequence[int] | range, images: Sequence[np.ndarray], threads: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of the outputs with these numbers, over all images and places: each channel's mean, and the share of its
    values that are not at the type's lower end, where an int8 ReLU clips."""
    interpreter = run_tflite.interpreter(flatbuffer, threads)
    image, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()
    sums: list[Any] = [0.0] * len(numbers)
    for rgb in images:
        interpreter.set_tensor(image["index"], rgb[None].astype(image["dtype"]))
        interpreter.invoke()
        for place, number in enumerate(numbers):
            values = interpreter.get_tensor(outputs[number]["index"])
            scale, zero = outputs[number]["quantization"]
            mean = values.mean(axis=(0, 1, 2), dtype=np.float64)
            mean = (mean - zero) * scale if scale else mean
            sums[place] = sums[place] + np.stack([mean, (values != -128).mean(axis=(0, 1, 2))])
    return [tuple(total / len(images)) for total in sums]


def _buffer(flatbuffer: bytearray, number: int) -> np.ndarray:
    """A writable view of one buffer's bytes."""
    from ai_edge_litert import schema_py_generated as schema

    view: np.ndarray = schema.Model.GetRootAs(flatbuffer, 0).Buffers(number).DataAsNumpy()
    return view
