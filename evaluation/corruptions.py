"""Images as bad weather, cameras and links make them: how a model is scored when nothing is clean.

`CORRUPTIONS` has them by name, each in severities 1 to 5. Source: Hendrycks and Dietterich 2019 (arXiv:1903.12261),
section 3, and Kamann and Rother 2020 (arXiv:1908.05005), who score segmentation by them; the values of a severity are
those of the authors' code for images of 224 pixels and more. Deviations from it:

- Motion blur runs from -45 to 45 degrees as there, by rotating a line of weights, Gaussian in the distance from its
  end; there, whole images are shifted by whole pixels.
- Fog is a sum of random grids, each twice as fine as the one before, resized bilinearly; there, a diamond-square
  fractal. Weights of the scales and the fog's density are the same.
- Snow grows flakes by resizing, as there, with cv2's bilinear resize.
- `night` is ours, since they have none: the exponent of a gamma curve and, because a camera of the night amplifies,
  Gaussian noise. `rain`, `frost`, glass and zoom blur, elastic and pixelate are left out.

Where there is chance, it depends on the corruption, the severity and the image's name alone, so that two models see the
same.
"""

import math
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from runtime.errors import UserError

SEVERITIES = (1, 2, 3, 4, 5)
# float32 RGB (H, W, 3), 0 to 1, a severity's value and a source of chance -> the same, which may leave 0 to 1.
Corrupt = Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]


def gaussian_noise(image: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Of a sensor in little light: what is added is the same everywhere."""
    return image + rng.normal(scale=deviation, size=image.shape)


def shot_noise(image: np.ndarray, photons: float, rng: np.random.Generator) -> np.ndarray:
    """Of light itself: a pixel of 1 has so many photons, give or take their root."""
    return rng.poisson(image * photons) / photons


def impulse_noise(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Bit errors: that share of the values becomes 0 or 1."""
    hit, white = rng.random(image.shape) < share, rng.random(image.shape) < 0.5
    return np.where(hit, white.astype(image.dtype), image)


def gaussian_blur(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Of a lens, `sigma` in pixels."""
    side = 2 * int(4 * sigma + 0.5) + 1
    return cv2.GaussianBlur(image, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)


def defocus_blur(image: np.ndarray, value: tuple[int, float], rng: np.random.Generator) -> np.ndarray:
    """Out of focus: the mean over a disc of that radius in pixels, whose edge is blurred by a sigma."""
    radius, sigma = value
    reach, side = (8, 3) if radius <= 8 else (radius, 5)
    x, y = np.meshgrid(*2 * (np.arange(-reach, reach + 1),))
    disc = (x**2 + y**2 <= radius**2).astype(np.float32)
    disc = cv2.GaussianBlur(disc / disc.sum(), (side, side), sigma)
    return cv2.filter2D(image, -1, disc)


def motion_blur(image: np.ndarray, value: tuple[int, float], rng: np.random.Generator) -> np.ndarray:
    """A camera that moves while it looks: a trail of 2 * radius pixels, weights of that sigma from its end."""
    return _along(image, *value, angle=float(rng.uniform(-45, 45)))


def _along(image: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """The mean along a line of `angle` degrees that begins at each pixel."""
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    side = 4 * radius + 1  # the line begins in the middle
    kernel = np.zeros((side, side), np.float32)
    rows = np.rint(2 * radius + steps * np.sin(np.deg2rad(angle))).astype(int)
    columns = np.rint(2 * radius + steps * np.cos(np.deg2rad(angle))).astype(int)
    np.add.at(kernel, (rows, columns), (weights / weights.sum()).astype(np.float32))
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def brightness(image: np.ndarray, more: float, rng: np.random.Generator) -> np.ndarray:
    """Too much light: that much more of the value of HSV."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 2] = np.clip(hsv[..., 2] + more, 0, 1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def contrast(image: np.ndarray, left: float, rng: np.random.Generator) -> np.ndarray:
    """Haze or dusk: that share of each channel's distance from its mean is left."""
    mean = image.mean(axis=(0, 1), keepdims=True)
    return (image - mean) * left + mean


def night(image: np.ndarray, value: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Little light: a gamma curve of that exponent, and noise of that deviation, of the amplifier."""
    exponent, deviation = value
    return image**exponent + rng.normal(scale=deviation, size=image.shape)


def fog(image: np.ndarray, value: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Clouds of that density, each finer scale weaker by that factor, and all darkened to what was brightest."""
    density, decay = value
    height, width = image.shape[:2]
    clouds, strength, cells = np.zeros((height, width), np.float32), 1.0, 2
    while cells <= max(height, width):
        grid = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
        side = max(height, width)
        clouds += strength * cv2.resize(grid, (side, side), interpolation=cv2.INTER_LINEAR)[:height, :width]
        strength, cells = strength / decay, 2 * cells
    clouds = (clouds - clouds.min()) / max(float(clouds.max() - clouds.min()), 1e-6)
    brightest = float(image.max())
    return (image + density * clouds[..., None]) * brightest / (brightest + density)


def snow(image: np.ndarray, value: tuple[float, ...], rng: np.random.Generator) -> np.ndarray:
    """Flakes, blurred as they fall, on an image that is paler: (mean, deviation, zoom, least, radius, sigma, kept)."""
    mean, deviation, zoom, least, radius, sigma, kept = value
    height, width = image.shape[:2]
    small = (math.ceil(height / zoom), math.ceil(width / zoom))
    flakes: np.ndarray = rng.normal(mean, deviation, small).astype(np.float32)
    flakes = cv2.resize(flakes, (width, height), interpolation=cv2.INTER_LINEAR)
    flakes = np.where(flakes < least, 0, np.clip(flakes, 0, 1)).astype(np.float32)
    flakes = _along(flakes, int(radius), sigma, angle=float(rng.uniform(-135, -45)))[..., None]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    paler = kept * image + (1 - kept) * np.maximum(image, grey * 1.5 + 0.5)
    return paler + flakes + flakes[::-1, ::-1]


def jpeg_compression(image: np.ndarray, quality: int, rng: np.random.Generator) -> np.ndarray:
    """What a narrow link leaves of an image."""
    bgr = np.rint(image[..., ::-1] * 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None  # of what was encoded a line above
    return decoded[..., ::-1].astype(np.float32) / 255


# Name -> (function, its value at each of SEVERITIES).
CORRUPTIONS: dict[str, tuple[Corrupt, tuple[Any, ...]]] = {
    "gaussian_noise": (gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": (shot_noise, (60, 25, 12, 5, 3)),
    "impulse_noise": (impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "gaussian_blur": (gaussian_blur, (1, 2, 3, 4, 6)),
    "defocus_blur": (defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    "motion_blur": (motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "brightness": (brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": (contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "night": (night, ((1.3, 0.01), (1.6, 0.02), (2.0, 0.03), (2.5, 0.04), (3.0, 0.05))),
    "fog": (fog, ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))),
    "snow": (
        snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "jpeg_compression": (jpeg_compression, (25, 18, 15, 10, 7)),
}  # fmt: skip


def corrupted(image: np.ndarray, name: str, severity: int, image_name: str = "") -> np.ndarray:
    """uint8 RGB (H, W, 3) -> the same, corrupted; ValueError on a name or severity that is none."""
    if name not in CORRUPTIONS or severity not in SEVERITIES:
        raise ValueError(f"there is no corruption {name} of severity {severity}")
    function, values = CORRUPTIONS[name]
    rng = np.random.default_rng(zlib.crc32(f"{name} {severity} {image_name}".encode()))
    found = function(image.astype(np.float32) / 255, values[severity - 1], rng)
    return np.rint(np.clip(found, 0, 1) * 255).astype(np.uint8)


def asked(text: str) -> list[str]:
    """The corruptions that a command line names, such as "fog,snow" or "all"; UserError on another name."""
    names = list(CORRUPTIONS) if text == "all" else [part.strip() for part in text.split(",")]
    for name in names:
        if name not in CORRUPTIONS:
            raise UserError(
                f"--corruptions {text}: there is none called '{name}'; there is {', '.join(CORRUPTIONS)}, and all"
            )
    return names


def asked_severities(text: str) -> list[int]:
    """Such as "1,3,5" -> [1, 3, 5], rising; UserError on anything but numbers of 1 to 5."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part in map(str, SEVERITIES) for part in parts):
        raise UserError(f"--severities {text} are not numbers of 1 to 5, such as 1,3,5")
    return sorted({int(part) for part in parts})
