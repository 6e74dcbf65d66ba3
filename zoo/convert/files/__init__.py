"""Files of strangers, read within bounds and without running anything, and our own HDF5."""
