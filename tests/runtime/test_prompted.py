"""SAM on a device: two files converted, their gate, and the runtime's way from an image and a prompt to masks."""

import subprocess
import sys
import types
from functools import cache
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

import zoo
from export import Job, exporter, parity, surgery, tflite
from export import prompted_tflite as export_sam
from runtime.errors import UserError
from runtime.prompted import NO_BOX, PADDING, PromptedSegmenter, fit, fitted_size, full_size, scaled
from tests import references
from tests.small import SAM_SIZE, TINY_SAM
from tests.tiny import REPOSITORY
from training.data.spec import Example
from training.engine import prompts
from training.runs.settings import DataSettings
from zoo import prompt_encoder
from zoo.sam import PADDING as ZOO_PADDING
from zoo.sam import PROMPT_DECODER


@cache
def model() -> keras.Model:
    keras.utils.set_random_seed(3)
    return zoo.build("sam", **TINY_SAM)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """The folder of encoder.tflite and decoder.tflite in float32."""
    folder = tmp_path_factory.mktemp("files")
    encoder = export_sam.convert_encoder(model().get_layer("image_encoder"), "fp32")
    decoder = export_sam.convert_decoder(model().get_layer("prompt_decoder"), "fp32")
    (folder / "encoder.tflite").write_bytes(encoder)
    (folder / "decoder.tflite").write_bytes(decoder)
    return folder


def segmenter(folder: Path) -> PromptedSegmenter:
    return PromptedSegmenter(folder / "encoder.tflite", folder / "decoder.tflite")


PROMPTS = (
    {"points": [(20, 30)]},
    {"points": [(20, 30), (60, 10)], "labels": [1, 0]},
    {"box": (10, 5, 70, 40)},
    {"points": [(20, 30)], "box": (10, 5, 70, 40)},
)


def test_the_device_repeats_what_the_zoo_says():
    assert PADDING == pytest.approx(ZOO_PADDING)
    assert NO_BOX == prompt_encoder.NO_BOX


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_files_answer_as_keras_does(files, prompt):
    """By hand for Keras: shrink 50x90 to 27x48, pad, scale the prompt by 48/90 and 27/50, no slot unused."""
    rgb = references.images(50, 90)[0]
    masks, scores = segmenter(files).set_image(rgb).logits(**prompt)
    image = np.tile(np.array([123.675, 116.28, 103.53], np.float32), (1, 32, 48, 1))
    image[0, :27] = cv2.resize(rgb, (48, 27), interpolation=cv2.INTER_AREA)
    points = np.array(prompt.get("points", [(0, 0)]), np.float32) * (48 / 90, 27 / 50)
    labels = prompt.get("labels", [1] * len(points)) if "points" in prompt else [prompt_encoder.UNUSED]
    box = np.array(prompt["box"]) * (48 / 90, 27 / 50, 48 / 90, 27 / 50) if "box" in prompt else NO_BOX
    given = {
        "image": image,
        "points": points[None, None].astype(np.float32),
        "point_labels": np.array(labels, np.int32)[None, None],
        "boxes": np.array(box, np.float32)[None, None],
    }
    expected = {name: np.asarray(value) for name, value in model()(given).items()}
    assert np.abs(masks - expected["masks"][0, 0]).max() < 1e-4 * np.abs(masks).max()
    assert np.abs(scores - expected["iou"][0, 0]).max() < 1e-4
    one, score = segmenter(files).set_image(rgb).logits(**prompt, multimask=False)
    assert np.abs(one - expected["single_mask"][0, 0]).max() < 1e-4 * np.abs(one).max()
    assert np.abs(score - expected["single_iou"][0, 0]).max() < 1e-4


def test_a_image_is_encoded_once_and_masks_have_its_size(files):
    found = segmenter(files).set_image(references.images(51, 90)[0])
    kept = found.embedding
    masks, scores = found.predict(points=[(20, 30)])
    assert masks.shape == (3, 51, 90) and masks.dtype == bool and scores.shape == (3,)
    again, _ = found.predict(box=(10, 5, 70, 40), multimask=False)
    assert again.shape == (1, 51, 90) and found.embedding is kept
    logits, _ = found.logits(points=[(20, 30)])
    np.testing.assert_array_equal(masks[1], full_size(logits[1], (51, 90), SAM_SIZE) > 0)


@pytest.mark.parametrize("size", [(1200, 1800), (1800, 1200), (300, 500), (1024, 1024), (7, 2000)])
def test_fitting_is_that_of_hugging_face(size):
    """Its image processor gives the same size; its masks go back the same way."""
    transformers, torch = references.transformers(), references.torch()
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    assert transformers
    processor = SamImageProcessorPil()
    height, width = fitted_size(size, (1024, 1024))
    theirs = processor._get_preprocess_shape(size, 1024)
    assert (height, width) == tuple(theirs)
    logits = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    mask = torch.from_numpy(logits)[None, None]
    up = torch.nn.functional.interpolate(mask, (1024, 1024), mode="bilinear", align_corners=False)
    back = torch.nn.functional.interpolate(
        up[..., :height, :width], size, mode="bilinear", align_corners=False
    )
    assert np.abs(full_size(logits, size, (1024, 1024)) - back[0, 0].numpy()).max() < 1e-3
    np.testing.assert_allclose(scaled([size[1], size[0]], size, (1024, 1024)), [width, height])
    sample_image = np.full((*size, 3), 9, np.uint8)
    framed = fit(sample_image, (1024, 1024))
    assert (framed[:height, :width] == 9).all()
    rest = np.concatenate([framed[height:].reshape(-1, 3), framed[:, width:].reshape(-1, 3)])
    assert (rest == np.array(PADDING, np.float32)).all()


def examples(count: int = 2) -> list[Example]:
    """Images whose colours tell the class."""
    colours = np.array([(200, 30, 30), (30, 200, 30), (30, 30, 200), (220, 220, 40)])

    def read(index: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(index)
        label = np.kron(rng.integers(0, 4, (3, 4)), np.ones((13, 15))).astype(np.uint8)
        return (colours[label] + rng.integers(-20, 21, (*label.shape, 3))).clip(0, 255).astype(
            np.uint8
        ), label

    return [Example(str(index), lambda index=index: read(index)) for index in range(count)]


def run(folder: Path) -> types.SimpleNamespace:
    """What `training.runs.trained_run.load` gives, as far as this export reads it."""
    weights = folder / "best.weights.h5"
    weights.write_bytes(b"weights")
    data = DataSettings("colours", taxonomy="colours", crop=SAM_SIZE)
    return types.SimpleNamespace(
        folder=folder, name="sam", data=data, sha256=lambda: "ab" * 32, weights_path=weights, model=model
    )


def job(folder: Path, precision: str, **options) -> Job:
    return Job(
        precision=precision, size=SAM_SIZE, output="mask", out=folder / f"x-{precision}.tflite", **options
    )


@pytest.mark.parametrize(
    "precision",
    ["int8", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fp32", "fp16", "dynamic"))],
)
def test_every_precision_makes_two_files_that_pass_the_gate(tmp_path, precision, capsys):
    # Random weights lose nothing by 8 bits that means anything: what is tested is the way, and what is in the files.
    leave = None if precision == "fp32" else 100.0
    written = exporter("tflite", "prompted")(
        run(tmp_path),
        job(tmp_path, precision, allow_loss=leave, calibration_images=2),
        lambda split: examples(),
    )
    assert written == tmp_path / f"x-{precision}-encoder.tflite"
    assert "mIoU points lost" in capsys.readouterr().out
    found = PromptedSegmenter(written, tmp_path / f"x-{precision}-decoder.tflite")
    assert found.size == SAM_SIZE and found.slots == 8
    masks, _ = found.set_image(examples()[0].read()[0]).predict(points=[(5, 5)])
    assert masks.shape == (3, 39, 60)
    for part in ("encoder", "decoder"):
        graph = surgery.read((tmp_path / f"x-{precision}-{part}.tflite").read_bytes())
        tflite.check(surgery.write(graph))
        ranks = [len(tensor.shape) for tensor in graph.subgraphs[0].tensors if tensor.shape is not None]
        # only what the decoder gives, (1, 1, M, h, w), has five axes
        assert max(ranks) == {"encoder": 4, "decoder": 5}[part]
    size = [(tmp_path / f"x-{precision}-{part}.tflite").stat().st_size for part in ("encoder", "decoder")]
    assert sum(size) < 300_000


def test_a_file_that_answers_otherwise_is_not_written(files, tmp_path, monkeypatch):
    real = export_sam.convert_decoder

    def spoilt(decoder, precision):
        other = zoo.build("sam", **TINY_SAM).get_layer(PROMPT_DECODER)  # other random weights
        return real(other, precision)

    encoder = (files / "encoder.tflite").read_bytes()
    monkeypatch.setattr(export_sam, "convert_encoder", lambda *arguments: encoder)
    monkeypatch.setattr(export_sam, "convert_decoder", spoilt)
    with pytest.raises(UserError, match="x-fp32.tflite is not written, it is not as good as the run"):
        export_sam.export(run(tmp_path), job(tmp_path, "fp32"), lambda split: examples())
    assert not list(tmp_path.glob("*.tflite"))
    with pytest.raises(UserError, match="cannot be exported as saved_model: choose --format tflite"):
        exporter("saved_model", "prompted")


def test_the_gate_counts_the_mask_that_is_expected_to_be_best():
    rgb, label = examples(1)[0].read()
    asked = prompts.fixed(label, 0)
    assert asked == [] or all(prompt.region.shape == label.shape for prompt in asked)
    perfect = [np.where(prompt.region == 1, 5.0, -5.0).astype(np.float32) for prompt in asked]

    def answers(best: int, value: float):
        return lambda rgb, asked: [
            (
                np.stack([mask if index == best else -5 + 0 * mask for index in range(3)]) * value,
                np.eye(3)[best],
            )
            for mask in perfect
        ]

    found = export_sam.measure(answers(1, 1.0), answers(2, 1.0), examples(1), None, label.shape)
    assert found.keras["miou"] == found.file["miou"] == 1.0 and found.loss == 0.0
    assert found.largest_difference == 10.0 and 0.5 < found.agreement < 1.0
    wrong = export_sam.measure(answers(1, 1.0), answers(1, -1.0), examples(1), None, label.shape)
    assert wrong.file["miou"] == 0.0 and wrong.agreement == 0.0 and parity.failures(wrong, "int8")


def test_what_cannot_be_asked_is_one_sentence(files, tmp_path):
    found = segmenter(files)
    with pytest.raises(UserError, match="no image is set"):
        found.predict(points=[(1, 1)])
    found.set_image(references.images(20, 30)[0])
    for prompt, words in (
        ({}, "there is neither"),
        ({"points": [(1, 1)], "labels": [1, 0]}, "as many labels"),
        ({"points": [(1, 1)], "labels": [2]}, "each 1 or 0"),
        ({"points": [(1, 1)] * 9}, "up to 8 points"),
        ({"box": (5, 5, 1, 9)}, "x1 <= x2"),
        ({"box": (5, 5, 9)}, "x1, y1, x2, y2"),
    ):
        with pytest.raises(UserError, match=words):
            found.predict(**prompt)
    with pytest.raises(UserError, match="uint8 RGB"):
        found.set_image(np.zeros((4, 4), np.uint8))
    with pytest.raises(UserError, match="is not the encoder of a prompted segmenter"):
        PromptedSegmenter(files / "decoder.tflite", files / "encoder.tflite")
    with pytest.raises(UserError, match="does not exist"):
        PromptedSegmenter(files / "encoder.tflite", tmp_path / "none.tflite")


def command(files: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runtime.prompted", str(files / "encoder.tflite"), str(files / "decoder.tflite"),
         *arguments],
        capture_output=True, text=True, cwd=REPOSITORY, timeout=300,
    )  # fmt: skip


def test_the_command_writes_masks_and_needs_no_tensorflow(files, tmp_path):
    cv2.imwrite(str(tmp_path / "street.png"), references.images(40, 60)[0])
    sample_image = str(tmp_path / "street.png")
    done = command(
        files, sample_image, "--point", "20,30", "--not", "50,10", "--out", str(tmp_path / "masks")
    )
    assert done.returncode == 0 and "3 masks" in done.stdout, done.stderr
    mask = cv2.imread(str(tmp_path / "masks/street_mask0.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (40, 60) and set(np.unique(mask)) <= {0, 255}
    assert (tmp_path / "masks/street_overlay2.png").exists() and (tmp_path / "masks/street.json").exists()
    done = command(files, sample_image, "--point", "20;30", "--out", str(tmp_path / "masks"))
    assert (
        done.returncode == 2 and "'20;30' is not 2 numbers" in done.stderr and "Traceback" not in done.stderr
    )
    code = "import sys, runtime.prompted; print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout.strip() == "[]", done.stderr
