"""What steady classes do to flicker and to what moves, and what overlapping brings.

    python -m benchmarks.video_steadiness [MODEL.tflite] [--images DIR] [--frames 40]

Flicker: the share of pixels whose shown class differs from the frame before, in a scene that stands still: one image
with new noise (standard deviation 6 of 255, as a small camera's sensor in dusk) in each frame. Lag: the share of pixels
that differ from what the model says of the same frame, while a window moves over the image by 2 pixels a frame, which
holds the price of waiting. Each over all images, for several `--smooth` of `python -m runtime`.

Overlapping: frames a second of `python -m runtime` on a video of the images, beside decoding, segmenting and encoding
one after the other, in turn.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from runtime.errors import UserError, exit_on_user_error
from runtime.image import IMAGE_SUFFIXES, read_rgb
from runtime.segmenter import Segmenter
from runtime.steady import steady
from runtime.video import segment_video
from training.data import scenes

SHIPPED = Path("models/deeplabv3plus_mobilenet_edgetpu_camvid_int8.tflite")
SMOOTH = (1, 2, 3, 5)
NOISE, STEP = 6.0, 2
ROUNDS = 3


def main(argv: list[str] | None = None) -> int:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.video_steadiness", description=(__doc__ or "").splitlines()[0]
    )
    command.add_argument("model", nargs="?", type=Path, default=SHIPPED, metavar="MODEL.tflite")
    command.add_argument("--images", type=Path, metavar="DIR", help="four of them; drawn scenes otherwise")
    command.add_argument("--frames", type=int, default=40, help="of each image (default 40)")
    options = command.parse_args(argv)
    segmenter = Segmenter(options.model).warm_up()
    images = chosen(options.images)
    still = [classes(segmenter, noisy(rgb, options.frames)) for rgb in images]
    moving = [classes(segmenter, panned(rgb, options.frames)) for rgb in images]
    print(
        "\n| --smooth | flicker of a still scene, % of pixels | lag of a moving one, % of pixels |\n|---|---|---|"
    )
    for frames in SMOOTH:
        flicker = statistics.mean(changes(held(ids, frames)) for ids in still)
        lag = statistics.mean(differences(held(ids, frames), ids) for ids in moving)
        print(f"| {frames} | {100 * flicker:.3f} | {100 * lag:.2f} |")
    print(overlapping(segmenter, images, options.frames))
    return 0


def chosen(folder: Path | None) -> list[np.ndarray]:
    if folder is None:
        return [scenes.draw(0, index, (360, 480)).image for index in range(4)]
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise UserError(f"{folder} holds no images: name a folder of them with --images")
    return [read_rgb(path) for path in files[:: max(1, len(files) // 4)][:4]]


def noisy(rgb: np.ndarray, frames: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        np.clip(rgb + rng.normal(0, NOISE, rgb.shape), 0, 255).round().astype(np.uint8) for _ in range(frames)
    ]


def panned(rgb: np.ndarray, frames: int) -> list[np.ndarray]:
    """A window of two thirds of the image's width that moves over it."""
    width = 2 * rgb.shape[1] // 3
    room = rgb.shape[1] - width
    places = [min(STEP * number, room) for number in range(min(frames, room // STEP))]
    return [np.ascontiguousarray(rgb[:, left : left + width]) for left in places]


def classes(segmenter: Segmenter, frames: list[np.ndarray]) -> list[np.ndarray]:
    return [segmenter.segment(frame).ids for frame in frames]


def held(ids: list[np.ndarray], frames: int) -> list[np.ndarray]:
    hold = steady(frames)
    return [hold(one) for one in ids]


def changes(ids: list[np.ndarray]) -> float:
    """The share of pixels that differ from the frame before."""
    return differences(ids[1:], ids[:-1])


def differences(some: list[np.ndarray], others: list[np.ndarray]) -> float:
    return float(np.mean([(one != other).mean() for one, other in zip(some, others, strict=True)]))


def overlapping(segmenter: Segmenter, images: list[np.ndarray], frames: int) -> str:
    """Frames a second of both ways on one video, the medians of three turns each."""
    height, width = images[0].shape[:2]
    with tempfile.TemporaryDirectory() as folder:
        video, shown = Path(folder) / "film.mp4", Path(folder) / "shown.mp4"
        writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (width, height))
        for rgb in images:
            for frame in noisy(cv2.resize(rgb, (width, height)), frames):
                writer.write(np.ascontiguousarray(frame[..., ::-1]))
        writer.release()
        rates: dict[str, list[float]] = {"one after the other": [], "overlapped": []}
        for _ in range(ROUNDS):
            rates["one after the other"].append(in_turn(segmenter, video, shown))
            report = Path(folder) / "shown.json"
            facts = segment_video(segmenter, video, shown, report, 0.5, lambda text: None)
            rates["overlapped"].append(facts["frames_per_second"])
    before, after = (statistics.median(found) for found in rates.values())
    return (
        f"\na video of {width}x{height}: {before:.1f} frames/s one after the other, {after:.1f} overlapped "
        f"({after / before:.2f} times)"
    )


def in_turn(segmenter: Segmenter, video: Path, shown: Path) -> float:
    """Frames a second when each frame is decoded, segmented, drawn and encoded before the next."""
    capture = cv2.VideoCapture(str(video))
    size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    writer = cv2.VideoWriter(str(shown), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, size)
    start, frames = time.perf_counter(), 0
    while True:
        good, frame = capture.read()
        if not good:
            break
        found = segmenter.segment(np.ascontiguousarray(frame[..., ::-1]))
        writer.write(np.ascontiguousarray(found.overlay(0.5)[..., ::-1]))
        np.bincount(found.ids.ravel(), minlength=256)
        frames += 1
    writer.release()
    capture.release()
    return frames / (time.perf_counter() - start)


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
