"""Which layers lose most by 8 bits: python -m export.quantization_report runs/NAME [--precision int8].

Two errors of each op of the file, over images of the run's val split:

- alone: what is left of the logits' truth when this op alone is in 8 bits: the float file, with this op's weights and
  result rounded as the int8 file rounds them. RMS of the change of the logits, relative to their standard deviation.
  The table is sorted by it, the worst first: it says what keeping this one layer in float would gain.
- there: how far the op's result in the int8 file is from the float file's, with all that the ops before it add: RMS,
  relative to the float result's standard deviation, and in steps of its scale. Rounding alone costs 0.29 steps.

Source: "alone" is the one-at-a-time sensitivity analysis of Wu et al. 2020 (arXiv:2004.09602, section 6.1), for a
layer's weights and its result at once. Bias correction is left out of it, since it makes up for other layers' errors.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export import checked_size, run_tflite, surgery
from runtime.errors import UserError, exit_on_user_error
from runtime.files import write_json
from runtime.image import resize_rgb
from training.command_line import Parser
from training.progress_bar import counter
from training.start_tensorflow import start_tensorflow

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
Images = Sequence[np.ndarray]


@dataclass(frozen=True)
class Layer:
    """A row: one op of the int8 file that has a partner in the float file.

    `alone`, `there`: as in the head of this module; `steps`: `there` in steps of `scale`, None where the file keeps
    the result in float, as `scale` is; `low`, `high`: the float result's range; `scales`: how many scales its weights
    have, 0 where it has no weights in 8 bits.
    """

    op: str
    name: str
    alone: float
    there: float
    steps: float | None
    scale: float | None
    low: float
    high: float
    scales: int
    channels: int


@dataclass(frozen=True)
class Report:
    """`layers`, the worst first; `unpaired`: ops of the int8 file, its conversions of type aside, without a partner;
    `unfolded`: the model's BatchNorms that are still ops of their own; `norms`: how many it has; `per_tensor`: layers
    whose filters share one scale."""

    layers: list[Layer]
    unpaired: list[str]
    norms: int
    unfolded: list[str]
    per_tensor: list[str]


def parser() -> Parser:
    command = Parser(
        prog="python -m export.quantization_report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("run", metavar="RUN", help="a run folder, such as runs/NAME")
    command.add_argument("--data-dir", metavar="DIR", nargs="+", help="where the run's data lies now")
    command.add_argument("--precision", choices=("int8", "mixed"), default="int8")
    command.add_argument("--size", metavar="HxW", help="of the file; that of the data if not given")
    command.add_argument("--images", type=int, default=4, metavar="N", help="of val, to measure on; 4")
    command.add_argument(
        "--pictures", dest="images", type=int, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )  # until 0.3
    command.add_argument("--calibration-images", type=int, default=100, metavar="N", help="of train; 100")
    command.add_argument("--rows", type=int, default=20, metavar="N", help="of the table; 20, 0: all")
    command.add_argument("--out", metavar="FILE", help="all of it as JSON")
    return command


def measure(
    reference: bytes,
    quantised: bytes,
    images: Images,
    norms: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """The report of two files of one model, both of `--output scores` and uint8 RGB: `reference` in fp32. `images`
    are uint8 (H, W, 3); `norms` the names of the model's BatchNorms."""
    float_model, model = surgery.read(reference), surgery.read(quantised)
    pairs, unpaired = paired(float_model, model)
    if not pairs or not images:
        raise UserError("there is nothing to report: no image, or no op of both files has the same name")
    there = _distances(float_model, model, pairs, images)
    logits = [_logits(reference, images)]
    spread = float(np.std(logits[0]))
    names, graph, layers = surgery.op_names(model), model.subgraphs[0], []
    for number, (theirs, ours) in enumerate(pairs):
        changed = _logits(_in_8_bits(float_model, model, theirs, ours), images)
        op = graph.operators[ours]
        scales, channels = _weight_scales(model, op) if names[ours] in WEIGHTED else (0, 0)
        scale = _scale(graph.tensors[op.outputs[0]])
        distance, low, high, deviation = there[number]
        layers.append(
            Layer(
                op=names[ours],
                name=_short(graph.tensors[op.outputs[0]].name),
                alone=float(np.sqrt(np.mean((changed - logits[0]) ** 2))) / spread,
                there=distance / max(deviation, 1e-30),
                steps=distance / scale if scale else None,
                scale=scale,
                low=low,
                high=high,
                scales=scales,
                channels=channels,
            )
        )
        if progress:
            progress(number + 1, len(pairs))
    layers.sort(key=lambda layer: -layer.alone)
    return Report(
        layers=layers,
        unpaired=unpaired,
        norms=len(norms),
        unfolded=unfolded(model, norms),
        per_tensor=[layer.name for layer in layers if layer.scales == 1 and layer.channels > 1],
    )


def paired(float_model: Any, model: Any) -> tuple[list[tuple[int, int]], list[str]]:
    """(place in the float graph, place in the int8 graph) of each op with the same kind and the same name of what it
    puts out, and of the last ones, whose results are named after the signature; and the names of those without a
    partner. Conversions of type do not count."""
    theirs, ours = float_model.subgraphs[0], model.subgraphs[0]
    places = {key: place for place, key in reversed(_keys(float_model))}
    pairs, alone = [], []
    for place, key in _keys(model):
        partner = places.get(key)
        if partner is None:
            alone.append(f"{key[0]} {_short(ours.tensors[ours.operators[place].outputs[0]].name)}")
        elif _is_float(theirs.tensors[theirs.operators[partner].outputs[0]]):
            pairs.append((partner, place))
    return pairs, alone


def _keys(model: Any) -> list[tuple[int, tuple[str, bytes]]]:
    graph = model.subgraphs[0]
    found = [
        (place, (name, graph.tensors[graph.operators[place].outputs[0]].name))
        for place, name in enumerate(surgery.op_names(model))
        if name not in ("QUANTIZE", "DEQUANTIZE", "CAST")
    ]
    place, (name, _) = found[-1]
    return [*found[:-1], (place, (name, b"the last"))]


def unfolded(model: Any, norms: Sequence[str]) -> list[str]:
    """Of these BatchNorms, those from which an op is left that is no convolution: it multiplies or adds, and its
    result has the norm's name and no convolution's."""
    graph, found = model.subgraphs[0], []
    for place, name in enumerate(surgery.op_names(model)):
        if name in ("MUL", "ADD", "SUB"):
            path = graph.tensors[graph.operators[place].outputs[0]].name.decode()
            parts = [part.rpartition("_")[0] for part in path.replace(";", "/").split("/")]
            found += [norm for norm in norms if norm in parts and "batchnorm" in path]
    return sorted(set(found))


def _distances(
    float_model: Any, model: Any, pairs: Sequence[tuple[int, int]], images: Images
) -> list[tuple[float, float, float, float]]:
    """Of each pair's results: RMS of the difference; least, largest and standard deviation of the float one."""
    places = [place for place, _ in pairs], [place for _, place in pairs]
    files = [_values_of(*file) for file in zip((float_model, model), places, strict=True)]
    sums = np.zeros((len(pairs), 3))  # of squared differences, of values, of their squares; all as means
    low, high = np.full(len(pairs), np.inf), np.full(len(pairs), -np.inf)
    for rgb in images:
        both = [file(rgb) for file in files]
        for number, (wanted, found) in enumerate(zip(*both, strict=True)):
            sums[number] += [np.mean((found - wanted) ** 2), wanted.mean(), np.mean(wanted**2)]
            low[number], high[number] = min(low[number], wanted.min()), max(high[number], wanted.max())
    sums /= len(images)
    deviation = np.sqrt(np.maximum(sums[:, 2] - sums[:, 1] ** 2, 0))
    return list(
        zip(np.sqrt(sums[:, 0]).tolist(), low.tolist(), high.tolist(), deviation.tolist(), strict=True)
    )


def _values_of(model: Any, places: Sequence[int]) -> Callable[[np.ndarray], Iterator[np.ndarray]]:
    """uint8 (H, W, 3) -> what the ops in these places put out, float32, one after another.

    They become outputs of the graph, so that the kernels are those that the file runs by. (LiteRT's own kernels, which
    keep every tensor, round otherwise than XNNPACK's.)
    """
    graph = model.subgraphs[0]
    kept = graph.outputs, model.signatureDefs
    graph.outputs, model.signatureDefs = [int(graph.operators[place].outputs[0]) for place in places], []
    try:
        file = run_tflite.interpreter(surgery.write(model))
    finally:
        graph.outputs, model.signatureDefs = kept
    image, outputs = file.get_input_details()[0], file.get_output_details()

    def run(rgb: np.ndarray) -> Iterator[np.ndarray]:
        file.set_tensor(image["index"], rgb[None])
        file.invoke()
        for output in outputs:
            values, (scale, zero) = file.get_tensor(output["index"]), output["quantization"]
            yield (values.astype(np.float32) - zero) * np.float32(scale) if scale else values

    return run


def _logits(flatbuffer: bytes, images: Images) -> np.ndarray:
    run = run_tflite.runner(flatbuffer)
    return np.stack([run(rgb) for rgb in images])


def _in_8_bits(float_model: Any, model: Any, theirs: int, ours: int) -> bytes:
    """The float file with one op's constants and result rounded as the int8 file has them."""
    changed = copy.copy(float_model)
    graph = changed.subgraphs[0]
    kept = graph.operators, graph.tensors, changed.operatorCodes, graph.outputs
    buffers = changed.buffers
    graph.operators, graph.tensors = list(kept[0]), list(kept[1])
    changed.operatorCodes, changed.buffers = list(kept[2]), list(buffers)
    try:
        _round_constants(changed, theirs, model, ours)
        result = model.subgraphs[0].tensors[model.subgraphs[0].operators[ours].outputs[0]]
        if _scale(result):
            _insert_rounding(changed, theirs, result)
        return surgery.write(changed)
    finally:
        graph.operators, graph.tensors, changed.operatorCodes, graph.outputs = kept


def _round_constants(changed: Any, theirs: int, model: Any, ours: int) -> None:
    graph, quantised = changed.subgraphs[0], model.subgraphs[0]
    op, partner = graph.operators[theirs], quantised.operators[ours]
    for position, (index, other) in enumerate(zip(op.inputs, partner.inputs, strict=False)):
        if index < 0 or other < 0:
            continue
        tensor, rounded = graph.tensors[index], quantised.tensors[other]
        data = model.buffers[rounded.buffer].data
        # int8 weights and constants, and no int32 bias.
        if data is None or rounded.type != _INT8 or not _scale(rounded) or not _is_float(tensor):
            continue
        shape, axis = tuple(rounded.shape), int(rounded.quantization.quantizedDimension)
        scales = np.asarray(rounded.quantization.scale, np.float64)
        along = [-1 if place == axis and len(scales) > 1 else 1 for place in range(len(shape))]
        zero = np.asarray(rounded.quantization.zeroPoint).reshape(along)
        values = (np.asarray(data).view(np.int8).reshape(shape) - zero) * scales.reshape(along)
        number = surgery.append_tensor(changed, tensor, values.astype(np.float32).tobytes())
        graph.operators[theirs] = op = copy.copy(op)
        op.inputs = np.array(op.inputs)
        op.inputs[position] = number


def _insert_rounding(changed: Any, place: int, result: Any) -> None:
    """A FAKE_QUANT of the int8 file's scale behind an op of the float graph, for all that read it."""
    from ai_edge_litert import schema_py_generated as schema

    graph = changed.subgraphs[0]
    op = graph.operators[place] = copy.copy(graph.operators[place])
    rounded = int(op.outputs[0])
    raw = surgery.append_tensor(changed, graph.tensors[rounded])
    op.outputs = np.array([raw, *list(op.outputs)[1:]], np.int32)
    options = schema.FakeQuantOptionsT()
    scale, zero = float(result.quantization.scale[0]), int(result.quantization.zeroPoint[0])
    options.min, options.max, options.numBits = (-128 - zero) * scale, (127 - zero) * scale, 8
    surgery.insert_op(changed, place + 1, "FAKE_QUANT", [raw], [rounded], options, version=2)


_INT8 = 9  # schema.TensorType.INT8


def _is_float(tensor: Any) -> bool:
    return int(tensor.type) == 0  # schema.TensorType.FLOAT32


def _scale(tensor: Any) -> float | None:
    scale = tensor.quantization.scale if tensor.quantization else None
    return None if scale is None or len(scale) == 0 else float(scale[0])


def _weight_scales(model: Any, op: Any) -> tuple[int, int]:
    """How many scales an op's int8 weights have, and how many channels it puts out; 0 scales for float weights."""
    graph = model.subgraphs[0]
    weights, result = graph.tensors[op.inputs[1]], graph.tensors[op.outputs[0]]
    scales = weights.quantization.scale if weights.quantization else None
    count = 0 if scales is None or weights.type != _INT8 else len(scales)
    return count, int(result.shape[-1])


def _short(name: bytes) -> str:
    """Of a fused op's names the first, less the model's name and what TensorFlow calls the op."""
    first = name.decode().partition(";")[0].split("/")
    return "/".join(first[1:-1]) or first[0]


def table(report: Report, rows: int = 20) -> str:
    """The worst rows, and what is said of the file as a whole."""
    lines = [f"{'alone':>8} {'there':>8} {'steps':>7} {'scale':>9} {'from':>9} {'to':>9}  op"]
    for layer in report.layers[: rows or None]:
        steps = "float" if layer.steps is None else f"{layer.steps:.2f}"
        scale = "" if layer.scale is None else f"{layer.scale:.3g}"
        lines.append(
            f"{100 * layer.alone:7.3f}% {100 * layer.there:7.3f}% {steps:>7} {scale:>9} {layer.low:9.3g} "
            f"{layer.high:9.3g}  {layer.op} {layer.name}"
        )
    weighted = [layer for layer in report.layers if layer.scales]
    lines += [
        f"{len(report.layers)} ops compared; {len(report.unpaired)} have no partner in the float file"
        + (f": {', '.join(report.unpaired[:6])}" if report.unpaired else "."),
        f"{report.norms - len(report.unfolded)} of {report.norms} batch norms are folded into convolutions"
        + (f"; not {', '.join(report.unfolded)}" if report.unfolded else "."),
        f"{len(weighted) - len(report.per_tensor)} of {len(weighted)} layers with int8 weights have a scale a channel"
        + (f"; not {', '.join(report.per_tensor)}" if report.per_tensor else "."),
    ]
    return "\n".join(lines)


def facts(report: Report, **of: Any) -> dict[str, Any]:
    """What --out holds: the report, and what it is of."""
    return {**of, **asdict(report)}


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    for option in ("images", "calibration_images"):
        if getattr(args, option) < 1:
            raise UserError(f"--{option.replace('_', '-')} is {getattr(args, option)}: it must be 1 or more.")
    start_tensorflow()  # and only now what brings it: --help and a wrong flag answer at once
    from export import parity, tflite
    from export.examples import examples_of, size_of_data
    from training.engine.optimizers import layers
    from training.engine.validation import MODEL_TASKS
    from training.runs.trained_run import Run, load

    run = load(args.run)
    if run.name in MODEL_TASKS or not run.data.name:
        raise UserError(f"{args.run} is no run of a semantic segmenter: there are no logits to report on")
    if args.data_dir and isinstance(run, Run):
        run = run.at(args.data_dir)
        run.check_classes()
    examples = examples_of(run)
    size = checked_size(args.size) if args.size else size_of_data(run, examples)
    model = run.model(image_size=size)
    if not model.trainable_variables:
        raise UserError(f"{run.name} has no weights to quantise: there is nothing to report")
    calibration = tflite.calibration_images(examples("train"), args.calibration_images, size)
    images = [resize_rgb(example.read()[0], size) for example in parity.spread(examples("val"), args.images)]
    if not images:
        raise UserError(f"{run.data.name} val has no image to measure on; one is needed.")
    print(f"converting to {args.precision}, {size[0]}x{size[1]} ...", flush=True)
    found = measure(
        tflite.convert(model, size, "fp32", "scores"),
        tflite.convert(model, size, args.precision, "scores", calibration),
        images,
        [layer.name for _, layer in layers(model) if type(layer).__name__ == "BatchNormalization"],
        counter("one op at a time"),
    )
    print(table(found, args.rows))
    if args.out:
        said = facts(found, precision=args.precision, size=size, images=len(images))
        write_json(Path(args.out), said)
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
