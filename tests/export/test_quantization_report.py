"""The error report of an int8 file: which layer it blames, what it says of norms and scales, what it refuses."""

import json

import keras
import numpy as np
import pytest

from export import equalise, quantization_report, surgery, tflite
from runtime.errors import UserError
from tests.exported import colour_examples, colour_model

SIZE = (16, 24)


def images(count: int = 3) -> list[np.ndarray]:
    found = [example.read()[0] for example in colour_examples(SIZE, count)]
    found[0][0, 0], found[0][0, 1] = 0, 255
    return found


def spoilt_model() -> keras.Model:
    """colour_model with a hidden layer that puts a channel of 300 times the range beside the six that matter; what
    reads it gives that channel no weight, so that in float nothing changes."""
    inner = colour_model(SIZE)
    x = inner.get_layer("norm").output
    wide = np.zeros((1, 1, 6, 7))
    wide[0, 0, :, :6], wide[0, 0, 0, 6] = np.eye(6), 300
    x = keras.layers.ReLU(6.0)(x)
    x = keras.layers.Conv2D(7, 1, use_bias=False, name="outlier")(x)
    x = keras.layers.ReLU(name="after")(x)
    model = keras.Model(inner.input, {"logits": keras.layers.Conv2D(4, 1, name="read")(x)})
    model.get_layer("outlier").set_weights([wide])
    kernel, bias = inner.get_layer("classifier").get_weights()
    model.get_layer("read").set_weights([np.concatenate([kernel, np.zeros((1, 1, 1, 4))], axis=2), bias])
    return model


@pytest.fixture(scope="module")
def report() -> quantization_report.Report:
    """Of files whose biases and channels are as the converter makes them."""
    model, seen = spoilt_model(), images()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equalise, "equalised", lambda calibrated, images, threads=2: calibrated)
        files = [
            tflite.convert(model, SIZE, name, "scores", seen, correct=False) for name in ("fp32", "int8")
        ]
    return quantization_report.measure(*files, seen, ["norm"])


def test_the_layer_with_the_outlier_is_the_worst(report):
    assert "after" in report.layers[0].name or "outlier" in report.layers[0].name
    assert report.layers[0].alone > 5 * report.layers[1].alone
    # 256 steps from 0 to the one channel's largest value, which is 300 times the largest of the others: 1.
    assert report.layers[0].high == pytest.approx(300, rel=0.02)
    assert report.layers[0].scale == pytest.approx(report.layers[0].high / 255, rel=0.01)


def test_the_errors_are_those_that_numpy_finds(report):
    """Alone, the outlier's tensor is rounded by one scale and all before it is exact. There, the first layer's -1..1
    has its zero between two of 256 steps, so that every value of the file is half a step off."""
    x = np.stack(images()) / 127.5 - 1.0
    six = np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], axis=-1)
    hidden = np.concatenate([six, 300 * six[..., :1]], axis=-1)
    worst, *others = report.layers
    assert worst.scale == pytest.approx(hidden.max() / 255, rel=0.01)
    rounded = np.round(hidden / worst.scale) * worst.scale
    kernel, bias = spoilt_model().get_layer("read").get_weights()
    logits, changed = (values @ kernel[0, 0] + bias for values in (hidden, rounded))
    assert worst.alone == pytest.approx(np.sqrt(np.mean((changed - logits) ** 2)) / logits.std(), rel=0.02)
    (first,) = (layer for layer in others if "plus_and_minus" in layer.name)
    assert first.scale == pytest.approx(2 / 255, rel=1e-3)
    assert first.steps == pytest.approx(0.5, rel=0.01)
    assert first.there == pytest.approx(1 / 255 / np.concatenate([x, -x]).std(), rel=0.01)


def test_norms_are_folded_and_weights_have_a_scale_a_channel(report):
    assert (report.norms, report.unfolded, report.per_tensor) == (1, [], [])
    assert {layer.channels for layer in report.layers if layer.scales} == {4, 6, 7}
    assert all(layer.scales in (0, layer.channels) for layer in report.layers)
    said = quantization_report.table(report)
    assert "1 of 1 batch norms are folded" in said and "4 of 4 layers with int8 weights" in said


def test_a_norm_that_nothing_can_fold_is_named():
    image = keras.Input((*SIZE, 3))
    x = keras.layers.MaxPooling2D(2)(image)
    x = keras.layers.BatchNormalization(name="lonely")(x)
    x = keras.layers.ReLU()(x)
    model = keras.Model(image, {"logits": keras.layers.Conv2D(2, 1)(keras.layers.MaxPooling2D(2)(x))})
    file = surgery.read(tflite.convert(model, SIZE, "fp32", "scores"))
    assert quantization_report.unfolded(file, ["lonely", "other"]) == ["lonely"]


@pytest.mark.parametrize("option", ["--images", "--calibration-images"])
def test_no_image_is_refused(option, tmp_path):
    with pytest.raises(UserError, match=option):
        quantization_report.main([str(tmp_path / "none"), option, "0"])


def test_a_run_without_weights_is_refused(tmp_path):
    (tmp_path / "half").mkdir()
    from training.runs.recipe import Recipe

    recipe = Recipe.of(model="deeplabv3plus", data="scenes", backbone="mobilenet_v2")
    (tmp_path / "half" / "recipe.json").write_text(recipe.to_json(), encoding="utf-8")
    with pytest.raises(UserError, match="best.weights.h5.*not there yet"):
        quantization_report.main([str(tmp_path / "half")])


def test_json_holds_every_row(report, tmp_path):
    facts = json.loads(json.dumps(quantization_report.facts(report, precision="int8", size=SIZE)))
    assert len(facts["layers"]) == len(report.layers) and facts["size"] == list(SIZE)
