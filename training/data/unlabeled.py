"""Images without labels (--unlabeled DIR): every image below a folder, which a semi-supervised run learns from too."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from runtime.errors import UserError
from runtime.folders import files_below
from runtime.image import IMAGE_SUFFIXES, read_rgb
from training.data import check_files
from training.data.spec import Example


def listed(folder: Path) -> list[Path]:
    """The images below the folder, in order. UserError where there are none."""
    if not folder.is_dir():
        raise UserError(f"--unlabeled {folder} is not a folder: name one that holds images")
    found = files_below(folder, IMAGE_SUFFIXES)
    if not found:
        raise UserError(f"--unlabeled {folder} holds no images; {', '.join(IMAGE_SUFFIXES[:5])} are read")
    return found


def load(
    folder: Path, skip_bad: bool = False, progress: Callable[[int, int], None] | None = None
) -> list[Example]:
    """Its images, each read once; the label of every pixel is 0, so that only what augmentation puts outside the image
    is void. UserError that names the bad ones, or with `skip_bad` without them."""
    examples = [_example(path, path.relative_to(folder).as_posix()) for path in listed(folder)]
    good, problems = check_files.check(examples, [], progress=progress)
    if problems and (not skip_bad or not good):
        raise UserError(check_files.refusal(f"--unlabeled {folder}", problems, len(good)))
    return good


def _example(path: Path, name: str) -> Example:
    def read() -> tuple[np.ndarray, np.ndarray]:
        rgb = read_rgb(path)
        return rgb, np.zeros(rgb.shape[:2], np.uint8)

    return Example(name, read)
