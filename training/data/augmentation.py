"""What may happen to a training sample: the numbers alone, without TensorFlow. `training/data/augment.py` does it."""

from dataclasses import dataclass

from runtime import strict_json
from runtime.errors import UserError


def _within(name: str, value: float, most: float) -> None:
    if not 0 <= value <= most:
        raise UserError(f"The augmentation {name} is {value}; 0 to {most:g} is right.")


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training sample. A range of zero width or a probability of 0 switches it off.

    scale: uniform range of the image's magnification, relative to its own size.
    rotation: up to so many degrees either way. flip: probability of mirroring left to right.
    brightness, contrast, saturation: a factor within 1 +- it.
    hue: up to that fraction of a full turn either way.
    blur: probability of a Gaussian blur, blur_sigma: its uniform range in pixels.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    rotation: float = 3.0
    flip: float = 0.5
    brightness: float = 0.25
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.02
    blur: float = 0.1
    blur_sigma: tuple[float, float] = (0.3, 1.2)

    def __post_init__(self) -> None:
        if wrong := strict_json.wrong_field(self):
            raise UserError(f"The augmentation {wrong}.")
        for name in ("scale", "blur_sigma"):  # JSON brings lists
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise UserError(
                    f"The augmentation {name} is {low:g} to {high:g}; two positive numbers, the smaller "
                    "first, are right."
                )
        for name in ("flip", "blur"):
            _within(name, getattr(self, name), 1.0)
        for name in ("brightness", "contrast", "saturation"):
            _within(name, getattr(self, name), 1.0)
        _within("hue", self.hue, 0.5)
        _within("rotation", self.rotation, 180.0)


NONE = Augmentation(
    scale=(1.0, 1.0), rotation=0, flip=0, brightness=0, contrast=0, saturation=0, hue=0, blur=0
)
