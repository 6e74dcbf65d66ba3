"""The figure of the README: frames of CamVid's `val`, their ground truth, and what the shipped int8 file says.

    python -m benchmarks.camvid_figure CAMVID        # writes docs/images/camvid.jpg, at most 250 kB

CamVid: G. Brostow, J. Fauqueur, R. Cipolla, "Semantic object classes in video", Pattern Recognition Letters 30, 2009.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from runtime.errors import UserError, exit_on_user_error
from runtime.files import write_whole
from runtime.image import colour
from runtime.segmenter import Segmenter
from training import data
from training.data.spec import VOID_ID

MODEL = Path("models/deeplabv3plus_mobilenet_edgetpu_camvid_720x960_int8.tflite")
OUT = Path("docs/images/camvid.jpg")
FRAMES = ("0016E5_07961", "0016E5_08029", "0016E5_08107")
TITLES = ("CamVid val (Brostow et al. 2009)", "ground truth")
WIDTH, HEIGHT, GAP, TITLE = 400, 300, 6, 26
MOST = 250_000


def cell(rgb: np.ndarray, nearest: bool = False) -> np.ndarray:
    return cv2.resize(rgb, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST if nearest else cv2.INTER_AREA)


def write(canvas: np.ndarray, text: str, x: int, y: int) -> None:
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 40, 40), 1, cv2.LINE_AA)


def titles() -> np.ndarray:
    canvas = np.full((TITLE, 3 * WIDTH + 2 * GAP, 3), 255, np.uint8)
    file = f"int8 file, {MODEL.stat().st_size / 1e6:.2f} MB"
    for column, text in enumerate((*TITLES, file)):
        write(canvas, text, column * (WIDTH + GAP) + 4, 18)
    return canvas


def legend(segmenter: Segmenter) -> np.ndarray:
    """One line: a square of each class's colour and its name."""
    canvas = np.full((TITLE + 8, 3 * WIDTH + 2 * GAP, 3), 255, np.uint8)
    x = 4
    for name, shade in zip(segmenter.labels, segmenter.palette, strict=True):
        canvas[12:26, x : x + 14] = shade
        write(canvas, name, x + 19, 24)
        x += 40 + cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0]
    return canvas


def figure(camvid: Path) -> np.ndarray:
    """uint8 (H, W, 3): a row a frame; image, ground truth (black where nothing counts), prediction."""
    segmenter = Segmenter(MODEL, threads=2)
    examples = {example.name: example for example in data.load("camvid", "val", camvid)[1]}
    if missing := [name for name in FRAMES if name not in examples]:
        raise UserError(f"{camvid}: val has no {', '.join(missing)}; give the folder of CamVid at 480x360.")
    rows = [titles()]
    across = np.full((HEIGHT, GAP, 3), 255, np.uint8)
    for name in FRAMES:
        rgb, truth = examples[name].read()
        seen = np.where(truth[..., None] == VOID_ID, 0, colour(truth, segmenter.palette)).astype(np.uint8)
        said = colour(segmenter.segment(rgb).ids, segmenter.palette)
        rows += [np.hstack([cell(rgb), across, cell(seen, True), across, cell(said, True)])]
        rows += [np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)]
    return np.vstack([*rows, legend(segmenter)])


def main(argv: list[str] | None = None) -> int:
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.camvid_figure", description=(__doc__ or "").splitlines()[0]
    )
    command.add_argument(
        "camvid", type=Path, metavar="CAMVID", help="CamVid's folder, as docs/how-to/data.md has it"
    )
    options = command.parse_args(argv)
    picture = cv2.cvtColor(figure(options.camvid), cv2.COLOR_RGB2BGR)
    for quality in range(90, 30, -5):
        done, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if done and len(encoded) <= MOST:
            break
    write_whole(OUT, encoded.tobytes())
    print(f"{OUT}: {len(encoded):,} bytes, quality {quality}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
