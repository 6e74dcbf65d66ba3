"""Attention models in every precision: built-in ops, how far from the model, and what `mixed` leaves in float."""

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import zoo
from export import DEFAULT_PRECISION, PRECISIONS, parity, run_tflite, surgery, tflite
from tests.exported import colour_examples
from tests.small import SMALL

SIZE = (64, 96)
# Convolutions and other layers with weights, and whether `mixed` has them in int8.
INT8 = ("CONV_2D", "DEPTHWISE_CONV_2D", "GELU")
FLOAT = ("MEAN", "RSQRT", "SOFTMAX", "BATCH_MATMUL", "SUB", "MUL", "ADD")
# Pixels of a random model whose class may change, at most: the mean distance of int8 is some 3% of the range.
CORRELATION = {"fp32": 0.999999, "fp16": 0.99999, "dynamic": 0.999, "mixed": 0.999, "int8": 0.99}


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(6)
    model = zoo.build("segformer", classes=4, image_size=SIZE, **SMALL["segformer"])
    rng = np.random.default_rng(6)
    for variable in model.weights:  # biases and norms that do something; queries and keys that choose
        if not variable.path.endswith("kernel"):
            variable.assign(variable + rng.uniform(0.0, 0.4, variable.shape))
        elif "query" in variable.path or "key" in variable.path:
            variable.assign(30 * variable)
    return model


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return tflite.calibration_images(colour_examples(SIZE, 6), 6, SIZE)


@pytest.fixture(scope="module")
def files(model, images) -> dict[str, bytes]:
    """`convert` refuses ops that are not built in, and shapes that are not static."""
    return {name: tflite.convert(model, SIZE, name, "scores", images) for name in PRECISIONS}


def kinds(flatbuffer: bytes) -> dict[str, set[int]]:
    """Of each op, the types of what it puts out."""
    file = surgery.read(flatbuffer)
    graph, found = file.subgraphs[0], {}
    for name, op in zip(surgery.op_names(file), graph.operators, strict=True):
        found.setdefault(name, set()).add(graph.tensors[op.outputs[0]].type)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_precision_follows_the_model(model, files, images, precision):
    run = run_tflite.runner(files[precision])
    for image in images[1:3]:
        expected = np.asarray(model(image[None])["logits"])[0].ravel()
        found = np.corrcoef(expected, run(image).ravel())[0, 1]
        assert found >= CORRELATION[precision]


@pytest.mark.slow
def test_gelu_is_one_op_in_its_exact_form(files):
    for precision in PRECISIONS:
        file = surgery.read(files[precision])
        gelus = [
            op.builtinOptions.approximate
            for name, op in zip(surgery.op_names(file), file.subgraphs[0].operators, strict=True)
            if name == "GELU"
        ]
        assert gelus == [False] * 4  # one a block


@pytest.mark.slow
def test_attention_is_of_rank_4_at_most(files):
    for tensor in surgery.read(files["fp32"]).subgraphs[0].tensors:
        assert tensor.shape is None or len(tensor.shape) <= 4, tensor.name


@pytest.mark.slow
def test_mixed_has_its_convolutions_in_int8_and_the_rest_in_float(files):
    found = kinds(files["mixed"])
    for name in INT8:
        assert found[name] == {schema.TensorType.INT8}, name
    for name in FLOAT:
        assert found[name] == {schema.TensorType.FLOAT32}, name


@pytest.mark.slow
def test_int8_is_int8_throughout(files):
    """The image comes in by way of float32 (export/rewrite.py) and the scores go out so: nothing within does."""
    names = surgery.op_names(surgery.read(files["int8"]))
    assert names[:2] == ["DEQUANTIZE", "QUANTIZE"] and names[-1] == "DEQUANTIZE"
    assert not {"QUANTIZE", "DEQUANTIZE"} & set(names[2:-1])


@pytest.mark.slow
def test_mixed_is_nearer_to_the_model_than_int8(model, files, images):
    expected = np.asarray(model(images[1][None])["logits"])[0]
    distance = {
        name: np.abs(run_tflite.runner(files[name])(images[1]) - expected).mean() for name in PRECISIONS
    }
    assert distance["mixed"] < distance["int8"]


def test_the_tables_speak_of_the_same_precisions_and_models():
    assert set(parity.BOUNDS) == set(PRECISIONS)
    assert set(DEFAULT_PRECISION) <= set(zoo.MODELS)
    assert set(DEFAULT_PRECISION.values()) <= set(PRECISIONS)
