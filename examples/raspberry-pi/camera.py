"""A camera, segmented: `PYTHONPATH=. python examples/raspberry-pi/camera.py MODEL.tflite --show`.

Needs requirements-runtime.txt and, for `--camera picamera2`, Debian's package python3-picamera2. It stops after
`--frames`, at the end of a video, on `q` in the window, or on Ctrl-C, and then says how fast it was.
"""

import argparse
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from runtime import Segmenter
from runtime.errors import UserError, exit_on_user_error
from runtime.fit import FITS, checked_fit
from runtime.signals import noted_signals


def frames(camera: str, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Images, uint8 RGB (H, W, 3): of "picamera2" at `size`, else of a V4L2 number, a device or a video."""
    if camera == "picamera2":
        from picamera2 import Picamera2

        device = Picamera2()
        # picamera2 names formats by their little-endian words: its BGR888 is R, G, B in memory.
        device.configure(device.create_video_configuration({"size": size[::-1], "format": "BGR888"}))
        device.start()
        try:
            while True:
                yield device.capture_array()
        finally:
            device.stop()
    capture = cv2.VideoCapture(int(camera) if camera.isdigit() else camera)
    if not capture.isOpened():
        raise UserError(
            f"the camera {camera} cannot be opened; name picamera2, a number, a device or a video."
        )
    # One frame waiting, not five: an old image of a road is of no use. Drivers that cannot do it say nothing.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    try:
        while True:
            there, bgr = capture.read()
            if not there:
                return
            yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="MODEL.tflite")
    parser.add_argument("--camera", default="0", help="picamera2, a number (default 0), a device or a video")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--fit", default="auto", metavar="|".join(FITS), help="as python -m runtime (auto)")
    parser.add_argument("--frames", type=int, help="stop after so many")
    parser.add_argument("--last", type=Path, help="write the last overlay to this PNG or JPEG")
    parser.add_argument("--show", action="store_true", help="show overlays in a window")
    args = parser.parse_args(argv)
    fit = checked_fit(args.fit, "--fit")
    segmenter = Segmenter(args.model, threads=args.threads).warm_up()
    times, result, number, start = deque(maxlen=1000), None, 0, time.perf_counter()
    with noted_signals() as stop:
        for number, rgb in enumerate(frames(args.camera, segmenter.size), start=1):
            result = segmenter.segment(rgb, fit)
            times.append(result.seconds)
            if args.show:
                cv2.imshow("Kerbside", result.overlay()[..., ::-1])
            if stop or number == args.frames or (args.show and cv2.waitKey(1) == ord("q")):
                break
    if result is None:
        raise UserError(f"the camera {args.camera} gave no image.")
    rate = number / (time.perf_counter() - start)
    print(f"{number} frames, {1000 * np.median(times):.1f} ms each (median), {rate:.1f} frames/s in all")
    if args.last:
        cv2.imwrite(str(args.last), result.overlay()[..., ::-1])
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
