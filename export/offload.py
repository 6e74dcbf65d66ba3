"""Which operations of a `.tflite` stay off an accelerator, and why: kerbside fit FILE.tflite --target ethos-u65.

| target | who says so |
|---|---|
| xnnpack | LiteRT itself: what it hands to XNNPACK, the fast kernels of its CPU, when it loads the file here |
| gpu | what LiteRT documents, https://ai.google.dev/edge/litert/performance/gpu#supported_ops; newer ones take more |
| ethos-u55, ethos-u65 | Arm's compiler, Vela (ethos-u-vela, the extra `ethos`), which compiles the file here |
| edgetpu | what Coral lists, https://coral.ai/docs/edgetpu/models-intro/#supported-operations; not its compiler |

Read on 2026-11-30: GPU, all 24 rows, as tensorflow.org/lite/performance/gpu and TensorFlow's own g3doc have them; Edge
TPU, the 26 rows up to ResizeBilinear, as developer.axis.com repeats them for the chip of its ARTPEC-7. What both say of
sizes, versions and options is not looked at here: their compilers may leave more.

What stays off runs on the CPU. None of it says how fast the rest is, which only the chip does.
"""

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from export import TARGETS, run_tflite, surgery, tensorflow_private
from export.audit import within
from runtime.bundle import read_bundle, read_model
from runtime.errors import UserError, exit_on_user_error, first_line
from training.command_line import Parser

VELA = ("ethosu.vela", "ethos-u-vela")
VELA_SECONDS = 600
# Vela's warnings: the operation, the name of what it gives, the reason.
WARNING = re.compile(r"Warning \([\w ]+\) operator: (\w+), ofm: '([^']*)'\nReason: (.+)")
# The GPU delegate's table, by the names of LiteRT's schema, and the two steps of its 8-bit files.
GPU = set(
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXP FULLY_CONNECTED LOGICAL_AND LOGISTIC LSTM MAXIMUM "
    "MAX_POOL_2D MINIMUM MUL PAD PRELU RELU RELU6 RESHAPE RESIZE_BILINEAR SOFTMAX STRIDED_SLICE SUB TRANSPOSE_CONV "
    "QUANTIZE DEQUANTIZE".split()
)
# Coral's table, by the names of LiteRT's schema.
EDGETPU = set(
    "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED L2_NORMALIZATION LOGISTIC "
    "LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 RELU_N1_TO_1 "
    "RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUEEZE STRIDED_SLICE "
    "SUB SUM SQUARED_DIFFERENCE TANH TRANSPOSE TRANSPOSE_CONV".split()
)
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
        for place, (kind, gives, _) in enumerate(operations(model))
        if place not in taken
    ]


def gpu(path: Path) -> list[Left]:
    why = "not among the operations that the GPU delegate documents"
    model = surgery.read(read_model(path))
    return [Left(kind, gives, why) for kind, gives, _ in operations(model) if kind not in GPU]


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
    found = []
    for kind, gives, types in operations(surgery.read(read_model(path))):
        others = sorted(set(types) - set(EDGETPU_TYPES))
        if kind not in EDGETPU:
            found.append(Left(kind, gives, "not among the operations of the Edge TPU"))
        elif others:
            found.append(Left(kind, gives, f"{', '.join(others)}: the Edge TPU computes in 8 bits"))
    return found


def operations(model: Any) -> list[tuple[str, str, list[str]]]:
    """Of each operation its kind, the name of what it gives, and the types of all its tensors."""
    from ai_edge_litert import schema_py_generated as schema

    types = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    graph = model.subgraphs[0]
    return [
        (
            kind,
            _text(graph.tensors[int(op.outputs[0])].name),
            [types[graph.tensors[int(n)].type] for n in (*op.inputs, *op.outputs) if n >= 0],
        )
        for kind, op in zip(surgery.op_names(model), graph.operators, strict=True)
    ]


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
