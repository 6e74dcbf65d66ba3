"""Training, evaluation and the data sets."""

import warnings

from runtime.backend import choose_tensorflow

choose_tensorflow()

# `python -m training.data.scenes` runs a module that the table of data sets has imported already: harmless.
warnings.filterwarnings("ignore", message=".*found in sys.modules after import of package")
