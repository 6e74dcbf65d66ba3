"""Pretrained weights for a model's backbone: none, published ImageNet weights, or a file."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py
import keras
import numpy as np

from runtime.errors import UserError
from zoo import backbones, contract
from zoo.convert.files import h5, readers, tflite
from zoo.convert.layouts import efficientnet_lite, keras_applications, mobilenet_tflite
from zoo.layers import NORM_EPSILON, leaves

Weights = dict[str, list[np.ndarray]]  # layer name -> its arrays, in the order of layer.weights
APPLICATIONS = "keras.applications' ImageNet weights"


def load_backbone_weights(model: keras.Model, source: str, backbone_name: str) -> None:
    """Load `source` into the backbone of `model`, which is a zoo model or a backbone itself.

    `source` is "none" (random weights stay), "imagenet" (for EfficientNet-Lite what a Python package holds, else
    keras.applications' published weights, downloaded once and cached by Keras) or a path: an HDF5 file (.weights.h5 or
    keras.applications' older .h5, of a keras.applications model, of our backbone, or of a whole zoo model), the
    .tflite of a network on MobileNetV2 or MobileNetEdgeTPU, after which `recalibrate_norms` is due, or an
    EfficientNet-Lite of PyTorch, a file or timm's folder. Raises UserError when the weights cannot be had or do not
    fit; the model is then as it was.
    """
    if source == "none":
        return
    if source == "imagenet":
        weights, told = _imagenet_weights(backbone_name)
    else:
        weights = _read_file(Path(source), backbone_name)
        told = str(source)
    try:
        keras_applications.assign_by_layer_name(_backbone(model), weights)
    except ValueError as error:
        raise UserError(f"{told}, as weights of backbone {backbone_name}, {error}.") from error


def has_folded_norms(model: keras.Model) -> bool:
    """Whether a BatchNorm of the model only adds a bias, as those read from a .tflite do
    (layouts/mobilenet_tflite.py)."""
    for norm in _norms(leaves(model)):
        gamma, _, mean, variance = norm.get_weights()
        # 1e-4: a variance kept as float16; a BatchNorm that has seen nothing has 1
        if (
            (gamma == 1).all()
            and not mean.any()
            and np.allclose(variance, 1 - NORM_EPSILON, rtol=0, atol=1e-4)
        ):
            return True
    return False


def recalibrate_norms(model: keras.Model, images: Iterable[np.ndarray], head: bool = False) -> None:
    """Let each BatchNorm of the backbone, and of the `head` too if asked, hold the mean and variance of what it sees in
    `images`, uint8 (H, W, 3), and change its scale and offset so that it computes what it did: a network whose norms
    were folded into its convolutions can then be trained like any other."""
    backbone = _backbone(model)
    shown = list(images)
    _recalibrate(backbone, _norms(leaves(backbone)), shown)
    if head and model is not backbone:
        _recalibrate(model, _norms(model.layers), shown)


def _norms(layers: Iterable[keras.layers.Layer]) -> list[keras.layers.BatchNormalization]:
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]


def _recalibrate(
    model: keras.Model, norms: Sequence[keras.layers.BatchNormalization], images: Sequence[np.ndarray]
) -> None:
    if not norms:
        return
    seen = keras.Model(model.inputs, [norm.input for norm in norms])
    means, squares = [0.0] * len(norms), [0.0] * len(norms)
    for image in images:
        found = seen([image[None].astype(np.float32)], training=False)
        for place, values in enumerate(found if len(norms) > 1 else [found]):
            flat = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
            means[place] = means[place] + flat.mean(0)
            squares[place] = squares[place] + (flat**2).mean(0)
    count = len(images)
    for norm, mean, square in zip(norms, means, squares, strict=True):
        gamma, beta, old_mean, old_variance = norm.get_weights()
        mean, variance = mean / count, np.maximum(square / count - (mean / count) ** 2, 0)
        unit = gamma / np.sqrt(old_variance + norm.epsilon)
        norm.set_weights(
            [unit * np.sqrt(variance + norm.epsilon), beta + unit * (mean - old_mean), mean, variance]
        )


def _backbone(model: keras.Model) -> keras.Model:
    return model if model.name == contract.BACKBONE else model.get_layer(contract.BACKBONE)


def _imagenet_weights(backbone_name: str) -> tuple[Weights, str]:
    """Layer name -> arrays, from an installed package or of the keras.applications model that belongs to the backbone,
    downloaded; and whose they are, in words."""
    if backbone_name in efficientnet_lite.PACKAGES:
        path = efficientnet_lite.installed(backbone_name)
        return _read_torch(path, backbone_name), str(path)
    application = backbones.BACKBONES[backbone_name].keras_application
    if application is None:
        applications = [name for name, row in backbones.BACKBONES.items() if row.keras_application]
        raise UserError(
            f"backbone {backbone_name} has no published ImageNet weights; "
            f'give a file or "none", or choose one of {", ".join((*applications, *efficientnet_lite.PACKAGES))}.'
        )
    try:
        source = getattr(keras.applications, application)(
            include_top=False, weights="imagenet", input_shape=(224, 224, 3)
        )
    except Exception as error:  # Keras raises a bare Exception for a download that failed
        reason = " ".join(str(error).split())
        raise UserError(
            f"the ImageNet weights of {backbone_name} could not be downloaded ({reason}); "
            "without a network, give a FILE with --backbone-weights, or none."
        ) from error
    return {layer.name: layer.get_weights() for layer in source.layers}, APPLICATIONS


def _read_file(path: Path, backbone_name: str) -> Weights:
    """Layer name -> arrays of a weights file, in the order of layer.weights."""
    if (path / readers.KERAS_HUB["model"]).is_file():  # a preset
        path = path / readers.KERAS_HUB["model"]
    is_torch = path.suffix in readers.SUFFIXES or (path / readers.CONFIG).is_file()
    if not path.is_file() and not is_torch:
        raise UserError(
            f"backbone weights {path}: there is no such file; give a .weights.h5 file, a .tflite, a .pth, "
            '"imagenet" or "none".'
        )
    if is_torch:
        return _read_torch(path, backbone_name)
    if path.suffix == tflite.SUFFIX:
        try:
            return mobilenet_tflite.read(path, backbone_name)
        except ValueError as error:
            raise UserError(f"backbone weights {path}: it {error}.") from error
    with h5.opened(path) as file:
        weights = _read_layers(file)
    if not weights:
        raise UserError(
            f"backbone weights {path}: an HDF5 file without Keras layers; give a .weights.h5 file."
        )
    return weights


def _read_torch(path: Path, backbone_name: str) -> Weights:
    try:
        return efficientnet_lite.read(path, backbone_name)
    except ValueError as error:
        raise UserError(f"backbone weights {path}: it {error}.") from error


def _read_layers(file: h5py.File) -> Weights:
    """Both of Keras' layouts name their layers: Keras 3 in `name` of each group `vars`, older ones as groups.

    Keras' own loader goes by counters such as batch_normalization_3 instead, which shift as soon as one layer
    is left out.
    """
    weights: Weights = {}

    def visit(_path: str, group: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(group, h5py.Group):
            return
        if "weight_names" in group.attrs:  # keras.applications' older files; the names are paths in the group
            names = list(dict.fromkeys(group.attrs["weight_names"]))
            weights[group.name.strip("/")] = [group[name][()] for name in names]
        elif "name" in group.attrs and len(group):
            # 0, 1, ... 10: the order of layer.weights, as numbers, not as text
            weights[group.attrs["name"]] = [group[key][()] for key in sorted(group, key=int)]

    file.visititems(visit)
    return weights
