"""Training, evaluation and the data sets."""

import os

# TensorFlow's start-up notes (no CUDA driver, oneDNN is on) tell a user nothing; errors still raise in Python.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
