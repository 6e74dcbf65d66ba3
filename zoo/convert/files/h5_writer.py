"""A model's weights as the bytes of a .weights.h5 file, made in memory.

HDF5 does not survive a disk that is full: h5py leaves tracebacks at exit, or the process dies by SIGSEGV. So no file of
ours is written by it: whoever gets these bytes writes them like any others.
"""

import io
from typing import Any

import h5py
import keras
import numpy as np

from zoo import keras_private


def weights_bytes(model: keras.Model, half: bool = False) -> bytes:
    """What `model.save_weights` would write; with `half` each float32 array as float16, in half the bytes."""
    buffer = io.BytesIO()
    keras_private.write_weights(model, buffer)
    return _halved(buffer) if half else buffer.getvalue()


def _halved(whole: io.BytesIO) -> bytes:
    """Every float32 array of an HDF5 file as float16; Keras takes either."""
    buffer = io.BytesIO()
    with h5py.File(whole) as source, h5py.File(buffer, "w") as target:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                array = item[()].astype(np.float16) if item.dtype == np.float32 else item[()]
                kept = target.create_dataset(name, data=array)
            else:
                kept = target.require_group(name)
            kept.attrs.update(item.attrs)

        target.attrs.update(source.attrs)
        source.visititems(copy)
    return buffer.getvalue()
