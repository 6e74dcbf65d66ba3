"""Every row of EXPORTERS, every precision and output; the file's contents; what the command refuses."""

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

import export
from export import EXPORTERS, OUTPUTS, PRECISIONS, Job, provenance, surgery, tflite
from export.__main__ import main
from runtime.bundle import read_bundle
from runtime.errors import UserError, exit_on_user_error
from tests.exported import COLOURS, NAMES, colour_examples, colour_model, colour_run, perturb
from training.runs.converted_weights import recipe_fields
from training.runs.trained_run import load
from zoo.convert import model_config
from zoo.convert.files import h5_writer

SIZE = (33, 48)
TFLITE = [(precision, output) for precision in PRECISIONS for output in OUTPUTS]


def examples(split: str):
    return colour_examples(SIZE, {"train": 6, "val": 4}[split])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return colour_run(tmp_path_factory.mktemp("runs") / "colour", SIZE)


@pytest.fixture(scope="module")
def files(run):
    """(precision, output) -> the exported file, through the gate."""
    made = {}
    for precision, output in TFLITE:
        out = run.folder / "export" / f"{precision}-{output}.tflite"
        job = Job(precision=precision, size=SIZE, output=output, out=out, calibration_images=4)
        made[precision, output] = export.exporter("tflite")(run, job, examples)
    return made


def segment(path: Path, rgb: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], rgb[None])
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_every_exporter_can_be_called():
    for name in EXPORTERS:
        assert callable(export.exporter(name))


@pytest.mark.parametrize(("precision", "output"), TFLITE)
def test_each_file_says_what_is_in_the_image(files, precision, output):
    rgb, label = examples("val")[1].read()
    result = segment(files[precision, output], rgb)
    if output == "mask":
        assert result.shape == (1, *SIZE) and result.dtype == np.uint8
        ids = result[0]
    else:
        assert result.shape == (1, *SIZE, len(NAMES)) and result.dtype == np.float32
        ids = result[0].argmax(-1)
    assert (ids == label)[1:].mean() > 0.999


@pytest.mark.parametrize(("precision", "output"), TFLITE)
def test_input_is_static_uint8_rgb_and_ops_are_built_in(files, precision, output):
    interpreter = Interpreter(model_path=str(files[precision, output]))
    (image,) = interpreter.get_input_details()
    assert image["dtype"] == np.uint8
    assert list(image["shape_signature"]) == [1, *SIZE, 3]
    if precision == "int8":
        assert image["quantization"] == (1.0, 0)
    names = surgery.op_names(surgery.read(flatbuffer_of(files[precision, output])))
    assert "CUSTOM" not in names
    if precision == "int8":
        # From uint8 to int8 by float (see rewrite.py), nothing else in float; the class ids need no way back.
        assert names[:2] == ["DEQUANTIZE", "QUANTIZE"] and names.count("QUANTIZE") == 1
        assert names.count("DEQUANTIZE") == 1 + (output == "scores")
    assert names.count("ARG_MAX") == (output == "mask")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_mask_is_the_argmax_of_the_scores(files, precision):
    rgb = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), np.uint8)
    mask, scores = (segment(files[precision, output], rgb) for output in OUTPUTS)
    np.testing.assert_array_equal(mask, scores.argmax(-1))


def test_a_smaller_precision_makes_a_smaller_weight(files):
    size = {precision: weight_bytes(files[precision, "scores"]) for precision in PRECISIONS}
    assert size["fp16"] == size["fp32"] / 2
    assert size["int8"] == size["fp32"] / 4


def weight_bytes(path: Path) -> int:
    """Of the depthwise filter, 3x3x6 numbers."""
    model = surgery.read(flatbuffer_of(path))
    (tensor,) = [
        tensor
        for tensor in model.subgraphs[0].tensors
        if list(tensor.shape) == [1, 3, 3, 6] and model.buffers[tensor.buffer].data is not None
    ]
    return len(model.buffers[tensor.buffer].data)


def flatbuffer_of(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        facts = json.loads(archive.read("kerbside.json"))
    return path.read_bytes()[: facts["flatbuffer_bytes"]]


def test_facts_travel_inside_the_file(files, run):
    path = files["int8", "mask"]
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        facts = json.loads(archive.read("kerbside.json"))
        assert archive.read("labels.txt").decode().split() == list(NAMES)
    assert facts["format"] == 1
    assert facts["labels"] == list(NAMES)
    assert facts["palette"] == [list(colour) for colour in COLOURS]
    assert (facts["ignore_id"], facts["output"], facts["size"]) == (255, "mask", [33, 48])
    assert (facts["model"], facts["data"], facts["taxonomy"]) == ("colour", "colours", "colours")
    assert (facts["precision"], facts["recipe_sha256"]) == ("int8", "ab" * 32)
    assert facts["learnt_from"] == [{"what": "Colours", "how": "data", "terms": "ours", "read": ""}]
    assert facts["weights_sha256"] == hashlib.sha256(run.weights_path.read_bytes()).hexdigest()
    assert set(facts["versions"]) == {"tensorflow", "keras", "ai_edge_litert", "kerbside"}
    assert facts["scores"]["miou"] > 0.99 and facts["scores"]["images"] == 4
    assert facts["parity"]["miou_points_lost"] <= 0.5 and facts["parity"]["allow_loss"] is None
    assert facts["parity"]["corrupted"]["severity"] == 2
    data = path.read_bytes()
    assert hashlib.sha256(data[: facts["flatbuffer_bytes"]]).hexdigest() == facts["flatbuffer_sha256"]
    assert json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["parity"] == facts["parity"]


def test_the_runtime_reads_what_was_written(files):
    found = read_bundle(files["fp32", "scores"])
    assert found is not None
    assert found.labels == NAMES and found.palette == COLOURS and found.output == "scores"


def test_tensorflow_loads_the_file_too(files):
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_path=str(files["int8", "mask"]))
    interpreter.allocate_tensors()
    assert interpreter.get_output_details()[0]["dtype"] == np.uint8


def test_the_bundle_is_deterministic_and_strict_json():
    what = {"labels": ["a", "b"], "scores": {"miou": float("nan")}}
    one = provenance.append(b"flatbuffer", what)
    assert one == provenance.append(b"flatbuffer", what)
    assert one.startswith(b"flatbuffer")
    assert json.loads(provenance.to_text(what))["scores"]["miou"] is None


def test_a_saved_model_gives_both_outputs_and_its_facts(run):
    import tensorflow as tf

    out = run.folder / "export" / "served"
    job = Job(precision="fp32", size=SIZE, output="mask", out=out)
    for _ in range(2):  # the second replaces the first
        assert export.exporter("saved_model")(run, job, examples) == out
    served = tf.saved_model.load(str(out)).signatures["serving_default"]
    pairs = [example.read() for example in examples("val")]
    result = served(image=tf.constant(np.stack([rgb for rgb, _ in pairs])))
    labels = np.stack([label for _, label in pairs])
    assert result["mask"].dtype == tf.uint8 and result["scores"].dtype == tf.float32
    assert (result["mask"].numpy() == labels)[:, 1:].mean() > 0.999
    np.testing.assert_array_equal(result["mask"], result["scores"].numpy().argmax(-1))
    facts = json.loads((out / "kerbside.json").read_text(encoding="utf-8"))
    graph = (out / "saved_model.pb").read_bytes()
    assert facts["labels"] == list(NAMES)
    assert facts["saved_model_sha256"] == hashlib.sha256(graph).hexdigest()
    assert sorted(path.name for path in out.parent.iterdir() if path.name.startswith(".")) == []


def test_a_file_that_fails_the_gate_never_gets_its_name(run, tmp_path, monkeypatch):
    convert = tflite.convert
    monkeypatch.setattr(tflite, "convert", lambda *args: perturb(convert(*args)))
    out = tmp_path / "x.tflite"
    out.write_bytes(b"the last good export")
    job = Job(precision="int8", size=SIZE, output="mask", out=out, calibration_images=2)
    with pytest.raises(UserError, match=r"x\.tflite is not written.*mIoU falls from"):
        tflite.export(run, job, examples)
    assert out.read_bytes() == b"the last good export"
    assert list(tmp_path.iterdir()) == [out]


def test_flex_custom_and_dynamic_shapes_are_refused():
    good = tflite.convert(colour_model(SIZE), SIZE, "fp32", "scores")
    model = surgery.read(good)
    model.operatorCodes[0].builtinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes[0].customCode = b"FlexErf"
    with pytest.raises(ValueError, match="FlexErf"):
        tflite.check(surgery.write(model))
    model = surgery.read(good)
    model.subgraphs[0].tensors[0].shapeSignature = [-1, 33, 48, 3]
    with pytest.raises(ValueError, match="not static"):
        tflite.check(surgery.write(model))


def test_calibration_images_are_clean():
    images = tflite.calibration_images(examples("train"), 3, SIZE)
    clean = [example.read()[0] for example in examples("train")]
    assert len(images) == 3
    np.testing.assert_array_equal(images[0], clean[0])
    np.testing.assert_array_equal(images[1], clean[2])


def test_a_file_calibrated_on_dark_images_sees_each_value_as_it_is():
    dark = [example.read()[0] // 4 for example in examples("train")[:2]]
    before = dark[0].copy()
    file = Interpreter(model_content=tflite.convert(colour_model(SIZE), SIZE, "int8", "mask", dark))
    assert file.get_input_details()[0]["quantization"] == (1.0, 0)
    np.testing.assert_array_equal(dark[0], before)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--format", "coreml"], "tflite"),
        (["--precision", "int4"], "dynamic"),
        (["--output", "boxes"], "scores"),
        (["--size", "big"], "HEIGHTxWIDTH"),
        (["--size", "16x480"], "32"),
        (["--size", "64x96", "16x480"], "16x480"),
        (["--size", "64x96", "96x64", "--out", "x.tflite"], "--size asks for 2"),
        (["--parity-images", "0"], "1 or more"),
        (["--allow-loss", "-1"], "0 to 100"),
        (["--format", "saved_model", "--precision", "int8"], "fp32"),
        (["--format", "weights", "--precision", "int8"], "fp32 or fp16"),
        (["--format", "weights", "--output", "mask"], "leave --output out"),
        (["--format", "weights", "--size", "64x96"], "leave --size out"),
        (["--format", "onnx", "--precision", "mixed"], "fp32 or int8"),
        (["--format", "saved_model", "--output", "mask"], "leave --output out"),
    ],
)
def test_a_bad_value_is_one_sentence_and_exit_code_2(arguments, told, capsys):
    assert exit_on_user_error(main, ["runs/none", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and told in lines[0]


def test_a_run_without_weights_or_a_folder_that_is_none(tmp_path, capsys):
    assert exit_on_user_error(main, [str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert exit_on_user_error(main, [str(tmp_path)]) == 2
    assert "recipe.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    ["export", "export.add_confidence", "export.quantization_report", "training.train", "training.evaluate"],
)
def test_help_is_quick_because_tensorflow_is_not_imported(command):
    code = (
        f"import sys, runpy; sys.argv = ['{command}', '--help']\n"
        f"try: runpy.run_module('{command}', run_name='__main__')\nexcept SystemExit: pass\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if command == "export":
        assert all(word in done.stdout for word in (*PRECISIONS, *OUTPUTS, *EXPORTERS))


@pytest.fixture(scope="module")
def real_run(tmp_path_factory) -> Path:
    """A run folder as training leaves it: DeepLabV3+ on drawn scenes, random weights."""
    from training.runs.recipe import Recipe
    from training.runs.trained_run import build_model

    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    options = {"aspp_filters": 8, "decoder_filters": 8, "low_level_filters": 8, "rates": (1, 2)}
    recipe = Recipe.of(
        model="deeplabv3plus",
        data="scenes",
        data_options={"size": (64, 96), "train_count": 6, "val_count": 3},
        backbone="mobilenet_v2",
        model_options=options,
    )
    (folder / "recipe.json").write_text(recipe.to_json(), encoding="utf-8")
    build_model(recipe, 19).save_weights(folder / "best.weights.h5")
    return folder


def test_float_files_have_nothing_to_keep_in_float(real_run):
    with pytest.raises(UserError, match="--keep-float is of semantic models in mixed and int8, not of fp32"):
        main([str(real_run), "--precision", "fp32", "--keep-float", "centre"])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_weights_build_their_own_model(real_run, precision, capsys):
    """Rounding to float16 moves a weight by 2**-11 of itself at most, and by 2**-25 where it is tiny."""
    assert main([str(real_run), "--format", "weights", "--precision", precision]) == 0
    out = real_run / "export" / f"tiny-{precision}.weights.h5"
    shown = capsys.readouterr().out
    assert f"{out}  " in shown and f"--init {out}" in shown
    run = load(real_run)
    ours, theirs = run.model().weights, model_config.rebuild(out).weights
    for one, other in zip(ours, theirs, strict=True):
        whole, kept = one.numpy(), other.numpy()
        slack = 0.0 if precision == "fp32" else np.abs(whole) / 2**11 + 2.0**-25
        assert (np.abs(whole - kept) <= slack).all(), one.path
    share = out.stat().st_size / run.weights_path.stat().st_size
    assert share < 1.1 if precision == "fp32" else share < 0.7
    assert tuple(model_config.read(out)["classes"]) == run.spec.classes
    fields = recipe_fields(out, "deeplabv3plus")
    assert fields == {
        "backbone": "mobilenet_v2",
        "output_stride": 16,
        "model_options": model_config.tuples(run.recipe.model.options),
    }
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []


def test_weights_that_are_not_as_good_are_not_written(real_run, tmp_path, monkeypatch):
    def spoilt(whole: io.BytesIO) -> bytes:
        model = load(real_run).model()
        model.get_layer("classifier").set_weights(
            [0 * value for value in model.get_layer("classifier").get_weights()]
        )
        return h5_writer.weights_bytes(model)

    monkeypatch.setattr(h5_writer, "_halved", spoilt)
    out = tmp_path / "x.weights.h5"
    with pytest.raises(UserError, match=r"x\.weights\.h5 is not written.*of pixels agree"):
        main([str(real_run), "--format", "weights", "--precision", "fp16", "--out", str(out)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "precision", "output"),
    [("tflite", precision, output) for precision, output in TFLITE] + [("saved_model", "fp32", None)],
)
def test_the_whole_command_on_a_real_run(real_run, capsys, kind, precision, output):
    arguments = [str(real_run), "--format", kind, "--precision", precision]
    arguments += ["--output", output] if output else []
    arguments += [] if precision == "fp32" else ["--allow-loss", "100"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    name = f"tiny-{precision}-{output}-64x96.tflite" if kind == "tflite" else "tiny-saved_model-64x96"
    out = real_run / "export" / name
    assert out.exists() and str(out) in shown
    assert "mIoU points lost" in shown
    if kind == "tflite":
        found = read_bundle(out)
        assert found is not None and len(found.labels) == 19 and found.size == (64, 96)
        assert found.facts["data"] == "scenes" and found.facts["parity"]["images"] == 3


@pytest.mark.slow
def test_several_sizes_are_a_file_each(real_run, capsys):
    sizes = ["--size", "64x96", "33x65", "64x96"]  # one of them twice
    assert main([str(real_run), "--precision", "fp32", *sizes]) == 0
    shown = capsys.readouterr().out
    for size in ((64, 96), (33, 65)):
        path = real_run / "export" / f"tiny-fp32-mask-{size[0]}x{size[1]}.tflite"
        found = read_bundle(path)
        assert found is not None and found.size == size and shown.count(f"{path}  ") == 1
