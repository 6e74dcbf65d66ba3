"""Coarser masks: against TensorFlow's own resize of what the network decides, and through the command's gate."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from export import Job, mask_stride, run_tflite, tflite
from export.__main__ import main
from runtime.errors import UserError
from runtime.image import resize_ids
from runtime.segmenter import Segmenter
from tests.exported import colour_examples, colour_model, colour_run
from tests.small import SMALL

SIZE = (40, 56)
PADDED = 32  # 64x64 within


def images(count: int) -> list[np.ndarray]:
    """Coarse blocks of any colour: the network decides at stride 32."""
    blocks = np.random.default_rng(0).integers(0, 256, (count, 5, 7, 3), np.uint8)
    return list(blocks.repeat(8, axis=1).repeat(8, axis=2))


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    options = {**SMALL["deeplabv3"], "auxiliary": False, "size_divisor": PADDED}
    made = zoo.build("deeplabv3", classes=5, image_size=SIZE, **options)
    last = made.get_layer("classifier")
    decided = keras.Model(made.input, last.output)(np.stack(images(4)).astype(np.float32), training=False)
    kernel, bias = last.get_weights()
    last.set_weights([kernel, bias - np.mean(decided, (0, 1, 2))])  # so that no class wins everywhere
    return made


@pytest.mark.parametrize("stride", [2, 4])
def test_it_is_tensorflow_s_resize_to_that_size(model: keras.Model, stride: int):
    file = mask_stride.coarser(tflite.convert(model, SIZE, "fp32", "mask"), stride)
    decided = keras.Model(model.input, model.get_layer("classifier").output)
    height, width = SIZE[0] // stride, SIZE[1] // stride
    for rgb in images(3):
        scores = tf.image.resize(decided(rgb[None].astype(np.float32), training=False), (64 // stride,) * 2)
        expected = np.argmax(scores, -1)[0, :height, :width]
        found = run_tflite.runner(file)(rgb)
        assert found.shape == (height, width) and found.dtype == np.uint8
        assert (found == expected).mean() > 0.995  # ties of float32
        assert len(np.unique(expected)) > 1


def test_an_int8_file_is_nearly_what_it_is_at_full_size(model: keras.Model):
    whole = tflite.convert(model, SIZE, "int8", "mask", images(4))
    half = tflite.predictor(mask_stride.coarser(whole, 2), "mask")
    full = tflite.predictor(whole, "mask")
    for rgb in images(3):
        ids, scores = mask_stride.brought_back(half, SIZE)(rgb)
        assert ids.shape == SIZE and scores.shape[:2] == SIZE
        assert (ids == full(rgb)[0]).mean() > 0.8
        np.testing.assert_array_equal(ids, resize_ids(half(rgb)[0], SIZE))


def test_a_size_that_it_does_not_divide_and_a_network_without_a_resize(model: keras.Model):
    odd = zoo.build("lraspp", classes=5, image_size=(38, 56), **SMALL["lraspp"])
    with pytest.raises(
        UserError, match="--mask-stride 4 does not divide 38x56: choose a --size that it divides"
    ):
        mask_stride.coarser(tflite.convert(odd, (38, 56), "fp32", "mask"), 4)
    with pytest.raises(UserError, match="does not end in a resize"):
        image = keras.Input((32, 48, 3))
        straight = keras.Model(image, {"logits": keras.layers.Conv2D(3, 1)(image)})
        mask_stride.coarser(tflite.convert(straight, (32, 48), "fp32", "mask"), 2)


def test_the_file_says_it_and_the_runtime_gives_the_whole_size(tmp_path, monkeypatch):
    size = (32, 48)
    run = colour_run(tmp_path / "run", size)

    def with_a_resize(image_size):
        inner = colour_model((16, 24))
        image = keras.Input((*size, 3))
        small = keras.layers.AveragePooling2D(2)(image)
        scores = keras.layers.UpSampling2D(2, interpolation="bilinear")(inner(small)["logits"])
        return keras.Model(image, {"logits": scores})

    monkeypatch.setattr(run, "model", lambda image_size: with_a_resize(image_size))
    out = tmp_path / "half.tflite"
    job = Job(precision="fp32", size=size, output="mask", out=out, mask_stride=2)
    tflite.export(run, job, lambda split: colour_examples(size, 4, 8))
    segmenter = Segmenter(out)
    example, label = colour_examples(size, 1, 8)[0].read()
    assert segmenter.invoke(segmenter.prepare(example)).shape == (16, 24)
    ids = segmenter.segment(example).ids
    assert ids.shape == size and (ids == label)[1:].mean() > 0.95
    assert '"mask_stride": 2' in out.with_suffix(".json").read_text(encoding="utf-8")


@pytest.mark.parametrize("more", [["--output", "scores"], ["--format", "saved_model"]])
def test_it_is_of_masks_alone(tmp_path, more, monkeypatch):
    import training.runs.trained_run as trained_run

    run = colour_run(tmp_path / "run", (32, 48))
    monkeypatch.setattr(trained_run, "load", lambda path: run)
    monkeypatch.setattr("export.__main__._with_data", lambda found, args: found)
    monkeypatch.setattr("export.examples.examples_of", lambda found, folder: None)
    with pytest.raises(UserError, match="--mask-stride 2 is of --format tflite --output mask"):
        main([str(run.folder), "--size", "32x48", "--mask-stride", "2", *more])
