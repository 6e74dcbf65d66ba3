"""What a frame of a video costs from the file to the file, stage by stage, beside MediaPipe's ImageSegmenter.

    python -m benchmarks.video_path FILE.tflite [--scores SCORES.tflite] [--sizes 1280x720 1920x1080] [--frames N]

A drawn drive is written as MPEG-4 first. Then each frame is decoded, turned to RGB, laid before the model (resize and
border), run, brought to the frame's size, tinted and encoded, one stage after another, so that each can be timed: wall
milliseconds and those of all threads on a processor, medians. `runtime.video`, which does the same in three threads,
says the frames a second. With --scores, MediaPipe runs that file on the same frames, its class ids tinted and encoded
by the same code: its one call takes the place of what lies between. Segmenting is the model and what lies around it.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from runtime.errors import UserError, exit_on_user_error
from runtime.fit import join_ids
from runtime.image import overlay, resize_ids
from runtime.segmenter import Segmenter
from runtime.video import segment_video
from training.command_line import size as parse_size
from training.data import scenes

RATE, DRAWN = 30.0, (360, 640)  # frames a second; the drawing's size, which is brought to the video's
Stages = dict[str, list[tuple[float, float]]]  # name -> (wall, processor) milliseconds of each frame


def main(argv: list[str] | None = None) -> int:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.video_path", description=(__doc__ or "").splitlines()[0]
    )
    command.add_argument("file", type=Path, metavar="FILE.tflite", help="a mask file")
    command.add_argument("--scores", type=Path, metavar="SCORES.tflite", help="for MediaPipe")
    command.add_argument("--sizes", nargs="+", default=["1280x720", "1920x1080"], metavar="WxH")
    command.add_argument("--frames", type=int, default=60)
    command.add_argument("--threads", type=int, default=2)
    options = command.parse_args(argv)
    if options.frames < 2:
        raise UserError("--frames has to be 2 or more")
    segmenter = Segmenter(options.file, threads=options.threads).warm_up()
    cv2.setNumThreads(options.threads)
    for text in options.sizes:
        width, height = parse_size(text)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            video = folder / "in.mp4"
            write_video(video, (height, width), options.frames)
            report(f"{options.file.name}, {text}", ours(segmenter, video, folder / "out.mp4"), "model")
            if options.scores:
                found = mediapipe(options.scores, segmenter, video, folder / "peer.mp4")
                report(f"MediaPipe, {options.scores.name}, {text}", found, "segment")
            facts = segment_video(
                segmenter, video, folder / "whole.mp4", folder / "whole.json", 0.5, lambda line: None
            )
            print(f"python -m runtime, {text}: {facts['frames_per_second']} frames a second")
    return 0


def write_video(path: Path, size: tuple[int, int], frames: int) -> None:
    """A drawn street that the camera moves along: a window on a larger picture, a few pixels further each frame."""
    height, width = size
    large = cv2.resize(scenes.draw(0, 0, DRAWN).image, (width * 5 // 4, height))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, (width, height))
    for number in range(frames):
        left = number * (large.shape[1] - width) // frames
        writer.write(cv2.cvtColor(large[:, left : left + width], cv2.COLOR_RGB2BGR))
    writer.release()


def decoded(path: Path, stages: Stages) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    while True:
        good, bgr = timed(stages, "decode", capture.read)
        if not good:
            capture.release()
            return
        yield timed(stages, "to RGB", cv2.cvtColor, bgr, cv2.COLOR_BGR2RGB)


def timed(stages: Stages, name: str, work: Callable[..., Any], *what: Any) -> Any:
    wall, processor = time.perf_counter(), time.process_time()
    result = work(*what)
    taken = (1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - processor))
    stages.setdefault(name, []).append(taken)
    return result


def ours(segmenter: Segmenter, video: Path, out: Path) -> Stages:
    """Our own parts, one after another, as `Segmenter.segment` and `runtime.video` put them together."""
    stages: Stages = {}
    writer = None
    for rgb in decoded(video, stages):
        size = rgb.shape[:2]
        place = segmenter.placing(size)
        windows = timed(stages, "letterbox", segmenter.prepare, rgb)
        maps = timed(stages, "model", lambda batch: [segmenter.invoke(one[None]) for one in batch], windows)
        ids = timed(
            stages, "upsample", lambda found, at, to: resize_ids(join_ids(found, at), to), maps, place, size
        )
        writer = drawn(stages, writer, out, rgb, ids, segmenter)
    assert writer is not None
    writer.release()
    return stages


def mediapipe(scores: Path, segmenter: Segmenter, video: Path, out: Path) -> Stages:
    """ImageSegmenter on the frames, in its mode for video."""
    import mediapipe as peer
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageSegmenterOptions(
        base_options=BaseOptions(model_asset_path=str(scores)),
        running_mode=vision.RunningMode.VIDEO,
        output_category_mask=True,
        output_confidence_masks=False,
    )
    stages: Stages = {}
    writer = None
    with vision.ImageSegmenter.create_from_options(options) as task:
        for number, rgb in enumerate(decoded(video, stages)):
            image = peer.Image(image_format=peer.ImageFormat.SRGB, data=rgb)
            moment = int(1000 * number / RATE)
            found = timed(stages, "segment", task.segment_for_video, image, moment)
            ids = found.category_mask.numpy_view().reshape(rgb.shape[:2])
            writer = drawn(stages, writer, out, rgb, ids, segmenter)
    assert writer is not None
    writer.release()
    return stages


def drawn(
    stages: Stages, writer: Any, out: Path, rgb: np.ndarray, ids: np.ndarray, segmenter: Segmenter
) -> Any:
    """Tint and encode a frame; the writer, which the first frame opens."""
    if writer is None:
        side = (rgb.shape[1], rgb.shape[0])
        writer = cv2.VideoWriter(str(out), cv2.VideoWriter.fourcc(*"mp4v"), RATE, side)
    shown = timed(stages, "colour", overlay, rgb, ids, segmenter.palette, 0.5)
    timed(stages, "encode", lambda picture: writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)), shown)
    return writer


def report(title: str, stages: Stages, graph: str) -> None:
    """One row a stage: the median of each, and its share of all."""
    medians = {name: np.median(np.array(taken[1:]), axis=0) for name, taken in stages.items()}
    wall, processor = (sum(float(one[kind]) for one in medians.values()) for kind in (0, 1))
    print(
        f"\n{title}: {wall:.1f} ms a frame, {processor:.1f} on a processor, {1000 / wall:.1f} frames a second\n"
    )
    print("| stage | ms | on a processor, ms | share |\n|---|---|---|---|")
    for name, one in medians.items():
        print(f"| {name} | {one[0]:.2f} | {one[1]:.2f} | {one[1] / processor:.0%} |")
    print(f"\n{graph} is {medians[graph][1] / processor:.0%} of the path")


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
