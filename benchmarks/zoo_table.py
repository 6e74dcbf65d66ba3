"""docs/models.md: every model and variant with its size, cost, latency, what it loads and how exactly.

    python -m benchmarks.zoo_table                 # everything; hours on two cores, and goes on where it stopped
    python -m benchmarks.zoo_table --only unet     # rows whose name holds "unet"
    python -m benchmarks.zoo_table --latency       # measure the latency of what is there again, side by side

Parameters and GMACs (multiply-accumulates of convolutions and matrix products, at 512x1024) are counted from
the graph that is traced. File sizes and latency are those of `mask` files at 256x512 with random weights: neither
depends on what the weights are. Each row is made in a process of its own and kept in runs/zoo_table/. Parity
figures come from the conversion tests, which this runs too, slow ones included (--parity fast leaves those out).
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.errors import UserError, exit_on_user_error
from runtime.files import whole_file, write_whole

COST_SIZE = (512, 1024)
FILE_SIZE = (256, 512)
CLASSES = 19
PRECISIONS = ("fp32", "int8", "mixed")
CALIBRATION = 2
CACHE = Path("runs/zoo_table")
PAGE = Path("docs/models.md")


class Row(NamedTuple):
    """A variant: model, keywords of zoo.build, the public checkpoints that load into it."""

    model: str
    arguments: dict[str, Any]
    loads: str


SMP = "segmentation_models_pytorch"
MMSEG = "mmsegmentation"
HF = "Hugging Face"
SMP_PLUS = {"rates": (12, 24, 36), "aspp_separable": True, "aspp_output": True, "decoder_separable": True,
            "decoder_convolutions": 1, "norm_between": False, "align_corners": True}  # fmt: skip
MMSEG_PLUS = {"output_stride": 8, "rates": (12, 24, 36), "aspp_filters": 512, "projection_kernel": 3,
              "aspp_separable": True, "decoder_filters": 512, "decoder_separable": True}  # fmt: skip
MMSEG_V3 = {"output_stride": 8, "rates": (12, 24, 36), "aspp_filters": 512, "projection_kernel": 3}
MMSEG_FCN = {"output_stride": 8, "head_filters": 512, "head_convolutions": 2, "concat_input": True}
TORCHVISION_V3 = {"output_stride": 8, "rates": (12, 24, 36), "head_convolution": True}
TORCHVISION_FCN = {"output_stride": 8, "head_filters": 512}
MOBILE = {"aspp_separable": True, "decoder_separable": True}
KERAS = "ImageNet (keras.applications)"

ROWS: dict[str, Row] = {
    "deeplabv3plus resnet101": Row("deeplabv3plus", {}, KERAS),
    "deeplabv3plus resnet50": Row("deeplabv3plus", {"backbone": "resnet50"}, KERAS),
    "deeplabv3plus mobilenet_v2": Row("deeplabv3plus", {"backbone": "mobilenet_v2", **MOBILE}, KERAS),
    "deeplabv3plus mobilenet_v3_large": Row(
        "deeplabv3plus", {"backbone": "mobilenet_v3_large", **MOBILE}, KERAS
    ),
    "deeplabv3plus resnet50_v1b": Row("deeplabv3plus", {"backbone": "resnet50_v1b", **SMP_PLUS}, SMP),
    "deeplabv3plus resnet101_v1b": Row("deeplabv3plus", {"backbone": "resnet101_v1b", **SMP_PLUS}, SMP),
    "deeplabv3plus resnext50_32x4d": Row("deeplabv3plus", {"backbone": "resnext50_32x4d", **SMP_PLUS}, SMP),
    "deeplabv3plus resnext101_32x8d": Row("deeplabv3plus", {"backbone": "resnext101_32x8d", **SMP_PLUS}, SMP),
    "deeplabv3plus mobilenet_v2_torchvision": Row(
        "deeplabv3plus", {"backbone": "mobilenet_v2_torchvision", **SMP_PLUS}, SMP
    ),
    "deeplabv3plus resnet50_v1c": Row("deeplabv3plus", {"backbone": "resnet50_v1c", **MMSEG_PLUS}, MMSEG),
    "deeplabv3plus resnet101_v1c": Row("deeplabv3plus", {"backbone": "resnet101_v1c", **MMSEG_PLUS}, MMSEG),
    "deeplabv3plus resnet50_v1b as in KerasHub": Row(
        "deeplabv3plus",
        {
            "backbone": "resnet50_v1b",
            "output_stride": 32,
            "rates": (6, 12, 18),
            "decoder_convolutions": 1,
            "decoder_kernel": 1,
        },
        "KerasHub",
    ),
    "deeplabv3plus kerascv_efficientnetv2_b0": Row(
        "deeplabv3plus",
        {"backbone": "kerascv_efficientnetv2_b0", "output_stride": 32, "rates": (3, 6, 9)},
        "none",
    ),
    "deeplabv3 resnet50_v1b": Row("deeplabv3", {"backbone": "resnet50_v1b", **TORCHVISION_V3}, "torchvision"),
    "deeplabv3 resnet101_v1b": Row(
        "deeplabv3", {"backbone": "resnet101_v1b", **TORCHVISION_V3}, "torchvision"
    ),
    "deeplabv3 resnet50_v1c": Row("deeplabv3", {"backbone": "resnet50_v1c", **MMSEG_V3}, MMSEG),
    "deeplabv3 resnet101_v1c": Row("deeplabv3", {"backbone": "resnet101_v1c", **MMSEG_V3}, MMSEG),
    "fcn resnet50_v1b": Row("fcn", {"backbone": "resnet50_v1b", **TORCHVISION_FCN}, "torchvision"),
    "fcn resnet101_v1b": Row("fcn", {"backbone": "resnet101_v1b", **TORCHVISION_FCN}, "torchvision"),
    "fcn resnet50_v1c": Row("fcn", {"backbone": "resnet50_v1c", **MMSEG_FCN}, MMSEG),
    "fcn resnet101_v1c": Row("fcn", {"backbone": "resnet101_v1c", **MMSEG_FCN}, MMSEG),
    "unet plain": Row("unet", {"backbone": None}, f"{MMSEG} (UNet-S5-D16)"),
    "unet mobilenet_v2_torchvision": Row("unet", {"backbone": "mobilenet_v2_torchvision"}, SMP),
    "unet resnext50_32x4d": Row("unet", {"backbone": "resnext50_32x4d"}, SMP),
    "unet resnet34_v1b": Row("unet", {"backbone": "resnet34_v1b"}, SMP),
    "unet resnet50_v1b": Row("unet", {"backbone": "resnet50_v1b"}, SMP),
    **{
        f"segformer mit_b{size}": Row("segformer", {"backbone": f"mit_b{size}"}, f"{HF}, {MMSEG}")
        for size in range(6)
    },
    "mask2former resnet50_v1b": Row("mask2former", {"backbone": "resnet50_v1b"}, HF),
    "mask2former swin_tiny": Row("mask2former", {"backbone": "swin_tiny"}, HF),
    "mask2former swin_small": Row("mask2former", {"backbone": "swin_small"}, HF),
    "mask2former swin_base": Row("mask2former", {"backbone": "swin_base"}, HF),
    "mask2former swin_large": Row("mask2former", {"backbone": "swin_large", "queries": 200}, HF),
    "threshold": Row("threshold", {}, "none: it counts"),
    "otsu": Row("otsu", {}, "none: it counts"),
    "otsu 4 levels": Row("otsu", {"levels": 4}, "none: it counts"),
}


def main(argv: list[str] | None = None) -> int:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.zoo_table", description=__doc__.splitlines()[0]
    )
    command.add_argument("--only", default="", metavar="TEXT", help="rows whose name holds TEXT")
    command.add_argument("--kept", action="store_true", help="make no missing row; those stay 'not measured'")
    command.add_argument("--latency", action="store_true", help="measure latency again")
    command.add_argument(
        "--parity",
        default="all",
        metavar="all|fast|kept|FILE",
        help="the conversion tests to run; kept: none, print what was measured last; or the FILE that a run of "
        "the tests wrote with KERBSIDE_PARITY=FILE in its environment",
    )
    command.add_argument("--describe", metavar="ROW", help=argparse.SUPPRESS)
    options = command.parse_args(argv)
    if options.describe:
        describe(options.describe)
        return 0
    chosen = [name for name in ROWS if options.only in name]
    if not chosen:
        raise UserError(f"no row's name holds '{options.only}'; the rows are {', '.join(ROWS)}")
    for name in chosen:
        if not kept(name).exists() and not options.kept:
            started = time.monotonic()
            code = subprocess.run(
                [sys.executable, "-m", "benchmarks.zoo_table", "--describe", name]
            ).returncode
            print(
                f"{name}: {'done' if not code else 'FAILED'} in {time.monotonic() - started:.0f} s",
                flush=True,
            )
    if options.parity in ("all", "fast"):
        measure_parity(slow=options.parity == "all")
    elif options.parity != "kept":
        keep_parity(Path(options.parity))
    for name in ROWS:
        found = facts(name)
        if found and (options.latency or "latency" not in found) and options.only in name:
            found["latency"], found["date"] = latency(name), date.today().isoformat()
            write_whole(kept(name), json.dumps(found, indent=1).encode())
            print(f"{name}: {found['latency']}", flush=True)
    write_whole(PAGE, page().encode())
    print(f"written to {PAGE}")
    return 0


def kept(name: str) -> Path:
    return CACHE / f"{name.replace(' ', '_')}.json"


def precisions(row: Row) -> list[str]:
    """fp32, int8 and, where it is another one, the model's default."""
    from export import DEFAULT_PRECISION

    return [*dict.fromkeys(("fp32", "int8", DEFAULT_PRECISION.get(row.model, "int8")))]


def facts(name: str) -> dict[str, Any]:
    return json.loads(kept(name).read_text()) if kept(name).exists() else {}


def describe(name: str) -> None:
    """Count the row's parameters and GMACs and write its two files; runs in a process of its own."""
    from training.quiet import start_tensorflow

    start_tensorflow()
    import zoo
    from export import tflite
    from training.data import scenes

    row = ROWS[name]
    CACHE.mkdir(parents=True, exist_ok=True)
    model = zoo.build(row.model, classes=CLASSES, image_size=COST_SIZE, **row.arguments)
    found: dict[str, Any] = {
        "parameters": sum(int(np.prod(variable.shape)) for variable in model.weights),
        "macs": macs(model, COST_SIZE),
        "files": {},
    }
    model = zoo.build(row.model, classes=CLASSES, image_size=FILE_SIZE, **row.arguments)
    pictures = [scenes.draw(0, index, FILE_SIZE).image for index in range(CALIBRATION)]
    for precision in precisions(row):
        try:
            flatbuffer = tflite.convert(model, FILE_SIZE, precision, "mask", pictures)
        except Exception as error:  # a row that does not convert is a row that says so
            found["files"][precision] = {
                "failed": (str(error).strip().splitlines() or [repr(error)])[0][:200]
            }
            continue
        path = kept(name).with_name(f"{kept(name).stem}-{precision}.tflite")
        with whole_file(path) as part:
            part.write_bytes(flatbuffer)
        found["files"][precision] = {"bytes": len(flatbuffer)}
    write_whole(kept(name), json.dumps(found, indent=1).encode())


def macs(model: Any, size: tuple[int, int]) -> int:
    """Multiply-accumulates of one picture: those of every convolution and matrix product of the traced graph."""
    import tensorflow as tf

    def serve(image: Any) -> Any:
        return model(image, training=False)["logits"]

    graph = tf.function(serve).get_concrete_function(tf.TensorSpec((1, *size, 3), tf.float32)).graph
    return sum(_operation_macs(operation) for operation in _operations(graph))


def _operations(graph: Any) -> Any:
    """Of the graph and of the functions it calls."""
    for operation in graph.get_operations():
        yield operation
        for attribute in ("f", "body", "then_branch"):
            if attribute in operation.node_def.attr and operation.node_def.attr[attribute].HasField("func"):
                name = operation.node_def.attr[attribute].func.name
                yield from _operations(graph._get_function(name).graph)


def _operation_macs(operation: Any) -> int:
    """Positions of the output times the products that each takes."""
    kind = operation.type
    if kind not in ("Conv2D", "DepthwiseConv2dNative", "MatMul", "BatchMatMulV2"):
        return 0
    output, weights = operation.outputs[0].shape, operation.inputs[1].shape
    if kind == "Conv2D":  # (h, w, in / groups, out)
        return int(np.prod(output)) * int(np.prod(weights[:3]))
    if kind == "DepthwiseConv2dNative":
        return int(np.prod(output)) * int(np.prod(weights[:2]))
    transposed = operation.get_attr("transpose_a" if kind == "MatMul" else "adj_x")
    return int(np.prod(output)) * int(operation.inputs[0].shape[-2 if transposed else -1])


def latency(name: str, rounds: int = 20, budget: float = 20.0) -> dict[str, dict[str, float]]:
    """Median milliseconds of the whole path, the precisions in turn, two threads."""
    from runtime import Segmenter

    rgb = np.random.default_rng(0).integers(0, 256, (*FILE_SIZE, 3), np.uint8)
    files = {
        precision: kept(name).with_name(f"{kept(name).stem}-{precision}.tflite") for precision in PRECISIONS
    }
    segmenters = {precision: Segmenter(path, threads=2) for precision, path in files.items() if path.exists()}
    times: dict[str, list[float]] = {precision: [] for precision in segmenters}
    started = time.monotonic()
    for number in range(-2, rounds):
        if number > 4 and time.monotonic() - started > budget:
            break
        for precision, segmenter in segmenters.items():
            before = time.perf_counter()
            segmenter.segment(rgb)
            if number >= 0:
                times[precision].append(1000 * (time.perf_counter() - before))
    return {
        precision: {"median": statistics.median(found), "runs": len(found)}
        for precision, found in times.items()
    }


def measure_parity(slow: bool) -> None:
    """Run the conversion tests and keep what they measured."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "parity.jsonl"
        files = sorted(str(path) for path in Path("tests").glob("test_convert_*.py"))
        command = [sys.executable, "-m", "pytest", *files, *([] if slow else ["-m", "not slow"])]
        code = subprocess.run(command, env={**os.environ, "KERBSIDE_PARITY": str(record)}).returncode
        if code or not record.exists():
            raise UserError("the conversion tests did not all pass: mend them first (or --parity kept)")
        keep_parity(record)


def keep_parity(record: Path) -> None:
    if not record.is_file():
        raise UserError(
            f"--parity {record} is not there: name a file that the tests wrote, all, fast or kept"
        )
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    write_whole(CACHE / "parity.json", json.dumps({"date": date.today().isoformat(), "rows": rows}).encode())


def page() -> str:
    """docs/models.md from what is kept."""
    return "\n".join([HEAD.format(machine=machine()), *table(), "", *parity_table(), "", *deviations(), ""])


HEAD = """\
# Models

Made by `python -m benchmarks.zoo_table` on {machine}. Parameters are without the auxiliary head, which serves
training; GMACs are multiply-accumulates of convolutions and matrix products at 512x1024; files are `mask` files at
256x512, 19 classes; latency is the median of the whole path (uint8 picture in, class ids out) at 256x512 on two
threads, the precisions in turn; `mixed` (int8 convolutions, float attention) is what SegFormer and Mask2Former are
exported in unless another is asked for. The weights are random: none of these columns depends on them. Scores are in
results.md.

| model | backbone | parameters | GMACs | fp32 file | int8 file | mixed file | fp32 | int8 | mixed | checkpoints |
|---|---|---|---|---|---|---|---|---|---|---|"""


def machine() -> str:
    """In words, without naming the machine."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        processor = names[0] if names else processor
    return f"{os.cpu_count()} cores ({processor})"


def table() -> list[str]:
    lines = []
    for name, row in ROWS.items():
        found = facts(name)
        variant = name.partition(" ")[2] or "none"
        if not found:
            lines.append(f"| {row.model} | {variant} | " + "not measured | " * 8 + f"{row.loads} |")
            continue
        sizes = [_size(found["files"].get(precision)) for precision in PRECISIONS]
        times = [
            _time(found["files"].get(precision), found.get("latency", {}).get(precision))
            for precision in PRECISIONS
        ]
        numbers = [f"{found['parameters'] / 1e6:.2f}M", f"{found['macs'] / 1e9:.1f}", *sizes, *times]
        lines.append(f"| {row.model} | {variant} | {' | '.join(numbers)} | {row.loads} |")
    dates = sorted({facts(name)["date"] for name in ROWS if "date" in facts(name)})
    return [*lines, "", f"Measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))}." if dates else ""]


def _size(file: dict[str, Any] | None) -> str:
    if file is None:
        return "-"
    return f"{file['bytes'] / 1e6:.2f} MB" if "bytes" in file else "does not convert"


def _time(file: dict[str, Any] | None, found: dict[str, float] | None) -> str:
    if file is None or "bytes" not in file:
        return "-"
    return f"{found['median']:.1f} ms" if found else "not measured"


def parity_table() -> list[str]:
    """One row a test: the largest difference over its pictures and sizes."""
    path = CACHE / "parity.json"
    if not path.exists():
        return ["## Parity", "", "not measured"]
    kept_rows = json.loads(path.read_text())
    worst: dict[str, list[float]] = {}
    for row in kept_rows["rows"]:
        found = worst.setdefault(row["test"].removeprefix("tests/"), [0.0, 1.0])
        found[0], found[1] = max(found[0], row["difference"]), min(found[1], row["equal"])
    lines = [
        "## Parity with the references",
        "",
        "Random weights and norm statistics, random pictures, two sizes each, float32; the bound is 1e-4 of the",
        f"logits' range and 99.99% of equal pixels. {kept_rows['date']}.",
        "Mask2Former's pixels are counted where the reference's best class leads by twice the bound.",
        "",
        "| test | largest difference, of the range | equal pixels |",
        "|---|---|---|",
    ]
    return lines + [f"| {test} | {low:.1e} | {100 * equal:.3f}% |" for test, (low, equal) in worst.items()]


def deviations() -> list[str]:
    """From the docstrings, which are where they are kept true."""
    lines = ["## Deviations from the papers", ""]
    for module in DOCUMENTED:
        title, _, rest = (importlib.import_module(module).__doc__ or "").partition("\n\n")
        _, mark, listed = rest.partition("eviations")
        if mark:
            first, _, items = listed.partition("\n\n")
            lines += [f"**{module}.py**: {' '.join(title.split())}", "", items.strip("\n"), ""]
    return lines


DOCUMENTED = (
    "zoo.deeplabv3plus",
    "zoo.deeplabv3",
    "zoo.fcn",
    "zoo.unet",
    "zoo.segformer",
    "zoo.mask2former",
    "zoo.pixel_decoder",
    "zoo.sam",
    "zoo.threshold",
    "zoo.backbones.resnet",
    "zoo.backbones.mobilenet",
    "zoo.backbones.mix_transformer",
    "zoo.backbones.swin",
    "zoo.backbones.vit",
    "zoo.backbones.keras_cv",
)

if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
