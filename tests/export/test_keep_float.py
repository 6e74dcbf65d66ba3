"""Single ops of an int8 file that stay in float32."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from export import run_tflite, surgery, tflite
from runtime.errors import UserError
from tests.exported import colour_examples, colour_model

SIZE = (33, 48)


def converted(keep_float: tuple[str, ...]) -> bytes:
    images = tflite.calibration_images(colour_examples(SIZE, 4), 4, SIZE)
    return tflite.convert(colour_model(SIZE), SIZE, "int8", "mask", images, keep_float=keep_float)


def test_the_named_op_is_in_float_and_no_other():
    model = surgery.read(converted(("centre",)))
    graph = model.subgraphs[0]
    kinds = {
        name: graph.tensors[int(op.outputs[0])].type
        for name, op in zip(surgery.op_names(model), graph.operators, strict=True)
        if name.endswith("CONV_2D")
    }
    assert kinds == {"CONV_2D": schema.TensorType.INT8, "DEPTHWISE_CONV_2D": schema.TensorType.FLOAT32}
    image = graph.tensors[int(graph.operators[0].inputs[0])]
    assert image.type == schema.TensorType.UINT8


def test_it_still_segments():
    rgb = colour_examples(SIZE, 1)[0].read()[0]
    np.testing.assert_array_equal(
        run_tflite.runner(converted(("centre",)))(rgb), run_tflite.runner(converted(()))(rgb)
    )


def test_an_op_that_is_not_there_is_named():
    with pytest.raises(UserError, match="--keep-float no_such_op: the model has no such op"):
        converted(("no_such_op",))
