"""The camera and the weather in front of it: glow, rain, snow, blur, vignette, white balance, noise."""

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from drawing.canvas import Canvas, Colour

EGO = 1


@dataclass(frozen=True)
class Camera:
    gain: Colour  # exposure times white balance
    gamma: float
    noise: float  # grey levels at mid grey
    vignette: float
    motion: float  # share of the width
    motion_angle: float
    defocus: float  # share of the width
    drops: np.ndarray  # (N, 4): u, v, length, depth of rain streaks or snow flakes, 0..1
    snow: bool
    bonnet: Colour | None
    bonnet_height: float
    seed: int


def finish(canvas: Canvas, camera: Camera) -> None:
    """Turn the painted world into a photograph of it."""
    _glow(canvas)
    _drops(canvas, camera)
    _bonnet(canvas, camera)
    _blur(canvas, camera)
    _expose(canvas, camera)


def _glow(canvas: Canvas) -> None:
    """Add the halos of lamps, at a quarter of the size; they are smooth."""
    if not canvas.glows:
        return
    factor = 4 if canvas.width > 300 else 2
    shape = (-(-canvas.height // factor), -(-canvas.width // factor), 3)
    halo = np.zeros(shape, np.float32)
    drawn = False
    for u, v, radius, colour, ident in canvas.glows:
        if canvas.at(u, v) != ident:
            continue
        radius = min(radius, canvas.width * 0.08)
        if not (-radius < u < canvas.width + radius and -radius < v < canvas.height + radius) or radius < 0.5:
            continue
        drawn = True
        reach = max(2, math.ceil(2.2 * radius / factor))
        cu, cv = u / factor, v / factor
        left, right = max(0, int(cu) - reach), min(shape[1], int(cu) + reach + 1)
        top, bottom = max(0, int(cv) - reach), min(shape[0], int(cv) + reach + 1)
        if right <= left or bottom <= top:
            continue
        du = (np.arange(left, right, dtype=np.float32) - cu) * (factor / radius)
        dv = (np.arange(top, bottom, dtype=np.float32) - cv) * (factor / radius)
        spot = np.exp(-1.6 * np.sqrt(du[None] ** 2 + dv[:, None] ** 2))[..., None]
        halo[top:bottom, left:right] += spot * np.array(colour, np.float32) * 0.75
    if drawn:
        halo = np.clip(halo, 0, 255).astype(np.uint8)
        size = (canvas.width, canvas.height)
        cv2.add(canvas.image, cv2.resize(halo, size, interpolation=cv2.INTER_LINEAR), canvas.image)


def _drops(canvas: Canvas, camera: Camera) -> None:
    if len(camera.drops) == 0:
        return
    height, width = canvas.height, canvas.width
    layer = canvas.image.copy()
    for u, v, length, depth in camera.drops:
        x, y = u * width, v * height
        if camera.snow:
            radius = (0.0012 + 0.0028 * depth**3) * height
            cv2.circle(
                layer,
                (round(x * 16), round(y * 16)),
                round(max(radius, 0.35) * 16),
                (246, 248, 252),
                -1,
                cv2.LINE_AA,
                4,
            )
        else:
            tail = (0.02 + 0.05 * length) * height
            a = (round(x * 16), round(y * 16))
            b = (round((x - tail * 0.12) * 16), round((y + tail) * 16))
            cv2.line(layer, a, b, (206, 212, 220), max(1, round(height / 500)), cv2.LINE_AA, 4)
    share = 0.85 if camera.snow else 0.22
    cv2.addWeighted(layer, share, canvas.image, 1.0 - share, 0.0, canvas.image)


def _bonnet(canvas: Canvas, camera: Camera) -> None:
    """The ego vehicle's bonnet at the lower edge, with the sky in its lacquer."""
    if camera.bonnet is None:
        return
    height, width = canvas.height, canvas.width
    u = np.linspace(-0.02, 1.02, 25)
    arc = camera.bonnet_height * (1.0 - np.abs(2 * u - 1.0) ** 2.6 * 0.75)
    edge = np.stack([u * width, (1.0 - arc) * height], 1)
    outline = np.concatenate([edge, [[1.02 * width, 1.02 * height], [-0.02 * width, 1.02 * height]]])
    tone = canvas.tone(camera.bonnet, (0.0, 0.9, -0.2), 0.0)
    canvas.paint(outline, tone, EGO)
    for share, lift in ((0.82, 0.24), (0.5, 0.12)):
        inner = edge.copy()
        inner[:, 1] = height - (height - edge[:, 1]) * share
        shine = np.concatenate([inner, outline[-2:]])
        sky = canvas.light.sky[0]
        mixed = tuple(tone[i] * (1 - lift) + sky[i] * lift for i in range(3))
        canvas.paint(shine, (mixed[0], mixed[1], mixed[2]))


def _blur(canvas: Canvas, camera: Camera) -> None:
    sigma = camera.defocus * canvas.width
    if sigma > 0.3:
        cv2.GaussianBlur(canvas.image, (0, 0), sigma, canvas.image)
    length = camera.motion * canvas.width
    if length > 1.2:
        side = 2 * math.ceil(length / 2) + 1
        kernel = np.zeros((side, side), np.float32)
        middle = side / 2 - 0.5
        dx, dy = math.cos(camera.motion_angle) * length / 2, math.sin(camera.motion_angle) * length / 2
        a = (round((middle - dx) * 16), round((middle - dy) * 16))
        b = (round((middle + dx) * 16), round((middle + dy) * 16))
        cv2.line(kernel, a, b, 1.0, 1, cv2.LINE_8, 4)
        canvas.image[:] = cv2.filter2D(canvas.image, -1, kernel / kernel.sum())


@lru_cache(maxsize=1)
def _grain() -> np.ndarray:
    """One sheet of sensor noise, float32 (256, 1024), of which each image takes its own cut-outs."""
    return np.random.default_rng(404).standard_normal((256, 1024)).astype(np.float32)


@lru_cache(maxsize=8)
def _falloff(height: int, width: int) -> np.ndarray:
    v = (np.arange(height, dtype=np.float32) + 0.5) / height * 2 - 1
    u = (np.arange(width, dtype=np.float32) + 0.5) / width * 2 - 1
    return (u[None] ** 2 + v[:, None] ** 2)[..., None]


def _expose(canvas: Canvas, camera: Camera) -> None:
    """Exposure, white balance, tone curve, vignette and noise, band by band to stay in the cache."""
    rng = np.random.default_rng(camera.seed)
    grain = _grain()
    curve = 255.0 * (np.arange(256) / 255.0) ** camera.gamma
    table = np.stack([curve * camera.gain[i] for i in range(3)], -1).astype(np.float32)
    falloff = _falloff(canvas.height, canvas.width)
    image = canvas.image
    for top in range(0, canvas.height, 64):
        band = image[top : top + 64]
        lit = np.stack([table[:, i][band[..., i]] for i in range(3)], -1)
        lit *= 1.0 - camera.vignette * falloff[top : top + 64]
        rows, width = band.shape[:2]
        speckle = np.empty_like(lit)
        for i in range(3):
            for left in range(0, width, 512):
                wide = min(512, width - left)
                dy, dx = int(rng.integers(0, 256 - 64)), int(rng.integers(0, 1024 - 512))
                speckle[:, left : left + wide, i] = grain[dy : dy + rows, dx : dx + wide]
        lit += speckle * (camera.noise * (0.6 + 0.4 * np.sqrt(np.maximum(lit, 0.0) / 128.0)))
        np.clip(lit, 0, 255, out=lit)
        band[:] = (lit + 0.5).clip(0, 255).astype(np.uint8)
