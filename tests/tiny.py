"""Small real data and small real models that several tests share."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from runtime.errors import exit_on_user_error

REPOSITORY = Path(__file__).parents[1]

# DeepLabV3+ as small as it gets: what is tested is the way through the code, not the scores.
TINY_MODEL = ["--backbone", "mobilenet_v2", "--set", "rates=1,2", "aspp_filters=8", "decoder_filters=8",
              "low_level_filters=8", "--backbone-weights", "none"]  # fmt: skip


def write_camvid(folder: Path, train: int = 6, val: int = 2, size: tuple[int, int] = (48, 64)) -> Path:
    """Images in CamVid's layout whose colour tells the class, so that a model can learn them."""
    rng = np.random.default_rng(7)
    colours = rng.integers(0, 256, (12, 3))
    for split, count in (("train", train), ("val", val)):
        for kind in (split, f"{split}annot"):
            (folder / kind).mkdir(parents=True)
        for index in range(count):
            coarse = rng.integers(0, 12, (3, 4)).astype(np.uint8)
            ids = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
            noise = rng.normal(0, 8, (*size, 3))
            image = np.clip(colours[ids] + noise, 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / split / f"{index:03d}.png"), image[..., ::-1])
            cv2.imwrite(str(folder / f"{split}annot" / f"{index:03d}.png"), ids)
    return folder


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}


def run(cwd: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A real second process, as a user starts it."""
    return subprocess.run(
        command(module, *arguments), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=600
    )


def called(main: Callable[[list[str]], int], *arguments: object) -> int:
    """The exit code of a command that is called in this process."""
    return exit_on_user_error(main, [str(argument) for argument in arguments])


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One sentence on stderr, exit code 2, no traceback."""
    assert done.returncode == 2, (done.returncode, done.stdout[-500:], done.stderr[-2000:])
    assert "Traceback" not in done.stderr + done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: "), done.stderr
    for word in words:
        assert word in last, last
