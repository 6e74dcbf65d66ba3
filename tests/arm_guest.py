"""What runs within the emulator, and beside it for comparison: python -m tests.arm_guest IMAGES.npz IDS.npz FILE ...

IMAGES.npz holds uint8 (N, H, W, 3) for each file, by its number; IDS.npz gets class ids (N, H, W). A folder is SAM's
two files, whose ids are 1 where the mask is of a click into the middle of the image.
"""

import sys
from pathlib import Path

import numpy as np

from runtime import first_run
from runtime.prompted import PromptedSegmenter
from runtime.segmenter import Segmenter


def answers(files: list[Path], images: list[np.ndarray]) -> list[np.ndarray]:
    return [np.stack(_ids(file, batch)) for file, batch in zip(files, images, strict=True)]


def _ids(file: Path, batch: np.ndarray) -> list[np.ndarray]:
    if not file.is_dir():
        segmenter = Segmenter(file, threads=1)
        return [segmenter.segment(rgb).ids for rgb in batch]
    sam = PromptedSegmenter(file / "encoder.tflite", file / "decoder.tflite", threads=1)
    middle = [(batch.shape[2] / 2, batch.shape[1] / 2)]
    masks = [sam.set_image(rgb).predict(points=middle, multimask=False)[0][0] for rgb in batch]
    return [mask.astype(np.uint8) for mask in masks]


if __name__ == "__main__":
    # A file of no hash would be tried in a process of its own first, which an emulator cannot start.
    first_run.once = lambda path, data, threads: None
    given, out, *names = sys.argv[1:]
    with np.load(given) as held:
        batches = [held[str(number)] for number in range(len(names))]
    np.savez(out, **{str(number): ids for number, ids in enumerate(answers([*map(Path, names)], batches))})
