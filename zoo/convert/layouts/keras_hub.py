"""KerasHub's DeepLabV3ImageSegmenter (DeepLabV3+ on a ResNet): the folder of a preset.

Its preset deeplab_v3_plus_resnet50_pascalvoc, and what people trained from it. The network differs from the paper's,
and ours is built like it: ASPP's rates (6, 12, 18) run on an undilated backbone of stride 32, and the decoder is one
1x1 convolution. It resizes the decoder's features to the image before the classifier, ours the classifier's logits,
which is the same, as both are linear. How the image is scaled is what the preset's own image converter says; where
it has none, raw 0..255. An activation that the preset puts on its output (softmax) is left out: these are logits.

KerasHub can only make sizes that are multiples of 32; ours takes any size.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from zoo.convert import inputs
from zoo.convert.checkpoint import Checkpoint, Match, Tensors
from zoo.convert.options import Options

SOURCE = "KerasHub"
KNOWN = "KerasHub's DeepLabV3ImageSegmenter"
BACKBONE, SEGMENTER = "DeepLabV3Backbone", "DeepLabV3ImageSegmenter"
# What its block types are in zoo.backbones.resnet.
BLOCKS: dict[str, dict[str, Any]] = {
    "basic_block": {"basic": True},
    "bottleneck_block": {},
    "bottleneck_block_vd": {"average_shortcut": True},
}
# Where its .weights.h5 hold the layers of the head.
POOLING = "model/layers/spatial_pyramid_pooling"
PARALLEL = f"{POOLING}/aspp_parallel_channels/sequential"
ENCODER = "model/layers/functional/layers"
VARIABLES = {
    "conv2d": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}
DATASET = re.compile(r"(.*/(conv2d|batch_normalization)(?:_\d+)?)/vars/(\d)")
UNUSED = (r"(model|task)/optimizer/.*",)


def recognise(checkpoint: Checkpoint) -> Match | None:
    """A DeepLabV3ImageSegmenter, or None. Raises ValueError when it is one of options that are not known here."""
    config, task = checkpoint.config, checkpoint.config.get("task") or {}
    if config.get("class_name") != BACKBONE:
        return None
    _refuse_unless(task.get("class_name") == SEGMENTER, "no segmentation head, only a backbone")
    network, encoder = config["config"], config["config"]["image_encoder"]
    _check(network, encoder)
    rates = tuple(network["dilation_rates"])
    tensors = _named(checkpoint.tensors)
    classifier = "task/layers/conv2d"
    _refuse_unless(f"{classifier}/kernel" in tensors, "no weights of its segmentation head (task.weights.h5)")
    # Ours has a bias, theirs has none.
    classes = int(task["config"]["num_classes"])
    tensors = {f"{classifier}/bias": np.zeros(classes, np.float32)} | tensors
    preprocessor = task["config"].get("preprocessor") or {}
    converter = (preprocessor.get("config") or {}).get("image_converter") or config.get("image_converter")
    places = dict(_encoder_places(encoder["config"])) | _head_places(rates) | {"classifier": classifier}
    return Match(
        source=SOURCE,
        model="deeplabv3plus",
        arguments={
            "classes": classes,
            "backbone": "resnet50_v1b",
            "backbone_sizes": _backbone_sizes(encoder["config"]),
            "output_stride": 32,
            "rates": rates,
            "low_level_filters": int(network["projection_filters"]),
            "dropout": 0.0,
            "variant": "keras_hub",
        },
        names=lambda path: places.get(path, path),
        tensors=tensors,
        unused=UNUSED,
        layout="keras",
        inputs=_inputs(converter, checkpoint.options),
    )


def _check(network: Mapping[str, Any], encoder: Mapping[str, Any]) -> None:
    """Raise ValueError on options that deeplabv3plus does not have."""
    layout = encoder["config"]
    _refuse_unless(encoder["class_name"] == "ResNetBackbone", f"the encoder {encoder['class_name']}")
    _refuse_unless(layout["block_type"] in BLOCKS, f"blocks of the type {layout['block_type']!r}")
    _refuse_unless(not layout.get("use_pre_activation"), "a ResNetV2 as its encoder")
    _refuse_unless(list(layout["stackwise_num_filters"]) == [64, 128, 256, 512], "stacks of unusual widths")
    _refuse_unless(list(layout["stackwise_num_strides"]) == [1, 2, 2, 2], "stacks of unusual strides")
    stem = (tuple(layout["input_conv_filters"]), tuple(layout["input_conv_kernel_sizes"]))
    _refuse_unless(stem in (((64,), (7,)), ((32, 32, 64), (3, 3, 3))), f"a stem of {stem[0]} filters")
    levels = (network.get("low_level_feature_key"), network["spatial_pyramid_pooling_key"])
    _refuse_unless(levels == ("P2", "P5"), f"a decoder that joins {levels[0]} and {levels[1]}")
    upsampling = network["upsampling_size"]
    _refuse_unless(upsampling in (8, [8, 8], (8, 8)), f"an upsampling of {upsampling} between P5 and P2")


def _refuse_unless(known: bool, what: str) -> None:
    if not known:
        raise ValueError(f"is a KerasHub DeepLabV3 with {what}, which is not known here")


def _backbone_sizes(layout: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "blocks": tuple(layout["stackwise_num_blocks"]),
        "deep_stem": len(layout["input_conv_filters"]) == 3,
        **BLOCKS[layout["block_type"]],
    }


def _inputs(converter: Mapping[str, Any] | None, options: Options) -> inputs.Inputs:
    """What an image converter multiplies each channel by, and then adds; in old presets from mean and variance. Raw
    0..255, noted as assumed, where there is none."""
    if converter is None:
        return inputs.settle(None, options, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1.0)
    said = converter.get("config", {})
    scale, offset = said.get("scale"), said.get("offset")
    if "mean" in said and "variance" in said:
        deviation = np.sqrt(said["variance"])
        scale = np.asarray(1.0 if scale is None else scale) / deviation
        offset = -np.asarray(said["mean"]) / deviation

    def three(value: Any, default: float) -> inputs.Three:
        red, green, blue = np.broadcast_to(default if value is None else value, 3)
        return float(red), float(green), float(blue)

    return inputs.settle(inputs.Inputs(three(scale, 1.0), three(offset, 0.0)), options)


def _named(tensors: Tensors) -> dict[str, np.ndarray]:
    """The tensors under the names of Keras' variables, which the file only numbers: .../conv2d/vars/0 -> kernel."""
    found = {}
    for name, array in tensors.items():
        numbered = DATASET.fullmatch(name)
        if numbered:
            place, kind, index = numbered.groups()
            name = f"{place}/{VARIABLES[kind][int(index)]}"
        found[name] = array
    return found


def _encoder_places(layout: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Our layers of the backbone and where theirs are: numbered as Keras sorts them, the shortcut's convolution
    just before the last of its block."""
    deep = len(layout["input_conv_filters"]) == 3
    prefixes = ["conv1_1_", "conv1_2_", "conv1_3_"] if deep else ["conv1_"]
    basic = layout["block_type"] == "basic_block"
    for stack, blocks in enumerate(layout["stackwise_num_blocks"]):
        for block in range(blocks):
            convolutions = ["1", "2"] if basic else ["1", "2", "3"]
            if not block and (stack or not basic):
                convolutions.insert(-1, "0")
            prefixes += [f"conv{stack + 2}_block{block + 1}_{convolution}_" for convolution in convolutions]
    for index, prefix in enumerate(prefixes):
        number = f"_{index}" if index else ""
        yield f"{prefix}conv", f"{ENCODER}/conv2d{number}"
        yield f"{prefix}bn", f"{ENCODER}/batch_normalization{number}"


def _head_places(rates: tuple[int, ...]) -> dict[str, str]:
    """Our layers of the head, less "_conv" and "_bn", and where theirs are."""
    branches = ["aspp_1x1", *(f"aspp_rate{rate}" for rate in rates), "aspp_pooling"]
    places = {
        name: (f"{PARALLEL}_{index}/layers" if index else f"{PARALLEL}/layers", "")
        for index, name in enumerate(branches)
    }
    places["aspp_projection"] = (f"{POOLING}/projection/layers", "")
    places["decoder_low_level"] = ("model/layers", "")
    places["decoder_1"] = ("model/layers", "_1")
    found = {}
    for name, (place, number) in places.items():
        found[f"{name}_conv"] = f"{place}/conv2d{number}"
        found[f"{name}_bn"] = f"{place}/batch_normalization{number}"
    return found
