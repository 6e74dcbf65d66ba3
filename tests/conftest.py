"""Fixtures that several files use. What they are made of stands in the modules beside this one."""

import gc
import sys
from collections.abc import Iterator

import pytest

from tests import tiny_tflite as tiny


def pytest_collection_finish() -> None:
    """What was imported stays: collections of garbage need not look at its million objects again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def forgotten(request: pytest.FixtureRequest) -> Iterator[None]:
    """A file's models go with the file. Streamlit collects garbage after each run of the page, Keras now and then:
    with the models of every file before it, that took longer than the tests."""
    yield
    for value in vars(request.module).values():
        if getattr(value, "__module__", "") == request.module.__name__ and hasattr(value, "cache_clear"):
            value.cache_clear()
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session(free_memory=False)
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def mask_bytes() -> bytes:
    """A `.tflite` file of 8x12 pixels whose class is the largest colour channel."""
    return tiny.mask_model()
