"""The shipped weights on CamVid, in every place where an exported file runs: the same class ids.

`pytest tests/export/test_where_it_runs.py -s` prints the table of docs/results/export.md.
"""

import functools
import importlib.util
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
import pytest

from runtime import Segmenter
from tests.elsewhere import (
    CHROMIUM,
    LIBRARY,
    browser_page,
    c_api_output,
    choose,
    mediapipe_segment,
    saved_ids,
    served_page,
)
from tests.exported import exported
from tests.shared import CAMVID, needs
from tests.tiny import REPOSITORY

WEIGHTS = REPOSITORY / "models" / "deeplabv3plus_mobilenet_edgetpu_camvid.weights.h5"
SIZE = (360, 480)
EVERY = 20  # th image of val
SAME = 0.999  # of the pixels

pytestmark = [
    pytest.mark.slow,
    needs(CAMVID),
]


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [example.read()[0] for example in split("val")[::EVERY]]


@functools.cache
def split(name: str) -> Any:
    from training.runs.trained_run import load_split

    return load_split(recipe().data, name)[1]


def recipe() -> Any:
    from training.runs.recipe import Recipe, default_recipe

    row = {**default_recipe("deeplabv3plus", "camvid"), "backbone": "mobilenet_edgetpu"}
    return Recipe.of(**{"model": "deeplabv3plus", "data": "camvid", **row, "data_dir": str(CAMVID)})


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[tuple[str, str], Path]:
    from training.runs.trained_run import Run

    folder = tmp_path_factory.mktemp("exports")
    (folder / "recipe.json").write_text(recipe().to_json(), encoding="utf-8")
    run = Run(folder, recipe(), WEIGHTS)
    # The gate is not what is tested: three images of it do.
    return exported(run, folder, SIZE, split, calibration_images=20, parity_images=3, allow_loss=5)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator[Any]:
    pytest.importorskip("playwright.sync_api", reason="needs the pip package playwright")
    if CHROMIUM is None or shutil.which("npm") is None:
        pytest.skip("needs a browser and npm: apt-get install chromium nodejs npm")
    with served_page(tmp_path_factory.mktemp("web") / "page") as address, browser_page(address) as opened:
        yield opened


def compared(where: str, precision: str, images: list[np.ndarray], ids: Callable, mask: Path) -> None:
    """Print the share of equal pixels over all images, and hold it to the bound."""
    ours = Segmenter(mask)
    same = [float((ids(rgb) == ours.segment(rgb).ids).mean()) for rgb in images]
    print(
        f"\n{where}, {precision}: {100 * np.mean(same):.3f}% of {len(images)} images, worst {100 * min(same):.3f}%"
    )
    assert min(same) >= SAME


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_our_runtime(files, images, precision):
    scores = Segmenter(files[precision, "scores"])
    mask = files[precision, "mask"]
    compared("runtime", precision, images, lambda rgb: scores.segment(rgb).ids, mask)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.skipif(importlib.util.find_spec("mediapipe") is None, reason="needs mediapipe")
def test_mediapipe(files, images, precision):
    def ids(rgb: np.ndarray) -> np.ndarray:
        labels, found, _ = mediapipe_segment(files[precision, "scores"], rgb)
        assert labels == list(Segmenter(files[precision, "mask"]).labels) and len(labels) == 11
        return found

    compared("MediaPipe", precision, images, ids, files[precision, "mask"])


@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.skipif(not LIBRARY.is_file(), reason="no libLiteRt.so")
def test_litert_c_api(files, images, precision):
    for output in ("scores", "mask"):
        path = files[precision, output]

        def ids(rgb: np.ndarray, path: Path = path) -> np.ndarray:
            found = c_api_output(path, rgb)
            return found.argmax(-1) if found.ndim == 3 else found

        compared(f"LiteRT C API, {output} file", precision, images, ids, files[precision, "mask"])


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_browser(files, images, precision, page, tmp_path):
    numbers = itertools.count()

    def ids(rgb: np.ndarray) -> np.ndarray:
        image = tmp_path / f"{precision}-{next(numbers)}.png"
        cv2.imwrite(str(image), rgb[..., ::-1])
        print("\n" + choose(page, files[precision, "scores"], image))
        return saved_ids(page)

    compared("tasks-vision in Chromium", precision, images, ids, files[precision, "mask"])
