"""The tree of a `.tflite`: read, looked into, added to and written, with the classes that LiteRT generates."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np


def op_names(model: Any) -> list[str]:
    """The names of the ops of a file that `read` has read, in order."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    codes = [names[builtin(code)] for code in model.operatorCodes]
    return [codes[op.opcodeIndex] for op in model.subgraphs[0].operators]


def read(flatbuffer: bytes) -> Any:
    """The tree of a file: its subgraphs, tensors, operators and buffers, each an object that can be changed."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(bytearray(flatbuffer), 0)


def write(model: Any) -> bytes:
    """The file of a tree."""
    import flatbuffers

    class Builder(flatbuffers.Builder):  # type: ignore[misc]
        """The generated `Pack` forgets that TFLite's schema wants tensors at multiples of 16 bytes."""

        def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802
            return aligned_bytes(self, x.tobytes()) if x.dtype == np.uint8 else super().CreateNumpyVector(x)

    builder = Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def aligned_bytes(builder: Any, data: bytes) -> int:
    """A vector of bytes that begins at a multiple of 16, as `force_align: 16` asks; its place."""
    builder.StartVector(1, len(data), 16)
    builder.head -= len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data
    return int(builder.EndVector())


def builtin(code: Any) -> int:
    """Old files keep the op in a byte field, newer ones in a wider one; the larger is the true one."""
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))


def append_tensor(model: Any, like: Any, content: bytes | None = None) -> int:
    """A new tensor of the graph, a copy of `like`, a constant where there is content; its number."""
    tensor = copy.copy(like)
    tensor.buffer = 0 if content is None else append_buffer(model, content)
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1


def append_buffer(model: Any, content: bytes) -> int:
    """A new buffer; its number."""
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.frombuffer(content, np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def insert_op(
    model: Any,
    place: int,
    name: str,
    inputs: Sequence[int],
    outputs: Sequence[int],
    options: Any,
    version: int = 1,
) -> None:
    """A new op before the one at `place`: its name as in BuiltinOperator, the numbers of its tensors, and the options
    object of its kind, such as FakeQuantOptionsT()."""
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    code.version = version
    model.operatorCodes.append(code)
    op = schema.OperatorT()
    op.opcodeIndex = len(model.operatorCodes) - 1
    op.inputs, op.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
    op.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
    op.builtinOptions = options
    model.subgraphs[0].operators.insert(place, op)
