"""Exported files through LiteRT's C API (`libLiteRt.so` of the ai-edge-litert wheel), called as a C program would."""

import ctypes
from pathlib import Path

import numpy as np
import pytest

from runtime import Segmenter
from tests.elsewhere import LIBRARY, c_api_output, opened
from tests.exported import NAMES, colour_files

SIZE = (96, 128)
pytestmark = pytest.mark.skipif(
    not LIBRARY.is_file(), reason="this platform's ai-edge-litert has no libLiteRt.so"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[tuple[str, str], Path]:
    return colour_files(tmp_path_factory.mktemp("runs"), SIZE)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_class_ids_are_those_of_our_runtime(files, precision):
    rgb = np.random.default_rng(6).integers(0, 256, (*SIZE, 3), np.uint8)
    ours = Segmenter(files[precision, "mask"]).segment(rgb).ids
    mask = c_api_output(files[precision, "mask"], rgb)
    scores = c_api_output(files[precision, "scores"], rgb)
    assert (mask.dtype, mask.shape) == (np.uint8, SIZE) and len(np.unique(mask)) == len(NAMES)
    assert (scores.dtype, scores.shape) == (np.float32, (*SIZE, len(NAMES)))
    assert min((mask == ours).mean(), (scores.argmax(-1) == ours).mean()) >= 0.999


def test_the_metadata_is_there(files):
    """LiteRT finds the ModelMetadata under its name: a flatbuffer with its identifier."""
    place, size = ctypes.c_void_p(), ctypes.c_size_t()
    with opened(files["int8", "scores"]) as (library, _, model):
        ends = ctypes.byref(place), ctypes.byref(size)
        library.call("LiteRtGetModelMetadata", model, b"TFLITE_METADATA", *ends)
        content = ctypes.string_at(place, size.value)
    assert content[4:8] == b"M001" and b"labels.txt" in content
