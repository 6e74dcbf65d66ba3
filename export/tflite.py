"""One `.tflite` from a run: uint8 RGB in, class ids or scores out, built-in ops only, static shapes.

The way there is Keras -> SavedModel (`keras.export.ExportArchive`) -> `TFLiteConverter`: converting a plain
tf.function leaves READ_VARIABLE ops, on which int8 calibration fails, and `model.export(format="litert")`
allows Flex ops without saying so.

The input is uint8 RGB for every precision. The float files cast inside the graph; the int8 file has a float32
signature whose input the converter itself turns into uint8, scale 1, zero point 0, which saves a CAST and a
float QUANTIZE; `rewrite` then changes what LiteRT is slow at. Resizing that aligns corners is
one op (corners.py). `mask` ends in ARG_MAX and CAST, the only two ops that XNNPACK leaves to LiteRT's own kernels: the
measured alternatives are in docs/results/export.md.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export import (
    CALIBRATED,
    Examples,
    Job,
    bias,
    coarse_scores,
    confidence,
    equalise,
    mask_stride,
    metadata,
    parity,
    provenance,
    ranges,
    rewrite,
    run_tflite,
    surgery,
    tensorflow_private,
)
from export.corners import native_resize
from runtime.confidence import FACT, STEP
from runtime.errors import UserError
from runtime.image import resize_rgb
from runtime.stderr import stderr_on_failure
from training.data.spec import Example
from training.progress_bar import counter
from training.runs.trained_model import TrainedModel

# Means settle soon: 12 and 16 images of CamVid gave the same agreement with Keras within 0.03%.
CORRECTION_IMAGES = 16
# What `mixed` computes in int8: where the weights and nearly all of the arithmetic are, and what runs on a single
# tensor on the way from one such op to the next. Norms, softmax, the products of two feature maps in attention and
# the sums of residual branches stay float32: they lose most in 256 steps, and XNNPACK is fast at them in float.
MIXED_INT8 = (
    "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "GELU", "PAD", "RESIZE_BILINEAR", "RELU", "RELU6",
    "AVERAGE_POOL_2D", "MAX_POOL_2D", "CONCATENATION", "LEAKY_RELU", "HARD_SWISH",
)  # fmt: skip


def export(run: TrainedModel, job: Job, examples: Examples) -> Path:
    """Convert, check, pass the gate, and only then write the file under its final name.

    The facts inside the file also stand beside it, as NAME.json.
    """
    model = run.model(image_size=job.size)
    images = None
    if job.precision in CALIBRATED:
        images = calibration_images(examples("train"), job.calibration_images, job.size)
    print(f"converting to {job.precision}, {job.output}, {job.size[0]}x{job.size[1]} ...", flush=True)
    # A run of --quantize has learnt with the mean errors of its rounding: they are no fault any more.
    correct = not run.quantized
    flatbuffer = convert(
        model, job.size, job.precision, job.output, images, correct, job.keep_float, job.target
    )
    stride = job.mask_stride
    if stride > 1:
        flatbuffer = mask_stride.coarser(flatbuffer, stride)
    sure = job.confidence and bool(model.trainable_variables)  # a threshold has no doubts
    second = sure and job.output == "mask" and job.target == "xnnpack"  # others leave the slice to the CPU
    step = max(1, STEP // stride) if second else 0
    if step:
        flatbuffer = coarse_scores.add(flatbuffer, len(run.spec.classes), step)
    given = (job.size[0] // stride, job.size[1] // stride)
    flatbuffer = metadata.add(flatbuffer, name=run.name, output=job.output, size=job.size, given=given)
    candidate = predictor(flatbuffer, job.output, job.threads)
    if stride > 1:
        candidate = mask_stride.brought_back(candidate, job.size)
    record = parity.pass_through(run, model, candidate, job, examples)
    what = provenance.facts(run, precision=job.precision, output=job.output, size=job.size, parity=record)
    what["calibration_images"] = 0 if images is None else len(images)
    what["target"] = job.target
    if stride > 1:
        what["mask_stride"] = stride
    if sure:
        what[FACT] = confidence.measured(candidate, run.spec, run.labelled, job.size, examples, step)
    provenance.write(job.out, flatbuffer, what)
    return job.out


def calibration_images(examples: Sequence[Example], count: int, size: tuple[int, int]) -> list[np.ndarray]:
    """Clean training images at the file's size, uint8 (H, W, 3): what the file will see, never augmented."""
    if not examples:
        raise UserError("the run's train split has no image to calibrate int8 on; one at least is needed.")
    return [resize_rgb(example.read()[0], size) for example in parity.spread(examples, count)]


def pinned(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The same, with a black and a white pixel in the first, uint8 (H, W, 3): the input's range is 0..255, and so its
    scale 1 and its zero point 0. Where no image of the night has a white pixel, a file would see all of them darker."""
    first, *others = images
    first = first.copy()
    first[0, 0], first[0, 1] = 0, 255
    return [first, *others]


def convert(
    model: Any,
    size: tuple[int, int],
    precision: str,
    output: str,
    images: Sequence[np.ndarray] | None = None,
    correct: bool = True,
    keep_float: Sequence[str] = (),
    target: str = "xnnpack",
) -> bytes:
    """The flatbuffer. `images`, uint8 (H, W, 3), calibrate mixed and int8 and, unless told not to, correct their
    biases (see bias.py); they are not looked at otherwise. A model without trained weights (a threshold) has nothing to
    quantise, and 8 bits would spoil the histogram that it counts: every precision gives fp32's file. Ops whose name has
    one of `keep_float` in it stay float32. `target` chooses the rewrites of int8.

    Raises ValueError when the result needs anything but built-in ops or static shapes.
    """
    import tensorflow as tf

    if not model.trainable_variables:
        precision = "fp32"
    chosen = pinned(images) if images else []
    with tempfile.TemporaryDirectory() as folder, stderr_on_failure(), native_resize(model):
        image = tf.TensorSpec((1, *size, 3), tf.float32 if precision == "int8" else tf.uint8, name="image")
        write_saved_model(folder, model, serve(model, output), [image])
        converter = converter_of(folder, precision, chosen)
        if precision in CALIBRATED:
            flatbuffer, reference = _quantise(converter, precision, chosen, keep_float)
        else:
            flatbuffer = bytes(converter.convert())
    if precision in CALIBRATED and correct:
        shown = chosen[:: -(-len(chosen) // CORRECTION_IMAGES)]
        flatbuffer = bias.correct(flatbuffer, reference, shown, progress=counter("correcting biases"))
    if precision == "int8":
        flatbuffer = rewrite.faster(flatbuffer, target)
    check(flatbuffer)
    return flatbuffer


def _quantise(
    converter: Any, precision: str, images: Sequence[np.ndarray], keep_float: Sequence[str]
) -> tuple[bytes, bytes]:
    """Calibrate, equalise, take the ranges, and quantise: for `mixed` the ops of MIXED_INT8 and no other. The input is
    uint8, scores stay float32. The second file is the float one that was quantised."""
    # What converter.convert() does, in two halves; mixed: what tf.lite.experimental.QuantizationDebugger does, less its
    # instrumented copies of the model.
    if precision == "mixed":
        converter.representative_dataset = lambda: ([image[None]] for image in images)
    calibrated = equalise.equalised(tensorflow_private.calibrated(converter), images)
    calibrated = ranges.taken(calibrated, images)
    graph = surgery.read(calibrated)
    kinds = sorted(set(surgery.op_names(graph)) - set(MIXED_INT8)) if precision == "mixed" else None
    return tensorflow_private.quantised(calibrated, kinds, _results(graph, keep_float)), calibrated


def _results(model: Any, wanted: Sequence[str]) -> list[str]:
    """The names of the tensors that the ops put out which have one of `wanted` in their names."""
    graph = model.subgraphs[0]
    names = [graph.tensors[int(op.outputs[0])].name.decode() for op in graph.operators]
    for part in wanted:
        if not any(part in name for name in names):
            raise UserError(
                f"--keep-float {part}: the model has no such op; python -m export.quantization_report lists them"
            )
    return [name for name in names if any(part in name for part in wanted)]


def serve(model: Any, output: str) -> Callable[[Any], Any]:
    import tensorflow as tf

    def serve(image: Any) -> Any:
        logits = model(tf.cast(image, tf.float32), training=False)["logits"]  # (1, H, W, C)
        if output == "scores":
            return logits
        return tf.cast(tf.argmax(logits, axis=-1, output_type=tf.int32), tf.uint8)  # (1, H, W)

    return serve


def write_saved_model(folder: str, model: Any, serve: Callable[..., Any], signature: list[Any]) -> None:
    """A SavedModel with the one endpoint that is converted."""
    import keras

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(name="serve", fn=serve, input_signature=signature)
    archive.write_out(folder, verbose=False)


def converter_of(folder: str, precision: str, images: Sequence[np.ndarray]) -> Any:
    """A TFLiteConverter of a SavedModel, built-in ops only; `images`, uint8 (H, W, 3), calibrate int8."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if precision != "fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([p[None].astype(np.float32)] for p in images)
        converter.inference_input_type = tf.uint8
    return converter


def predictor(flatbuffer: bytes, output: str, threads: int = 2) -> parity.Predict:
    """Run a file through LiteRT: uint8 (H, W, 3) -> its class ids (H, W) and its logits (H, W, C)."""
    run = run_tflite.runner(flatbuffer, threads)
    if output == "scores":

        def from_scores(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            logits = run(rgb)
            return parity.ids_of(logits), logits

        return from_scores
    twin = run_tflite.runner(scores_twin(flatbuffer), threads)
    return lambda rgb: (run(rgb), twin(rgb))


def scores_twin(flatbuffer: bytes) -> bytes:
    """A mask file cut before its ARG_MAX, so that its logits can be read; all else stays as it is.

    Its output is what ARG_MAX saw: float32, or int8 with its scale and zero point.
    """
    model = surgery.read(flatbuffer)
    graph, last = model.subgraphs[0], surgery.op_names(model).index("ARG_MAX")
    logits = int(graph.operators[last].inputs[0])
    graph.operators = graph.operators[:last]
    graph.outputs = [logits]
    model.signatureDefs = []
    return surgery.write(model)


def check(flatbuffer: bytes) -> None:
    """Raise ValueError unless the file has one graph, built-in ops only, and static shapes."""
    from ai_edge_litert import schema_py_generated as schema

    model = surgery.read(flatbuffer)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    for code in model.operatorCodes:
        if code.customCode or surgery.builtin(code) == schema.BuiltinOperator.CUSTOM:
            raise ValueError(f"the model needs the op {code.customCode!r}, which is not built into LiteRT")
        if names.get(surgery.builtin(code), "").startswith("STABLEHLO"):
            raise ValueError(
                f"the model needs the op {names[surgery.builtin(code)]}, which LiteRT's kernels lack"
            )
    if len(model.subgraphs) != 1:
        raise ValueError(f"the model has {len(model.subgraphs)} graphs; MediaPipe reads files with one")
    for tensor in model.subgraphs[0].tensors:
        signature = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
        if signature is not None and any(side < 0 for side in signature):
            raise ValueError(f"the shape of {tensor.name!r} is not static: {list(signature)}")
