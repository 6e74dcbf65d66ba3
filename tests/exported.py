"""What the tests of export share: a model whose answer is known, its images, and a way to spoil a file."""

import types
from pathlib import Path
from typing import Any

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from keras import layers

import export
from export import Job, surgery
from training.data.spec import DatasetSpec, Example
from training.runs.settings import DataSettings

COLOURS = ((128, 64, 128), (70, 130, 180), (107, 142, 35), (220, 20, 60))
NAMES = ("road", "sky", "vegetation", "person")


def colour_spec() -> DatasetSpec:
    return DatasetSpec("colours", NAMES, COLOURS, ("train", "val"), (33, 48))


def colour_model(size: tuple[int, int]) -> keras.Model:
    """Each pixel's class is the nearest of COLOURS: argmin |x - c|^2 is argmax (2 c.x - |c|^2).

    Around that stand the layers of a segmenter (normalisation, depthwise, BN, ReLU6, resize), all identities.
    """
    image = keras.Input((*size, 3), name="image")
    x = image / 127.5 - 1.0
    x = layers.Conv2D(6, 1, use_bias=False, name="plus_and_minus")(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="centre")(x)
    x = layers.BatchNormalization(epsilon=0.0, name="norm")(x)
    x = layers.ReLU(6.0)(x)
    logits = layers.Conv2D(len(COLOURS), 1, name="classifier")(x)
    logits = layers.UpSampling2D(1, interpolation="bilinear")(logits)
    model = keras.Model(image, {"logits": logits})
    # ReLU6 keeps x as max(x, 0) and max(-x, 0).
    signs = np.concatenate([np.eye(3), -np.eye(3)], axis=1)
    model.get_layer("plus_and_minus").set_weights([signs[None, None]])
    centre = np.zeros((3, 3, 6, 1))
    centre[1, 1] = 1
    model.get_layer("centre").set_weights([centre])
    colours = np.array(COLOURS) / 127.5 - 1
    weights = 2 * np.concatenate([colours, -colours], axis=1).T
    model.get_layer("classifier").set_weights([weights[None, None], -(colours**2).sum(axis=1)])
    return model


def colour_examples(size: tuple[int, int], count: int, block: int = 8) -> list[Example]:
    """Blocks of COLOURS, `block` pixels a side, with some noise, labelled by their colour; the first row is void."""

    def read(index: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(index)
        small = rng.integers(0, len(COLOURS), (-(-size[0] // block), -(-size[1] // block)))
        ids = np.kron(small, np.ones((block, block), int))[: size[0], : size[1]]
        rgb = np.array(COLOURS)[ids] + rng.integers(-9, 10, (*size, 3))
        label = ids.astype(np.uint8)
        label[0] = 255
        return rgb.clip(0, 255).astype(np.uint8), label

    return [Example(f"{index:03d}", lambda index=index: read(index)) for index in range(count)]


def colour_run(folder: Path, size: tuple[int, int]) -> types.SimpleNamespace:
    """What `training.runs.trained_run.load` gives, as far as export reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "best.weights.h5"
    model = colour_model(size)
    model.save_weights(weights)
    return types.SimpleNamespace(
        folder=folder,
        label=folder.name,
        name="colour",
        data=DataSettings("colours", taxonomy="colours"),
        quantized=False,
        source=None,
        learnt_from=({"what": "Colours", "how": "data", "terms": "ours", "read": ""},),
        sha256=lambda: "ab" * 32,
        spec=colour_spec(),
        weights_path=weights,
        labelled=True,
        model=lambda image_size=None: colour_model(image_size or size),
    )


def exported(
    run: Any, folder: Path, size: tuple[int, int], examples: export.Examples, **options: Any
) -> dict[tuple[str, str], Path]:
    """(precision, output) -> a file of the run, through the gate; fp32 and int8, scores and mask."""
    made = {}
    for precision in ("fp32", "int8"):
        for output in export.OUTPUTS:
            out = folder / f"{precision}-{output}.tflite"
            job = Job(precision=precision, size=size, output=output, out=out, **options)
            made[precision, output] = export.exporter("tflite")(run, job, examples)
    return made


def colour_files(folder: Path, size: tuple[int, int]) -> dict[tuple[str, str], Path]:
    """(precision, output) -> a file of the colour model."""
    run = colour_run(folder / "colour", size)
    return exported(run, folder, size, lambda split: colour_examples(size, 4), calibration_images=4)


def perturb(flatbuffer: bytes) -> bytes:
    """One wrong tensor: the filters of two classes in the last convolution, of whatever type, change places."""
    model = surgery.read(flatbuffer)
    graph = model.subgraphs[0]
    named = zip(surgery.op_names(model), graph.operators, strict=True)
    last = [op for name, op in named if name == "CONV_2D"][-1]
    tensor = graph.tensors[last.inputs[1]]
    for op in graph.operators:  # fp16: the filter comes out of a DEQUANTIZE
        if last.inputs[1] in op.outputs:
            tensor = graph.tensors[op.inputs[0]]
    kinds = {
        schema.TensorType.FLOAT32: np.float32,
        schema.TensorType.FLOAT16: np.float16,
        schema.TensorType.INT8: np.int8,
    }
    buffer = model.buffers[tensor.buffer]
    values = np.frombuffer(bytes(buffer.data), kinds[tensor.type]).reshape(tensor.shape).copy()
    values[[1, 2]] = values[
        [2, 1]
    ]  # two classes change their filters, but not the first, which may have copies
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    return surgery.write(model)
