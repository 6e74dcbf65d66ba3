"""Which backend Keras gets, and how it computes: this project is built on TensorFlow, whatever KERAS_BACKEND or
~/.keras/keras.json say."""

import os
import platform
import sys

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"


def choose_tensorflow() -> None:
    """To be called before Keras is imported; of a Keras that is there already the backend cannot be changed.

    oneDNN's kernels are chosen too, unless the variable is set: TensorFlow takes them by itself only on x86-64 with
    AVX-512 or AMX, and without them a training step takes 1.4 to 1.9 times as long on AVX2 (docs/results.md).
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    if "tensorflow" not in sys.modules and platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault(ONEDNN, "1")
