"""Ends that several papers share: from features (B, h, w, C) to logits at the image's size."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras import layers

from zoo import contract
from zoo.layers import NORM_EPSILON, ResizeCornersLike, ResizeLike, conv_norm_relu


@dataclass(frozen=True)
class Variant:
    """What the network of a library, whose checkpoints load, has otherwise than ours, whatever its head.

    `norm_epsilon` is that of the head's batch norms (1e-5 in PyTorch); `align_corners` resizes with the centres of the
    corner pixels on one another, as PyTorch's flag of that name and DeepLab's reference code do. Without, pixel centres
    are at half positions, which is LiteRT's own resizing and faster there.
    """

    norm_epsilon: float = NORM_EPSILON
    align_corners: bool = False

    @property
    def resize(self) -> type[ResizeLike]:
        return ResizeCornersLike if self.align_corners else ResizeLike


def logits(
    x: Any,
    image: Any,
    classes: int,
    *,
    resize: type[ResizeLike] = ResizeLike,
    prefix: str = "",
    output: str = contract.LOGITS,
) -> Any:
    """A 1x1 convolution with a bias, then resizing: (B, h, w, C) -> (B, H, W, classes) at the image's size."""
    x = layers.Conv2D(classes, 1, name=f"{prefix}classifier")(x)
    # In float32 under any dtype policy: what follows are softmax, loss and argmax.
    return resize(dtype="float32", name=output)([x, image])


def auxiliary_head(
    x: Any,
    image: Any,
    classes: int,
    filters: int,
    *,
    rate: int = 1,
    dropout: float,
    momentum: float,
    epsilon: float,
    resize: type[ResizeLike] = ResizeLike,
) -> Any:
    """Deep supervision (PSPNet, arXiv:1612.01105, section 3.3): (B, h, w, C) -> "aux_logits" at the image's size.

    Its loss is usually added with a weight of 0.4 to 0.5.
    """
    contract.check_counts(auxiliary_filters=filters, auxiliary_rate=rate)
    x = conv_norm_relu(x, filters, 3, dilation=rate, momentum=momentum, epsilon=epsilon, name="auxiliary")
    x = layers.Dropout(dropout, name="auxiliary_dropout")(x)
    return logits(x, image, classes, resize=resize, prefix="auxiliary_", output=contract.AUX_LOGITS)


def with_auxiliary(
    x: Any,
    pyramid: Mapping[str, Any],
    image: Any,
    classes: int,
    variant: Variant,
    *,
    filters: int | None,
    rate: int = 1,
    level: str = "P4",
    dropout: float,
    momentum: float,
) -> dict[str, Any]:
    """What FCN, DeepLabV3 and DeepLabV3+ put out: the logits of their features x, (B, h, w, C), and, unless `filters`
    is None, those of an auxiliary head on a level of the backbone. ValueError where it has no such level."""
    if level not in pyramid:
        raise ValueError(f"auxiliary_level must be one of {', '.join(pyramid)}, not {level!r}")
    outputs = {contract.LOGITS: logits(x, image, classes, resize=variant.resize)}
    if filters is not None:
        outputs[contract.AUX_LOGITS] = auxiliary_head(
            pyramid[level], image, classes, filters, rate=rate, dropout=dropout, momentum=momentum,
            epsilon=variant.norm_epsilon, resize=variant.resize,
        )  # fmt: skip
    return outputs
