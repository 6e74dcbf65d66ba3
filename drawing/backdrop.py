"""What stands far away: the sky with sun and clouds, hills and the skyline on the horizon."""

import math
from functools import lru_cache

import cv2
import numpy as np

from drawing.canvas import Canvas, Colour, mix, scale, tile
from drawing.greenery import crown, leaves

BUILDING, VEGETATION, SKY = 11, 21, 23


@lru_cache(maxsize=1)
def _cloud_noise() -> np.ndarray:
    noise = tile(1, 512)
    return noise


def sky(canvas: Canvas, cover: float, offset: tuple[float, float], flat: bool) -> None:
    """A gradient, the sun's glare, and clouds on a plane far above; `cover` 0..1."""
    rows = min(canvas.height, math.ceil(canvas.horizon) + 1)
    if rows <= 0:
        return
    canvas.ids[:rows] = SKY
    light = canvas.light
    # Clouds and gradients are smooth: a quarter of the pixels is enough for large images.
    step = 2 if canvas.width > 300 else 1
    height, width = -(-rows // step), -(-canvas.width // step)
    v = (np.arange(height, dtype=np.float32) + 0.5) * step
    up = np.maximum(canvas.horizon - v, 0.2)[:, None] / canvas.focal  # tangent of the elevation
    u = ((np.arange(width, dtype=np.float32) + 0.5) * step - canvas.centre)[None] / canvas.focal
    share = np.exp(-up / 0.14)[..., None]
    low, high = np.array(light.sky[1], np.float32), np.array(light.sky[0], np.float32)
    plane = np.broadcast_to(high + (low - high) * share, (height, width, 3)).astype(np.float32)
    sun = light.sun
    if max(light.direct) > 0.05 and sun[2] > 0.05:
        apart = (u - sun[0] / sun[2]) ** 2 + (up - sun[1] / sun[2]) ** 2
        glare = 1.6 * np.exp(-apart / 0.0009) + 0.5 * np.exp(-apart / 0.02) + 0.25 * np.exp(-apart / 0.3)
        plane = plane + glare[..., None] * np.array([150.0, 140.0, 110.0], np.float32)
    if cover > 0.0 and not flat:
        far = 1.0 / (up + 0.05)
        mapx = u * far * 26.0 + offset[0] * 512
        mapy = np.broadcast_to(far * 26.0 + offset[1] * 512, mapx.shape)
        noise = cv2.remap(
            _cloud_noise(),
            mapx.astype(np.float32),
            np.ascontiguousarray(mapy, np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
        dense = np.clip((noise + 2.6 * cover - 1.6) * 0.9, 0.0, 1.0)
        dense = dense * np.clip(up / 0.05, 0.15, 1.0)
        body = np.clip(1.06 - 0.16 * noise - 0.2 * dense, 0.6, 1.1)[..., None]
        bright = np.array(light.haze, np.float32) * 1.08
        plane = plane + (bright * body - plane) * (dense * 0.9)[..., None]
    small: np.ndarray = np.clip(plane, 0, 255).astype(np.uint8)
    if step > 1:
        small = cv2.resize(small, (width * step, height * step), interpolation=cv2.INTER_LINEAR)
    canvas.image[:rows] = small[:rows, : canvas.width]


def hills(canvas: Canvas, heights: np.ndarray, distance: float, colour: Colour) -> None:
    """A wooded ridge along the horizon; `heights` in metres at equal steps across the view."""
    u = np.linspace(-0.1 * canvas.width, 1.1 * canvas.width, len(heights))
    v = canvas.horizon - heights * canvas.focal / distance
    outline = np.stack([u, v], 1)
    base = canvas.horizon + 1.5 + 0.004 * canvas.height
    points = np.concatenate([outline, [[u[-1], base], [u[0], base]]])
    canvas.paint(points, canvas.tone(colour, (0.0, 0.5, -0.5), distance * 0.5), VEGETATION)


def skyline(canvas: Canvas, blocks: np.ndarray, colours: list[Colour], snow: bool) -> None:
    """Far houses and trees, closed up along the horizon.

    `blocks`: rows of (share of the width, width m, height m, distance m, kind); kind below 0.5 is a house.
    """
    order = np.argsort(-blocks[:, 3], kind="stable")
    for k in order:
        share, wide, tall, distance, kind = (float(value) for value in blocks[k])
        metre = canvas.focal / distance
        u = (share * 1.4 - 0.2) * canvas.width
        ground = canvas.horizon + canvas.view.height * metre + 0.5
        colour = colours[int(k) % len(colours)]
        if kind < 0.5:
            left, right, top = u - wide * metre / 2, u + wide * metre / 2, ground - tall * metre
            tone = canvas.tone(colour, (0.0, 0.2, -0.6), distance * 0.6)
            roof = np.array([[left, ground], [left, top], [right, top], [right, ground]])
            if kind < 0.25:
                peak = [(left + right) / 2, top - 0.25 * wide * metre]
                roof = np.insert(roof, 2, peak, axis=0)
            canvas.paint(roof, tone, BUILDING)
            pane = canvas.tone(scale(colour, 0.45), (0.0, 0.2, -0.6), distance * 0.6)
            _far_windows(canvas, left, right, top, ground, metre, pane)
        else:
            low, high = leaves(canvas, (88.0, 110.0, 66.0), distance * 0.55, snow)
            extent = (wide * metre, tall * metre * 1.05)
            corner = (u - extent[0] / 2, ground - tall * metre)
            canvas.paste(crown(int(k) % 4), corner, extent, low, high, VEGETATION)
            base = np.array(
                [[u - extent[0] * 0.35, ground - extent[1] * 0.4], [u + extent[0] * 0.35, ground]]
            )
            box = np.array([base[0], [base[1, 0], base[0, 1]], base[1], [base[0, 0], base[1, 1]]])
            canvas.paint(box, mix(low, high, 0.2), VEGETATION)


def _far_windows(
    canvas: Canvas, left: float, right: float, top: float, ground: float, metre: float, tone: Colour
) -> None:
    step_x, step_y = 3.2 * metre, 3.3 * metre
    if step_x < 4.5:
        return
    x = np.arange(left + step_x * 0.5, right - step_x * 0.6, step_x)
    y = np.arange(top + step_y * 0.4, ground - step_y * 0.8, step_y)
    if len(x) == 0 or len(y) == 0:
        return
    gx, gy = (grid.ravel() for grid in np.meshgrid(x, y))
    w, h = step_x * 0.42, step_y * 0.5
    corners = [(gx, gy), (gx + w, gy), (gx + w, gy + h), (gx, gy + h)]
    canvas.paint_many(np.stack([np.stack(c, -1) for c in corners], 1), scale(tone, 1.0))
