"""TensorFlow without its start-up notes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


def start_tensorflow() -> None:
    """Import TensorFlow and start its devices, while what C++ writes to stderr is thrown away.

    It is a dozen lines about oneDNN, CUDA and CPU features that TF_CPP_MIN_LOG_LEVEL no longer silences, and a
    user can do nothing about any of them. Errors still come as Python exceptions.
    """
    with _stderr_closed():
        import tensorflow as tf

        tf.zeros(1)


@contextmanager
def _stderr_closed() -> Iterator[None]:
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
