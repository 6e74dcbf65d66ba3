"""Google Coral's DeepLab slim on MobileNetEdgeTPU, `deeplab_mobilenet_edgetpu_slim_cityscapes_quant.tflite`: the whole
network, which is DeepLabV3 as DeepLab's reference code has it on small backbones (tensorflow/models, research/deeplab,
Apache-2.0): ASPP of a 1x1 convolution and the image's mean alone, no decoder, corners aligned, sides of 16 n + 1.

What is read is its 8-bit weights, as the numbers that they stand for; the steps of its activations are not
kept, so that the network computes in float what the file rounds at each layer. The file names no classes: of
19, they are Cityscapes'. Its BatchNorms are folded; what is loaded passes on what it is given, plus the bias,
until `backbone_weights.recalibrate_norms` has shown it images.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.backbones import edgetpu
from zoo.convert import inputs
from zoo.convert.checkpoint import Checkpoint, Match
from zoo.convert.files.tflite import Convolution, Network
from zoo.convert.layouts import mobilenet_tflite

KNOWN = "Coral's DeepLab slim on MobileNetEdgeTPU (.tflite)"
SOURCE = "Google Coral"
GRAPH = "tflite"  # the key of Checkpoint.meta
HEAD = ("aspp_1x1", "aspp_pooling", "aspp_projection")  # and the classifier, which has no norm
STRIDE = 16
DILATED = ("block_18_depthwise", "block_19_depthwise", "block_20_depthwise", "block_21_depthwise")
# Train ids of Cityscapes, with its own colours.
CITYSCAPES = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}


def recognise(checkpoint: Checkpoint) -> Match | None:
    """The network of a `.tflite`; None of another file. Raises ValueError on a `.tflite` of another network."""
    network = checkpoint.meta.get(GRAPH)
    if not isinstance(network, Network):
        return None
    named = _named(network)
    classes = named["classifier"].bias.size
    said = None
    if network.scale is not None:
        offset = -network.zero * network.scale
        said = inputs.Inputs((network.scale,) * 3, (offset,) * 3)
    prepared = inputs.settle(said, checkpoint.options, (127.5,) * 3, (127.5,) * 3, 1.0)
    is_cityscapes = classes == len(CITYSCAPES)
    return Match(
        source=SOURCE,
        model="deeplabv3",
        arguments={
            "classes": classes,
            "backbone": "mobilenet_edgetpu",
            "backbone_sizes": {"top": edgetpu.TOP, "scale": prepared.scale, "offset": prepared.offset},
            "output_stride": STRIDE,
            "rates": (),
            "aspp_filters": named["aspp_1x1"].bias.size,
            "size_divisor": STRIDE,
            "variant": "deeplab",
        },
        names=lambda path: path,
        tensors=_tensors(named, network),
        layout="keras",
        classes=tuple(CITYSCAPES) if is_cityscapes else None,
        palette=tuple(CITYSCAPES.values()) if is_cityscapes else None,
        inputs=prepared,
    )


def _named(network: Network) -> Mapping[str, Convolution]:
    """Each convolution by the name of our layer. Raises ValueError where they are not those of this network."""
    names = [*edgetpu.convolution_names(), "top"]
    body, head = network.convolutions[: len(names)], network.convolutions[len(names) :]
    pooled = [convolution for convolution in head if convolution.size == (1, 1)]
    others = [convolution for convolution in head if convolution.size != (1, 1)]
    named = {
        **dict(zip(names, body, strict=False)),
        **dict(zip((HEAD[0], HEAD[2], "classifier"), others, strict=False)),
        **dict(zip(HEAD[1:2], pooled, strict=False)),
    }
    strides = int(np.prod([convolution.stride for convolution in body], dtype=np.int64))
    dilated = tuple(name for name, convolution in named.items() if convolution.rate > 1)
    alike = strides == STRIDE and dilated == DILATED and network.align_corners and len(network.joined) == 1
    if not alike or len(others) != 3 or len(pooled) != 1:
        raise ValueError(
            f"is a .tflite of another network ({len(network.convolutions)} convolutions): read whole is {KNOWN}; a "
            "MobileNetV2 or MobileNetEdgeTPU in it can be a backbone (training.train --backbone-weights)"
        )
    return named


def _tensors(named: Mapping[str, Convolution], network: Network) -> dict[str, np.ndarray]:
    """Every variable of our model by its path: kernels, the bias of each as a norm's, and the classifier's own."""
    tensors: dict[str, Any] = {}
    for name, convolution in named.items():
        kernel = convolution.kernel
        if name == "classifier":
            tensors |= {f"{name}/kernel": kernel, f"{name}/bias": convolution.bias}
            continue
        layer, norm = (f"{name}_conv", f"{name}_bn") if name in HEAD else (name, f"{name}_BN")
        if name == "aspp_projection" and _pooling_first(named, network):
            half = kernel.shape[2] // 2  # ours joins the 1x1 first, then the mean
            kernel = np.concatenate([kernel[:, :, half:], kernel[:, :, :half]], axis=2)
        tensors[f"{layer}/kernel"] = kernel
        tensors |= {f"{norm}/{key}": value for key, value in mobilenet_tflite.norm(convolution.bias).items()}
    return tensors


def _pooling_first(named: Mapping[str, Convolution], network: Network) -> bool:
    """Whether the mean of the image stands before the 1x1 in what is projected."""
    order = [network.convolutions[place].output for place in network.joined[0] if place >= 0]
    outputs = [named[name].output for name in HEAD[:2]]
    if sorted(order) != sorted(outputs):
        raise ValueError("joins other maps than those of ASPP before its projection")
    return order == outputs[::-1]
