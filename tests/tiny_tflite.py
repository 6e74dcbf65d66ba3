"""Tiny `.tflite` files whose output is known by arithmetic, the class being the largest colour channel; and images and
videos for them."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

LABELS = ("red", "green", "blue")
PALETTE = ((200, 0, 0), (0, 200, 0), (0, 0, 200))


def convert(function: Callable[..., Any], shape: tuple[int | None, ...], dtype: str = "uint8") -> bytes:
    """A TensorFlow function of one input, as TFLite built-in ops."""
    import tensorflow as tf

    signature = [tf.TensorSpec(shape, getattr(tf, dtype))]
    concrete = tf.function(function, input_signature=signature).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    return bytes(converter.convert())


def mask_model(height: int = 8, width: int = 12, dtype: str = "uint8", out: str = "uint8") -> bytes:
    """(1, H, W, 3) -> ids (1, H, W): 0, 1 or 2 where red, green or blue is largest."""
    import tensorflow as tf

    def largest(rgb: Any) -> Any:
        return tf.cast(tf.argmax(tf.cast(rgb, tf.float32), axis=-1), getattr(tf, out))

    return convert(largest, (1, height, width, 3), dtype)


def scores_model(height: int = 8, width: int = 12, stride: int = 1, dtype: str = "uint8") -> bytes:
    """(1, H, W, 3) -> scores (1, H / stride, W / stride, 3): the colour channels themselves."""
    import tensorflow as tf

    def channels(rgb: Any) -> Any:
        scores = tf.cast(rgb, tf.float32) * 0.5
        return tf.nn.avg_pool2d(scores, stride, stride, "VALID") if stride > 1 else scores

    return convert(channels, (1, height, width, 3), dtype)


def sigmoid_model(height: int = 8, width: int = 12, quantised: bool = False) -> bytes:
    """(1, H, W, 3) -> (1, H, W, 1): the sigmoid of (red - 127.5) / 32; int8 inside and out if `quantised`."""
    import tensorflow as tf

    def red(rgb: Any) -> Any:
        kernel = tf.constant([1 / 32, 0, 0], shape=(1, 1, 3, 1), dtype=tf.float32)
        return tf.sigmoid(tf.nn.conv2d(tf.cast(rgb, tf.float32), kernel, 1, "SAME") - 127.5 / 32)

    if not quantised:
        return convert(red, (1, height, width, 3))
    signature = [tf.TensorSpec((1, height, width, 3), tf.float32)]
    concrete = tf.function(red, input_signature=signature).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    values = np.linspace(0, 255, height * width * 3, dtype=np.float32).reshape(1, height, width, 3)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: iter([[values]])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    return bytes(converter.convert())


def write_bundle(path: Path, model: bytes, **changes: Any) -> Path:
    """One of our files: `model` with its note in a ZIP behind it. `changes` replace fields of the note."""
    note = {
        "format": 1,
        "labels": list(LABELS),
        "palette": [list(colour) for colour in PALETTE],
        "ignore_id": 255,
        "output": "mask",
        "size": [8, 12],
        "model": "tiny",
        "data": "none",
        "precision": "fp32",
        "flatbuffer_bytes": len(model),
        "flatbuffer_sha256": hashlib.sha256(model).hexdigest(),
        **changes,
    }
    path.write_bytes(model)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("kerbside.json", json.dumps(note))
        archive.writestr("labels.txt", "\n".join(note["labels"]))
    return path


def colours(height: int = 8, width: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """An image in three upright bands of red, green and blue with some noise, and the ids it must give."""
    ids = np.repeat(np.arange(width) * 3 // width, height).reshape(width, height).T.astype(np.uint8)
    rgb = np.random.default_rng(1).integers(0, 100, (height, width, 3)).astype(np.uint8)
    rgb[np.arange(height)[:, None], np.arange(width), ids] = 220
    return rgb, ids


def sample_image(path: Path) -> np.ndarray:
    """Write the three bands as a PNG; the ids it must give."""
    rgb, ids = colours()
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rgb[..., ::-1])
    return ids


def video(path: Path, frames: int, size: tuple[int, int] = (48, 32)) -> None:
    """A video that is green above, blue below."""
    rgb = np.zeros((size[1], size[0], 3), np.uint8)
    rgb[: size[1] // 2] = (10, 200, 10)
    rgb[size[1] // 2 :] = (10, 10, 200)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12.0, size)
    for _ in range(frames):
        writer.write(np.ascontiguousarray(rgb[..., ::-1]))
    writer.release()


def frames_of(path: Path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        good, frame = capture.read()
        if not good:
            return frames
        frames.append(frame[..., ::-1])
