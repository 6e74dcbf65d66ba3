"""How a network's images are prepared, which no tensor says: the mean and deviation of each channel, and their order.

Libraries keep it beside the weights (Hugging Face's preprocessor_config.json, mmsegmentation's config, KerasHub's image
converter) or leave it to their user. Here it becomes a part of the graph, so that training, export and device agree.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.convert.options import Options
from zoo.layers import IMAGENET_DEVIATION, IMAGENET_MEAN

Three = tuple[float, float, float]
# What ours do without a word; a preprocessor that states no mean means the same if it is of one of these.
ALIKE = 2e-4
IMAGENETS = ("Segformer", "Mask2Former", "MaskFormer", "OneFormer", "Sam", "Detr", "ConditionalDetr")
ORDERS = ("rgb", "bgr")


@dataclass(frozen=True)
class Inputs:
    """RGB 0..255 times `scale` plus `offset`, by channel, is what a network reads; `bgr`: with blue first. Scale and
    offset are in the order of RGB either way."""

    scale: Three
    offset: Three
    bgr: bool = False

    @property
    def like_imagenet(self) -> bool:
        """Whether it is what ours do without a word, to a small part of a grey level; the order apart."""
        return np.allclose(self.scale, IMAGENET.scale, rtol=ALIKE) and np.allclose(
            self.offset, IMAGENET.offset, atol=ALIKE
        )


def normalised(mean: Any, std: Any, factor: float = 1 / 255, bgr: bool = False) -> Inputs:
    """(image * factor - mean) / std, each a number or one a channel in the order that the network reads.

    Raises ValueError on what is none, and on a std that is not above 0.
    """
    mean, std = _three("mean", mean), _three("std", std)
    if min(std) <= 0 or not math.isfinite(factor) or factor <= 0:
        raise ValueError(
            f"prepares images by a std of {std} and a factor of {factor}, which have to be above 0"
        )
    scale = tuple(factor / deviation for deviation in std)
    offset = tuple(-middle / deviation for middle, deviation in zip(mean, std, strict=True))
    step = -1 if bgr else 1
    return Inputs(scale[::step], offset[::step], bgr)  # type: ignore[arg-type]


def settle(
    said: Inputs | None,
    options: Options,
    mean: Three = IMAGENET_MEAN,
    std: Three = IMAGENET_DEVIATION,
    factor: float = 1 / 255,
) -> Inputs:
    """How images are prepared: as --set says (mean, std, factor, channels), else as `said`, else as the arguments,
    which are then noted as assumed. Mean and std are in the order that the network reads."""
    names = {"mean": mean, "std": std, "factor": factor}
    order = options.take("channels", None if said is None else ORDERS[said.bgr], ORDERS[0])
    if order not in ORDERS:
        raise ValueError(f"has channels in the order rgb or bgr, not {order}")
    bgr = order == ORDERS[1]
    if said is not None and not options.asked.keys() & names.keys():
        options.known |= names
        return said if bgr == said.bgr else Inputs(said.scale[::-1], said.offset[::-1], bgr)
    return normalised(**{name: options.take(name, None, value) for name, value in names.items()}, bgr=bgr)


def of_huggingface(said: Mapping[str, Any] | None) -> Inputs | None:
    """What a preprocessor_config.json says; None where there is none. A key that is missing has the library's default:
    rescale by 1/255, then normalise. Raises ValueError on what makes no sense, and where the mean is missing and the
    processor is not one whose own is ImageNet's."""
    if said is None:
        return None
    factor = _number(said, "rescale_factor", 1 / 255) if _flag(said, "do_rescale") else 1.0
    bgr = _flag(said, "do_flip_channel_order", False)
    if not _flag(said, "do_normalize"):
        return normalised(0.0, 1.0, factor, bgr)
    mean, std = said.get("image_mean"), said.get("image_std")
    kind = str(said.get("image_processor_type") or said.get("feature_extractor_type") or "")
    if (mean is None or std is None) and kind and not kind.startswith(IMAGENETS):
        raise ValueError(
            f"has a {kind[:60]} that states no image_mean and image_std; say them with --set mean=... std=..."
        )
    return normalised(
        IMAGENET_MEAN if mean is None else mean, IMAGENET_DEVIATION if std is None else std, factor, bgr
    )


def _flag(said: Mapping[str, Any], key: str, otherwise: bool = True) -> bool:
    value = said.get(key)
    if value is not None and not isinstance(value, bool):
        raise ValueError(
            f"has {key} {value!r:.60} in its preprocessor's configuration, where true or false should be"
        )
    return otherwise if value is None else value


def _number(said: Mapping[str, Any], key: str, otherwise: float) -> float:
    value = said.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(
            f"has {key} {value!r:.60} in its preprocessor's configuration, where a number should be"
        )
    return otherwise if value is None else float(value)


def _three(name: str, value: Any) -> Three:
    numbers = tuple(value) if isinstance(value, tuple | list) else (value,) * 3
    is_number = [isinstance(one, int | float) and not isinstance(one, bool) for one in numbers]
    if len(numbers) != 3 or not all(is_number) or not all(math.isfinite(one) for one in numbers):
        raise ValueError(f"prepares images by a {name} of {value!r:.80}, where three numbers should be")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


IMAGENET = normalised(IMAGENET_MEAN, IMAGENET_DEVIATION)
