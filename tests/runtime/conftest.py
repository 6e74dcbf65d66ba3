"""What the tests of the runtime share."""

from pathlib import Path

import pytest

from tests import tiny_tflite as tiny


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, mask_bytes: bytes) -> Path:
    """A file of ours of 8x12 pixels whose class is the largest colour channel."""
    return tiny.write_bundle(tmp_path_factory.mktemp("model") / "tiny.tflite", mask_bytes)
