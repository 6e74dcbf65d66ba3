"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597): what the way down leaves out, the way up gets from its side.

Without a backbone it is the paper's own network (figure 1); with one, its pyramid is the way down, and the way
up is that of segmentation_models_pytorch. Deviations from the paper:

- Convolutions are padded ("same"), so that the output covers the whole image; the paper's lose their border
  and crop what they are joined to. Any size goes: pooling rounds up, and the way up takes the size it joins.
- The way up is bilinear resizing and a 1x1 convolution, as in mmsegmentation (UNet-S5-D16), where the paper has
  a transposed 2x2 convolution. Convolutions have batch norm, and so no bias.
- No dropout at the end of the way down. `head_filters` adds mmsegmentation's FCN head, and `auxiliary` its
  second one, which reads the features at half the image's size.
- With a backbone: doubling by nearest neighbour, or bilinearly (`interpolation`), without a convolution, then two 3x3
  convolutions. A level that the backbone lacks (the full size; half of it too where it begins at stride 4) is joined
  by nothing. The classifier is a 3x3 convolution.
- `size_divisor=32` pads the image within the network (docs/explanation/padding.md): on a backbone a matter of ten
  points.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers, ops

from zoo import backbones, contract
from zoo.heads import auxiliary_head
from zoo.layers import (
    TORCH_EPSILON,
    ResizeLike,
    conv_norm_relu,
    cut,
    imagenet_normalisation,
    normalised,
    padded,
    resize,
)


@keras.saving.register_keras_serializable("kerbside")
class DoubleLike(layers.Layer):
    """x, (B, h, w, C), doubled by nearest neighbour, or bilinearly, to a `stride`-th of a reference (B, H, W, ...).

    Sides become ceil(H / stride) and ceil(W / stride). Where that is 2 h or 2 h - 1, position i takes what
    stands at i // 2, as in PyTorch; TFLite's RESIZE_NEAREST_NEIGHBOR agrees at the even size, which is cut.
    """

    def __init__(self, stride: int = 1, interpolation: str = "nearest", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stride = stride
        self.interpolation = interpolation

    def call(self, inputs: list[Any]) -> Any:
        x, reference = inputs
        height, width = (-(-side // self.stride) for side in ops.shape(reference)[1:3])
        if self.interpolation != "nearest":
            return resize(x, (height, width), self.interpolation)
        even = (height + height % 2, width + width % 2)
        x = resize(x, even, "nearest")
        if all(isinstance(side, int) and side % 2 == 0 for side in (height, width)):
            return x  # a slice that cuts nothing would stay in an exported file
        return x[:, :height, :width]

    def compute_output_spec(self, inputs: list[Any]) -> keras.KerasTensor:
        x, reference = inputs
        sides = [side and -(-side // self.stride) for side in reference.shape[1:3]]
        return keras.KerasTensor((x.shape[0], *sides, x.shape[3]), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stride": self.stride, "interpolation": self.interpolation}


def unet(
    *,
    classes: int = 19,
    image_size: contract.ImageSize = None,
    backbone: str | None = None,
    backbone_sizes: Mapping[str, Any] | None = None,
    base_filters: int = 64,
    depth: int = 5,
    decoder_filters: tuple[int, ...] = (256, 128, 64, 32, 16),
    head_filters: int = 0,
    dropout: float = 0.0,
    auxiliary: bool = False,
    auxiliary_filters: int = 64,
    interpolation: str = "nearest",
    size_divisor: int = 1,
    batch_norm_momentum: float = 0.99,
) -> keras.Model:
    """U-Net: image (B, H, W, 3), RGB 0..255 -> {"logits": (B, H, W, classes) float32}.

    image_size is (H, W), or None for any size. Without a backbone, there are `depth` levels, of base_filters
    channels and of twice as many at each level below (the paper: 64 and 5). With one, `backbone_sizes` are the
    `sizes` of backbones.build, and `decoder_filters` those of the five blocks from stride 16 to the full size.
    `interpolation` ("nearest" or "bilinear") is how that way up doubles. Without a backbone, `backbone_sizes` may have
    `scale` and `offset`: image * scale + offset, by channel, then stands in place of ImageNet's normalisation.
    `head_filters` puts a 3x3 convolution before the classifier, 0 none; `dropout` comes before the classifier.
    `auxiliary` adds "aux_logits", as large as the logits, for the loss alone, from a 3x3 convolution of
    `auxiliary_filters`; `size_divisor` see above. Raises ValueError on a value that makes no sense.
    """
    contract.check_classes(classes)
    contract.check_count("base_filters", base_filters)
    contract.check_count("depth", depth, at_least=2)
    contract.check_count("head_filters", head_filters, at_least=0)
    contract.check_counts(auxiliary_filters=auxiliary_filters, size_divisor=size_divisor)
    contract.check_fraction("dropout", dropout)
    momentum = contract.check_fraction("batch_norm_momentum", batch_norm_momentum)
    if interpolation not in ("nearest", "bilinear"):
        raise ValueError(f"interpolation must be 'nearest' or 'bilinear', not {interpolation!r}")
    image_size = contract.check_image_size(image_size)

    image = contract.image_input(image_size)
    seen, size = padded(image, size_divisor)
    if backbone is None:
        filters = [base_filters * 2**level for level in range(depth)]
        pyramid = _encoder(filters, size, momentum, _check_sizes(backbone_sizes))(seen)
        half, full = _plain_decoder(pyramid, filters, momentum)
    else:
        pyramid = backbones.build(backbone, size, 32, momentum, backbone_sizes)(seen)
        half, full = _decoder(seen, pyramid, _check_filters(decoder_filters), momentum, interpolation)
    if head_filters:
        full = conv_norm_relu(full, head_filters, 3, momentum=momentum, epsilon=TORCH_EPSILON, name="head")
    full = layers.Dropout(dropout, name="dropout")(full)
    full = layers.Conv2D(classes, 3 if backbone else 1, padding="same", name="classifier")(full)
    # In float32 under any dtype policy: what follows are softmax, loss and argmax.
    outputs = {contract.LOGITS: layers.Activation("linear", dtype="float32", name=contract.LOGITS)(full)}
    if auxiliary:
        outputs[contract.AUX_LOGITS] = auxiliary_head(
            half, seen, classes, auxiliary_filters, dropout=dropout, momentum=momentum, epsilon=TORCH_EPSILON
        )
    return keras.Model(image, cut(outputs, image, size_divisor), name="unet")


def _encoder(
    filters: Sequence[int], image_size: contract.ImageSize, momentum: float, sizes: Mapping[str, Any]
) -> keras.Model:
    """The paper's way down (figure 1, left): RGB 0..255 -> {"P0": (B, H, W, filters[0]), "P1": ...}."""
    image = contract.image_input(image_size)
    x = normalised(image, imagenet_normalisation, sizes.get("scale"), sizes.get("offset"))
    pyramid = {}
    for level, channels in enumerate(filters):
        if level:
            x = layers.MaxPooling2D(2, padding="same", name=f"level{level}_pool")(x)
        x = pyramid[f"P{level}"] = _two_convolutions(x, channels, momentum, f"level{level}")
    return keras.Model(image, pyramid, name=contract.BACKBONE)


def _plain_decoder(pyramid: Mapping[str, Any], filters: Sequence[int], momentum: float) -> tuple[Any, Any]:
    """The paper's way up (figure 1, right): its features at half and at full size."""
    x = pyramid[f"P{len(filters) - 1}"]
    half = x
    for level in reversed(range(len(filters) - 1)):
        half, skip = x, pyramid[f"P{level}"]
        x = ResizeLike(name=f"up{level}_resize")([x, skip])
        x = conv_norm_relu(
            x, filters[level], 1, momentum=momentum, epsilon=TORCH_EPSILON, name=f"up{level}_halve"
        )
        x = layers.Concatenate(name=f"up{level}_concat")([skip, x])  # (B, H/2^level, W/2^level, 2 * filters)
        x = _two_convolutions(x, filters[level], momentum, f"up{level}")
    return half, x


def _decoder(
    image: Any, pyramid: Mapping[str, Any], filters: Sequence[int], momentum: float, interpolation: str
) -> tuple[Any, Any]:
    """From a backbone's P5 to the image's size, joined by P4 to P1: the features at half and at full size."""
    half = x = pyramid["P5"]
    for level, channels in zip(reversed(range(5)), filters, strict=True):
        half, skip = x, pyramid.get(f"P{level}")
        if skip is None:
            x = DoubleLike(2**level, interpolation, name=f"up{level}_double")([x, image])
        else:
            x = DoubleLike(1, interpolation, name=f"up{level}_double")([x, skip])
            x = layers.Concatenate(name=f"up{level}_concat")([x, skip])
        x = _two_convolutions(x, channels, momentum, f"up{level}")  # (B, H/2^level, W/2^level, channels)
    return half, x


def _two_convolutions(x: Any, filters: int, momentum: float, name: str) -> Any:
    """Twice 3x3 convolution, norm, ReLU: (B, H, W, C) -> (B, H, W, filters)."""
    x = conv_norm_relu(x, filters, 3, momentum=momentum, epsilon=TORCH_EPSILON, name=f"{name}_1")
    return conv_norm_relu(x, filters, 3, momentum=momentum, epsilon=TORCH_EPSILON, name=f"{name}_2")


def _check_sizes(sizes: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """`scale` and `offset` of the paper's own network; ValueError on anything else."""
    for size in sizes or {}:
        if size not in ("scale", "offset"):
            raise ValueError(f"a unet without a backbone has no size {size!r}; it has scale and offset")
    return sizes or {}


def _check_filters(filters: Any) -> tuple[int, ...]:
    """Five positive ints; ValueError on anything else."""
    if not isinstance(filters, Sequence) or isinstance(filters, str) or len(filters) != 5:
        raise ValueError(f"decoder_filters must be five whole numbers, from coarse to fine, not {filters!r}")
    return tuple(contract.check_count("decoder_filters", count) for count in filters)
