"""The MobileNet of a `.tflite` -> weights of our backbone: MobileNetV2, such as that of MLPerf Mobile's DeepLabV3+ on
ADE20K, and MobileNetEdgeTPU, such as that of Coral's DeepLab on Cityscapes.

Such a file's convolutions come in the order of the network, quantised or not, their BatchNorms folded into
them. The kernels here are the folded ones and each BatchNorm passes its input on, plus the bias: the same function,
but not yet one to train with, as BatchNorm then divides by what it sees (backbone_weights.recalibrate_norms).
"""

from pathlib import Path

import numpy as np

from zoo.backbones import edgetpu, mobilenet
from zoo.convert.files import tflite
from zoo.layers import NORM_EPSILON

# Backbone -> the names of its convolutions, in the order of the network.
NAMES = {
    "mobilenet_v2": mobilenet.convolution_names,
    "mobilenet_edgetpu": edgetpu.convolution_names,
}


def read(path: Path, backbone: str) -> dict[str, list[np.ndarray]]:
    """Layer name of our backbone -> its arrays, float32. ValueError when the file holds too few convolutions for it, or
    the backbone is not one of NAMES; whether their shapes fit is for who assigns them to see."""
    if backbone not in NAMES:
        raise ValueError(f"is a .tflite, which is read for {' and '.join(NAMES)}, not for {backbone}")
    found = tflite.read(path).convolutions
    names = NAMES[backbone]()
    if len(found) < len(names):
        raise ValueError(f"has {len(found)} convolutions; {backbone} has {len(names)}")
    weights: dict[str, list[np.ndarray]] = {}
    for name, convolution in zip(names, found, strict=False):
        weights |= {name: [convolution.kernel], norm_name(name): list(norm(convolution.bias).values())}
    return weights


def norm(bias: np.ndarray) -> dict[str, np.ndarray]:
    """The variables of a BatchNorm that adds a bias, (filters,), and does nothing else, in the order of the layer's."""
    one, zero = np.ones_like(bias), np.zeros_like(bias)
    return {
        "gamma": one,
        "beta": bias,
        "moving_mean": zero,
        "moving_variance": one * np.float32(1 - NORM_EPSILON),
    }


def norm_name(convolution: str) -> str:
    """The BatchNorm behind a convolution."""
    return "bn_Conv1" if convolution == "Conv1" else f"{convolution}_BN"
