"""Milliseconds of `.tflite` segmenters beside each other, on one and two threads, and how near to what the machine can.

    python -m benchmarks.device FILE.tflite ... [--peers DIR] [--size 512x512]   # files, and all of DIR, side by side
    python -m benchmarks.device FILE.tflite --ops                               # where the time of a file goes
    python -m benchmarks.device --untrained mobilenet_v2 --peers DIR            # the shipped network at MLPerf's task
    python -m benchmarks.device --untrained ddrnet pidnet --size 360x480 --classes 11     # networks of the zoo

All files live in one process and take turns, one image a turn: the whole path (uint8 image in, class ids at the
image's size out) and the model alone; medians, and the spread from the 10th to the 90th percentile.

The roofline is the best rate of convolution that was found on this machine in the same run: eight 3x3 convolutions of
256 channels at 64x64, in int8 and in float32. A file's GOPS are its operations (two a multiply-accumulate, of its
convolutions and matrix products) by its time; its share is that of the roofline of its own kind.

--untrained makes an int8 file of each network as its CamVid recipe has it, at the image's size; the name of a backbone
means DeepLabV3+ on it, MODEL/BACKBONE another model on it. 32 classes, as MLPerf Mobile's reference has them, unless
--classes says otherwise. The weights are random, which no time depends on.

--ops cuts the file after each operation; the parts take turns, and an operation's time is the difference of the
shortest times of two of them. XNNPACK joins operations, so a small one may seem to take what belongs to the next.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export import run_tflite, surgery, tflite
from runtime.benchmark import measure
from runtime.errors import UserError, exit_on_user_error
from runtime.image import resize_rgb
from runtime.segmenter import Segmenter
from runtime.stderr import stderr_on_failure
from training.command_line import size
from training.data import scenes
from training.runs.recipe import default_recipe

DEEPLAB = "deeplabv3plus"
ROOF = {"channels": 256, "side": 64, "layers": 8}
PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL")


def main(argv: list[str] | None = None) -> int:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.device", description=(__doc__ or "").splitlines()[0]
    )
    command.add_argument("files", nargs="*", type=Path, metavar="FILE.tflite")
    command.add_argument("--peers", type=Path, metavar="DIR", help="a folder of further .tflite files")
    command.add_argument("--size", default="512x512", metavar="HxW", help="of the image (default 512x512)")
    command.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="default 1 2")
    command.add_argument("--runs", type=int, default=50, help="turns of each file (default 50)")
    command.add_argument(
        "--untrained", nargs="+", default=[], metavar="NAME", help="networks of ours, made for this run"
    )
    command.add_argument("--classes", type=int, default=32, help="of these networks (default 32)")
    command.add_argument("--ops", action="store_true", help="where the time of each FILE goes")
    options = command.parse_args(argv)
    files = [*options.files, *(sorted(options.peers.glob("*.tflite")) if options.peers else ())]
    if not (files or options.untrained):
        raise UserError(
            "there is nothing to measure: name .tflite files, a folder of them with --peers, or --untrained"
        )
    if options.runs < 1 or min(options.threads) < 1:
        raise UserError("--runs and --threads have to be 1 or more")
    with tempfile.TemporaryDirectory() as folder:
        made = [
            untrained(name, options.classes, size(options.size), Path(folder)) for name in options.untrained
        ]
        if options.ops:
            for file in [*made, *files]:
                print(operations(file, options.threads[-1], options.runs))
            return 0
        for threads in options.threads:
            print(side_by_side([*made, *files], image(size(options.size)), threads, options.runs))
    return 0


def untrained(name: str, classes: int, height_width: tuple[int, int], folder: Path) -> Path:
    """A network as its CamVid recipe has it, or DeepLabV3+ on a backbone, as an int8 `mask` file in `folder`."""
    import keras

    import zoo

    model_name, _, backbone = name.partition("/") if name.split("/")[0] in zoo.MODELS else (DEEPLAB, "", name)
    recipe = default_recipe(model_name, "camvid")
    options = {key: recipe[key] for key in ("backbone", "output_stride") if key in recipe}
    options |= {**recipe.get("model_options", {}), **({"backbone": backbone} if backbone else {})}
    try:
        model = zoo.build(model_name, classes=classes, image_size=height_width, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"--untrained {name}: {error}") from error
    parameters = keras.Model(
        model.input, model.output["logits"]
    ).count_params()  # less what serves the loss alone
    print(f"untrained {name}: {parameters / 1e6:.2f}M parameters", flush=True)
    images = [scenes.draw(0, index, height_width).image for index in range(4)]
    path = folder / f"untrained_{name.replace('/', '_')}.tflite"
    path.write_bytes(tflite.convert(model, height_width, "int8", "mask", images, correct=False))
    return path


def image(height_width: tuple[int, int]) -> np.ndarray:
    """A drawn street, uint8 (H, W, 3)."""
    return resize_rgb(scenes.draw(0, 0, (512, 512)).image, height_width)


def side_by_side(files: Sequence[Path], rgb: np.ndarray, threads: int, runs: int) -> str:
    """One table: each file's time, the ratio to the first of the model's medians, GMACs, GOPS, share of the roof."""
    roofs = {kind: rate_of(roof(kind), threads) for kind in ("int8", "float32")}
    rows = measure([Segmenter(file, threads=threads) for file in files], rgb, runs)
    text = [
        f"\n{threads} thread{'s' * (threads > 1)}, an image of {rgb.shape[0]}x{rgb.shape[1]}, {runs} turns; "
        f"roofline {roofs['int8']:.0f} GOPS in int8, {roofs['float32']:.0f} in float32\n",
        "| file | kind | input | whole, ms | model, ms (p10..p90) | to the first | GMACs | GOPS | of the roofline |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    first = rows[0]["model_ms"]["median"]
    for file, row in zip(files, rows, strict=True):
        model = surgery.read(file.read_bytes())
        kind, gmacs, spread = kind_of(model), macs(model) / 1e9, row["model_ms"]
        gops = 2000 * gmacs / spread["median"]
        text.append(
            f"| {file.name} | {kind} | {row['input'][0]}x{row['input'][1]} | {row['whole_ms']['median']:.1f} "
            f"| {spread['median']:.1f} ({spread['p10']:.1f}..{spread['p90']:.1f}) | {spread['median'] / first:.2f} "
            f"| {gmacs:.2f} | {gops:.0f} | {gops / roofs[kind]:.0%} |"
        )
    return "\n".join(text)


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


def turns(flatbuffers: Sequence[bytes], threads: int, runs: int) -> np.ndarray:
    """Seconds (runs, files) on zeros, the files in turn, after three turns that are not counted."""
    interpreters = [run_tflite.interpreter(flatbuffer, threads) for flatbuffer in flatbuffers]
    for litert in interpreters:
        for details in litert.get_input_details():
            litert.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
    times = np.zeros((runs + 3, len(interpreters)))
    for number in range(runs + 3):
        print(f"\r{number} of {runs + 3} turns", end="", file=sys.stderr, flush=True)
        for place, litert in enumerate(interpreters):
            start = time.perf_counter()
            litert.invoke()
            times[number, place] = time.perf_counter() - start
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
        _macs(name, operator, graph.tensors)
        for name, operator in zip(surgery.op_names(model), graph.operators, strict=True)
    )


def _macs(name: str, operator: Any, tensors: Any) -> int:
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


def operations(file: Path, threads: int, runs: int) -> str:
    """The time of each operation of a file, the longest first, down to a hundredth of the whole."""
    data = file.read_bytes()
    model = surgery.read(data)
    names, graph = surgery.op_names(model), model.subgraphs[0]
    parts = [cut_after(data, place) for place in range(len(names))]
    times = np.maximum.accumulate(1000 * np.min(turns(parts, threads, runs), axis=0))
    found = []
    for place, (name, taken) in enumerate(zip(names, np.diff(times, prepend=0.0), strict=True)):
        gmacs = _macs(name, graph.operators[place], graph.tensors) / 1e9
        shape = "x".join(str(side) for side in graph.tensors[graph.operators[place].outputs[0]].shape[1:])
        found.append((float(taken), name, shape, gmacs))
    before = float(times[-1])
    text = [f"\n{file.name}, {threads} threads: {before:.2f} ms\n", "| ms | operation | result | GMACs |"]
    text += ["|---|---|---|---|"]
    shown = [row for row in sorted(found, reverse=True) if row[0] > before / 100]
    text += [f"| {taken:.2f} | {name} | {shape} | {gmacs:.3f} |" for taken, name, shape, gmacs in shown]
    rest = before - sum(row[0] for row in shown)
    return "\n".join([*text, f"| {rest:.2f} | {len(found) - len(shown)} others | | |"])


def cut_after(data: bytes, place: int) -> bytes:
    """The file with no operation after number `place`, whose result it gives."""
    model = surgery.read(data)
    graph = model.subgraphs[0]
    graph.operators = graph.operators[: place + 1]
    graph.outputs = [int(graph.operators[place].outputs[0])]
    model.signatureDefs = []
    return surgery.write(model)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
