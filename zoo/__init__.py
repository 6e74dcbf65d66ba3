"""The model zoo: MODELS is the table, `build` makes a model from it. Keras 3 only, no files read."""

import importlib
import typing
from collections.abc import Callable, Mapping
from typing import Any

from runtime.backend import choose_tensorflow
from runtime.stderr import stderr_closed

with stderr_closed():  # TensorFlow under Keras starts with notes that nobody can act upon
    choose_tensorflow()
    import keras

    # What every model here is written for, whatever ~/.keras/keras.json says.
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)

from zoo import heads
from zoo.bisenetv2 import bisenetv2
from zoo.ddrnet import ddrnet
from zoo.deeplabv3 import Variant as DeepLabV3
from zoo.deeplabv3 import deeplabv3
from zoo.deeplabv3plus import Variant as DeepLabV3Plus
from zoo.deeplabv3plus import deeplabv3plus
from zoo.fcn import Variant as Fcn
from zoo.fcn import fcn
from zoo.lraspp import lraspp
from zoo.mask2former import mask2former
from zoo.pidnet import pidnet
from zoo.sam import sam
from zoo.segformer import segformer
from zoo.stdc import stdc
from zoo.threshold import otsu, threshold
from zoo.unet import unet

MODELS: dict[str, Callable[..., keras.Model]] = {
    "deeplabv3plus": deeplabv3plus,
    "deeplabv3": deeplabv3,
    "fcn": fcn,
    "lraspp": lraspp,
    "unet": unet,
    "segformer": segformer,
    "ddrnet": ddrnet,
    "pidnet": pidnet,
    "bisenetv2": bisenetv2,
    "stdc": stdc,
    "mask2former": mask2former,
    "sam": sam,
    "threshold": threshold,
    "otsu": otsu,
}

# What a library's network has otherwise: fields that `build` takes as keywords too: configs and recipes name them so.
VARIANTS: dict[str, type[heads.Variant]] = {
    "deeplabv3plus": DeepLabV3Plus,
    "deeplabv3": DeepLabV3,
    "fcn": Fcn,
    "lraspp": heads.Variant,
}

# Keywords that had another name before 0.2: configs, recipes and --set may still use it.
FORMER = {"multiple": "size_divisor"}


def __getattr__(name: str) -> Any:
    """`load`, which reads files, is zoo.convert's: zoo.load("deeplabv3-edgetpu-cityscapes") is a model with its
    weights."""
    if name == "load":
        return importlib.import_module("zoo.convert.named").load
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def names() -> tuple[str, ...]:
    """The names that `build` knows."""
    return tuple(MODELS)


def build(name: str, **arguments: Any) -> keras.Model:
    """A model of the zoo, ready to compile: image (B, H, W, 3), RGB 0..255 -> {"logits": (B, H, W, classes)}.

    The keywords are those of the model's own function and the fields of its variant, which go into `sizes`;
    ValueError lists the valid names or keywords when one is not among them. Given `images` (N, H, W, 3) uint8 and
    `labels` (N, H, W) uint8 with 255 where nothing counts, this trains, predicts and saves by hand:

        model = zoo.build("deeplabv3plus", classes=19, backbone="mobilenet_v2")
        model.compile(
            keras.optimizers.AdamW(1e-3),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255),
            metrics=[keras.metrics.MeanIoU(19, sparse_y_pred=False, ignore_class=255)],
            jit_compile=False,  # XLA is many times slower on a CPU
        )
        model.fit(images, labels, batch_size=8, epochs=10)
        masks = model.predict(images)["logits"].argmax(-1)
        model.save_weights("model.weights.h5")
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; choose one of {', '.join(MODELS)}")
    arguments = renamed(arguments)
    valid = keywords(name)
    for argument in arguments:
        if argument not in valid:
            raise ValueError(f"{name} has no argument {argument!r}; it takes {', '.join(valid)}")
    return MODELS[name](**_with_sizes(name, arguments))


def renamed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of `build` by their names of today."""
    return {FORMER.get(key, key): value for key, value in arguments.items()}


def keywords(name: str) -> dict[str, Any]:
    """Those that `build` takes for a model, and the types of their values."""
    hints = typing.get_type_hints(MODELS[name])
    hints.pop("return")
    return {**hints, **(typing.get_type_hints(VARIANTS[name]) if name in VARIANTS else {})}


def _with_sizes(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with the fields of the model's variant among its `sizes`."""
    fields = typing.get_type_hints(VARIANTS[name]) if name in VARIANTS else {}
    given = {key: value for key, value in arguments.items() if key in fields}
    if not given:
        return dict(arguments)
    others = {key: value for key, value in arguments.items() if key not in fields}
    return {**others, "sizes": {**(arguments.get("sizes") or {}), **given}}
