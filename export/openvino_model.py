"""FILE.xml and FILE.bin from a run, for OpenVINO: uint8 RGB in, class ids or scores out.

The way there is Keras -> SavedModel -> `openvino.convert_model`, which reads it without TensorFlow's help. fp16 keeps
each weight as float16. int8 is NNCF's post-training quantisation, on the images that a `.tflite` is calibrated on: a
scale per channel of the weights, 7 bits for processors without VNNI (export/onnx_model.py says why), ranges by the
least and the largest value, and its fast bias correction.

The facts of a `.tflite` stand in `rt_info` below `kerbside`, the labels below `model_info` too, where OpenVINO's
Model API looks for them, and all of it as FILE.json beside the files.
"""

import importlib.metadata
import logging
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export import Examples, Job, parity, provenance, tflite
from runtime.bundle import LABELS, NOTE
from runtime.files import write_together
from runtime.openvino_file import RT_INFO, compiled, library
from training.runs.trained_model import TrainedModel

MAKERS = ("openvino", "nncf")


def export(run: TrainedModel, job: Job, examples: Examples) -> Path:
    """Convert, pass the gate, and only then write the files under their final names; that of the .xml is returned."""
    model = run.model(image_size=job.size)
    images = None
    if job.precision == "int8" and model.trainable_variables:  # a threshold has nothing to quantise
        images = tflite.calibration_images(examples("train"), job.calibration_images, job.size)
    print(
        f"converting to OpenVINO {job.precision}, {job.output}, {job.size[0]}x{job.size[1]} ...", flush=True
    )
    graph = convert(model, job.size, job.output, images, half=job.precision == "fp16")
    record = parity.pass_through(run, model, predictor(graph, job.output, job.threads), job, examples)
    what = provenance.facts(run, precision=job.precision, output=job.output, size=job.size, parity=record)
    what["calibration_images"] = 0 if images is None else len(images)
    what["opset"] = opsets(graph)
    what["versions"] |= {name: importlib.metadata.version(name) for name in MAKERS[: 2 if images else 1]}
    print("  opset                     " + ", ".join(what["opset"]))
    write(job.out, graph, what)
    return job.out


def convert(
    model: Any,
    size: tuple[int, int],
    output: str,
    images: Sequence[np.ndarray] | None = None,
    half: bool = False,
) -> Any:
    """The openvino.Model as it is written, less its facts; `images`, uint8 (H, W, 3), make it int8, `half` fp16."""
    import tensorflow as tf

    openvino = library()
    with tempfile.TemporaryDirectory() as folder:
        saved, file = f"{folder}/saved", f"{folder}/model.xml"
        signature = [tf.TensorSpec((1, *size, 3), tf.uint8, name="image")]
        tflite.write_saved_model(saved, model, tflite.serve(model, output), signature)
        made = openvino.convert_model(saved)
        made.output(0).get_tensor().set_names({output})
        if images:
            made = quantised(made, images)
        openvino.save_model(made, file, compress_to_fp16=half)
        weights = np.frombuffer(Path(file).with_suffix(".bin").read_bytes(), np.uint8)
        return openvino.Core().read_model(Path(file).read_bytes(), openvino.Tensor(weights))


def quantised(made: Any, images: Sequence[np.ndarray]) -> Any:
    """The same network in int8, calibrated on the images."""
    library()  # first: NNCF would report its use as well
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    data = nncf.Dataset([image[None] for image in images])
    advanced = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
    return nncf.quantize(made, data, subset_size=len(images), advanced_parameters=advanced)


def opsets(made: Any) -> dict[str, int]:
    """opset1, ...: how many operations of each set of OpenVINO's a file has."""
    return dict(sorted(Counter(op.get_type_info().version_id for op in made.get_ops()).items()))


def predictor(made: Any, output: str, threads: int = 2) -> parity.Predict:
    """Run a model through OpenVINO: uint8 (H, W, 3) -> its class ids (H, W) and its logits (H, W, C). Those of a mask
    file come from a twin that gives what its argmax (OpenVINO's TopK) sees as well."""
    whole = compiled(made, threads)
    if output == "scores":

        def from_scores(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            logits = whole(rgb[None])[0][0]
            return parity.ids_of(logits), logits

        return from_scores
    twin = made.clone()
    last = [op for op in twin.get_ordered_ops() if op.get_type_name() == "TopK"][-1]
    axis = int(last.get_attributes()["axis"])
    twin.add_outputs([last.input_value(0)])
    seen = compiled(twin, threads)
    return lambda rgb: (whole(rgb[None])[0][0].copy(), np.moveaxis(seen(rgb[None])[1], axis, -1)[0].copy())


def write(path: Path, made: Any, what: dict[str, Any]) -> None:
    """FILE.xml and FILE.bin, all of them or none, and the facts in the one and as FILE.json beside them."""
    text, labels = provenance.to_text(what), what["labels"]
    made.set_rt_info(text, [RT_INFO, NOTE])
    made.set_rt_info(provenance.labels_text(labels), [RT_INFO, LABELS])
    # Model API splits them at spaces.
    made.set_rt_info(" ".join(label.replace(" ", "_") for label in labels), ["model_info", "labels"])
    made.set_rt_info("segmentation", ["model_info", "model_type"])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.xml"
        library().save_model(made, str(file), compress_to_fp16=False)  # fp16 is that already
        graph, weights = file.read_bytes(), file.with_suffix(".bin").read_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_together({path.with_suffix(".bin"): weights, path: graph, path.with_suffix(".json"): text.encode()})
