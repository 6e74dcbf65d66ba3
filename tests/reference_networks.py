"""Small networks of the libraries whose checkpoints are converted, with random weights; each of their packages is
imported when one is asked for."""

from pathlib import Path
from typing import Any

import numpy as np

import zoo
from tests import references
from zoo.convert import assign, recognise
from zoo.convert.checkpoint import Checkpoint


def torchvision_network(model: str, **options):
    """One of torchvision's, as it puts them together, on a ResNet of six blocks."""
    library = references.torchvision()
    resnet, segmentation = library.models.resnet, library.models.segmentation
    references.torch().manual_seed(3)
    backbone = resnet.ResNet(
        resnet.Bottleneck, [1, 1, 2, 2], replace_stride_with_dilation=[False, True, True]
    )
    assemble = {"deeplabv3": segmentation.deeplabv3._deeplabv3_resnet, "fcn": segmentation.fcn._fcn_resnet}
    return references.randomise(assemble[model](backbone, **options))


def torchvision_outputs(module: Any, image: np.ndarray) -> dict[str, np.ndarray]:
    """What a network of torchvision gives for RGB images, uint8 (B, H, W, 3): (B, H, W, C) each."""
    torch = references.torch()
    mean, deviation = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
    pixels = ((image / 255 - mean) / deviation).astype(np.float32).transpose(0, 3, 1, 2)
    with torch.no_grad():
        outputs = module(torch.from_numpy(np.ascontiguousarray(pixels)))
    return {key: value.permute(0, 2, 3, 1).numpy() for key, value in outputs.items()}


SMP_CLASSES = 5


def smp_network(network: str, encoder: str, **options):
    """One of segmentation_models_pytorch; classes=SMP_CLASSES, whatever else is that library's default."""
    library = references.segmentation_models_pytorch()
    references.torch().manual_seed(1)
    made = getattr(library, network)(encoder, encoder_weights=None, **{"classes": SMP_CLASSES, **options})
    return references.randomise(made)


# Neither widths, blocks, heads, reductions nor expansions are those of a row of LAYOUTS.
SEGFORMER = {
    "hidden_sizes": [8, 12, 20, 24],
    "depths": [1, 2, 1, 2],
    "num_attention_heads": [2, 3, 1, 4],
    "sr_ratios": [4, 2, 1, 1],
    "mlp_ratios": [2, 4, 3, 2],
    "decoder_hidden_size": 16,
    "num_labels": 5,
}


def segformer_network(**options):
    """(module with random weights, its config.json)."""
    transformers = references.transformers()
    references.torch().manual_seed(1)
    config = transformers.SegformerConfig(**options)
    module = transformers.SegformerForSemanticSegmentation(config)
    return attentive(references.randomise(module)), config.to_dict()


def attentive(module):
    """Attention that counts: with the first weights every key gets the same, and little of it is passed on."""
    with references.torch().no_grad():
        for name, parameter in module.named_parameters():
            if any(part in name for part in ("_proj.weight", "in_proj_weight")):
                parameter.mul_(2 * parameter.shape[1] ** -0.5 / parameter.std())
    return module


MMSEG_SIZES = ((64, 96), (65, 97))


def mmseg_config(name: str) -> Any:
    """A config that mmsegmentation ships, such as "fcn/fcn_r50-d8_4xb2-80k_cityscapes-512x1024"."""
    folder = Path(references.mmseg().__file__).parent / ".mim" / "configs"
    from mmengine.config import Config

    return Config.fromfile(folder / f"{name}.py")


def mmseg_network(chosen: Any) -> Any:
    """mmsegmentation's network of a config, with random weights; on one machine SyncBN is BN."""
    references.mmseg()
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    register_all_modules()
    references.torch().manual_seed(3)
    model = chosen.model.copy()
    model.pretrained = None
    for key in ("backbone", "decode_head", "auxiliary_head"):
        model[key].norm_cfg = {"type": "BN"}
    return references.randomise(MODELS.build(model))


def mmseg_converted(module: Any, meta: dict[str, Any]) -> tuple[Any, Any]:
    match = recognise(Checkpoint(references.tensors(module), "tiny.pth", meta=meta))
    model = zoo.build(match.model, **match.arguments)
    report = assign.assign(model, match)
    assert report.left_over == () and report.fresh == ()
    return match, model


def mmseg_logits(module: Any, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits and auxiliary logits (1, H, W, C) of an RGB image, which the package is given as BGR."""
    torch = references.torch()
    bgr = torch.from_numpy(image[0, ..., ::-1].transpose(2, 0, 1).copy())
    module.data_preprocessor.test_cfg = None
    with torch.no_grad():
        pixels = module.data_preprocessor({"inputs": [bgr], "data_samples": None})["inputs"]
        meta = [{"img_shape": image.shape[1:3]}]
        logits = module.encode_decode(pixels, meta)
        auxiliary = module.auxiliary_head.predict(module.extract_feat(pixels), meta, {})
    return tuple(output.permute(0, 2, 3, 1).numpy() for output in (logits, auxiliary))


def assert_same_as_mmseg(module: Any, model: Any, sizes: tuple[tuple[int, int], ...] = MMSEG_SIZES) -> None:
    for height, width in sizes:
        image = references.images(height, width)
        found = model(image)
        logits, auxiliary = mmseg_logits(module, image)
        references.assert_parity(np.asarray(found["logits"]), logits)
        references.assert_parity(np.asarray(found["aux_logits"]), auxiliary)
