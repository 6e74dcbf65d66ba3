"""KerasCV's backbones as pyramids, by its base classes.

KerasCV's alias classes and presets contact a weight host even when no weights are asked for, so each row
spells out what its base class needs, as the papers and KerasCV's presets have it. Deviations:

- P5 is the pyramid's last level, after the final norm and activation where the network has them (`top`).
- The levels are padded as KerasCV does it: where a side is not a multiple of 32, some of its backbones
  give a level one row or column less than ceil(H / stride).
- Where a stack gives up its stride for dilation, KerasCV dilates its first block too.
- Left out: MiT, whose base class fails on images that are not square, VGG16 and ViTDet, which have no
  pyramid.
"""

import re
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from zoo import contract
from zoo.layers import leaves


@dataclass(frozen=True)
class Base:
    """A base class of keras_cv.models and its arguments.

    `top` names the layer that P5 is taken from, if not KerasCV's own P5; `dilations` are the arguments that
    a smaller output stride adds; `even` says that the class takes even sizes only, and others are padded.
    """

    class_name: str
    arguments: dict[str, Any]
    top: str | None = None
    dilations: dict[int, dict[str, Any]] | None = None
    even: bool = False


RESNET_V2 = {"stackwise_filters": [64, 128, 256, 512], "stackwise_strides": [1, 2, 2, 2]}
RESNET_V2_DILATIONS = {
    16: {"stackwise_dilations": [1, 1, 1, 2]},
    8: {"stackwise_dilations": [1, 1, 2, 4]},
}
MOBILENET_V3_LARGE = {
    "stackwise_expansion": [1, 4, 3, 3, 3, 3, 6, 2.5, 2.3, 2.3, 6, 6, 6, 6, 6],
    "stackwise_filters": [16, 24, 24, 40, 40, 40, 80, 80, 80, 80, 112, 112, 160, 160, 160],
    "stackwise_kernel_size": [3, 3, 3, 5, 5, 5, 3, 3, 3, 3, 3, 3, 5, 5, 5],
    "stackwise_stride": [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1],
    "stackwise_se_ratio": [None] * 3 + [0.25] * 3 + [None] * 4 + [0.25] * 5,
    "stackwise_activation": ["relu"] * 6 + ["hard_swish"] * 9,
}
EFFICIENTNET_V2_B0 = {
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
    "stackwise_kernel_sizes": [3, 3, 3, 3, 3, 3],
    "stackwise_num_repeats": [1, 2, 2, 3, 5, 8],
    "stackwise_input_filters": [32, 16, 32, 48, 96, 112],
    "stackwise_output_filters": [16, 32, 48, 96, 112, 192],
    "stackwise_expansion_ratios": [1, 4, 4, 4, 6, 6],
    "stackwise_squeeze_and_excite_ratios": [0, 0, 0, 0.25, 0.25, 0.25],
    "stackwise_strides": [1, 2, 2, 2, 1, 2],
    "stackwise_conv_types": ["fused", "fused", "fused", "unfused", "unfused", "unfused"],
}
EFFICIENTNET_LITE_B0 = {
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
    "stackwise_kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
    "stackwise_num_repeats": [1, 2, 2, 3, 3, 4, 1],
    "stackwise_input_filters": [32, 16, 24, 40, 80, 112, 192],
    "stackwise_output_filters": [16, 24, 40, 80, 112, 192, 320],
    "stackwise_expansion_ratios": [1, 6, 6, 6, 6, 6, 6],
    "stackwise_strides": [1, 2, 2, 2, 1, 2, 1],
}
BASES = {
    "resnet18_v2": Base(
        "ResNetV2Backbone",
        {**RESNET_V2, "stackwise_blocks": [2, 2, 2, 2], "block_type": "basic_block"},
        top="post_relu",
        dilations=RESNET_V2_DILATIONS,
    ),
    "resnet50_v2": Base(
        "ResNetV2Backbone",
        {**RESNET_V2, "stackwise_blocks": [3, 4, 6, 3], "block_type": "block"},
        top="post_relu",
        dilations=RESNET_V2_DILATIONS,
    ),
    "mobilenet_v3_large": Base("MobileNetV3Backbone", MOBILENET_V3_LARGE),
    "efficientnetv2_b0": Base("EfficientNetV2Backbone", EFFICIENTNET_V2_B0),
    "efficientnetlite_b0": Base("EfficientNetLiteBackbone", EFFICIENTNET_LITE_B0),
    "densenet121": Base("DenseNetBackbone", {"stackwise_num_repeats": [6, 12, 24, 16]}, top="relu"),
    "csp_darknet_s": Base(
        "CSPDarkNetBackbone",
        {"stackwise_channels": [64, 128, 256, 512], "stackwise_depth": [1, 3, 3, 1]},
        even=True,
    ),
}


@keras.saving.register_keras_serializable("kerbside")
class PadToEven(layers.Layer):
    """Add a row or column of zeros where H or W is odd: (B, H, W, C) -> (B, H', W', C)."""

    def call(self, x: Any) -> Any:
        height, width = ops.shape(x)[1:3]
        return ops.pad(x, [[0, 0], [0, height % 2], [0, width % 2], [0, 0]])

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        sides = [side and side + side % 2 for side in x.shape[1:3]]
        return keras.KerasTensor((x.shape[0], *sides, x.shape[3]), dtype=self.compute_dtype)


def keras_cv_backbone(
    base: Base, image_size: contract.ImageSize, output_stride: int, momentum: float
) -> keras.Model:
    """One of BASES: RGB 0..255, which it scales to 0..1 -> P2 to P5 with KerasCV's own channels."""
    import keras_cv.models  # here, because it takes seconds and imports TensorFlow

    image = contract.image_input(image_size)
    inside = contract.image_input(None if base.even else image_size)
    dilations = {} if output_stride == 32 else (base.dilations or {})[output_stride]
    network = getattr(keras_cv.models, base.class_name)(
        **base.arguments, **dilations, include_rescaling=True, input_tensor=inside
    )
    for index, layer in enumerate(leaves(network)):
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = momentum
        # Weights load by name, so a name must not count what else this process has built (conv2d_13).
        layer.name = re.sub(r"^(conv2d|conv_block|residual_block)(_?\d+)?", rf"\1_at{index}", layer.name)
    names = {level: network.pyramid_level_inputs[level] for level in contract.LEVELS}
    names["P5"] = base.top or names["P5"]
    pyramid = {level: network.get_layer(name).output for level, name in names.items()}
    if not base.even:
        return keras.Model(inside, pyramid, name=contract.BACKBONE)
    pyramid = keras.Model(inside, pyramid, name="even")(PadToEven(name="pad_to_even")(image))
    return keras.Model(image, pyramid, name=contract.BACKBONE)
