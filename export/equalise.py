"""Cross-layer equalisation: the channels of a feature map are brought to one range before it gets one scale.

In int8 a feature map has one scale for all its channels, so a channel of a tenth of the widest one's range has a tenth
of the 256 steps. Where a convolution, with ReLU or with nothing behind it, feeds one other convolution and nothing
else, a channel may be multiplied by any s > 0 in the first and divided by s in the second: the float network computes
what it did. A depthwise convolution has a weight scale for each channel, so it takes any s at no loss, and all channels
get the same range; a dense one has a scale for each filter, over all its inputs, so s balances range and weights.

Source: Nagel, van Baalen, Blankevoort, Welling, "Data-free quantization through weight equalization and bias
correction" (2019), section 4.1. Deviations: ranges are those of activations over images, not of weights, since weights
here have a scale for each filter; ReLU6 is left as it is, since min(s x, 6) is not s min(x, 6).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from export import run_tflite, surgery

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
MOST = 64.0  # a channel's factor, and its inverse, at most: dead channels have no range


class Pair(NamedTuple):
    """Two convolutions, by place in the graph, and the number of the feature map between them."""

    first: int
    second: int
    between: int


def equalised(calibrated: bytes, images: Sequence[np.ndarray], threads: int = 2) -> bytes:
    """A float file -> one that computes the same, to rounding. `images` are uint8 (H, W, 3). Ranges that the file has
    of its tensors are those of before: take them anew."""
    model = surgery.read(calibrated)
    found = pairs(model)
    if not found:
        return calibrated
    for pair, reached in zip(found, _reached(model, found, images, threads), strict=True):
        _scale(model, pair, factors(reached, _asked(model, pair)))
    return surgery.write(model)


def pairs(model: Any) -> list[Pair]:
    """All that may be equalised: the feature map, and zeros padded around it, have one reader each."""
    from ai_edge_litert import schema_py_generated as schema

    graph, names = model.subgraphs[0], surgery.op_names(model)
    readers: dict[int, list[int]] = {}
    for place, op in enumerate(graph.operators):
        for index in op.inputs:
            readers.setdefault(int(index), []).append(place)
    free = (schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU)
    found = []
    for place, op in enumerate(graph.operators):
        if names[place] not in CONVOLUTIONS or op.builtinOptions.fusedActivationFunction not in free:
            continue
        between = int(op.outputs[0])
        second = _only_reader(graph, readers, between)
        if second is not None and names[second] == "PAD":
            second = _only_reader(graph, readers, int(graph.operators[second].outputs[0]))
        if second is None or names[second] not in CONVOLUTIONS:
            continue
        own = [_weights(graph, place), *_bias(graph, place), _weights(graph, second)]
        if all(_alone(model, graph, index) for index in own):
            found.append(Pair(place, second, between))
    return found


def factors(reached: np.ndarray, asked: np.ndarray | None) -> np.ndarray:
    """What each channel is multiplied by. `reached`: how far it goes, over images; `asked`: how large its weights in
    the next convolution are, as shares of each filter's largest, or None for a depthwise one. A channel that is dead
    on either side stays as it is."""
    live = reached > 0 if asked is None else (reached > 0) & (asked > 0)
    if not live.any():
        return np.ones_like(reached)
    wanted = np.ones_like(reached)
    wanted[live] = 1 / reached[live] if asked is None else np.sqrt(asked[live] / reached[live])
    wanted[live] *= (reached[live] * wanted[live]).max() ** -1 * reached[
        live
    ].max()  # the widest stays as wide
    bounded: np.ndarray = np.clip(wanted, 1 / MOST, MOST)
    bounded[~live] = 1
    return bounded


def _only_reader(graph: Any, readers: dict[int, list[int]], index: int) -> int | None:
    there = readers.get(index, [])
    return there[0] if len(there) == 1 and index not in [int(output) for output in graph.outputs] else None


def _weights(graph: Any, place: int) -> int:
    return int(graph.operators[place].inputs[1])


def _bias(graph: Any, place: int) -> list[int]:
    inputs = graph.operators[place].inputs
    return [int(inputs[2])] if len(inputs) > 2 and inputs[2] >= 0 else []


def _alone(model: Any, graph: Any, index: int) -> bool:
    """Whether a tensor is a float constant that nothing else reads."""
    buffer = graph.tensors[index].buffer
    content = model.buffers[buffer].data
    used = sum(int(one) == index for op in graph.operators for one in op.inputs)
    shared = sum(tensor.buffer == buffer for tensor in graph.tensors)
    return content is not None and len(content) > 0 and graph.tensors[index].type == 0 and used == shared == 1


def _values(model: Any, index: int) -> np.ndarray:
    tensor = model.subgraphs[0].tensors[index]
    content = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(np.float32)
    values: np.ndarray = content.reshape(tensor.shape).copy()
    return values


def _put(model: Any, index: int, values: np.ndarray) -> None:
    content = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
    model.buffers[model.subgraphs[0].tensors[index].buffer].data = content


def _depthwise(model: Any, place: int) -> bool:
    return surgery.op_names(model)[place] == "DEPTHWISE_CONV_2D"


def _asked(model: Any, pair: Pair) -> np.ndarray | None:
    """Of each input channel, the largest weight as a share of its filter's largest; None of a depthwise one."""
    if _depthwise(model, pair.second):
        return None
    weights = np.abs(_values(model, _weights(model.subgraphs[0], pair.second)))  # (filters, h, w, channels)
    largest = weights.max(axis=(1, 2, 3), keepdims=True)
    shares: np.ndarray = (weights / np.where(largest > 0, largest, 1)).max(axis=(0, 1, 2))
    return shares


def _scale(model: Any, pair: Pair, by: np.ndarray) -> None:
    graph = model.subgraphs[0]
    first, second = _weights(graph, pair.first), _weights(graph, pair.second)
    if _depthwise(model, pair.first):
        _put(model, first, _values(model, first) * by)  # (1, h, w, channels)
    else:
        _put(model, first, _values(model, first) * by[:, None, None, None])
    for bias in _bias(graph, pair.first):
        _put(model, bias, _values(model, bias) * by)
    values = _values(model, second)
    each = values.shape[-1] // len(by) if _depthwise(model, pair.second) else 1  # a depth multiplier
    _put(model, second, values / np.repeat(by, each))


def _reached(
    model: Any, found: Sequence[Pair], images: Sequence[np.ndarray], threads: int
) -> list[np.ndarray]:
    """Of each pair, the largest absolute value of each channel between the two, in the mean over images."""
    graph = model.subgraphs[0]
    kept, graph.outputs, signatures, model.signatureDefs = (
        graph.outputs, [pair.between for pair in found], model.signatureDefs, [],
    )  # fmt: skip
    file = run_tflite.interpreter(surgery.write(model), threads)
    graph.outputs, model.signatureDefs = kept, signatures
    (image,), outputs = file.get_input_details(), file.get_output_details()
    sums = [np.zeros(graph.tensors[pair.between].shape[-1]) for pair in found]
    for rgb in images:
        file.set_tensor(image["index"], rgb[None].astype(image["dtype"]))
        file.invoke()
        for number, output in enumerate(outputs):
            sums[number] += np.abs(file.get_tensor(output["index"])).max(axis=(0, 1, 2))
    return [total / len(images) for total in sums]
