"""`.onnx` and OpenVINO's `.xml`: through the gate, with their facts inside, and before the Segmenter."""

import importlib.util
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import export
from evaluation.predictor import open_predictor
from export import Job, parity
from export.__main__ import main
from runtime import Segmenter
from runtime.errors import UserError
from tests.exported import COLOURS, NAMES, colour_examples, colour_model, colour_run, colour_spec

# Not importorskip: openvino is to be imported by our own code alone.
if any(importlib.util.find_spec(name) is None for names in export.PACKAGES.values() for name in names):
    pytest.skip("needs pip install -r requirements-extras.txt", allow_module_level=True)

import onnx  # noqa: E402

from export import onnx_model, openvino_model  # noqa: E402

INT8 = onnx.TensorProto.INT8
SIZE = (33, 48)
SLOW = pytest.mark.slow
FILES = [
    ("onnx", "fp32", "mask"),
    ("onnx", "int8", "mask"),
    ("openvino", "fp32", "mask"),
    pytest.param("onnx", "fp32", "scores", marks=SLOW),
    pytest.param("openvino", "fp32", "scores", marks=SLOW),
    pytest.param("openvino", "fp16", "mask", marks=SLOW),
    pytest.param("openvino", "int8", "mask", marks=SLOW),
]


def examples(split: str):
    return colour_examples(SIZE, {"train": 6, "val": 4}[split])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return colour_run(tmp_path_factory.mktemp("runs") / "colour", SIZE)


@pytest.fixture(scope="module")
def made(run):
    """(format, precision, output) -> the exported file, made when it is first asked for."""
    found: dict[tuple[str, str, str], Path] = {}

    def file(kind: str, precision: str, output: str) -> Path:
        key = kind, precision, output
        if key not in found:
            out = run.folder / f"{precision}-{output}{export.SUFFIXES[kind]}"
            job = Job(precision=precision, size=SIZE, output=output, out=out, calibration_images=4)
            found[key] = export.exporter(kind)(run, job, examples)
        return found[key]

    return file


@pytest.mark.parametrize(("kind", "precision", "output"), FILES)
def test_each_file_says_what_is_in_the_image_and_what_it_is(made, run, kind, precision, output):
    path = made(kind, precision, output)
    segmenter = Segmenter(path)
    rgb, label = examples("val")[1].read()
    assert (segmenter.segment(rgb).ids == label)[1:].mean() > 0.999
    assert segmenter.size == SIZE and segmenter.output == output and segmenter.labels == NAMES
    assert segmenter.palette == COLOURS
    facts = segmenter.bundle.facts
    assert facts == json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert facts["precision"] == precision and facts["parity"]["images"] == 4
    assert facts["calibration_images"] == (4 if precision == "int8" else 0)
    if kind == "onnx":
        whole = onnx.load(path)
        assert facts["opset"] == {"ai.onnx": 17} and [one.version for one in whole.opset_import] == [17]
        stated = {one.key: one.value for one in whole.metadata_props}
        assert stated["labels.txt"].split() == list(NAMES)
        assert {"tf2onnx", "onnx", "onnxruntime"} <= set(facts["versions"])
        assert any(node.op_type == "QuantizeLinear" for node in whole.graph.node) == (precision == "int8")
        eight_bits = [
            onnx.numpy_helper.to_array(one) for one in whole.graph.initializer if one.data_type == INT8
        ]
        assert bool(eight_bits) == (precision == "int8")
        # VPMADDUBSW, on processors without VNNI, adds two products with a uint8 in an int16.
        assert all(2 * 255 * abs(weights.astype(int)).max() < 2**15 for weights in eight_bits)
    else:
        assert set(facts["opset"]) and all(name.startswith("opset") for name in facts["opset"])
        assert path.read_text(encoding="utf-8").count('value="road sky vegetation person"') == 1
    assert not [one for one in path.parent.iterdir() if one.name.startswith(".")]


def test_openvino_reports_to_nobody(made):
    made("openvino", "fp32", "mask")
    assert sys.modules["openvino_telemetry"] is None


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_perturbed_file_does_not_pass(run, tmp_path, monkeypatch, kind):
    module = {"onnx": onnx_model, "openvino": openvino_model}[kind]

    def another(model, *args, **options):
        weights, bias = model.get_layer("classifier").get_weights()
        model.get_layer("classifier").set_weights([weights * 1.01, bias])
        try:
            return convert(model, *args, **options)
        finally:
            model.get_layer("classifier").set_weights([weights, bias])

    convert = module.convert
    monkeypatch.setattr(module, "convert", another)
    out = tmp_path / f"x{export.SUFFIXES[kind]}"
    with pytest.raises(UserError, match=r"is not written.*logits differ"):
        module.export(run, Job(precision="fp32", size=SIZE, output="mask", out=out), examples)
    assert list(tmp_path.iterdir()) == []


def test_a_mask_files_logits_are_kerass(made):
    """The twin gives what the argmax saw, not something of its own."""
    model, (rgb, _) = colour_model(SIZE), examples("val")[0].read()
    whole = onnx.load(made("onnx", "fp32", "mask")).SerializeToString()
    ids, logits = onnx_model.predictor(whole, "mask")(rgb)
    keras_ids, keras_logits = parity.keras_predict(model)(rgb)
    assert logits.shape == (*SIZE, len(colour_spec().classes))
    np.testing.assert_allclose(logits, keras_logits, atol=1e-4)
    np.testing.assert_array_equal(ids, keras_ids)


def test_an_exact_gelu_has_no_erfc() -> None:
    """ONNX has no Erfc, which TensorFlow's optimizer makes of GELU."""
    image = keras.Input((8, 12, 3))
    x = keras.activations.gelu(keras.layers.Conv2D(4, 1)(image / 64.0 - 2.0), approximate=False)
    model = keras.Model(image, {"logits": keras.layers.Conv2D(2, 1)(x)})
    rgb = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    _, logits = onnx_model.predictor(onnx_model.convert(model, (8, 12), "scores"), "scores")(rgb)
    np.testing.assert_allclose(logits, parity.keras_predict(model)(rgb)[1], atol=1e-5)


def test_it_is_evaluated_like_a_tflite(made):
    found = open_predictor(made("onnx", "fp32", "mask"), 2)
    rgb, label = examples("val")[2].read()
    assert (found.predict(rgb) == label)[1:].mean() > 0.999
    assert found.labels == NAMES and found.data == "colours"


@pytest.mark.parametrize(("kind", "missing"), [("onnx", "tf2onnx"), ("openvino", "nncf")])
def test_without_its_extra_a_format_is_one_sentence(monkeypatch, kind, missing):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == missing else there(name, *more)
    )
    with pytest.raises(UserError, match=rf"^--format {kind} needs {missing}, .*pip install '\.\[{kind}\]'"):
        main(["runs/none", "--format", kind])


def test_a_file_without_what_runs_it_is_one_sentence(made, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None)
    with pytest.raises(UserError, match="needs onnxruntime, .*pip install onnxruntime"):
        Segmenter(made("onnx", "fp32", "mask"))


def test_what_is_no_model_is_one_sentence(made, tmp_path):
    with pytest.raises(UserError, match="does not exist; name a .tflite, .onnx or .xml file"):
        Segmenter(tmp_path / "none.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(made("onnx", "fp32", "mask").read_bytes()[:200])
    with pytest.raises(UserError, match=r"broken\.onnx cannot be loaded by ONNX Runtime: "):
        Segmenter(broken)
    alone = tmp_path / "alone.xml"
    alone.write_bytes(made("openvino", "fp32", "mask").read_bytes())
    with pytest.raises(UserError, match=r"alone\.xml needs alone\.bin, its weights, beside it"):
        Segmenter(alone)
    alone.with_suffix(".bin").write_bytes(b"")
    alone.write_text("no xml", encoding="utf-8")
    with pytest.raises(UserError, match=r"alone\.xml cannot be loaded by OpenVINO: "):
        Segmenter(alone)


def test_anothers_onnx_of_channels_first_is_refused(tmp_path):
    from onnx import TensorProto, helper

    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 12]) for name in ("image", "scores")
    ]
    node = helper.make_node("Identity", ["image"], ["scores"])
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    path = tmp_path / "theirs.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(UserError, match=r"takes an input of shape \(1, 3, 8, 12\); a segmenter takes"):
        Segmenter(path)
