"""LR-ASPP (Howard et al. 2019, arXiv:1905.02244, section 6.4, figure 10): the head of MobileNetV3, on any backbone.

Features at stride 16 are weighed by channel, as squeeze-and-excitation does; their scores and those of finer features
at stride 8 are added. Deviations from the paper:

- The weights come from the mean of the whole map, as in torchvision (`lraspp_mobilenet_v3_large`); the paper has means
  over windows of 49x49, 16 and 20 apart, of maps of 64x128.
- The features of stride 16 are turned into scores before they are resized, not after: both are linear, so the scores
  are the same, and one map a class is resized in place of `filters` ones.
- Resizing is bilinear with half-pixel centres; the reference code aligns corners (`sizes={"align_corners": True}`).
- `size_divisor=16` pads the image within the network (docs/explanation/padding.md).
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

from zoo import backbones, contract, heads
from zoo.layers import conv_norm_relu, cut, padded

# What else torchvision's network has, whose weights load.
VARIANTS = {
    "paper": heads.Variant(),
    "torchvision": heads.Variant(norm_epsilon=1e-5),
}


def lraspp(
    *,
    classes: int = 19,
    image_size: contract.ImageSize = None,
    backbone: str = "mobilenet_v3_large",
    backbone_sizes: Mapping[str, Any] | None = None,
    output_stride: int = 16,
    filters: int = 128,
    size_divisor: int = 1,
    variant: str = "paper",
    sizes: Mapping[str, Any] | None = None,
    batch_norm_momentum: float = 0.99,
) -> keras.Model:
    """LR-ASPP on any backbone: image (B, H, W, 3), RGB 0..255 -> {"logits": (B, H, W, classes) float32}.

    image_size is (H, W), or None for any size; `backbone_sizes` are the `sizes` of backbones.build; `output_stride`
    (8, 16 or 32) is the backbone's stride where the head reads it; `filters` are the head's channels (the paper: 128);
    `size_divisor` see above; `variant` is a row of VARIANTS and `sizes` replaces fields of it. Raises ValueError on a
    value that makes no sense.
    """
    contract.check_classes(classes)
    contract.check_counts(filters=filters, size_divisor=size_divisor)
    momentum = contract.check_fraction("batch_norm_momentum", batch_norm_momentum)
    row = contract.variant(VARIANTS, variant, sizes)

    image = contract.image_input(contract.check_image_size(image_size))
    seen, size = padded(image, size_divisor)
    pyramid = backbones.build(backbone, size, output_stride, momentum, backbone_sizes)(seen)
    x = conv_norm_relu(pyramid["P5"], filters, momentum=momentum, epsilon=row.norm_epsilon, name="head")
    x = layers.Multiply(name="head_weighed")([x, _gate(pyramid["P5"], filters)])  # (B, H/16, W/16, filters)
    x = layers.Conv2D(classes, 1, name="classifier")(x)
    x = row.resize(name="upsample")([x, pyramid["P3"]])  # (B, H/8, W/8, classes)
    low = layers.Conv2D(classes, 1, name="low_level_classifier")(pyramid["P3"])
    x = layers.Add(name="scores")([x, low])
    # In float32 under any dtype policy: what follows are softmax, loss and argmax.
    outputs = {contract.LOGITS: row.resize(dtype="float32", name=contract.LOGITS)([x, seen])}
    return keras.Model(image, cut(outputs, image, size_divisor), name="lraspp")


def _gate(x: Any, filters: int) -> Any:
    """A weight of 0 to 1 a channel from the mean of the map: (B, h, w, C) -> (B, 1, 1, filters)."""
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="gate_mean")(x)
    gate = layers.Conv2D(filters, 1, use_bias=False, kernel_initializer="he_normal", name="gate_conv")(mean)
    return layers.Activation("sigmoid", name="gate_sigmoid")(gate)
