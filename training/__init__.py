"""Training, evaluation and the data sets."""

import warnings

# `python -m training.data.scenes` runs a module that the table of data sets has imported already: harmless.
warnings.filterwarnings("ignore", message=".*found in sys.modules after import of package")
