"""The reference implementations that converted checkpoints are compared with (requirements-parity.txt)."""

import ast
import importlib.util
import json
import os
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WHY = "the references of requirements-parity.txt are not installed"

# The ops of torchvision's C++ library, which the CPU build of PyTorch has no build of: none of them is in a
# segmentation network, but the import wants their names.
TORCHVISION_OPS = (
    "nms",
    "qnms",
    "roi_align",
    "_roi_align_backward",
    "roi_pool",
    "_roi_pool_backward",
    "ps_roi_align",
    "_ps_roi_align_backward",
    "ps_roi_pool",
    "_ps_roi_pool_backward",
    "deform_conv2d",
    "_deform_conv2d_backward",
)


@cache
def torch() -> Any:
    """PyTorch, on one thread."""
    module = pytest.importorskip("torch", reason=WHY)
    module.set_num_threads(1)
    return module


@cache
def torchvision() -> Any:
    """torchvision, whichever build is installed."""
    library = torch().library
    pytest.importorskip("torch", reason=WHY)
    try:
        import torchvision as module
    except RuntimeError:  # its C++ ops do not fit this PyTorch
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        names = library.Library("torchvision", "FRAGMENT")
        for name in TORCHVISION_OPS:
            names.define(f"{name}(Tensor x) -> Tensor")
        _kept.append(names)
        import torchvision as module
    except ImportError:
        pytest.skip(WHY)
    return module


_kept: list[Any] = []  # torch forgets the names of a library that is collected


@cache
def segmentation_models_pytorch() -> Any:
    torchvision()
    return pytest.importorskip("segmentation_models_pytorch", reason=WHY)


@cache
def transformers() -> Any:
    torchvision()
    return pytest.importorskip("transformers", reason=WHY)


@cache
def timm_efficientnet() -> Any:
    torchvision()
    return pytest.importorskip("timm.models.efficientnet", reason=WHY)


@cache
def efficientnet_lite_pytorch() -> Any:
    torch()
    return pytest.importorskip("efficientnet_lite_pytorch", reason=WHY)


@cache
def mmseg() -> Any:
    """mmsegmentation on mmcv-lite: its C++ ops, which none of the networks here uses, are dummies."""

    class Ops(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return lambda *args, **kwargs: None

    torchvision()
    sys.modules.setdefault("mmcv._ext", Ops("mmcv._ext"))
    return pytest.importorskip("mmseg", reason=WHY)


def mmseg_literal(file: str, name: str) -> Any:
    """A table that one of mmsegmentation's files assigns to `name`, read without importing it, which takes seconds.

    `file` is relative to the package; the table is a literal, or dict(...) of literals.
    """
    found = importlib.util.find_spec("mmseg")
    if found is None or found.origin is None:
        pytest.skip(WHY)
    for node in ast.walk(ast.parse((Path(found.origin).parent / file).read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == name
        ):
            value = node.value
            if isinstance(value, ast.Call):
                return {word.arg: ast.literal_eval(word.value) for word in value.keywords}
            return ast.literal_eval(value)
    raise LookupError(f"{file} assigns nothing to {name}")


@cache
def keras_hub() -> Any:
    return pytest.importorskip("keras_hub", reason=WHY)


@cache
def sklearn_metrics() -> Any:
    return pytest.importorskip("sklearn.metrics", reason=WHY)


@cache
def torchmetrics_classification() -> Any:
    torchvision()
    return pytest.importorskip("torchmetrics.functional.classification", reason=WHY)


@cache
def cityscapesscripts() -> Any:
    """The official evaluator of Cityscapes, quiet and writing no file; it calls np.in1d, which NumPy has no more."""
    name = "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling"
    module = pytest.importorskip(name, reason=WHY)
    module.np = types.SimpleNamespace(**vars(np), in1d=np.isin)
    module.args.quiet, module.args.JSONOutput = True, False
    return module


@cache
def pycocotools_coco() -> Any:
    """The class COCO, which reads annotation files."""
    return pytest.importorskip("pycocotools.coco", reason=WHY).COCO


@cache
def cityscapes_painter() -> Any:
    """What paints a *_polygons.json of Cityscapes as label ids: from JSON text to uint8 (H, W)."""
    painter = pytest.importorskip("cityscapesscripts.preparation.json2labelImg", reason=WHY)

    def paint(text: str) -> np.ndarray:
        annotation = painter.Annotation()
        annotation.fromJsonText(text)
        return np.array(painter.createLabelImage(annotation, "ids"))

    return paint


def randomise(module: Any, seed: int = 0) -> Any:
    """Random weights, and BatchNorm statistics that are not 0 and 1, in a PyTorch module in eval mode."""
    generator = torch().Generator().manual_seed(seed)

    def uniform(tensor: Any, low: float, high: float) -> None:
        tensor.uniform_(low, high, generator=generator)

    with torch().no_grad():
        for layer in module.modules():
            if getattr(layer, "running_mean", None) is not None:
                uniform(layer.running_mean, -0.3, 0.3)
                uniform(layer.running_var, 0.5, 1.5)
            is_norm = "Norm" in type(layer).__name__ and getattr(layer, "weight", None) is not None
            if is_norm:
                uniform(layer.weight, 0.6, 1.4)
                uniform(layer.bias, -0.3, 0.3)
        for name, parameter in module.named_parameters():
            if name.endswith("bias") and not parameter.abs().sum():
                uniform(parameter, -0.1, 0.1)
    return module.eval()


def images(height: int, width: int, count: int = 1, seed: int = 0) -> np.ndarray:
    """Random images with something to see in them: smooth colours and noise, uint8 (count, H, W, 3)."""
    import cv2

    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 5, 7, 3), dtype=np.uint8)
    smooth = np.stack([cv2.resize(image, (width, height)) for image in coarse]).astype(np.int64)
    return (smooth + rng.integers(-20, 21, smooth.shape)).clip(0, 255).astype(np.uint8)


def tensors(module: Any) -> dict[str, np.ndarray]:
    """A PyTorch module's state dict as NumPy arrays."""
    return {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}


def assert_parity(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Logits (B, H, W, C) that agree: within 1e-4 of their range, and in the class of 99.99% of the pixels."""
    assert ours.shape == theirs.shape
    scale = float(theirs.max() - theirs.min())
    assert scale > 0 and np.isfinite(ours).all()
    difference = float(np.abs(ours - theirs).max())
    equal = float((ours.argmax(-1) == theirs.argmax(-1)).mean())
    record(difference / scale, equal)
    assert difference < 1e-4 * scale, (
        f"logits differ by {difference:.3g}, {difference / scale:.2g} of their range"
    )
    assert equal >= 0.9999, f"{100 * equal:.3f}% of the pixels have the same class"


def record(difference: float, equal: float) -> None:
    """The largest difference, as a share of the range, and the share of equal pixels, for benchmarks.zoo_table,
    which runs these tests and prints what they measured."""
    if "KERBSIDE_PARITY" in os.environ:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
        with open(os.environ["KERBSIDE_PARITY"], "a", encoding="utf-8") as file:
            file.write(
                json.dumps({"test": test, "difference": float(difference), "equal": float(equal)}) + "\n"
            )
