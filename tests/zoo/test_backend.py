"""Keras as this project needs it, whatever the environment and keras.json say."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import REPOSITORY

LOOK = """
import training, zoo, keras
model = zoo.build("deeplabv3plus", classes=3, backbone="mobilenet_v2")
print(keras.backend.backend(), keras.config.floatx(), keras.config.epsilon(), model.inputs[0].shape, model.dtype)
"""


def test_other_settings_of_keras_change_nothing(tmp_path: Path) -> None:
    """A user's other projects may run on torch, channels first, in 64 bits."""
    settings = {
        "image_data_format": "channels_first",
        "floatx": "float64",
        "backend": "torch",
        "epsilon": 0.1,
    }
    (tmp_path / "keras.json").write_text(json.dumps(settings), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        cwd=REPOSITORY,
        env={**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[0] == "tensorflow float32 1e-07 (None, None, None, 3) float32"


@pytest.mark.parametrize(("given", "found"), [(None, "1"), ("0", "0")])
def test_onednn_is_asked_for_on_x86_unless_the_user_says_otherwise(given: str | None, found: str) -> None:
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("oneDNN is asked for on x86-64 alone")
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    if given is not None:
        environment["TF_ENABLE_ONEDNN_OPTS"] = given
    code = "import zoo, os; from tensorflow.python.framework import test_util; "
    code += "print(os.environ['TF_ENABLE_ONEDNN_OPTS'], int(test_util.IsMklEnabled()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == [found, found], done.stderr[-2000:]
