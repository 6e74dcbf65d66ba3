"""Corrupted images: each beside another implementation or arithmetic, and what a model is scored on them."""

import csv
import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import corruptions, report, robustness
from evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from evaluation.measurement import Evaluation, measure, result
from runtime.errors import UserError
from training.data.spec import DatasetSpec, Example

SPEC = DatasetSpec("two", ("dark", "light"), ((0, 0, 0), (255, 255, 255)), ("val",), (48, 64))


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Smooth colours with an edge and some grain, as a photograph has."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:96, 0:128] / 128
    rgb = np.stack([0.2 + 0.6 * columns, 0.7 - 0.5 * rows, 0.4 + 0.3 * np.sin(9 * columns)], -1)
    rgb[30:60, 40:90] *= 0.4
    return (255 * np.clip(rgb + rng.normal(0, 0.02, rgb.shape), 0, 1)).astype(np.uint8)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_blur_and_brightness_are_scikit_image_s(photo: np.ndarray, severity: int):
    color = pytest.importorskip("skimage.color")
    filters = pytest.importorskip("skimage.filters")
    image, sigma, more = photo / 255, (1, 2, 3, 4, 6)[severity - 1], severity / 10
    blurred = filters.gaussian(image, sigma=sigma, channel_axis=-1)
    assert np.abs(corrupted(photo, "gaussian_blur", severity) - 255 * blurred).max() < 1
    hsv = color.rgb2hsv(image)
    hsv[..., 2] = np.clip(hsv[..., 2] + more, 0, 1)
    assert np.abs(corrupted(photo, "brightness", severity) - 255 * color.hsv2rgb(hsv)).max() < 1


def test_jpeg_is_as_good_as_pillow_s_of_that_quality(photo: np.ndarray):
    for severity, quality in zip(SEVERITIES, (25, 18, 15, 10, 7), strict=True):
        buffer = io.BytesIO()
        Image.fromarray(photo).save(buffer, "JPEG", quality=quality)
        theirs = np.asarray(Image.open(buffer), float)
        assert np.abs(corrupted(photo, "jpeg_compression", severity) - theirs).mean() < 1


def test_noise_has_the_deviation_that_it_says():
    grey = np.full((400, 400, 3), 102, np.uint8)  # 0.4: nothing of severity 1 is clipped
    noisy = corrupted(grey, "gaussian_noise", 1) / 255
    assert noisy.std() == pytest.approx(0.08, rel=0.02) and noisy.mean() == pytest.approx(0.4, abs=0.002)
    noisy = corrupted(grey, "shot_noise", 1) / 255
    assert noisy.std() == pytest.approx((0.4 / 60) ** 0.5, rel=0.02) and noisy.mean() == pytest.approx(
        0.4, abs=0.002
    )
    noisy = corrupted(grey, "impulse_noise", 5)
    assert (noisy == 0).mean() == pytest.approx(0.135, abs=0.003)
    assert (noisy == 255).mean() == pytest.approx(0.135, abs=0.003)


def test_contrast_keeps_the_mean_and_that_share_of_the_spread(photo: np.ndarray):
    for severity, left in zip(SEVERITIES, (0.4, 0.3, 0.2, 0.1, 0.05), strict=True):
        found = corrupted(photo, "contrast", severity)
        np.testing.assert_allclose(found.mean((0, 1)), photo.mean((0, 1)), atol=0.5)
        np.testing.assert_allclose(found.std((0, 1)), left * photo.std((0, 1)), atol=0.4)


def test_a_point_out_of_focus_is_a_disc_and_one_in_motion_a_line():
    point = np.zeros((101, 101, 3), np.uint8)
    point[50, 50] = 255
    lit = corrupted(np.repeat(point, 1, 2), "defocus_blur", 1)[..., 0] > 0
    rows, columns = np.nonzero(lit)
    assert np.hypot(rows - 50, columns - 50).max() <= 3.2 and lit.sum() >= 29  # lattice points within 3
    image = np.zeros((101, 101, 3), np.float32)
    image[50, 50] = 1
    trail = corruptions.motion_blur(image, (10, 3), np.random.default_rng(1))[..., 0]
    assert trail.sum() == pytest.approx(1, abs=1e-5)
    rows, columns = np.nonzero(trail > 1e-4)
    assert columns.max() == 50 and 38 <= columns.min() < 50  # weights die out within 4 deviations
    slopes = (rows - 50)[columns < 48] / (columns - 50)[columns < 48]
    assert np.ptp(slopes) < 0.5 and np.abs(slopes).max() <= 1.5


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_is_the_same_again_and_worse_with_severity(photo: np.ndarray, name: str):
    before = photo.copy()
    found = [corrupted(photo, name, severity, "a") for severity in SEVERITIES]
    np.testing.assert_array_equal(found[2], corrupted(photo, name, 3, "a"))
    np.testing.assert_array_equal(photo, before)
    assert all(image.dtype == np.uint8 and image.shape == photo.shape for image in found)
    distances = [np.abs(image.astype(float) - photo).mean() for image in found]
    assert distances[4] > distances[2] > distances[0] > 0 or name in ("motion_blur", "fog")
    assert min(distances) > 0


def test_chance_depends_on_the_image_s_name(photo: np.ndarray):
    assert (corrupted(photo, "snow", 1, "a") != corrupted(photo, "snow", 1, "b")).any()


def test_any_size_is_taken():
    for size in ((1, 1), (3, 200), (31, 17)):
        for name in CORRUPTIONS:
            image = np.full((*size, 3), 90, np.uint8)
            assert corrupted(image, name, 5).shape == image.shape


@pytest.mark.parametrize(
    ("asked", "text", "told"),
    [
        (corruptions.asked, "fog,rain", "called 'rain'.*gaussian_noise.*and all"),
        (corruptions.asked, "", "called ''"),
        (corruptions.asked_severities, "0,1", "numbers of 1 to 5"),
        (corruptions.asked_severities, "1,six", "numbers of 1 to 5"),
    ],
)
def test_what_is_none_is_refused(asked, text: str, told: str):
    with pytest.raises(UserError, match=told):
        asked(text)
    assert corruptions.asked("all") == list(CORRUPTIONS) and corruptions.asked_severities("5,1,1") == [1, 5]


def half(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Dark on the left, light on the right, and its truth."""
    truth = np.zeros((48, 64), np.uint8)
    truth[:, 32:] = 1
    return np.repeat(np.where(truth, 200, 60)[..., None], 3, 2).astype(np.uint8), truth


def bright(rgb: np.ndarray) -> np.ndarray:
    return (rgb[..., 0] > 128).astype(np.uint8)


def examples() -> list[Example]:
    return [Example(f"p{index}", partial(half, index)) for index in range(3)]


def measured() -> tuple[Evaluation, dict]:
    found = measure(examples(), SPEC, bright)
    table = robustness.measure(["brightness", "contrast"], [1, 5], examples(), SPEC, bright)
    return found, result(found) | {"corruptions": robustness.result(result(found)["miou"], table)}


def test_a_threshold_by_brightness_is_lost_when_all_is_bright(tmp_path: Path):
    """60 and 200 have the threshold of 128 between them; 60 + 0.5 * 255 has not: half the pixels are right, none of the
    dark: IoU 0 and 0.5."""
    evaluation, scores = measured()
    assert scores["miou"] == 1.0
    found = scores["corruptions"]
    assert found["miou"] == {"brightness": {"1": 1.0, "5": 0.25}, "contrast": {"1": 1.0, "5": 1.0}}
    assert found["means"] == {"brightness": 0.625, "contrast": 1.0}
    assert found["mean"] == found["relative"] == 0.8125
    folder = tmp_path / "evaluation"
    report.write_evaluation(folder, evaluation, {**scores, "weights_sha256": "a"}, bright, examples(), "two")
    with open(folder / "corruptions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["corruption"] for row in rows] == ["brightness", "contrast"]
    assert [float(row["severity_5"]) for row in rows] == [0.25, 1.0]
    assert json.loads((folder / "scores.json").read_text(encoding="utf-8"))["corruptions"]["mean"] == 0.8125
    assert Image.open(folder / "corruptions.png").width > 300
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "Corrupted images" in page and "62.5%" in page and "81.2%" in page


def test_a_page_without_them_does_not_speak_of_them(tmp_path: Path):
    evaluation = measure(examples(), SPEC, bright)
    scores = {**result(evaluation), "weights_sha256": "a"}
    report.write_evaluation(tmp_path / "a", evaluation, scores, bright, examples(), "two")
    assert "Corrupted" not in (tmp_path / "a/index.html").read_text(encoding="utf-8")
    assert not (tmp_path / "a/corruptions.csv").exists()
