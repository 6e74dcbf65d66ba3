"""Which backend Keras gets: this project is built on TensorFlow, whatever KERAS_BACKEND or ~/.keras/keras.json say."""

import os
import sys


def choose_tensorflow() -> None:
    """To be called before Keras is imported; of a Keras that is there already the backend cannot be changed."""
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
