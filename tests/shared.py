"""What lies beside the repository and is no part of it: data sets, published files, and files made to do harm.

The environment variable KERBSIDE_SHARED names the folder; without it, it is `../shared`. A test that needs something
of it skips where that is not there, and says so.
"""

import os
from pathlib import Path

import pytest

from tests.tiny import REPOSITORY

SHARED = Path(os.environ.get("KERBSIDE_SHARED") or REPOSITORY.parent / "shared")
CAMVID = SHARED / "data" / "camvid"
PEERS = SHARED / "peers"  # published `.tflite` files
CASES = SHARED / "cases"  # files that no reader may fall for
WEIGHTS = SHARED / "weights"


def missing(path: Path) -> str:
    return f"{path} is not there; KERBSIDE_SHARED names the folder that would have it"


def needs(*paths: Path) -> pytest.MarkDecorator:
    """The mark of a test that skips unless all of them are there."""
    absent = [path for path in paths if not path.exists()]
    return pytest.mark.skipif(bool(absent), reason=missing(absent[0]) if absent else "")


def present(path: Path) -> Path:
    """The path, or the end of the test that asks for it."""
    if not path.exists():
        pytest.skip(missing(path))
    return path
