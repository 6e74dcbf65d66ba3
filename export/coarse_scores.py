"""A second output of mask files: the scores of every fourth pixel either way, as ARG_MAX sees them (8 bits in an int8
file), from which `runtime.confidence` tells how sure the model is. The class ids stay the first output.

One STRIDED_SLICE, which also leaves out the copies of `rewrite.widen_argmax`. It takes 1/16 of the scores, so that it
costs next to nothing, whatever the network ends in; a softmax in the graph would be the dearer part, and its
temperature could not be changed any more (docs/results/runtime.md has the times).
"""

import copy
from typing import Any

import numpy as np

from export import surgery
from runtime.confidence import STEP

NAME = "coarse_scores"


def add(flatbuffer: bytes, classes: int, step: int = STEP) -> bytes:
    """A mask file with the second output (1, h, w, `classes`): the pixels at step // 2 + k * step."""
    from ai_edge_litert import schema_py_generated as schema

    model = surgery.read(flatbuffer)
    graph = model.subgraphs[0]
    last = surgery.op_names(model).index("ARG_MAX")
    number = int(graph.operators[last].inputs[0])
    scores = graph.tensors[number]
    height, width = (int(side) for side in scores.shape[1:3])
    given = copy.copy(scores)
    given.name = NAME.encode()
    given.shape = np.array([1, *(_count(side, step) for side in (height, width)), classes], np.int32)
    given.shapeSignature = None
    begin, end, strides = (
        _constant(model, f"{NAME}/{name}", values)
        for name, values in (
            ("begin", (0, step // 2, step // 2, 0)),
            ("end", (1, height, width, classes)),
            ("strides", (1, step, step, 1)),
        )
    )
    place = surgery.append_tensor(model, given)
    options = schema.StridedSliceOptionsT()
    surgery.insert_op(
        model, last, "STRIDED_SLICE", [number, begin, end, strides], [place], options, version=2
    )
    graph.outputs = np.array([*graph.outputs, place], np.int32)
    for signature in model.signatureDefs or []:
        output = schema.TensorMapT()
        output.name, output.tensorIndex = NAME, place
        signature.outputs = [*signature.outputs, output]
    return surgery.write(model)


def _count(side: int, step: int) -> int:
    return len(range(step // 2, side, step))


def _constant(model: Any, name: str, values: tuple[int, ...]) -> int:
    from ai_edge_litert import schema_py_generated as schema

    like = schema.TensorT()
    like.name, like.type = name.encode(), schema.TensorType.INT32
    like.shape = np.array([len(values)], np.int32)
    return surgery.append_tensor(model, like, np.array(values, np.int32).tobytes())
