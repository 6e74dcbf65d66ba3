"""TensorFlow without its start-up notes."""

from runtime.errors import UserError
from runtime.stderr import stderr_closed


def start_tensorflow(devices: bool = True) -> None:
    """Import TensorFlow and start its devices, while what C++ writes to stderr is thrown away.

    Without `devices` nothing is started yet: a cluster has to be joined before. What is thrown away is a dozen lines
    about oneDNN, CUDA and CPU features that TF_CPP_MIN_LOG_LEVEL no longer silences, and a user can do nothing about
    any of them. Errors still come as Python exceptions.
    """
    with stderr_closed():
        import keras
        import tensorflow as tf

        if devices:
            tf.zeros(1)
    if keras.backend.backend() != "tensorflow":
        raise UserError(
            f"Keras runs on {keras.backend.backend()} in this process, and training needs TensorFlow: import training "
            "before keras, or set KERAS_BACKEND=tensorflow"
        )
