"""What we need of TensorFlow and LiteRT and they keep private: the first file to look at when they are updated.

Each name was seen in TensorFlow 2.21.0 and ai-edge-litert 2.3.0. `zoo/keras_private.py` has Keras' names, and
`runtime/sigmoid.py`, which may import nothing of ours, the one of LiteRT that a device needs.
"""

from collections.abc import Sequence
from typing import Any

from runtime.sigmoid import operations

SEEN_IN = {"tensorflow": "2.21.0", "ai-edge-litert": "2.3.0"}


def calibrated(converter: Any) -> bytes:
    """The first half of what `converter.convert()` does for int8: a float file with the ranges of its tensors."""
    converter._experimental_calibrate_only = True
    return bytes(converter.convert())


def quantised(calibrated_file: bytes, float_ops: Sequence[str] | None, float_tensors: Sequence[str]) -> bytes:
    """The second half. `float_ops` (kinds) and the ops that put out `float_tensors` (names) stay float32; the input is
    uint8, scores are float32."""
    # Imported here: TensorFlow takes seconds, and `python -m export --help` asks for nothing of it.
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    return bytes(
        mlir_quantize(
            calibrated_file,
            input_data_type=tf.uint8,
            denylisted_ops=float_ops,
            denylisted_nodes=float_tensors,
        )
    )


def frozen(function: Any, signature: Any) -> tuple[Any, str, str]:
    """A tf.function of one input and one output as a GraphDef whose variables and captured arrays are constants, and
    the names of its input and its output. Calls are marked to be written out in full, those too that Keras hands to XLA
    (convolutions in groups on a CPU), which converters otherwise keep as calls."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    concrete = function.get_concrete_function(signature)
    made = convert_variables_to_constants_v2(concrete, lower_control_flow=False, aggressive_inlining=True)
    graph = made.graph.as_graph_def(add_shapes=True)
    within = [node for called in graph.library.function for node in called.node_def]
    for one in (*graph.node, *graph.library.function, *within):
        for mark in ("_XlaMustCompile", "_noinline"):
            one.attr.pop(mark, None)
    return graph, made.inputs[0].name, made.outputs[0].name


def partitions(interpreter: Any) -> list[dict[str, Any]]:
    """What LiteRT has handed to XNNPACK, one entry a partition, with its `inputs` and `outputs`."""
    return [op for op in operations(interpreter) if op["op_name"] == "DELEGATE"]
