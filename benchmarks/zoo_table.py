"""docs/models.md: every model and variant with its size, cost, latency, what it loads and how exactly.

    python -m benchmarks.zoo_table                         # the rows that nobody measured yet
    python -m benchmarks.zoo_table --before 2026-12-01     # and those of an earlier day, anew: hours on two cores
    python -m benchmarks.zoo_table --only unet             # rows whose name holds "unet"
    python -m benchmarks.zoo_table --untimed               # on a busy machine: the latency comes with a later call

Parameters and GMACs (multiply-accumulates of convolutions and matrix products, at 512x1024) are counted from
the graph that is traced. File sizes and latency are those of `mask` files at 256x512 with random weights: neither
depends on what the weights are. Each row is made in a process of its own, its files in runs/zoo_table/, and what was
measured is kept in docs/models.json with day and machine: the same command goes on where it was stopped. Parity figures
come from the conversion tests, which `--parity all` runs, and `--parity fast` without the slow ones.
The rows stand in benchmarks/zoo_rows.py, benchmarks/zoo_page.py writes the page.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import zoo_page
from benchmarks.zoo_rows import ROWS, Row
from runtime.errors import UserError, exit_on_user_error
from runtime.files import whole_file, write_json, write_whole

COST_SIZE = (512, 1024)
FILE_SIZE = (256, 512)
CLASSES = 19
CALIBRATION = 2
FILES = Path("runs/zoo_table")
FIGURES, PAGE = Path("docs/models.json"), Path("docs/models.md")
CONVERSIONS = Path("tests/zoo/convert")


def main(argv: list[str] | None = None) -> int:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.zoo_table", description=__doc__.splitlines()[0]
    )
    command.add_argument("--only", default="", metavar="TEXT", help="rows whose name holds TEXT")
    command.add_argument(
        "--before", default="", metavar="YYYY-MM-DD", help="rows measured before that day are made again"
    )
    command.add_argument("--untimed", action="store_true", help="time nothing: the machine is busy")
    command.add_argument(
        "--parity",
        default="kept",
        metavar="kept|all|fast|FILE",
        help="the conversion tests to run; kept: none; or the FILE that a run of the tests wrote with "
        "KERBSIDE_PARITY=FILE in its environment",
    )
    command.add_argument("--describe", metavar="ROW", help=argparse.SUPPRESS)
    options = command.parse_args(argv)
    if options.describe:
        describe(options.describe)
        return 0
    chosen = [name for name in ROWS if options.only in name]
    if not chosen:
        raise UserError(f"no row's name holds '{options.only}'; the rows are {', '.join(ROWS)}")
    known = json.loads(FIGURES.read_text(encoding="utf-8"))
    for name in chosen:
        row = known["rows"].get(name, {})
        if row.get("date", "") < (options.before or "0"):
            row = made(name)
        if not options.untimed and "latency" not in row:
            row = (
                row
                if all(path.exists() for kind in row["files"] for path in paths(name, kind))
                else made(name)
            )
            row["latency"] = latency(name, row)
            print(f"{name}: {row['latency']}", flush=True)
        known["rows"][name] = row
        write_json(FIGURES, known)
    if options.parity in ("all", "fast"):
        known["parity"] = measured_parity(slow=options.parity == "all")
    elif options.parity != "kept":
        known["parity"] = parity_of(Path(options.parity))
    write_json(FIGURES, known)
    write_whole(PAGE, zoo_page.page(known["rows"], known["parity"]).encode())
    print(f"written to {PAGE}")
    return 0


def made(name: str) -> dict[str, Any]:
    """A row's files, and its facts but for the latency."""
    code = subprocess.run([sys.executable, "-m", "benchmarks.zoo_table", "--describe", name]).returncode
    if code:
        raise UserError(f"{name} could not be made: exit code {code}")
    found: dict[str, Any] = json.loads(described(name).read_text(encoding="utf-8"))
    return {
        **found,
        "audit": audits(name, found),
        "date": date.today().isoformat(),
        "machine": zoo_page.machine(),
    }


def precisions(row: Row) -> list[str]:
    """fp32, int8 and, where it is another one, the model's default."""
    from export import DEFAULT_PRECISION

    return [*dict.fromkeys(("fp32", "int8", DEFAULT_PRECISION.get(row.model, "int8")))]


def described(name: str) -> Path:
    """Where the process that makes a row's files leaves what it counted."""
    return FILES / f"{name.replace(' ', '_')}.json"


def describe(name: str) -> None:
    """Count the row's parameters and GMACs and write its files; runs in a process of its own."""
    from training.start_tensorflow import start_tensorflow

    start_tensorflow()
    import zoo
    from training.data import scenes

    row = ROWS[name]
    FILES.mkdir(parents=True, exist_ok=True)
    options = {"classes": CLASSES, **row.arguments} if row.parts == ("",) else row.arguments
    model = zoo.build(row.model, image_size=COST_SIZE, **options)
    found: dict[str, Any] = {
        "parameters": sum(int(np.prod(variable.shape)) for variable in model.weights),
        "macs": macs(model),
        "files": {},
    }
    model = zoo.build(row.model, image_size=FILE_SIZE, **options)
    images = [scenes.draw(0, index, FILE_SIZE).image for index in range(CALIBRATION)]
    for precision in precisions(row):
        try:
            flatbuffers = convert(row, model, precision, images)
        except Exception as error:  # a row that does not convert is a row that says so
            found["files"][precision] = {
                "failed": (str(error).strip().splitlines() or [repr(error)])[0][:200]
            }
            continue
        for path, flatbuffer in zip(paths(name, precision), flatbuffers, strict=True):
            with whole_file(path) as part:
                part.write_bytes(flatbuffer)
        found["files"][precision] = {"bytes": sum(map(len, flatbuffers))}
    write_json(described(name), found)


def convert(row: Row, model: Any, precision: str, images: list[np.ndarray]) -> list[bytes]:
    """The flatbuffers of one export, in the order of the row's parts."""
    from export import prompted_tflite, tflite

    if row.parts == ("",):
        return [tflite.convert(model, FILE_SIZE, precision, "mask", images)]
    encoder, decoder = model.get_layer("image_encoder"), model.get_layer("prompt_decoder")
    return [
        prompted_tflite.convert_encoder(encoder, precision, images),
        prompted_tflite.convert_decoder(decoder, prompted_tflite.DECODER_PRECISION[precision]),
    ]


def paths(name: str, precision: str) -> list[Path]:
    """Where the files of a row are kept."""
    return [FILES / f"{described(name).stem}-{precision}{part}.tflite" for part in ROWS[name].parts]


def macs(model: Any) -> int:
    """Multiply-accumulates of one image (and one prompt): those of every convolution and matrix product of the
    traced graph."""
    import tensorflow as tf

    @tf.function
    def serve(inputs: Any) -> Any:
        return model(inputs, training=False)

    inputs = tf.nest.map_structure(
        lambda one: tf.TensorSpec([side or 1 for side in one.shape], one.dtype), model.input
    )
    return sum(
        _operation_macs(operation) for operation in _operations(serve.get_concrete_function(inputs).graph)
    )


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


def audits(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """What each part of the row's default file is made of, by its suffix."""
    from export import DEFAULT_PRECISION
    from export.audit import audit

    precision = DEFAULT_PRECISION.get(ROWS[name].model, "int8")
    if "bytes" not in found["files"].get(precision, {}):
        return {}
    made = {}
    for part, path in zip(ROWS[name].parts, paths(name, precision), strict=True):
        seen = audit(path.read_bytes())
        made[part] = {
            "operations": sum(seen.operations.values()),
            "partitions": seen.partitions,
            "left": seen.left,
            "deep": len(seen.deep),
        }
    return made


def latency(
    name: str, found: dict[str, Any], rounds: int = 20, budget: float = 20.0
) -> dict[str, dict[str, float]]:
    """Median milliseconds of the whole path, the precisions in turn, two threads."""
    rgb = np.random.default_rng(0).integers(0, 256, (*FILE_SIZE, 3), np.uint8)
    runs = {
        precision: whole_path(paths(name, precision))
        for precision, file in found["files"].items()
        if "bytes" in file
    }
    times: dict[str, list[float]] = {precision: [] for precision in runs}
    started = time.monotonic()
    for number in range(-2, rounds):
        if number > 4 and time.monotonic() - started > budget:
            break
        for precision, run in runs.items():
            before = time.perf_counter()
            run(rgb)
            if number >= 0:
                times[precision].append(1000 * (time.perf_counter() - before))
    return {
        precision: {"median": statistics.median(taken), "runs": len(taken)}
        for precision, taken in times.items()
    }


def whole_path(files: list[Path]) -> Callable[[np.ndarray], Any]:
    """From uint8 (H, W, 3) to class ids, or to the masks of one box where there are an encoder and a decoder."""
    from runtime import Segmenter
    from runtime.prompted import PromptedSegmenter

    if len(files) == 1:
        return Segmenter(files[0], threads=2).segment
    encoder, decoder = files
    prompted = PromptedSegmenter(encoder, decoder, threads=2)
    return lambda rgb: prompted.set_image(rgb).predict(box=(64, 64, 192, 192))


def measured_parity(slow: bool) -> dict[str, Any]:
    """Run the conversion tests: what they measured."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "parity.jsonl"
        files = sorted(str(path) for path in CONVERSIONS.glob("test_*.py"))
        command = [sys.executable, "-m", "pytest", *files, *([] if slow else ["-m", "not slow"])]
        code = subprocess.run(command, env={**os.environ, "KERBSIDE_PARITY": str(record)}).returncode
        if code or not record.exists():
            raise UserError("the conversion tests did not all pass: mend them first (or --parity kept)")
        return parity_of(record)


def parity_of(record: Path) -> dict[str, Any]:
    if not record.is_file():
        raise UserError(
            f"--parity {record} is not there: name a file that the tests wrote, all, fast or kept"
        )
    rows = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    return {"date": date.today().isoformat(), "rows": rows}


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
