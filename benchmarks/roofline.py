"""The most that was found on this machine in the same run, and what an operation would take at that.

The rate is that of eight 3x3 convolutions of 256 channels at 64x64, in int8 and in float32; the bandwidth that of
copies between two arrays of 4 MB, the size of a network's large maps, one pair a thread: bytes read and bytes written.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from export import run_tflite, surgery, tflite
from runtime.stderr import stderr_on_failure

ROOF = {"channels": 256, "side": 64, "layers": 8}
COPIED = 4 << 20  # bytes
PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL")


def roof(kind: str) -> bytes:
    """A file of nothing but convolutions, of the kind that int8 and float kernels are fastest at."""
    import keras
    import tensorflow as tf

    shape = (ROOF["side"], ROOF["side"], ROOF["channels"])
    image = keras.Input(shape)
    x = image
    for _ in range(ROOF["layers"]):
        x = keras.layers.Conv2D(ROOF["channels"], 3, padding="same", activation="relu")(x)
    model = keras.Model(image, x)
    samples = np.random.default_rng(0).random((4, *shape)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder, stderr_on_failure():
        signature = [tf.TensorSpec((1, *shape), tf.float32)]
        tflite.write_saved_model(folder, model, lambda values: model(values, training=False), signature)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if kind == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.representative_dataset = lambda: ([sample[None]] for sample in samples)
            converter.inference_input_type = converter.inference_output_type = tf.int8
        return bytes(converter.convert())


def rate_of(flatbuffer: bytes, threads: int) -> float:
    """GOPS of a file: the best of 20 runs, since a roof is what can be reached."""
    best = float(turns([flatbuffer], threads, 20).min())
    return 2 * macs(surgery.read(flatbuffer)) / best / 1e9


def bandwidth(threads: int) -> float:
    """GB/s read and written together: the best of 20 rounds of copies, one thread to a pair of arrays, its own time."""
    pairs = [(np.ones(COPIED, np.uint8), np.zeros(COPIED, np.uint8)) for _ in range(threads)]
    rounds, copies = 20, 10

    def copy(pair: tuple[np.ndarray, np.ndarray]) -> float:
        start = time.thread_time()
        for _ in range(copies):
            np.copyto(pair[1], pair[0])
        return time.thread_time() - start

    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds):
            best = min(best, max(pool.map(copy, pairs)))
    return 2 * COPIED * copies * threads / best / 1e9


def turns(flatbuffers: Sequence[bytes], threads: int, runs: int) -> np.ndarray:
    """Seconds (runs, files) on zeros, the files in turn, after three turns that are not counted.

    On one thread they are the thread's own, which other work on the machine leaves nearly as they are.
    """
    clock = time.thread_time if threads == 1 else time.perf_counter
    interpreters = [run_tflite.interpreter(flatbuffer, threads) for flatbuffer in flatbuffers]
    for litert in interpreters:
        for details in litert.get_input_details():
            litert.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
    times = np.zeros((runs + 3, len(interpreters)))
    for number in range(runs + 3):
        print(f"\r{number} of {runs + 3} turns", end="", file=sys.stderr, flush=True)
        for place, litert in enumerate(interpreters):
            start = clock()
            litert.invoke()
            times[number, place] = clock() - start
    print(file=sys.stderr)
    return times[3:]


def kind_of(model: Any) -> str:
    """int8 when any convolution has 8-bit inputs, else float32."""
    from ai_edge_litert import schema_py_generated as schema

    graph, names = model.subgraphs[0], surgery.op_names(model)
    eight = (schema.TensorType.INT8, schema.TensorType.UINT8)
    for name, operator in zip(names, graph.operators, strict=True):
        if name in PRODUCTS and graph.tensors[operator.inputs[0]].type in eight:
            return "int8"
    return "float32"


def macs(model: Any) -> int:
    """Multiply-accumulates of a file's convolutions and matrix products."""
    graph = model.subgraphs[0]
    return sum(
        macs_of(name, operator, graph.tensors)
        for name, operator in zip(surgery.op_names(model), graph.operators, strict=True)
    )


def macs_of(name: str, operator: Any, tensors: Any) -> int:
    """Multiply-accumulates of one operation."""
    if name not in PRODUCTS:
        return 0
    shapes = [[int(side) for side in tensors[index].shape] for index in operator.inputs if index >= 0]
    result = int(np.prod(tensors[operator.outputs[0]].shape))
    if name == "CONV_2D":  # filter (out, height, width, in)
        return result * int(np.prod(shapes[1][1:]))
    if name == "DEPTHWISE_CONV_2D":  # filter (1, height, width, out)
        return result * shapes[1][1] * shapes[1][2]
    if name == "TRANSPOSE_CONV":  # inputs: size, filter (out, height, width, in), maps
        return int(np.prod(shapes[2])) * int(np.prod(shapes[1][:3]))
    return result * shapes[0][-1]


def bytes_of(operator: Any, tensors: Any) -> int:
    """Bytes that an operation reads, weights included, and writes."""
    numbers = [int(number) for number in (*operator.inputs, *operator.outputs) if number >= 0]
    return sum(int(np.prod(tensors[number].shape)) * item_bytes(tensors[number]) for number in numbers)


def item_bytes(tensor: Any) -> int:
    """Bytes of one value of a tensor."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    return int(np.dtype(names[tensor.type].lower()).itemsize)
