"""What goes in and comes out of every model of the zoo, and the checks on arguments that they share."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import keras

from runtime.class_names import check_number

ImageSize = tuple[int, int] | None
Sizes = TypeVar("Sizes")

IMAGE = "image"  # input: RGB, (B, H, W, 3), uint8 or float, 0..255
LOGITS = "logits"  # output: (B, H, W, classes), float32, at the input's size, before the softmax
AUX_LOGITS = "aux_logits"  # output of an auxiliary head, as the logits, for the loss alone; of several: aux_logits_1...
BOUNDARY_LOGITS = "boundary_logits"  # output of PIDNet's boundary branch: (B, H, W, 1), for the loss alone
DETAIL_LOGITS = "detail_logits"  # output of STDC's detail head: (B, H, W, 1), for the loss alone
# Layers whose last axis is the classes, in Mask2Former with one more for "no object".
HEADS = (
    "classifier", "low_level_classifier", "auxiliary_classifier",
    *(f"auxiliary_{number}_classifier" for number in range(1, 5)), "class_predictor", LOGITS,
)  # fmt: skip
BACKBONE = "backbone"  # name of the nested model that turns the image into a pyramid
LEVELS = ("P2", "P3", "P4", "P5")  # the pyramid, from fine to coarse


def variant(table: Mapping[str, Sizes], name: str, sizes: Mapping[str, Any] | None) -> Sizes:
    """A row of a model's table of variants, a dataclass, with the fields that `sizes` names replaced.

    ValueError on a name or a field that is not there, listing those that are, and on a value of another kind.
    """
    if name not in table:
        raise ValueError(f"unknown variant {name!r}; choose one of {', '.join(table)}")
    row: Any = table[name]
    valid = [field.name for field in fields(row)]
    for size, value in (sizes or {}).items():
        if size not in valid:
            raise ValueError(f"variant {name} has no size {size!r}; it has {', '.join(valid)}")
        _check_like(size, value, getattr(row, size))
    return replace(row, **(sizes or {}))


def image_input(image_size: ImageSize) -> keras.KerasTensor:
    """The input of a model: (B, H, W, 3) float32, with H and W free where image_size is None.

    Keras casts what is fed, uint8 too, to float32 here, whatever the dtype policy: the values of an image
    are rounded by half precision only after the normalisation.
    """
    height, width = image_size or (None, None)
    return keras.Input((height, width, 3), dtype="float32", name=IMAGE)


def check_image_size(image_size: Any) -> ImageSize:
    """(H, W) as two positive ints, or None for any size; ValueError on anything else."""
    if image_size is None:
        return None
    is_pair = isinstance(image_size, Sequence) and not isinstance(image_size, str) and len(image_size) == 2
    if not is_pair or not all(_is_int(side) and side > 0 for side in image_size):
        raise ValueError(f"image_size must be (height, width) in pixels, or None, not {image_size!r}")
    return int(image_size[0]), int(image_size[1])


def check_count(name: str, value: Any, at_least: int = 1) -> int:
    """An int of some least value; ValueError that names the argument on anything else."""
    if not _is_int(value) or value < at_least:
        raise ValueError(f"{name} must be a whole number of at least {at_least}, not {value!r}")
    return int(value)


def check_classes(classes: Any) -> int:
    """2 to 255 of them, because ids are bytes and 255 is void; ValueError on anything else."""
    check_number(check_count("classes", classes, at_least=2))
    return int(classes)


def check_counts(**values: Any) -> None:
    """Every value a whole number of at least 1; ValueError that names the first argument that is none."""
    for name, value in values.items():
        check_count(name, value)


def check_fraction(name: str, value: Any) -> float:
    """A number in [0, 1); ValueError that names the argument on anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, not {value!r}")
    return float(value)


def _check_like(name: str, value: Any, like: Any) -> None:
    """ValueError where a value is not of the kind of another: a flag, a count or a fraction."""
    if isinstance(like, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, not {value!r}")
    elif isinstance(like, int):
        check_count(name, value)
    elif isinstance(like, float):
        check_fraction(name, value)


def check_rates(rates: Any) -> tuple[int, ...]:
    """A tuple of positive atrous rates, or an empty one; ValueError on anything else."""
    is_list = isinstance(rates, Sequence) and not isinstance(rates, str)
    if not is_list or not all(_is_int(rate) and rate > 0 for rate in rates):
        raise ValueError(f"rates must be positive whole numbers, such as (6, 12, 18), not {rates!r}")
    return tuple(int(rate) for rate in rates)


def _is_int(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)
