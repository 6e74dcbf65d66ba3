"""Class ids on every second or fourth pixel of a mask file: `--mask-stride`.

The last resize of the scores, ARG_MAX and CAST work on each pixel of the image, a third of a small network's time,
though the network itself decides at stride 4 or 8. Here the last resize goes to half or a quarter of the size, and what
comes after it follows; the weights, and all that comes before, stay as they are. Whoever runs the file brings the ids
to the image's size, nearest neighbour, as `runtime` does with any mask.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from export import surgery
from runtime.errors import UserError
from runtime.image import resize_ids

if TYPE_CHECKING:
    from export.parity import Predict

# What may stand between the last resize and ARG_MAX: it leaves places where they are.
BETWEEN = ("QUANTIZE", "DEQUANTIZE", "STRIDED_SLICE")
ROWS, COLUMNS = 1, 2  # axes of a map (1, H, W, C)


def coarser(flatbuffer: bytes, stride: int) -> bytes:
    """A mask file (1, H, W) -> the same network's (1, H / stride, W / stride).

    UserError where the network does not end in a bilinear resize, or `stride` does not divide H and W, before and after
    the padding is cut off.
    """
    model = surgery.read(flatbuffer)
    graph, names = model.subgraphs[0], surgery.op_names(model)
    makers = {int(op.outputs[0]): place for place, op in enumerate(graph.operators)}
    last = names.index("ARG_MAX")
    for op in graph.operators[last:]:
        _divide(graph.tensors[int(op.outputs[0])], stride)
    number = int(graph.operators[last].inputs[0])
    while names[makers.get(number, last)] in BETWEEN:
        op = graph.operators[makers[number]]
        _divide(graph.tensors[number], stride)
        if names[makers[number]] == "STRIDED_SLICE":
            _cut_sooner(model, op, stride)
        number = int(op.inputs[0])
    if names[makers.get(number, last)] != "RESIZE_BILINEAR":
        raise UserError(
            f"--mask-stride {stride}: the network does not end in a resize of its scores, so nothing would be saved"
        )
    _divide(graph.tensors[number], stride)
    resize = graph.operators[makers[number]]
    size = np.array(graph.tensors[number].shape[ROWS : COLUMNS + 1], np.int32)
    resize.inputs[1] = surgery.append_tensor(model, graph.tensors[int(resize.inputs[1])], size.tobytes())
    return surgery.write(model)


def brought_back(predict: "Predict", size: tuple[int, int]) -> "Predict":
    """A coarser file's ids and scores at the size (height, width) of its image, each pixel those of the nearest."""

    def predict_whole(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ids, scores = predict(rgb)
        rows, columns = (side // small for side, small in zip(size, ids.shape, strict=True))
        return resize_ids(ids, size), scores.repeat(rows, axis=0).repeat(columns, axis=1)

    return predict_whole


def _divide(tensor: Any, stride: int) -> None:
    """The height and width of a map's tensor, (1, H, W, ...), by `stride`."""
    shape = np.array(tensor.shape)
    if (shape[ROWS : COLUMNS + 1] % stride).any():
        raise UserError(
            f"--mask-stride {stride} does not divide {shape[ROWS]}x{shape[COLUMNS]}: choose a --size that it divides"
        )
    shape[ROWS : COLUMNS + 1] //= stride
    tensor.shape = shape
    tensor.shapeSignature = None


def _cut_sooner(model: Any, op: Any, stride: int) -> None:
    """A slice that begins at 0 ends where the smaller map does."""
    tensor = model.subgraphs[0].tensors[int(op.inputs[2])]
    ends = np.asarray(model.buffers[tensor.buffer].data).view(np.int32).copy()
    for axis in (ROWS, COLUMNS):
        if not op.builtinOptions.endMask >> axis & 1:
            ends[axis] //= stride
    op.inputs[2] = surgery.append_tensor(model, tensor, ends.tobytes())
