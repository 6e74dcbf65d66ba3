"""Coral's DeepLab slim read whole, against its own file: python -m benchmarks.coral_ids FILE.tflite WEIGHTS
--data-dir CAMVID.

WEIGHTS is what `python -m zoo.convert FILE.tflite --out WEIGHTS` wrote. Class ids on images from all over the split, at
the file's own size: the share of equal pixels of

- the file's graph in float, its weights and ranges lifted out of 8 bits (`lifted`): what the reading must agree with;
- the file itself, by LiteRT's XNNPACK: rounded after every layer;
- the file itself by LiteRT's other kernels, which round otherwise: how far it agrees with itself.

"Agreed" are the pixels that all three of its kernels give the same class; "near ties" those where our two best logits
lie within 2 of the file's 8-bit steps of each other.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from runtime.errors import exit_on_user_error
from runtime.image import resize_rgb
from training.command_line import Parser
from training.progress_bar import counter
from training.start_tensorflow import start_tensorflow

Ids = Callable[[np.ndarray], np.ndarray]  # uint8 (H, W, 3) -> class ids (H, W)
NEAR = 2  # steps


def lifted(flatbuffer: bytes) -> bytes:
    """The same graph in float32: constants are the numbers that their 8 bits stand for, and nothing is rounded.
    The image is what the network sees, such as -1..1; ops that only change 8-bit scales are gone."""
    from ai_edge_litert import schema_py_generated as schema

    from export import surgery
    from zoo.convert.files.tflite import values

    model = surgery.read(flatbuffer)
    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        quantization = tensor.quantization
        if quantization is None or quantization.scale is None or not len(quantization.scale):
            continue
        if model.buffers[tensor.buffer].data is not None:
            tensor.buffer = surgery.append_buffer(model, values(model, tensor, schema).tobytes())
        tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None
    names = surgery.op_names(model)
    gone = {
        int(op.outputs[0]): int(op.inputs[0])
        for op, name in zip(graph.operators, names, strict=True)
        if name == "QUANTIZE"
    }
    graph.operators = [op for op, name in zip(graph.operators, names, strict=True) if name != "QUANTIZE"]
    for op in graph.operators:
        op.inputs = np.array([gone.get(int(number), int(number)) for number in op.inputs], np.int32)
    return surgery.write(model)


def runner(flatbuffer: bytes, kernels: str = "AUTO", prepare: Ids = lambda rgb: rgb) -> Ids:
    """Class ids by LiteRT; `kernels` is a name of its OpResolverType, AUTO for XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    litert = Interpreter(
        model_content=flatbuffer, num_threads=2, experimental_op_resolver_type=OpResolverType[kernels]
    )
    litert.allocate_tensors()
    (image,), (ids,) = litert.get_input_details(), litert.get_output_details()

    def run(rgb: np.ndarray) -> np.ndarray:
        litert.set_tensor(image["index"], prepare(rgb)[None].astype(image["dtype"]))
        litert.invoke()
        return litert.get_tensor(ids["index"])[0]

    return run


def compared(path: Path, weights: Path, images: Sequence[np.ndarray]) -> dict[str, float]:
    """The share of equal pixels of each pair, 0..1, over images, uint8 (H, W, 3) of the file's size."""
    from zoo.convert import rebuild
    from zoo.convert.files import tflite

    flatbuffer, network = path.read_bytes(), tflite.read(path)
    step, zero, scale = _step(flatbuffer), np.float32(network.zero), np.float32(network.scale or 1)
    model = rebuild(weights, (images[0].shape[0], images[0].shape[1]))
    theirs = {
        "float": runner(lifted(flatbuffer), "AUTO", lambda rgb: (rgb - zero) * scale),
        "xnnpack": runner(flatbuffer),
        "builtin": runner(flatbuffer, "BUILTIN_WITHOUT_DEFAULT_DELEGATES"),
        "reference": runner(flatbuffer, "BUILTIN_REF"),
    }
    rows: list[dict[str, float]] = []
    show = counter("comparing")
    for number, rgb in enumerate(images):
        logits = np.asarray(model(rgb[None].astype("float32"), training=False)["logits"])[0]
        ids = {name: run(rgb) for name, run in theirs.items()}
        rows.append(_shares(logits, ids, step))
        show(number + 1, len(images))
    total = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    agreed = sum(row["agreed"] for row in rows)
    return {**total, "ours = the file, where agreed": sum(row["both"] for row in rows) / agreed}


def _shares(logits: np.ndarray, ids: dict[str, np.ndarray], step: float) -> dict[str, float]:
    ours = logits.argmax(-1)
    best = np.sort(logits, axis=-1)[..., -2:]
    agreed = (ids["xnnpack"] == ids["builtin"]) & (ids["xnnpack"] == ids["reference"])
    wrong = ours != ids["xnnpack"]
    near = best[..., 1] - best[..., 0] < NEAR * step
    return {
        "ours = its graph in float": float((ours == ids["float"]).mean()),
        "ours = the file": float((~wrong).mean()),
        "its graph in float = the file": float((ids["float"] == ids["xnnpack"]).mean()),
        "the file = itself, builtin kernels": float((ids["builtin"] == ids["xnnpack"]).mean()),
        "the file = itself, reference kernels": float((ids["reference"] == ids["xnnpack"]).mean()),
        "agreed": float(agreed.mean()),
        "both": float((agreed & ~wrong).mean()),
        "near ties": float(near.mean()),
        "near ties, of what differs": float((near & wrong).sum() / max(1, wrong.sum())),
    }


def _step(flatbuffer: bytes) -> float:
    """The 8-bit step of the file's logits."""
    from export import surgery

    model = surgery.read(flatbuffer)
    last = model.subgraphs[0].operators[surgery.op_names(model).index("ARG_MAX")]
    return float(model.subgraphs[0].tensors[int(last.inputs[0])].quantization.scale[0])


def main(argv: Sequence[str] | None = None) -> int:
    command = Parser(
        prog="python -m benchmarks.coral_ids",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("file", type=Path, metavar="FILE.tflite")
    command.add_argument("weights", type=Path, metavar="WEIGHTS")
    command.add_argument("--data-dir", required=True, metavar="DIR")
    command.add_argument("--split", default="train")
    command.add_argument("--images", type=int, default=100, help="evenly from the split (default 100)")
    args = command.parse_args(argv)
    start_tensorflow()
    from export.parity import spread
    from runtime.segmenter import Segmenter
    from training import data

    size = Segmenter(args.file, trusted=True).size
    _, examples = data.load("camvid", args.split, args.data_dir, progress=counter("checking"))
    chosen = spread(examples, args.images)
    shares = compared(args.file, args.weights, [resize_rgb(example.read()[0], size) for example in chosen])
    print(f"{len(chosen)} images of {args.split}, {size[0]}x{size[1]}; equal pixels, %")
    for name, share in shares.items():
        if name != "both":
            print(f"{name:<42}{100 * share:8.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
