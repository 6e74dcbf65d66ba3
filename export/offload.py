"""Which operations of a `.tflite` stay off an accelerator, and why: kerbside fit FILE.tflite --target ethos-u65.

| target | who says so |
|---|---|
| xnnpack | LiteRT itself: what it hands to XNNPACK, the fast kernels of its CPU, when it loads the file here |
| gpu | the check of LiteRT's GPU delegate: tensorflow/lite/tools/versioning/gpu_compatibility.cc |
| ethos-u55, ethos-u65 | Arm's compiler, Vela (ethos-u-vela, the extra `ethos`), which compiles the file here |
| edgetpu | what Coral lists, https://coral.ai/docs/edgetpu/models-intro/#supported-operations; not its compiler |

Read on 2026-11-30. GPU: all 78 built-in operations of that check in TensorFlow's repository at 057f8c8. Of its
conditions those on the types of a CAST, the axes of a mean or a sum and the masks of a STRIDED_SLICE are looked at. The
24 operations of https://ai.google.dev/edge/litert/performance/gpu are fewer and older. TensorFlow's Analyzer is not
asked: that of the wheel of 2.21.0 calls every operation compatible, TOPK_V2 and CEIL too.

Edge TPU: Coral's page itself was not reached. 26 rows and their limits are as developer.axis.com repeats them for the
chip of its ARTPEC-7, nine (TANH, SUB, SOFTMAX, RESIZE_NEAREST_NEIGHBOR to STRIDED_SLICE) as dgist-datalab's
Datalab_Intern repeats Coral's table of 2019, and RSQRT, SUM, SQUARED_DIFFERENCE, TRANSPOSE and TRANSPOSE_CONV as
ricardodeazambuja/LibrEdgeTPU lists them for Coral's compiler 16. Limits on sizes are not looked at: the compiler may
leave more.

What stays off runs on the CPU. None of it says how fast the rest is, which only the chip does.
"""

import argparse
import importlib.util
import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from export import TARGETS, run_tflite, surgery, tensorflow_private
from export.audit import within
from runtime.bundle import read_bundle, read_model
from runtime.errors import UserError, exit_on_user_error, first_line
from training.command_line import Parser

VELA = ("ethosu.vela", "ethos-u-vela")
VELA_SECONDS = 600
# Vela's warnings: the operation, the name of what it gives, the reason.
WARNING = re.compile(r"Warning \([\w ]+\) operator: (\w+), ofm: '([^']*)'\nReason: (.+)")
# The cases of the GPU delegate's check.
GPU = set(
    "ABS ADD ADD_N AVERAGE_POOL_2D BATCH_MATMUL CAST CONCATENATION CONV_2D COS CUMSUM DENSIFY DEPTHWISE_CONV_2D "
    "DEPTH_TO_SPACE DEQUANTIZE DIV ELU EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GELU GREATER "
    "GREATER_EQUAL HARD_SWISH LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN "
    "MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL ONE_HOT PACK PAD PADV2 POW PRELU QUANTIZE REDUCE_MAX REDUCE_MIN REDUCE_PROD "
    "RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SELECT SELECT_V2 SIGN SIN SLICE "
    "SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TILE TRANSPOSE "
    "TRANSPOSE_CONV".split()
)
# Types of a CAST that it takes: (from, to).
GPU_CASTS = {
    *itertools.product(("FLOAT32", "INT32"), repeat=2),
    *itertools.product(("BOOL",), ("FLOAT16", "FLOAT32")),
    *itertools.product(("FLOAT16", "FLOAT32"), ("BOOL",)),
}
# Coral's table, by the names of LiteRT's schema.
EDGETPU = set(
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED L2_NORMALIZATION LOGISTIC "
    "LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 "
    "RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUEEZE STRIDED_SLICE "
    "SUB SUM SQUARED_DIFFERENCE TANH TRANSPOSE TRANSPOSE_CONV".split()
)
NO_ACTIVATION = (
    "AVERAGE_POOL_2D",
    "CONCATENATION",
    "MAX_POOL_2D",
)  # none may be fused into them, on the Edge TPU
EDGETPU_TYPES = ("INT8", "UINT8", "INT32")  # of the feature maps and the biases


class Left(NamedTuple):
    """An operation that stays off: its kind, the name of the tensor that it gives, and why."""

    operation: str
    gives: str
    why: str


def xnnpack(path: Path) -> list[Left]:
    flatbuffer = read_model(path)
    model = surgery.read(flatbuffer)
    taken = within(model.subgraphs[0], tensorflow_private.partitions(run_tflite.interpreter(flatbuffer)))
    return [
        Left(kind, gives, "XNNPACK does not take it, of this type and with these options")
        for place, (_, kind, gives, _) in enumerate(_operations(model))
        if place not in taken
    ]


def gpu(path: Path) -> list[Left]:
    model = surgery.read(read_model(path))
    found = [Left(kind, gives, _off_gpu(model, op, kind)) for op, kind, gives, _ in _operations(model)]
    return [one for one in found if one.why]


def _off_gpu(model: Any, op: Any, kind: str) -> str:
    """Why the delegate's check refuses an operation; "" where it does not."""
    if kind not in GPU:
        return "not among the operations of the GPU delegate's check"
    if (
        kind == "CAST"
        and (types := (_type(model, op.inputs[0]), _type(model, op.outputs[0]))) not in GPU_CASTS
    ):
        return f"from {types[0]} to {types[1]}, which the GPU delegate does not cast"
    if (
        kind in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD")
        and _constant(model, op.inputs[1]) is None
    ):
        return "axes that are computed; the GPU delegate takes constants"
    masks = ("ellipsisMask", "newAxisMask", "shrinkAxisMask")
    if kind == "STRIDED_SLICE" and any(getattr(op.builtinOptions, mask) for mask in masks):
        return "a mask of an ellipsis, a new or a dropped axis, which the GPU delegate does not take"
    return ""


def ethos(path: Path, accelerator: str) -> list[Left]:
    if importlib.util.find_spec(VELA[0].partition(".")[0]) is None:
        raise UserError(
            f"--target {accelerator.rpartition('-')[0]} needs {VELA[1]}, which is not installed here: "
            "pip install '.[ethos]' in the checkout"
        )
    read_model(path)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", VELA[0], str(path), "--output-dir", folder]
        done = subprocess.run(
            [*command, "--accelerator-config", accelerator],
            capture_output=True,
            text=True,
            check=False,
            timeout=VELA_SECONDS,
        )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no word"]
        raise UserError(f"{path} cannot be compiled by Vela: {first_line(ValueError(lines[-1]))}.")
    return [Left(*match) for match in WARNING.findall(done.stdout + done.stderr)]


def edgetpu(path: Path) -> list[Left]:
    model = surgery.read(read_model(path))
    found = [
        Left(kind, gives, _off_edgetpu(model, op, kind, types))
        for op, kind, gives, types in _operations(model)
    ]
    return [one for one in found if one.why]


def _off_edgetpu(model: Any, op: Any, kind: str, types: Sequence[str]) -> str:
    """Why Coral's table refuses an operation; "" where it does not."""
    others = sorted(set(types) - set(EDGETPU_TYPES))
    if kind not in EDGETPU:
        return "not among the operations of the Edge TPU"
    if others:
        return f"{', '.join(others)}: the Edge TPU computes in 8 bits"
    if kind == "STRIDED_SLICE":
        strides = _constant(model, op.inputs[3])
        if strides is None or set(strides) != {1}:
            return "strides other than 1"
    if kind in NO_ACTIVATION and op.builtinOptions.fusedActivationFunction:
        return "an activation is fused into it"
    return ""


def _operations(model: Any) -> Iterator[tuple[Any, str, str, list[str]]]:
    """Of each operation itself, its kind, the name of what it gives, and the types of all its tensors."""
    graph = model.subgraphs[0]
    for kind, op in zip(surgery.op_names(model), graph.operators, strict=True):
        types = [_type(model, number) for number in (*op.inputs, *op.outputs) if number >= 0]
        yield op, kind, _text(graph.tensors[int(op.outputs[0])].name), types


def _type(model: Any, number: int) -> str:
    from ai_edge_litert import schema_py_generated as schema

    value = model.subgraphs[0].tensors[int(number)].type
    return next(
        name for name, one in vars(schema.TensorType).items() if one == value and not name.startswith("_")
    )


def _constant(model: Any, number: int) -> list[int] | None:
    """The int32 values of a constant; None where the tensor is computed."""
    data = model.buffers[model.subgraphs[0].tensors[int(number)].buffer].data
    return None if data is None else np.frombuffer(bytes(data), np.int32).tolist()


JUDGES: dict[str, Callable[[Path], list[Left]]] = {
    "xnnpack": xnnpack,
    "gpu": gpu,
    "ethos-u55": lambda path: ethos(path, "ethos-u55-256"),
    "ethos-u65": lambda path: ethos(path, "ethos-u65-256"),
    "edgetpu": edgetpu,
}


def table(path: Path, target: str, left: Sequence[Left]) -> str:
    """What stays off, alike operations in one line."""
    total = len(surgery.op_names(surgery.read(read_model(path))))
    lines = [f"{path} on {target}: {len(left)} of {total} operations stay off it"]
    alike = Counter((one.operation, one.why) for one in left)
    width = max((len(operation) for operation, _ in alike), default=0)
    lines += [f"  {operation:<{width}}  {count:>3}  {why}" for (operation, why), count in alike.items()]
    if target == "edgetpu" and left:
        lines.append("  The Edge TPU's compiler leaves all that follows the first of them to the CPU too.")
    return "\n".join(lines)


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def main(argv: Sequence[str] | None = None) -> int:
    command = Parser(
        prog="kerbside fit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("file", type=Path, metavar="FILE.tflite")
    command.add_argument("--target", choices=TARGETS, default="xnnpack", help="xnnpack if not given")
    command.add_argument("--json", action="store_true", help="one JSON object, an entry an operation")
    options = command.parse_args(argv)
    read_bundle(options.file)  # a damaged file of ours is told as such
    try:
        left = JUDGES[options.target](options.file)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{options.file} cannot be looked at: {first_line(error)}.") from error
    if options.json:
        entries = [one._asdict() for one in left]
        print(json.dumps({"file": str(options.file), "target": options.target, "left": entries}, indent=1))
    else:
        print(table(options.file, options.target, left))
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
