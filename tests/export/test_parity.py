"""The gate: its arithmetic by hand, its bounds, and that a perturbed file does not pass it."""

import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest

import zoo
from export import PRECISIONS, bias, parity, savedmodel, surgery, tflite
from runtime.errors import UserError
from tests.exported import colour_examples, colour_model, colour_spec, perturb
from training.data.spec import DatasetSpec, Example

SIZE = (33, 48)


def predict_always(ids: np.ndarray, logits: np.ndarray) -> parity.Predict:
    return lambda rgb: (ids, logits)


def two_class_case(file_ids: np.ndarray, file_logits: np.ndarray) -> parity.Parity:
    """Truth: left half 0, right half 1, one void pixel; Keras is right everywhere."""
    truth = np.repeat(np.array([[0, 0, 1, 1]], np.uint8), 2, axis=0)
    label = truth.copy()
    label[0, 0] = 255
    logits = np.stack([1.0 - truth, truth.astype(np.float64)], axis=-1).astype(np.float32)
    example = Example("one", lambda: (np.zeros((2, 4, 3), np.uint8), label))
    spec = DatasetSpec("two", ("left", "right"), ((0, 0, 0), (1, 1, 1)), ("val",), (2, 4))
    return parity.measure(
        predict_always(truth, logits), predict_always(file_ids, logits + file_logits), [example], spec, (2, 4)
    )


def test_the_arithmetic_of_one_wrong_pixel():
    ids = np.repeat(np.array([[0, 0, 1, 1]], np.uint8), 2, axis=0)
    ids[1, 3] = 0
    shift = np.zeros((2, 4, 2), np.float32)
    shift[1, 3, 0] = -0.25
    found = two_class_case(ids, shift)
    assert found.largest_difference == 0.25
    assert found.largest_logit == 1.0
    assert found.agreement == 7 / 8
    # Of 7 pixels that count: class 0 is 3 of 4 (union), class 1 is 3 of 4.
    assert found.keras["miou"] == 1.0
    assert found.file["miou"] == pytest.approx(0.75)
    assert found.loss == pytest.approx(25.0)


def test_a_void_pixel_counts_for_agreement_but_not_for_miou():
    ids = np.repeat(np.array([[0, 0, 1, 1]], np.uint8), 2, axis=0)
    ids[0, 0] = 1
    found = two_class_case(ids, np.zeros((2, 4, 2), np.float32))
    assert found.agreement == 7 / 8
    assert found.loss == 0.0


def test_void_alone_is_no_measurement():
    ids, logits = np.zeros((2, 4), np.uint8), np.zeros((2, 4, 2), np.float32)
    example = Example("one", lambda: (np.zeros((2, 4, 3), np.uint8), np.full((2, 4), 255, np.uint8)))
    spec = DatasetSpec("two", ("left", "right"), ((0, 0, 0), (1, 1, 1)), ("val",), (2, 4))
    both = predict_always(ids, logits)
    with pytest.raises(UserError, match="two val has no labelled pixel"):
        parity.measure(both, both, [example], spec, (2, 4))


def made(difference: float = 0.0, agreement: float = 1.0, keras_miou: float = 0.7, file_miou: float = 0.7):
    row = {"pixel_accuracy": 0.9, "classes": {}}
    return parity.Parity(
        split="val",
        images=1,
        largest_difference=difference,
        largest_logit=10.0,
        agreement=agreement,
        keras={**row, "miou": keras_miou},
        file={**row, "miou": file_miou},
    )


@pytest.mark.parametrize(
    ("precision", "case", "passes"),
    [
        ("fp32", made(difference=9e-4), True),
        ("fp32", made(difference=1.1e-3), False),
        ("fp32", made(agreement=0.9999), True),
        ("fp32", made(agreement=0.9998), False),
        ("fp32", made(file_miou=0.699), False),
        ("fp16", made(difference=0.5, agreement=0.996), True),
        ("fp16", made(agreement=0.994), False),
        ("dynamic", made(difference=5.0, agreement=0.9, file_miou=0.6951), True),
        ("int8", made(difference=5.0, agreement=0.9, file_miou=0.6951), True),
        ("int8", made(file_miou=0.6949), False),
        ("int8", made(file_miou=0.8), True),
        ("int8", made(file_miou=float("nan")), False),
        ("int8", made(difference=float("nan")), False),
        ("fp32", made(agreement=float("nan")), False),
    ],
)
def test_each_bound(precision, case, passes):
    assert (parity.failures(case, precision) == []) is passes


def test_the_refusal_names_both_numbers_and_the_bound():
    with pytest.raises(UserError) as refused:
        parity.gate(made(file_miou=0.65), "int8", "x.tflite")
    text = str(refused.value)
    assert "x.tflite" in text and "70.00 to 65.00" in text and "5.00 points" in text and "0.5" in text


def test_allow_loss_raises_the_bound_but_never_that_of_fp32():
    lossy = made(difference=2.0, agreement=0.9, file_miou=0.65)
    assert parity.failures(lossy, "int8", allow_loss=6.0) == []
    assert parity.failures(lossy, "int8", allow_loss=4.0) != []
    assert parity.failures(lossy, "fp16", allow_loss=6.0) == []
    assert parity.failures(lossy, "fp32", allow_loss=100.0) != []


def test_the_bound_counts_for_the_worse_of_clean_and_corrupted_images():
    lossy = replace(made(), corrupted=made(keras_miou=0.5, file_miou=0.49))
    with pytest.raises(
        UserError,
        match=r"mIoU on corrupted images falls from 50\.00 to 49\.00, 1\.00 points \(at most 0\.5\)",
    ):
        parity.gate(lossy, "int8", "x.tflite")
    assert parity.failures(lossy, "int8", allow_loss=1.1) == []
    assert parity.failures(lossy, "int8", allow_loss=0.9) != []
    better = replace(made(file_miou=0.69), corrupted=made(keras_miou=0.4, file_miou=0.5))
    assert (
        len(parity.failures(better, "int8")) == 1
        and "from 70.00 to 69.00" in parity.failures(better, "int8")[0]
    )
    assert "corrupted images          50.00 to 49.00, 1.00 lost" in parity.table(lossy)
    record = lossy.to_json()["corrupted"]
    assert record["miou_points_lost"] == pytest.approx(1) and record["severity"] == parity.SEVERITY


def test_each_image_is_corrupted_by_another_corruption_and_its_labels_are_not():
    rgb, label = np.full((40, 50, 3), 120, np.uint8), np.arange(2000, dtype=np.uint16).reshape(40, 50) % 3
    rgb[::2, ::2] = 60
    examples = [Example(str(n), lambda: (rgb.copy(), label.astype(np.uint8))) for n in range(13)]
    seen = [example.read() for example in parity.corrupted(examples)]
    assert all((truth == label).all() for _, truth in seen)
    assert all((found != rgb).any() for found, _ in seen)
    assert (
        len({found.tobytes() for found, _ in seen}) == 13
    )  # the 13th is the first corruption with another chance


def test_no_image_is_refused():
    with pytest.raises(UserError, match="no image"):
        parity.measure(lambda rgb: (rgb, rgb), lambda rgb: (rgb, rgb), [], colour_spec(), SIZE)


def test_spread_takes_from_the_whole_list():
    examples = [Example(str(number), lambda: (np.zeros(0), np.zeros(0))) for number in range(10)]
    assert [example.name for example in parity.spread(examples, 5)] == ["0", "2", "4", "6", "8"]
    assert len(parity.spread(examples, None)) == len(parity.spread(examples, 99)) == 10


def test_progress_counts_every_image():
    told = []
    label = np.zeros((2, 4), np.uint8)
    same = predict_always(label, np.zeros((2, 4, 4), np.float32))
    examples = [Example(str(n), lambda: (np.zeros((2, 4, 3), np.uint8), label)) for n in range(3)]
    parity.measure(same, same, examples, colour_spec(), (2, 4), progress=lambda *step: told.append(step))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_true_file_passes_and_a_perturbed_one_does_not(precision):
    model, examples, spec = colour_model(SIZE), colour_examples(SIZE, 4), colour_spec()
    images = tflite.calibration_images(examples, 4, SIZE)
    file = tflite.convert(model, SIZE, precision, "mask", images)
    reference = parity.keras_predict(model)

    def judged(flatbuffer: bytes) -> list[str]:
        candidate = tflite.predictor(flatbuffer, "mask")
        return parity.failures(parity.measure(reference, candidate, examples, spec, SIZE), precision)

    assert judged(file) == []
    assert judged(perturb(file)) != []


def lively_deeplab(size: tuple[int, int] | None) -> keras.Model:
    """Random weights whose batch norms do something: a wrong training mode or folding would show."""
    keras.utils.set_random_seed(3)
    model = zoo.build(
        "deeplabv3plus",
        classes=5,
        image_size=size,
        backbone="mobilenet_v2",
        aspp_filters=16,
        decoder_filters=16,
        low_level_filters=8,
        aspp_separable=True,
        decoder_separable=True,
        rates=(1, 2),
    )
    rng = np.random.default_rng(3)
    for variable in model.variables:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.7, 1.4, variable.shape))
        elif variable.name in ("beta", "moving_mean"):
            variable.assign(rng.uniform(-0.2, 0.2, variable.shape))
    return model


@pytest.mark.parametrize("size", [pytest.param((64, 96), marks=pytest.mark.slow), (65, 97)])
def test_one_function_five_ways(size: tuple[int, int], tmp_path: Path):
    """m(x), m(x, training=False), predict, SavedModel and LiteRT agree, and inference changes no variable."""
    model = lively_deeplab(size)
    before = [np.array(variable) for variable in model.variables]
    rgb = np.random.default_rng(5).integers(0, 256, (*size, 3), np.uint8)
    batch = rgb[None].astype(np.float32)
    expected = np.array(model(batch, training=False)["logits"])[0]
    assert np.ptp(expected) > 0.1
    savedmodel.write(model, tmp_path / "saved", size)
    ways = {
        "call": np.array(model(batch)["logits"])[0],
        "predict": model.predict(batch, verbose=0)["logits"][0],
        "gate": parity.keras_predict(model)(rgb)[1],
        "saved_model": savedmodel.predictor(tmp_path / "saved")(rgb)[1],
        "litert": tflite.predictor(tflite.convert(model, size, "fp32", "scores"), "scores")(rgb)[1],
    }
    for name, logits in ways.items():
        assert np.abs(logits - expected).max() < 1e-4 * max(1.0, np.abs(expected).max()), name
    for variable, old in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(np.array(variable), old, err_msg=variable.path)


def test_bias_correction_brings_back_a_bias_that_was_shifted():
    """The middle layer's biases are moved by a fifth of a unit; the correction has to find them again."""
    model, images = colour_model(SIZE), [example.read()[0] for example in colour_examples(SIZE, 4)]
    quantised = tflite.convert(model, SIZE, "int8", "scores", images)
    reference = tflite.convert(model, SIZE, "fp32", "scores")
    spoilt_model = surgery.read(quantised)
    graph, names = spoilt_model.subgraphs[0], surgery.op_names(spoilt_model)
    tensor = graph.tensors[graph.operators[names.index("DEPTHWISE_CONV_2D")].inputs[2]]
    buffer = spoilt_model.buffers[tensor.buffer]
    steps = (0.2 / np.asarray(tensor.quantization.scale)).astype(np.int32)
    steps[3:] = 0  # the other three are the same channels with the opposite sign: they would cancel
    buffer.data = (buffer.data.view(np.int32) + steps).view(np.uint8)
    spoilt = surgery.write(spoilt_model)

    def worst(flatbuffer: bytes) -> float:
        file, expected = (tflite.predictor(data, "scores")(images[0])[1] for data in (flatbuffer, reference))
        return float(np.abs((file - expected).mean(axis=(0, 1))).max())

    # One step against a ReLU does not find it exactly; ignoring the ReLU would leave about a half.
    assert worst(spoilt) > 0.1
    assert worst(bias.correct(spoilt, reference, images)) < worst(spoilt) / 4
    assert worst(quantised) < 0.02


def test_bias_correction_leaves_everything_but_biases_alone():
    model, images = colour_model(SIZE), [example.read()[0] for example in colour_examples(SIZE, 2)]
    quantised = tflite.convert(model, SIZE, "int8", "scores", images)
    corrected = bias.correct(quantised, tflite.convert(model, SIZE, "fp32", "scores"), images)
    before, after = surgery.read(quantised), surgery.read(corrected)
    biases = {
        before.subgraphs[0].tensors[op.inputs[2]].buffer
        for op in before.subgraphs[0].operators
        if len(op.inputs) == 3
    }
    for number, (old, new) in enumerate(zip(before.buffers, after.buffers, strict=True)):
        if number not in biases and old.data is not None:
            np.testing.assert_array_equal(old.data, new.data)
    assert len(corrected) == len(quantised)
