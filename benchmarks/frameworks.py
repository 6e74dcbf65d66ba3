"""Milliseconds from an image to its class ids: our files beside what one would use instead, on the same network.

    python -m benchmarks.frameworks              # the peers are in requirements-parity.txt

The network is segmentation_models_pytorch's DeepLabV3+ on MobileNetV2 (19 classes, random weights), in its own layout:
ours is zoo.convert's of it, so all have the same layers. Each contender lives in a process of its own with two threads,
and they take turns, one image a turn: from uint8 (512, 512, 3) to class ids of that size, medians and their ratio.
ONNX Runtime runs what PyTorch exports, in float and quantised by its own tool (QDQ, 8 bits, weights per channel,
calibrated on the same images); its argmax is inside the file, as in ours.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.turns import Step, print_table, race, serve
from benchmarks.zoo_rows import SMP_PLUS
from runtime.errors import exit_on_user_error

MODULE = "benchmarks.frameworks"
TASK = "DeepLabV3+ MobileNetV2, 512x512, 19 classes"
SIZE, CLASSES, THREADS, CALIBRATION = (512, 512), 19, 2, 8
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main(argv: list[str] | None = None) -> int:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.frameworks", description=(__doc__ or "").splitlines()[0]
    )
    command.add_argument("--rounds", type=int, default=30, help="images timed of each (default 30)")
    command.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = command.parse_args(argv)
    if options.worker:
        serve(CONTENDERS[options.worker[1]]())
        return 0
    print_table(TASK, race(MODULE, TASK, list(CONTENDERS), options.rounds), PEERS)
    return 0


@cache
def images() -> list[np.ndarray]:
    """Drawn streets, uint8 (512, 512, 3)."""
    from training.data import scenes

    return [scenes.draw(0, index, SIZE).image for index in range(CALIBRATION)]


def model() -> Any:
    """The network in Keras."""
    import tensorflow as tf

    import zoo

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    return zoo.build(
        "deeplabv3plus", classes=CLASSES, image_size=SIZE, backbone="mobilenet_v2_torchvision", **SMP_PLUS
    )


def litert(precision: str) -> Step:
    """Our file in our runtime."""
    from export import tflite
    from runtime import Segmenter

    path = Path(tempfile.mkdtemp()) / "model.tflite"
    path.write_bytes(tflite.convert(model(), SIZE, precision, "mask", images()))
    segmenter = Segmenter(path, threads=THREADS)
    return lambda: segmenter.segment(images()[0])


def keras_predict() -> Step:
    built = model()
    return lambda: built.predict(images()[0][None], verbose=0)["logits"].argmax(-1)


def saved_model() -> Step:
    """The class ids of an exported SavedModel, its argmax inside."""
    import tensorflow as tf

    from export.tflite import serve, write_saved_model

    folder, built = tempfile.mkdtemp(), model()
    signature = [tf.TensorSpec((1, *SIZE, 3), tf.uint8, name="image")]
    write_saved_model(folder, built, serve(built, "mask"), signature)
    loaded = tf.saved_model.load(folder)
    return lambda: loaded.serve(tf.constant(images()[0][None])).numpy()


def onnx_file(folder: Path) -> Path:
    """PyTorch's export of SMP's network: float32 (1, 3, H, W), normalised, to int64 class ids (1, H, W)."""
    import torch

    from tests.references import segmentation_models_pytorch

    class Ids(torch.nn.Module):
        def __init__(self, network: Any) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: Any) -> Any:
            return self.network(image).argmax(1)

    network = segmentation_models_pytorch().DeepLabV3Plus(
        "mobilenet_v2", encoder_weights=None, classes=CLASSES
    )
    path = folder / "float.onnx"
    image = torch.zeros(1, 3, *SIZE)
    torch.onnx.export(
        Ids(network.eval()).eval(), (image,), str(path), input_names=["image"], opset_version=17, dynamo=False
    )
    return path


def prepared(rgb: np.ndarray) -> np.ndarray:
    normal = (rgb / np.float32(255) - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None], dtype=np.float32)


def onnx_runtime(quantised: bool) -> Step:
    import pytest

    runtime = pytest.importorskip("onnxruntime")
    folder = Path(tempfile.mkdtemp())
    path = onnx_file(folder)
    if quantised:
        from onnxruntime import quantization

        class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.rest = iter([{"image": prepared(rgb)} for rgb in images()])

            def get_next(self) -> Any:
                return next(self.rest, None)

        ready, eight = folder / "ready.onnx", folder / "int8.onnx"
        quantization.shape_inference.quant_pre_process(str(path), str(ready))
        quantization.quantize_static(
            str(ready), str(eight), Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
        )  # fmt: skip
        path = eight
    options = runtime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"image": prepared(images()[0])})


CONTENDERS: dict[str, Callable[[], Step]] = {
    "Kerbside int8": lambda: litert("int8"),
    "Kerbside fp32": lambda: litert("fp32"),
    "ONNX Runtime int8": lambda: onnx_runtime(True),
    "ONNX Runtime float": lambda: onnx_runtime(False),
    "Keras predict": keras_predict,
    "TensorFlow SavedModel": saved_model,
}
PEERS = {
    "ONNX Runtime int8": ["Kerbside int8"],
    "ONNX Runtime float": ["Kerbside fp32", "Kerbside int8"],
    "Keras predict": ["Kerbside fp32"],
    "TensorFlow SavedModel": ["Kerbside fp32"],
}


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
