"""Sliding windows, scales and flips against the same thing written out in NumPy; and what evaluate makes of them."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from evaluation import inference
from evaluation.inference import Plan, plan
from export import tflite
from runtime.errors import UserError
from runtime.image import resize_rgb
from runtime.segmenter import Segmenter
from tests.small import SMALL
from tests.tiny import TINY_MODEL, assert_refused, environment, run, write_camvid

CLASSES = 5
IMAGE = np.random.default_rng(11).integers(0, 256, (45, 61, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A network whose answer depends on the whole window, with statistics of its own."""
    keras.utils.set_random_seed(8)
    built = zoo.build("deeplabv3plus", classes=CLASSES, **SMALL["deeplabv3plus"])
    rng = np.random.default_rng(8)
    for variable in built.non_trainable_variables:
        if variable.path.endswith("moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    # Logits far enough apart that averaging them, or their probabilities, is not the same thing.
    kernel = built.get_layer("classifier").kernel
    kernel.assign(kernel * 3 / np.std(built(IMAGE[None])["logits"]))
    return built


@pytest.fixture(scope="module")
def logits(model):
    call = tf.function(lambda image: model(image, training=False)["logits"], reduce_retracing=True)
    return lambda rgb: call(tf.constant(rgb[None])).numpy()[0]


def plain_resize(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear between pixel centres, which lie at half positions; beyond the outermost centres nothing changes."""

    def along(length: int, wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        centres = np.clip((np.arange(wanted) + 0.5) * length / wanted - 0.5, 0, length - 1)
        low = np.floor(centres).astype(int)
        return low, np.minimum(low + 1, length - 1), centres - low

    top, bottom, down = along(values.shape[0], height)
    left, right, over = along(values.shape[1], width)
    down, over = down[:, None, None], over[None, :, None]
    upper = values[top][:, left] * (1 - over) + values[top][:, right] * over
    lower = values[bottom][:, left] * (1 - over) + values[bottom][:, right] * over
    return upper * (1 - down) + lower * down


def plain_windows(logits, rgb: np.ndarray, window, stride) -> np.ndarray:
    """Each pixel's mean over a list of windows, the list made by walking until the border is reached."""
    height, width = rgb.shape[:2]
    tops, lefts = [0], [0]
    while tops[-1] + window[0] < height:
        tops.append(tops[-1] + stride[0])
    while lefts[-1] + window[1] < width:
        lefts.append(lefts[-1] + stride[1])
    total, seen = np.zeros((height, width, CLASSES)), np.zeros((height, width, 1))
    for top in tops:
        for left in lefts:
            y = max(0, min(top, height - window[0]))
            x = max(0, min(left, width - window[1]))
            part = rgb[y : y + window[0], x : x + window[1]]
            total[y : y + window[0], x : x + window[1]] += logits(part)
            seen[y : y + window[0], x : x + window[1]] += 1
    assert seen.min() >= 1
    return total / seen


def plain_tta(logits, rgb: np.ndarray, scales, flip: bool, window=None, stride=None) -> np.ndarray:
    height, width = rgb.shape[:2]
    found = []
    for scale in scales:
        size = (int(np.floor(height * scale + 0.5)), int(np.floor(width * scale + 0.5)))
        image = resize_rgb(rgb, size)
        for mirrored in [False, True] if flip else [False]:
            seen = np.flip(image, 1) if mirrored else image
            values = plain_windows(logits, seen, window, stride) if window else logits(seen)
            values = np.flip(values, 1) if mirrored else values
            values = plain_resize(values.astype(np.float64), height, width)
            found.append(np.exp(values) / np.exp(values).sum(-1, keepdims=True))
    return np.mean(found, axis=0)


@pytest.mark.parametrize(
    ("window", "stride"),
    [((33, 47), (20, 31)), ((33, 33), (33, 33)), ((45, 61), (1, 1)), ((40, 99), (7, 50)), ((99, 99), (9, 9))],
)
def test_windows_are_the_plain_mean(logits, window, stride):
    expected = plain_windows(logits, IMAGE, window, stride)
    found = inference.scores(logits, IMAGE, Plan(window=window, stride=stride))
    assert found.dtype == np.float32 and found.shape == (45, 61, CLASSES)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    "how",
    [
        Plan(scales=(0.75, 1.0, 1.25), flip=True),
        Plan(scales=(1.5,)),
        Plan(flip=True),
        Plan(scales=(0.75, 1.3), flip=True, window=(33, 47), stride=(20, 31)),
    ],
)
def test_scales_and_flips_are_the_plain_mean_of_probabilities(logits, how):
    expected = plain_tta(logits, IMAGE, how.scales, how.flip, how.window, how.stride)
    found = inference.scores(logits, IMAGE, how)
    assert found.shape == (45, 61, CLASSES)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert (found.argmax(-1) == expected.argmax(-1)).mean() > 0.999
    # and it is not what the model says of the image alone
    alone = inference.scores(logits, IMAGE, Plan())
    np.testing.assert_array_equal(alone, logits(IMAGE))
    probabilities = np.exp(alone) / np.exp(alone).sum(-1, keepdims=True)
    assert np.abs(found - probabilities).max() > 0.05


def test_the_windows_of_mmsegmentation():
    """Its slide_inference on 1024x2048 with its Cityscapes settings: 769 wide, 513 apart, and what must follow."""
    assert [(s.start, s.stop) for s in inference.spans(1024, 769, 513)] == [(0, 769), (255, 1024)]
    assert [(s.start, s.stop) for s in inference.spans(2048, 769, 513)] == [
        (0, 769),
        (513, 1282),
        (1026, 1795),
        (1279, 2048),
    ]
    assert [(s.start, s.stop) for s in inference.spans(512, 512, 341)] == [(0, 512)]
    assert [(s.start, s.stop) for s in inference.spans(300, 512, 341)] == [(0, 300)]


@pytest.mark.slow
def test_a_file_with_scores_slides_windows_of_its_own_size(model, tmp_path):
    """The .tflite sees windows exactly as the Keras model of free size does."""
    fixed = zoo.build("deeplabv3plus", classes=CLASSES, image_size=(33, 47), **SMALL["deeplabv3plus"])
    fixed.set_weights(model.get_weights())
    path = tmp_path / "scores.tflite"
    path.write_bytes(tflite.convert(fixed, (33, 47), "fp32", "scores"))
    how = Plan(scales=(0.8, 1.2), flip=True, window=(33, 47), stride=(20, 31))
    segmenter = Segmenter(path)
    expected = plain_tta(
        lambda rgb: np.asarray(model(rgb[None])["logits"])[0], IMAGE, (0.8, 1.2), True, (33, 47), (20, 31)
    )
    np.testing.assert_allclose(inference.scores(segmenter.scores, IMAGE, how), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("0.75,big", None, None), "'big' is neither flip nor a scale"),
        (("0", None, None), "'0' is neither flip nor a scale"),
        (("-1.0,flip", None, None), "'-1.0'"),
        (("nan", None, None), "'nan'"),
        (("9", None, None), "'9'"),
        (("", None, None), "'' is neither"),
        (("1.0,1", None, None), "twice"),
        (("flip,flip", None, None), "twice"),
        ((None, "512", None), "--window 512 is not HEIGHTxWIDTH"),
        ((None, "0x5", None), "--window 0x5"),
        ((None, "512x512", "a"), "--stride a is not"),
        ((None, "512x512", "600x300"), "larger than --window 512x512"),
        ((None, None, "300x300"), "needs --window"),
    ],
)
def test_bad_values_are_one_sentence(arguments, words):
    with pytest.raises(UserError) as raised:
        plan(*arguments)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_plans_from_the_command_line():
    assert plan() == Plan() and plan().plain and str(plan()) == ""
    assert plan("flip") == Plan((1.0,), True)
    found = plan("0.75, 1.0,1.25,FLIP", "512x1024")
    assert found == Plan((0.75, 1.0, 1.25), True, (512, 1024), (341, 683))  # mmsegmentation's two thirds
    assert found.views == 6
    assert str(found) == "tta-0.75,1,1.25,flip-window-512x1024-stride-341x683"
    assert plan(None, "100x200", "100x200").stride == (100, 200)


@pytest.mark.slow
def test_evaluate_records_how_it_looked(tmp_path):
    """The command on a run and on its files, and what refuses."""
    data = str(write_camvid(tmp_path / "camvid"))
    train = ["deeplabv3plus", "--data", "camvid", "--data-dir", data, *TINY_MODEL, "--epochs", "1"]
    done = run(tmp_path, "training.train", *train, "--crop", "32x32", "--batch", "2", "--name", "t")
    assert done.returncode == 0, done.stderr
    look = ["--tta", "0.75,1.25,flip", "--window", "32x48", "--stride", "20x30"]
    done = run(tmp_path, "training.evaluate", "runs/t", *look)
    assert done.returncode == 0, done.stderr
    name = "camvid-val-tta-0.75,1.25,flip-window-32x48-stride-20x30"
    scores = json.loads((tmp_path / f"runs/t/evaluation/{name}/scores.json").read_text(encoding="utf-8"))
    assert scores["tta"] == {"scales": [0.75, 1.25], "flip": True}
    assert scores["window"] == [32, 48] and scores["stride"] == [20, 30]
    assert sum(map(sum, scores["confusion_matrix"])) == scores["pixels"] > 0

    export = ["runs/t", "--precision", "fp32", "--size", "32x48"]
    for output in ("mask", "scores"):
        done = run(tmp_path, "export", *export, "--output", output, "--out", f"{output}.tflite")
        assert done.returncode == 0, done.stderr
    on = ["--data", "camvid", "--data-dir", data]
    done = run(tmp_path, "training.evaluate", "scores.tflite", *look, *on, "--out", "from_file")
    assert done.returncode == 0, done.stderr
    from_file = json.loads((tmp_path / "from_file/scores.json").read_text(encoding="utf-8"))
    assert from_file["miou"] == pytest.approx(scores["miou"], abs=1e-3)
    refused = run(tmp_path, "training.evaluate", "mask.tflite", *look, *on)
    assert_refused(refused, "mask.tflite gives class ids", "--output scores")
    refused = run(tmp_path, "training.evaluate", "scores.tflite", "--tta", "0.5,1.0", *on)
    assert_refused(refused, "add --window 32x48")
    refused = run(tmp_path, "training.evaluate", "scores.tflite", "--window", "32x32", *on)
    assert_refused(refused, "use --window 32x48")


def test_memory_stays_bounded_at_full_size():
    """1024x2048x19 float32 is 159 MB: six views in windows take four such arrays at most, on top of the imports."""
    code = (
        "import resource, numpy as np\n"
        "from evaluation import inference\n"
        "rgb = np.zeros((1024, 2048, 3), np.uint8)\n"
        "def logits(rgb):\n"
        "    return np.ones((*rgb.shape[:2], 19), np.float32)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "plan = inference.plan('0.75,1.0,flip', '512x1024', '341x683')\n"
        "assert inference.scores(logits, rgb, plan).shape == (1024, 2048, 19)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 4 * 1024 * 2048 * 19 * 4, int(done.stdout) * unit / 159.4e6
