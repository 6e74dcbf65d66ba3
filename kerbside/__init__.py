"""Kerbside from Python. Importing it loads neither TensorFlow nor OpenCV: a name fetches what it needs when it is used.

    import kerbside
    model = kerbside.build("deeplabv3plus", classes=19, backbone="mobilenet_v2")     # a keras.Model; wants [train]
    model = kerbside.load("deeplabv3-edgetpu-cityscapes")                             # with its weights; wants [train]
    kerbside.train("deeplabv3plus", data="camvid", data_dir=DIR, epochs=30)           # wants [train], as the next two
    kerbside.evaluate("runs/deeplabv3plus-camvid", tta="flip")
    kerbside.export("runs/deeplabv3plus-camvid", precision="int8")
    kerbside.Segmenter("deeplabv3plus-edgetpu-camvid").segment(rgb).ids

Whoever wants more imports the packages themselves: `zoo`, `training`, `export`, `runtime`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from runtime.version import VERSION as __version__

if TYPE_CHECKING:
    from runtime.segmenter import Segmenter
    from zoo import build
    from zoo.convert.named import load

__all__ = ["Segmenter", "__version__", "build", "evaluate", "export", "load", "train"]

_HOME = {"Segmenter": "runtime.segmenter", "build": "zoo", "load": "zoo.convert.named"}


def train(*words: str, **flags: Any) -> int:
    """`kerbside train`: train("unet", data="folder", data_dir=DIR, set=["variant=plain"]) is what
    `kerbside train unet --data folder --data-dir DIR --set variant=plain` is.

    A list gives a flag several words, True gives the flag alone, None and False leave it out. Prints and writes what
    the command does, and returns its exit code. Raises UserError where the command would end with its sentence.
    """
    return _command("training.train", words, flags)


def evaluate(*words: str, **flags: Any) -> int:
    """`kerbside evaluate`, as `train` is `kerbside train`: evaluate("runs/NAME", split="val")."""
    return _command("training.evaluate", words, flags)


def export(*words: str, **flags: Any) -> int:
    """`kerbside export`, as `train` is `kerbside train`: export("runs/NAME", precision="int8"). A `keras.Model` that
    is no run is exported by `export.keras_model.export_model`."""
    return _command("export.__main__", words, flags)


def _command(module: str, words: tuple[str, ...], flags: dict[str, Any]) -> int:
    line = list(map(str, words))
    for name, value in flags.items():
        if value is None or value is False:
            continue
        several = value if isinstance(value, list | tuple) else [] if value is True else [value]
        line += [f"--{name.replace('_', '-')}", *map(str, several)]
    return int(importlib.import_module(module).main(line) or 0)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'kerbside' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)
