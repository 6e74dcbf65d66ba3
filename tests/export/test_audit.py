"""What is said of a `.tflite`'s operations, of files whose operations are known."""

import json

import numpy as np
import pytest

from benchmarks.device import untrained
from benchmarks.operations import Roofs, cut_after, rows, table
from benchmarks.roofline import kind_of, macs
from export import run_tflite, surgery
from export.audit import audit, main
from runtime.errors import UserError, exit_on_user_error
from tests import tiny_tflite as tiny
from tests.shared import PEERS, needs

PTQ = PEERS / "mlperf_mobile_deeplabv3plus_mnv2_ade32_512_ptq.tflite"


def with_an_argmax() -> bytes:
    """Two convolutions, the class of the largest score, and its number as a byte."""
    import tensorflow as tf

    kernels = [
        tf.constant(np.random.default_rng(seed).normal(size=(3, 3, 3, 3)), tf.float32) for seed in (0, 1)
    ]

    def classes(x):
        for kernel in kernels:
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME"))
        return tf.cast(tf.argmax(x, axis=-1), tf.uint8)

    return tiny.convert(classes, (1, 8, 12, 3), "float32")


def test_what_xnnpack_takes_and_what_it_leaves():
    found = audit(with_an_argmax())
    assert found.operations["CONV_2D"] == 2 and found.partitions == 1 and found.deep == []
    # LiteRT's documentation of XNNPACK names neither ARG_MAX nor CAST to bytes among its operators.
    assert found.left == {"ARG_MAX": 1, "CAST": 1}


def test_tensors_above_rank_4_are_named():
    import tensorflow as tf

    def five_axes(x):
        return tf.reduce_max(tf.reshape(x, (1, 4, 2, 12, 3)), axis=2) * 2.0

    found = audit(tiny.convert(five_axes, (1, 8, 12, 3), "float32"))
    assert len(found.deep) == 1 and found.operations["RESHAPE"] == 1


def test_the_command_says_it_in_lines_and_as_json(tmp_path, capsys):
    path = tmp_path / "two.tflite"
    path.write_bytes(with_an_argmax())
    assert main([str(path)]) == 0
    said = capsys.readouterr().out
    assert "4 operations, 2 of them in 1 XNNPACK partition\n" in said and "used:  CONV_2D 2" in said
    assert "left to LiteRT's own kernels:  ARG_MAX 1, CAST 1" in said and "above rank 4:  none" in said
    assert main([str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[str(path)]["left"] == {"ARG_MAX": 1, "CAST": 1}


@pytest.mark.parametrize(
    ("name", "words"), [("missing", "does not exist"), ("text", "is not a TFLite model")]
)
def test_what_is_no_model_is_said(tmp_path, capsys, name, words):
    (tmp_path / "text").write_text("no model at all", encoding="utf-8")
    assert exit_on_user_error(main, [str(tmp_path / name)]) == 2
    assert words in capsys.readouterr().err


def test_multiply_accumulates_are_counted_as_by_hand():
    model = surgery.read(with_an_argmax())
    assert macs(model) == 2 * 8 * 12 * 3 * 3 * 3 * 3 and kind_of(model) == "float32"


def test_an_operation_stands_beside_what_binds_it():
    """1 GOPS and 1 GB/s: 8x12x3 floats in and out and 3x3x3x3 + 3 weights are 2640 bytes, 15552 operations; ARG_MAX
    reads 1152 bytes and an axis of 4, and writes 96 ids of 8; CAST makes one byte of each."""
    data = with_an_argmax()
    found = rows(data, np.array([0.02, 0.03, 0.01, 0.01]), Roofs({"float32": 1.0}, 1.0))
    first, second, argmax, cast = found
    assert [row.name for row in found] == ["CONV_2D", "CONV_2D", "ARG_MAX", "CAST"]
    assert first.gmacs == pytest.approx(8 * 12 * 81e-9) and first.bound == pytest.approx(2 * 8 * 12 * 81e-6)
    assert first.megabytes == pytest.approx(4 * (2 * 8 * 12 * 3 + 81 + 3) / 1e6) == pytest.approx(0.00264)
    assert first.shape == "8x12x3 by 3x3" and argmax.gmacs == 0
    assert (argmax.bound, cast.bound) == pytest.approx((0.001924, 0.000864))
    said = table("two.tflite", found, Roofs({"float32": 1.0}, 1.0))
    whole = sum(row.bound for row in found)
    assert f"two.tflite: 0.07 ms, at best {whole:.2f} ({whole / 0.07:.0%}); 1 GOPS in float32, 1 GB/s" in said
    assert "| 0.03 | 0.02 | 52% | CONV_2D | 8x12x3 by 3x3 | 0.000 | 0.00 |" in said


def test_a_cut_file_gives_what_the_whole_has_inside():
    data = with_an_argmax()
    names = surgery.op_names(surgery.read(data))
    rgb = np.random.default_rng(2).random((8, 12, 3)).astype(np.float32)
    scores = run_tflite.runner(cut_after(data, names.index("ARG_MAX") - 1))(rgb)
    assert scores.shape == (8, 12, 3) and (scores.argmax(-1) == run_tflite.runner(data)(rgb)).all()


@needs(PTQ)
def test_a_peer_s_operations_are_those_its_authors_publish():
    """MLPerf Mobile's DeepLabV3+ on MobileNetV2, whose table 2 (Sandler et al. 2018) gives ten residual sums."""
    found, model = audit(PTQ.read_bytes()), surgery.read(PTQ.read_bytes())
    assert kind_of(model) == "int8" and found.operations["ADD"] == 10
    assert found.deep == []


@pytest.mark.slow
def test_a_network_made_for_a_benchmark_is_the_recipes_at_mlperfs_task(tmp_path):
    """Of 32 classes, which come last: 80 positions wide at stride 4 from 128 filters, 8 bits."""
    path = untrained("mobilenet_v2", 32, (64, 320), tmp_path)
    model = surgery.read(path.read_bytes())
    assert kind_of(model) == "int8"
    graph = model.subgraphs[0]
    shapes = [[int(side) for side in tensor.shape] for tensor in graph.tensors if tensor.shape is not None]
    assert [32, 1, 1, 128] in shapes and [1, 16, 80, 32] in shapes
    with pytest.raises(UserError, match="--untrained vgg: unknown backbone 'vgg'"):
        untrained("vgg", 32, (64, 64), tmp_path)
    lraspp = surgery.read(untrained("lraspp/mobilenet_edgetpu", 11, (64, 96), tmp_path).read_bytes())
    assert [11, 1, 1, 128] in [[int(side) for side in tensor.shape] for tensor in lraspp.subgraphs[0].tensors]
