"""Augmentation: pure, stateless image operations on one image and its label map.

Everything random about a sample is drawn at once from its seed pair, (run seed, sample number), so the same
pair always gives the same pixels, eagerly or inside tf.data, before or after a resume.

Scale, crop, flip and rotation are one affine warp (one interpolation instead of three), and hue, saturation,
contrast and brightness are one affine map of the colours. Deviations from the usual separate operations:
no antialiasing when an image shrinks, hue turns in YIQ instead of HSV (a rotation is linear there), and
contrast pivots on the mean of the whole image, not of the crop.
"""

import math

import numpy as np
import tensorflow as tf

from training.data.augmentation import Augmentation
from training.data.spec import VOID_ID
from zoo.layers import GREY

FILL = GREY  # what lies outside the image

# The NTSC matrix: luma and two chroma axes, in which saturation scales and hue rotates.
RGB_TO_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]]
)


def apply(
    image: tf.Tensor,
    label: tf.Tensor,
    seed_pair: tf.Tensor,
    crop: tuple[int, int],
    augmentation: Augmentation,
) -> tuple[tf.Tensor, tf.Tensor]:
    """One augmented sample: uint8 (h, w, 3) and uint8 (h, w) from an image (H, W, 3) and train ids (H, W).

    `seed_pair` is int64 (2,); `crop` is (h, w). Whatever lies outside the image is 255 in the label map.
    """
    # A fixed place for each draw: switching one operation off leaves the others as they were.
    draws = tf.unstack(tf.random.stateless_uniform([10], seed_pair, alg="philox"))
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = _between(draws[0], *augmentation.scale)
    angle = _either_way(draws[1], math.radians(augmentation.rotation))
    mirrored = tf.cast(draws[2] < augmentation.flip, tf.float32)
    offset = tf.stack([crop_offset(size[axis] * scale, crop[axis], draws[3 + axis]) for axis in range(2)])
    if augmentation.scale == (1.0, 1.0) and not augmentation.rotation:
        pixels, ids = cut(image, label, tf.cast(offset, tf.int32), mirrored > 0, crop)
    else:
        matrix = affine(crop=crop, scale=scale, offset=offset, angle=angle, mirrored=mirrored)
        pixels, ids = warp(image, label, matrix, crop)
    if augmentation.brightness or augmentation.contrast or augmentation.saturation or augmentation.hue:
        colours, shift = colour_map(
            brightness=1.0 + _either_way(draws[5], augmentation.brightness),
            contrast=1.0 + _either_way(draws[6], augmentation.contrast),
            saturation=1.0 + _either_way(draws[7], augmentation.saturation),
            hue=_either_way(draws[8], augmentation.hue),
            pivot=mean_grey(image),
        )
        pixels = recolour(pixels, colours, shift)
    if augmentation.blur:
        # One draw decides and, rescaled, sets the strength: it is uniform below the probability.
        sigma = _between(draws[9] / augmentation.blur, *augmentation.blur_sigma)
        widest = augmentation.blur_sigma[1]
        pixels = tf.cond(
            draws[9] < augmentation.blur, lambda: blur(pixels, sigma, widest), lambda: tf.identity(pixels)
        )
    return tf.cast(tf.round(tf.clip_by_value(pixels, 0.0, 255.0)), tf.uint8), ids


def crop_offset(length: tf.Tensor, crop: int, draw: tf.Tensor) -> tf.Tensor:
    """Where the crop begins in the scaled image, in whole pixels; negative when it is larger than that.

    Whole pixels keep an unscaled crop an exact copy.
    """
    spare = tf.floor(length) - float(crop)
    return tf.minimum(spare, 0.0) + tf.minimum(tf.floor(draw * (tf.abs(spare) + 1.0)), tf.abs(spare))


def cut(
    image: tf.Tensor, label: tf.Tensor, offset: tf.Tensor, mirrored: tf.Tensor, crop: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """What `warp` gives for a crop that is neither scaled nor turned, without interpolation: much faster.

    `offset` is int32 (y, x); `mirrored` is bool. Float32 (h, w, 3) and uint8 (h, w).
    """
    before = tf.maximum(-offset, 0)
    begin = tf.maximum(offset, 0)
    end = tf.minimum(begin + tf.constant(crop) - before, tf.shape(label))
    pads = tf.stack([before, tf.constant(crop) - before - (end - begin)], axis=1)  # (2, 2)
    colours = tf.concat([pads, [[0, 0]]], axis=0)
    image = image[begin[0] : end[0], begin[1] : end[1]]
    label = label[begin[0] : end[0], begin[1] : end[1]]
    pixels = tf.pad(tf.cast(image, tf.float32), colours, constant_values=FILL)
    ids = tf.pad(label, pads, constant_values=tf.constant(VOID_ID, tf.uint8))
    pixels, ids = tf.cond(
        mirrored,
        lambda: (tf.reverse(pixels, [1]), tf.reverse(ids, [1])),
        lambda: (tf.identity(pixels), tf.identity(ids)),
    )
    return tf.ensure_shape(pixels, (*crop, 3)), tf.ensure_shape(ids, crop)


def affine(
    *, crop: tuple[int, int], scale: tf.Tensor, offset: tf.Tensor, angle: tf.Tensor, mirrored: tf.Tensor
) -> tf.Tensor:
    """From a pixel of the crop to a pixel of the image, float32 (2, 3) on (x, y, 1).

    The crop begins at `offset` (y, x) in the image magnified by `scale`; it is turned by `angle` (radians,
    anticlockwise as seen) about its centre and, where `mirrored` is 1, flipped left to right.
    """
    height, width = float(crop[0]), float(crop[1])
    cos, sin = tf.cos(angle), tf.sin(angle)
    side = 1.0 - 2.0 * mirrored
    # Pixel centres lie at half numbers: x + 0.5, measured from the crop's centre.
    x0, y0 = side * (0.5 - width / 2), 0.5 - height / 2
    row_x = [cos * side, -sin, cos * x0 - sin * y0 + width / 2 + offset[1]]
    row_y = [sin * side, cos, sin * x0 + cos * y0 + height / 2 + offset[0]]
    half = tf.constant([0.0, 0.0, 0.5])
    return tf.stack([tf.stack(row_x) / scale - half, tf.stack(row_y) / scale - half])


def warp(
    image: tf.Tensor, label: tf.Tensor, matrix: tf.Tensor, crop: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """The image (bilinear), float32 (h, w, 3), and its ids (nearest), uint8 (h, w), through `matrix`."""
    image, label, matrix = _needed_part(image, label, matrix, crop)
    transforms = tf.concat([tf.reshape(matrix, [1, 6]), tf.zeros([1, 2])], axis=1)
    pixels = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(image, tf.float32)[None],
        transforms=transforms,
        output_shape=list(crop),
        fill_value=FILL,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )[0]
    ids = tf.raw_ops.ImageProjectiveTransformV3(
        images=label[None, ..., None],
        transforms=transforms,
        output_shape=list(crop),
        fill_value=float(VOID_ID),
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0, ..., 0]
    return tf.ensure_shape(pixels, (*crop, 3)), tf.ensure_shape(ids, crop)


def _needed_part(
    image: tf.Tensor, label: tf.Tensor, matrix: tf.Tensor, crop: tuple[int, int]
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Cut away what no output pixel looks at: a small crop of a large image need not convert all of it."""
    corners = tf.constant(
        [[0, crop[1] - 1, 0, crop[1] - 1], [0, 0, crop[0] - 1, crop[0] - 1], [1, 1, 1, 1]], tf.float32
    )
    reach = tf.matmul(matrix, corners)  # (2, 4): x and y of the four corners
    size = tf.shape(label)
    last = tf.cast(tf.stack([size[1], size[0]]) - 1, tf.float32)
    # A margin of two pixels keeps the cut edge out of every interpolation.
    low = tf.clip_by_value(tf.floor(tf.reduce_min(reach, axis=1)) - 2, 0.0, last)
    high = tf.clip_by_value(tf.math.ceil(tf.reduce_max(reach, axis=1)) + 2, 0.0, last)
    begin, end = tf.cast(low, tf.int32), tf.cast(high, tf.int32) + 1
    image = image[begin[1] : end[1], begin[0] : end[0]]
    label = label[begin[1] : end[1], begin[0] : end[0]]
    return image, label, tf.concat([matrix[:, :2], matrix[:, 2:] - low[:, None]], axis=1)


def mean_grey(image: tf.Tensor) -> tf.Tensor:
    """The mean of every eighth pixel of a uint8 image, float32; summed in integers, so in any order."""
    sparse = tf.cast(image[::8, ::8], tf.int32)
    return tf.cast(tf.reduce_sum(sparse), tf.float32) / tf.cast(tf.size(sparse), tf.float32)


def colour_map(
    *, brightness: tf.Tensor, contrast: tf.Tensor, saturation: tf.Tensor, hue: tf.Tensor, pivot: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The matrix (3, 3) and shift (3,) of hue (turns), saturation, contrast, brightness, in that order.

    Brightness, contrast and saturation are factors; contrast leaves the grey `pivot` (0..255) as it is.
    """
    angle = 2.0 * math.pi * hue
    cos, sin = tf.cos(angle) * saturation, tf.sin(angle) * saturation
    one, zero = tf.ones_like(cos), tf.zeros_like(cos)
    chroma = tf.reshape(tf.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos]), [3, 3])
    to_yiq = tf.constant(RGB_TO_YIQ, tf.float32)
    to_rgb = tf.constant(np.linalg.inv(RGB_TO_YIQ), tf.float32)
    matrix = brightness * contrast * (to_rgb @ chroma @ to_yiq)
    return matrix, tf.fill([3], brightness * (1.0 - contrast) * pivot)


def recolour(pixels: tf.Tensor, matrix: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """matrix @ colour + shift at every pixel, float32 (h, w, 3); not yet clipped to 0..255."""
    flat = tf.reshape(pixels, [-1, 3])
    return tf.reshape(tf.matmul(flat, matrix, transpose_b=True) + shift, tf.shape(pixels))


def blur(pixels: tf.Tensor, sigma: tf.Tensor, widest: float) -> tf.Tensor:
    """Gaussian blur of float32 (h, w, 3), edges mirrored; the kernel reaches three times `widest` pixels."""
    # A mirrored border is always narrower than what it mirrors.
    radius = min(math.ceil(3 * widest), pixels.shape[0] - 1, pixels.shape[1] - 1)
    reach = tf.range(-radius, radius + 1, dtype=tf.float32)
    kernel = tf.exp(-0.5 * tf.square(reach / sigma))
    kernel = tf.tile((kernel / tf.reduce_sum(kernel))[:, None], [1, 3])  # (2r + 1, 3)
    padded = tf.pad(pixels, [[radius, radius], [radius, radius], [0, 0]], mode="REFLECT")[None]
    rows = tf.nn.depthwise_conv2d(padded, kernel[:, None, :, None], [1, 1, 1, 1], "VALID")
    return tf.nn.depthwise_conv2d(rows, kernel[None, :, :, None], [1, 1, 1, 1], "VALID")[0]


def _between(draw: tf.Tensor, low: float, high: float) -> tf.Tensor:
    return low + (high - low) * draw


def _either_way(draw: tf.Tensor, amount: float) -> tf.Tensor:
    return (2.0 * draw - 1.0) * amount
