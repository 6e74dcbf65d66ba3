"""Training, evaluation and the data sets."""

import os
import warnings

# TensorFlow's start-up notes (no CUDA driver, oneDNN is on) tell a user nothing; errors still raise in Python.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# `python -m training.data.scenes` runs a module that the table of data sets has imported already: harmless.
warnings.filterwarnings("ignore", message=".*found in sys.modules after import of package")
