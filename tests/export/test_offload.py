"""Which operations stay off an accelerator: of what ships, of a fresh file for Ethos-U, of others."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import zoo
from export import TARGETS, offload, rewrite, run_tflite, surgery, tflite
from export.__main__ import main as export_main
from runtime.bundle import read_model, read_note
from runtime.errors import UserError, exit_on_user_error
from tests import tiny_tflite as tiny
from tests.exported import colour_examples
from tests.small import SMALL
from tests.tiny import REPOSITORY

SIZE = (32, 48)
SHIPPED = sorted(REPOSITORY.glob("models/*.tflite"))
VELA = pytest.mark.skipif(
    importlib.util.find_spec("ethosu") is None, reason="needs pip install -r requirements-extras.txt"
)


def kinds(left: list[offload.Left]) -> list[str]:
    return sorted(one.operation for one in left)


@pytest.mark.parametrize(
    "path", [path for path in SHIPPED if path.name.endswith("int8.tflite")], ids=lambda path: path.stem
)
def test_what_ships_leaves_off_xnnpack_only_the_operations_that_it_has_not(path: Path) -> None:
    """It has neither ARG_MAX nor CAST, nor a STRIDED_SLICE of steps of four, the second output of a file that tells how
    sure it is; nothing else is left."""
    coarse = ["STRIDED_SLICE"] if "confidence" in read_note(path) else []
    assert kinds(offload.xnnpack(path)) == ["ARG_MAX", "CAST", *coarse]


def test_of_a_u_net_its_nearest_resizes_stay_off_xnnpack_too(tmp_path: Path) -> None:
    model = zoo.build("unet", classes=4, image_size=SIZE, **SMALL["unet"])
    images = [example.read()[0] for example in colour_examples(SIZE, 4)]
    path = tmp_path / "unet.tflite"
    path.write_bytes(tflite.convert(model, SIZE, "int8", "mask", images))
    assert kinds(offload.xnnpack(path)) == ["ARG_MAX", "CAST", *5 * ["RESIZE_NEAREST_NEIGHBOR"]]


def test_the_tables_are_those_that_were_published() -> None:
    """As read on 2026-11-30, in the sources that offload.py names."""
    assert len(offload.GPU) == 78 and len(offload.EDGETPU) == 40
    assert {"MEAN", "GELU", "STRIDED_SLICE"} <= offload.GPU and "ARG_MAX" not in offload.GPU | offload.EDGETPU
    built_in = {name for name in vars(schema.BuiltinOperator) if not name.startswith("_")}
    assert built_in >= offload.GPU | offload.EDGETPU


@pytest.fixture(scope="module")
def upscaled() -> dict[str, bytes]:
    """Target -> an int8 mask file whose scores are resized by 4, as a decoder's are, from the same network."""
    import keras
    from keras import layers

    image = keras.Input((*SIZE, 3), name="image")
    x = layers.Conv2D(8, 3, strides=4, padding="same", activation="relu", name="stem")(image / 255.0)
    x = layers.UpSampling2D(4, interpolation="bilinear")(layers.Conv2D(4, 1, name="classifier")(x))
    model = keras.Model(image, {"logits": x})
    images = [example.read()[0] for example in colour_examples(SIZE, 4)]
    return {
        target: tflite.convert(model, SIZE, "int8", "mask", images, True, (), target)
        for target in ("xnnpack", "ethos-u65")
    }


@VELA
def test_a_fresh_file_for_ethos_leaves_nothing_over(upscaled, tmp_path: Path) -> None:
    for target, left in (
        ("xnnpack", ["CAST", "DEQUANTIZE", "QUANTIZE", "RESIZE_BILINEAR"]),
        ("ethos-u65", []),
    ):
        path = tmp_path / f"{target}.tflite"
        path.write_bytes(upscaled[target])
        assert kinds(offload.JUDGES["ethos-u65"](path)) == left, target


def test_the_rewrite_for_ethos_is_nearly_the_same_function(upscaled) -> None:
    model = surgery.read(upscaled["ethos-u65"])
    names, graph = surgery.op_names(model), model.subgraphs[0]
    assert names.count("RESIZE_BILINEAR") == 2 and names[-1] == "ARG_MAX" and names[0] == "QUANTIZE"
    sides = [
        list(graph.tensors[int(op.outputs[0])].shape[1:3])
        for name, op in zip(names, graph.operators, strict=True)
        if name == "RESIZE_BILINEAR"
    ]
    assert sides == [[16, 24], [32, 48]]
    rgb = colour_examples(SIZE, 6)[5].read()[0]
    ours, theirs = (run_tflite.runner(upscaled[target])(rgb) for target in ("ethos-u65", "xnnpack"))
    assert ours.dtype == np.int32 and theirs.dtype == np.uint8
    assert (ours == theirs).mean() > 0.9


def test_a_constant_map_is_resized_by_twos_without_a_change(upscaled) -> None:
    black = np.zeros((*SIZE, 3), np.uint8)
    ours, theirs = (run_tflite.runner(upscaled[target])(black) for target in ("ethos-u65", "xnnpack"))
    assert (ours[8:-8, 8:-8] == theirs[8:-8, 8:-8]).all()


def test_other_targets_are_as_the_converter_writes() -> None:
    """gpu and edgetpu: no rewrite."""
    assert set(rewrite.REWRITES) <= set(TARGETS) == set(offload.JUDGES)
    assert "gpu" not in rewrite.REWRITES and "edgetpu" not in rewrite.REWRITES


def test_float_files_and_masks_on_the_edge_tpu(tmp_path: Path) -> None:
    path = tmp_path / "scores.tflite"
    path.write_bytes(tiny.scores_model())
    assert {one.why for one in offload.edgetpu(path) if one.operation == "MUL"} == {
        "FLOAT32: the Edge TPU computes in 8 bits"
    }
    left = offload.edgetpu(SHIPPED[0])
    assert {"ARG_MAX", "CAST"} <= set(kinds(left)) and "CONV_2D" not in kinds(left)


def left(tmp_path: Path, judge: Any, function: Any, shape: tuple[int, ...] = (1, 4, 4, 3)) -> dict[str, str]:
    """Kind -> reason, of a float file of one small function."""
    path = tmp_path / "small.tflite"
    path.write_bytes(tiny.convert(function, shape, "float32"))
    return {one.operation: one.why for one in judge(path)}


def test_what_the_gpu_delegate_s_check_refuses(tmp_path: Path) -> None:
    """An operation that it has not, a CAST to uint8, an axis dropped; a mean and a cumulative sum it takes."""
    import tensorflow as tf

    assert left(tmp_path, offload.gpu, lambda x: tf.cumsum(tf.reduce_mean(x, 2), axis=1)) == {}
    assert list(left(tmp_path, offload.gpu, tf.math.ceil)) == ["CEIL"]
    said = left(tmp_path, offload.gpu, lambda x: tf.cast(tf.argmax(x, -1, tf.int32), tf.uint8))
    assert list(said) == ["ARG_MAX", "CAST"] and said["CAST"].startswith("from INT32 to UINT8")
    assert left(tmp_path, offload.gpu, lambda x: tf.cast(tf.cast(x, tf.int32), tf.float32)) == {}
    assert "dropped axis" in left(tmp_path, offload.gpu, lambda x: x[:, 0] * 2.0)["STRIDED_SLICE"]
    assert left(tmp_path, offload.gpu, lambda x: x[:, ::2] * 2.0) == {}


def test_what_coral_s_table_says_of_options() -> None:
    """The coarse scores of a shipped file are a STRIDED_SLICE by four, which the Edge TPU has not."""
    path = REPOSITORY / "models" / "deeplabv3plus_mobilenet_edgetpu_camvid_int8.tflite"
    slices = [one.why for one in offload.edgetpu(path) if one.operation == "STRIDED_SLICE"]
    assert slices == ["strides other than 1"]
    assert surgery.op_names(surgery.read(read_model(path))).count("STRIDED_SLICE") == 2
    assert kinds(offload.gpu(path)) == ["ARG_MAX", "CAST"]


def test_the_command_and_its_sentences(tmp_path: Path, capsys) -> None:
    assert offload.main([str(SHIPPED[0]), "--target", "xnnpack"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].endswith("operations stay off it") and " on xnnpack: " in shown[0]
    left = {tuple(line.split()[:2]) for line in shown[1:]}
    assert left >= {("ARG_MAX", "1"), ("CAST", "1")} and len(left) <= 3
    assert offload.main([str(SHIPPED[0]), "--target", "edgetpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["target"] == "edgetpu"
    for words, told in (
        ([str(SHIPPED[0]), "--target", "npu"], "ethos-u65"),
        ([str(tmp_path / "none.tflite")], "does not exist; name a .tflite file"),
        ([__file__], "is not a TFLite model"),
    ):
        assert exit_on_user_error(offload.main, words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--target", "ethos-u65", "--precision", "fp32"], "computes in 8 bits and takes no fp32"),
        (["--target", "gpu", "--format", "saved_model"], "is of a semantic model's .tflite"),
    ],
)
def test_a_target_that_a_file_cannot_have(words, told, capsys) -> None:
    weights = REPOSITORY / "models" / "deeplabv3plus_mobilenet_edgetpu_camvid.weights.h5"
    arguments = [str(weights), "--images", str(REPOSITORY / "examples"), "--size", "32x48", *words]
    assert exit_on_user_error(export_main, arguments) == 2
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_without_vela_ethos_is_one_sentence(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"^--target ethos-u55 needs ethos-u-vela, .*pip install '\.\[ethos\]'"
    ):
        offload.JUDGES["ethos-u55"](SHIPPED[0])
