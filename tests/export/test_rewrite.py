"""The rewrites of int8 mask files: the same ids, from other ops."""

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from export import rewrite, run_tflite, surgery, tflite
from export.audit import audit
from tests.exported import colour_examples, colour_model

SIZE = (33, 48)


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *SIZE, 3), np.uint8)


def unwritten(monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setattr(rewrite, "faster", lambda flatbuffer, target="xnnpack": flatbuffer)
    images = tflite.calibration_images(colour_examples(SIZE, 4), 4, SIZE)
    return tflite.convert(colour_model(SIZE), SIZE, "int8", "mask", images)


def test_the_ids_are_those_of_the_converters_own_file(monkeypatch):
    before = unwritten(monkeypatch)
    monkeypatch.undo()
    after = rewrite.faster(before)
    assert before != after
    for rgb in [*noise(4), *(example.read()[0] for example in colour_examples(SIZE, 4))]:
        np.testing.assert_array_equal(run_tflite.runner(after)(rgb), run_tflite.runner(before)(rgb))


def test_equal_scores_are_the_first_classs(monkeypatch):
    """All classes of one filter and one bias: a copy that won would be an id above the classes."""
    model = surgery.read(unwritten(monkeypatch))
    names, graph = surgery.op_names(model), model.subgraphs[0]
    last = max(place for place, name in enumerate(names) if name == "CONV_2D")
    for number in graph.operators[last].inputs[1:]:
        tensor = graph.tensors[int(number)]
        values = np.asarray(model.buffers[tensor.buffer].data).reshape(tensor.shape[0], -1)
        tensor.buffer = surgery.append_buffer(model, np.repeat(values[:1], len(values), axis=0).tobytes())
        tensor.quantization.scale = np.repeat(tensor.quantization.scale[:1], len(values))
    file = rewrite.faster(surgery.write(model))
    assert not run_tflite.runner(file)(noise(1)[0]).any()


def test_the_image_goes_through_float_and_the_scores_are_sixteen_wide(monkeypatch):
    model = surgery.read(rewrite.faster(unwritten(monkeypatch)))
    names, graph = surgery.op_names(model), model.subgraphs[0]
    assert names[:2] == ["DEQUANTIZE", "QUANTIZE"]
    argmax = graph.operators[names.index("ARG_MAX")]
    assert list(graph.tensors[int(argmax.inputs[0])].shape) == [1, *SIZE, 16]
    assert graph.tensors[int(graph.operators[0].inputs[0])].quantization.scale[0] == 1


def test_a_file_of_another_kind_is_left_as_it_is(monkeypatch):
    """Float scores have neither the uint8 QUANTIZE nor an ARG_MAX; sixteen classes need no copies."""
    scores = tflite.convert(colour_model(SIZE), SIZE, "fp32", "scores")
    assert surgery.op_names(surgery.read(rewrite.faster(scores))) == surgery.op_names(surgery.read(scores))
    twice = surgery.read(rewrite.faster(rewrite.faster(unwritten(monkeypatch))))
    assert surgery.op_names(twice)[:3] == ["DEQUANTIZE", "QUANTIZE", "CONV_2D"]


def test_scores_that_something_else_reads_are_left_as_they_are(monkeypatch):
    model = surgery.read(unwritten(monkeypatch))
    names, graph = surgery.op_names(model), model.subgraphs[0]
    last = max(place for place, name in enumerate(names) if name == "CONV_2D")
    scores = int(graph.operators[last].outputs[0])
    shape = list(graph.tensors[scores].shape)
    copied = surgery.append_tensor(model, graph.tensors[scores])
    surgery.insert_op(model, last + 1, "DEQUANTIZE", [scores], [copied], schema.DequantizeOptionsT())
    rewrite.widen_argmax(model)
    assert list(graph.tensors[scores].shape) == shape


@pytest.mark.parametrize(("cut", "widened"), [("rows", True), ("classes", False)])
def test_scores_that_are_cut_are_widened_unless_some_of_them_are_cut_off(cut, widened):
    """A U-Net of 45 rows has 64 until its logits are cut; a slice that takes so many scores would lose the copies."""
    image = keras.Input((*SIZE, 3), name="image")
    inner = colour_model(SIZE)
    logits = inner(image)["logits"]
    logits = logits[:, :30] if cut == "rows" else logits[..., :3]
    model = keras.Model(image, {"logits": logits})
    images = tflite.calibration_images(colour_examples(SIZE, 4), 4, SIZE)
    file = tflite.convert(model, SIZE, "int8", "mask", images)
    graph = surgery.read(file)
    names = surgery.op_names(graph)
    argmax = graph.subgraphs[0].operators[names.index("ARG_MAX")]
    assert "STRIDED_SLICE" in names
    assert graph.subgraphs[0].tensors[int(argmax.inputs[0])].shape[-1] == (16 if widened else 3)
    for rgb in images:
        expected = np.asarray(model(rgb[None])["logits"])[0].argmax(-1)
        assert (run_tflite.runner(file)(rgb) == expected).mean() > 0.99


def two_uses(capped: bool) -> keras.Model:
    """A map that is added to as it is, and read through a ReLU as well: the converter cannot fuse that."""
    keras.utils.set_random_seed(0)
    image = keras.Input((*SIZE, 3), name="image")
    x = keras.layers.Conv2D(8, 3, padding="same")(image / 64.0 - 2.0)
    branch = keras.layers.Conv2D(8, 1)(keras.layers.ReLU(6.0 if capped else None)(x))
    return keras.Model(image, {"logits": keras.layers.Conv2D(4, 1)(x + branch)})


def own_kernels(file: bytes, rgb: np.ndarray) -> np.ndarray:
    """What LiteRT's own kernels say, which the file's arithmetic is defined by: XNNPACK rounds otherwise."""
    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    litert = Interpreter(model_content=file, experimental_op_resolver_type=kernels)
    litert.allocate_tensors()
    litert.set_tensor(litert.get_input_details()[0]["index"], rgb[None])
    litert.invoke()
    return litert.get_tensor(litert.get_output_details()[0]["index"])[0]


@pytest.mark.parametrize("capped", [False, True])
def test_a_relu_alone_becomes_a_quantize_that_says_the_very_same(monkeypatch, capped):
    with monkeypatch.context() as patch:
        patch.setattr(rewrite, "faster", lambda flatbuffer, target="xnnpack": flatbuffer)
        before = tflite.convert(two_uses(capped), SIZE, "int8", "scores", list(noise(4)))
    kind = "RELU6" if capped else "RELU"
    assert surgery.op_names(surgery.read(before)).count(kind) == 1
    model = surgery.read(before)
    rewrite.relu_by_quantize(model)
    after = surgery.write(model)
    assert not {"RELU", "RELU6"} & set(surgery.op_names(surgery.read(after)))
    assert audit(after).partitions < audit(before).partitions
    for rgb in noise(4):
        np.testing.assert_array_equal(own_kernels(after, rgb), own_kernels(before, rgb))


def test_a_relu_whose_zero_is_not_the_least_value_stays(monkeypatch):
    """There a QUANTIZE would let values below 0 through."""
    monkeypatch.setattr(rewrite, "faster", lambda flatbuffer, target="xnnpack": flatbuffer)
    model = surgery.read(tflite.convert(two_uses(False), SIZE, "int8", "scores", list(noise(4))))
    names, graph = surgery.op_names(model), model.subgraphs[0]
    behind = graph.tensors[int(graph.operators[names.index("RELU")].outputs[0])]
    behind.quantization.zeroPoint = np.array([-100], np.int64)
    rewrite.relu_by_quantize(model)
    assert "RELU" in surgery.op_names(model)
