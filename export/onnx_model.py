"""One `.onnx` from a run, for ONNX Runtime: uint8 RGB in, class ids or scores out, the standard's own operators only.

The way there is Keras -> a frozen graph -> tf2onnx, the converter that Keras' `model.export(format="onnx")` calls too:
called here it takes the uint8 image, the argmax, and a newer opset. int8 is ONNX Runtime's static quantisation in its
QDQ form: a scale per channel of the weights, ranges by the least and the largest value on the images that a `.tflite`
is calibrated on. Weights have 7 bits: on x86-64 without VNNI, ONNX Runtime adds two products of uint8 and int8 in 16
bits, where 2 * 255 * 127 is cut off and 2 * 255 * 64 is not. So a file that passed the gate on one processor says the
same on another.

The facts of a `.tflite` stand in `metadata_props`, as `kerbside.json` and `labels.txt`, and as FILE.json beside the
file.
"""

import importlib.metadata
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export import Examples, Job, parity, provenance, tensorflow_private, tflite
from runtime.bundle import LABELS, NOTE
from runtime.files import write_whole
from runtime.onnx_file import session
from training.runs.trained_model import TrainedModel

# Of the standard's operators: ONNX Runtime has read it since 1.14 (2023), and DequantizeLinear has an axis.
OPSET = 17
MAKERS = ("tf2onnx", "onnx", "onnxruntime")


def export(run: TrainedModel, job: Job, examples: Examples) -> Path:
    """Convert, pass the gate, and only then write the file under its final name."""
    model = run.model(image_size=job.size)
    images = None
    if job.precision == "int8" and model.trainable_variables:  # a threshold has nothing to quantise
        images = tflite.calibration_images(examples("train"), job.calibration_images, job.size)
    print(f"converting to ONNX {job.precision}, {job.output}, {job.size[0]}x{job.size[1]} ...", flush=True)
    graph = convert(model, job.size, job.output, images)
    record = parity.pass_through(run, model, predictor(graph, job.output, job.threads), job, examples)
    what = provenance.facts(run, precision=job.precision, output=job.output, size=job.size, parity=record)
    what["calibration_images"] = 0 if images is None else len(images)
    what["opset"] = opsets(graph)
    what["versions"] |= {name: importlib.metadata.version(name) for name in MAKERS}
    print(
        "  opset                     "
        + ", ".join(f"{name} {number}" for name, number in what["opset"].items())
    )
    write(job.out, graph, what)
    return job.out


def convert(
    model: Any, size: tuple[int, int], output: str, images: Sequence[np.ndarray] | None = None
) -> bytes:
    """The file without its facts; `images`, uint8 (H, W, 3), make it int8.

    Raises ValueError when the result needs an operator that is not of the standard.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    signature = tf.TensorSpec((1, *size, 3), tf.uint8, name="image")
    # Not from_function: it takes arrays that the function has captured (ImageNet's means) for inputs.
    graph, first, last = tensorflow_private.frozen(tf.function(tflite.serve(model, output)), signature)
    made, _ = tf2onnx.convert.from_graph_def(
        graph, "kerbside", [first], [last], opset=OPSET, tensors_to_rename={first: "image"}
    )
    made = _without_erfc(_named(made, output))
    if images:
        made = onnx.load_from_string(quantised(made.SerializeToString(), images))
    others = {node.domain for node in made.graph.node} - {"", "ai.onnx"}
    if others:
        raise ValueError(
            f"the model needs operators of {', '.join(sorted(others))}, which are not ONNX's own"
        )
    for one in [one for one in made.opset_import if one.domain not in ("", "ai.onnx")]:
        made.opset_import.remove(one)  # stated, and no operator is of them
    onnx.checker.check_model(made)
    data: bytes = made.SerializeToString()
    return data


def _without_erfc(made: Any) -> Any:
    """TensorFlow's optimizer writes an exact GELU with Erfc; ONNX has Erf alone, and erfc x is 1 - erf x."""
    from onnx import helper, numpy_helper

    nodes = []
    for node in made.graph.node:
        if node.op_type != "Erfc":
            nodes.append(node)
            continue
        between = f"{node.name}/erf"
        nodes.append(helper.make_node("Erf", list(node.input), [between], name=between))
        nodes.append(helper.make_node("Sub", ["erfc_one", between], list(node.output), name=node.name))
    if len(nodes) > len(made.graph.node):
        made.graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), "erfc_one"))
        del made.graph.node[:]
        made.graph.node.extend(nodes)
    return made


def _named(made: Any, output: str) -> Any:
    """`image` and `mask` or `scores` are the names of its ends."""
    from onnx import TensorProto, helper

    (result,) = made.graph.output
    kind = result.type.tensor_type.elem_type or TensorProto.FLOAT
    made.graph.node.append(helper.make_node("Identity", [result.name], [output], name=output))
    shape = [side.dim_value for side in result.type.tensor_type.shape.dim]
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info(output, kind, shape))
    return made


def quantised(data: bytes, images: Sequence[np.ndarray]) -> bytes:
    """The same network in int8, calibrated on the images."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.ahead = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.ahead, None)
            return None if image is None else {"image": image[None]}

    with tempfile.TemporaryDirectory() as folder:
        before, ready, after = (Path(folder) / f"{name}.onnx" for name in ("before", "ready", "after"))
        before.write_bytes(data)
        quant_pre_process(
            before, ready, skip_symbolic_shape=True
        )  # batch norms into convolutions; every shape
        quantization.quantize_static(
            ready,
            after,
            Images(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            reduce_range=True,  # weights in 7 bits, see above
        )
        return after.read_bytes()


def opsets(data: bytes) -> dict[str, int]:
    """Which version of which domain's operators a file needs."""
    import onnx

    made = onnx.load_from_string(data)
    return {one.domain or "ai.onnx": one.version for one in made.opset_import}


def predictor(data: bytes, output: str, threads: int = 2) -> parity.Predict:
    """Run a file through ONNX Runtime: uint8 (H, W, 3) -> its class ids (H, W) and its logits (H, W, C). Those of a
    mask file come from a twin that gives what its ArgMax sees as well."""
    if output == "scores":
        opened = session(data, threads)

        def from_scores(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            (logits,) = opened.run(["scores"], {"image": rgb[None]})
            return parity.ids_of(logits[0]), logits[0]

        return from_scores
    whole, (twin, name, axis) = session(data, threads), scores_twin(data)
    seen = session(twin, threads)

    def predict(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (ids,) = whole.run(["mask"], {"image": rgb[None]})
        (logits,) = seen.run([name], {"image": rgb[None]})
        return ids[0], np.moveaxis(logits, axis, -1)[0]

    return predict


def scores_twin(data: bytes) -> tuple[bytes, str, int]:
    """A mask file that gives what its ArgMax sees too, the name of that, and the axis of the classes in it."""
    import onnx
    from onnx import TensorProto, helper

    made = onnx.load_from_string(data)
    last = [node for node in made.graph.node if node.op_type == "ArgMax"][-1]
    made.graph.output.append(helper.make_tensor_value_info(last.input[0], TensorProto.FLOAT, None))
    axis = next((one.i for one in last.attribute if one.name == "axis"), 0)
    return made.SerializeToString(), last.input[0], axis


def write(path: Path, data: bytes, what: dict[str, Any]) -> None:
    """FILE.onnx with its facts in it, and the facts as FILE.json beside it."""
    import onnx

    made = onnx.load_from_string(data)
    made.producer_name, made.producer_version = "kerbside", what["versions"]["kerbside"]
    texts = {NOTE: provenance.to_text(what), LABELS: provenance.labels_text(what["labels"])}
    onnx.helper.set_model_props(made, texts)
    write_whole(path, made.SerializeToString())
    write_whole(path.with_suffix(".json"), provenance.to_text(what).encode())
