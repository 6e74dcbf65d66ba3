"""The real-time networks converted: mmsegmentation itself, built from its own configs, gives the same logits."""

import re
from typing import Any

import numpy as np
import pytest

import zoo
from tests import references
from tests.reference_networks import mmseg_config
from zoo import convert
from zoo.convert import assign
from zoo.convert.checkpoint import Checkpoint, Match

SIZES = ((64, 96), (128, 128))  # theirs take multiples of 8 only
CLASSES = 5
CONFIGS = {
    "ddrnet_23_slim": "ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024",
    "ddrnet_23": "ddrnet/ddrnet_23_in1k-pre_2xb6-120k_cityscapes-1024x1024",
    "pidnet_s": "pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes",
    "pidnet_m": "pidnet/pidnet-m_2xb6-120k_1024x1024-cityscapes",
    "pidnet_l": "pidnet/pidnet-l_2xb6-120k_1024x1024-cityscapes",
    "bisenetv2": "bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024",
    "stdc1": "stdc/stdc1_in1k-pre_4xb12-80k_cityscapes-512x1024",
    "stdc2": "stdc/stdc2_in1k-pre_4xb12-80k_cityscapes-512x1024",
}
# What ours give, in the order of theirs.
DDRNET = ("logits", "aux_logits")
PIDNET = ("aux_logits", "logits", "boundary_logits")
BISENETV2 = ("logits", "aux_logits_1", "aux_logits_2", "aux_logits_3", "aux_logits_4")
STDC = ("logits", "aux_logits_1", "aux_logits_2", "detail_logits")


def plain_norms(part: Any) -> None:
    """On one machine SyncBN is BN."""
    if isinstance(part, dict):
        if part.get("type") == "SyncBN":
            part["type"] = "BN"
        for value in part.values():
            plain_norms(value)
    elif isinstance(part, list):
        for value in part:
            plain_norms(value)


def built(chosen: Any) -> Any:
    """The network of a config, with random weights."""
    references.mmseg()
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    register_all_modules()
    references.torch().manual_seed(3)
    model = chosen.model.copy()
    plain_norms(model)
    return references.randomise(MODELS.build(model))


def converted(tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> tuple[Match, Any]:
    match = convert.recognise(Checkpoint(tensors, "tiny.pth", meta=meta))
    model = zoo.build(match.model, **match.arguments)
    report = assign.assign(model, match)
    assert report.left_over == () and report.fresh == ()
    return match, model


def theirs(module: Any, image: np.ndarray) -> list[np.ndarray]:
    """All that the package gives in training, for an RGB image, with its norms in inference: (1, h, w, C) each.

    In float64: in float32 the package itself is off by 2.2e-4 of the range for one of these images, and ours by 1e-4.
    """
    torch = references.torch()
    module.double()
    torch.set_default_dtype(torch.float64)
    try:
        return _theirs(module, torch.from_numpy(image[0].transpose(2, 0, 1).astype(np.float64))[None])
    finally:
        torch.set_default_dtype(torch.float32)
        module.float()


def _theirs(module: Any, rgb: Any) -> list[np.ndarray]:
    torch = references.torch()
    mean, std = module.data_preprocessor.mean, module.data_preprocessor.std
    module.backbone.training = module.decode_head.training = True  # of the norms in them nothing changes
    with torch.no_grad():
        features = module.backbone((rgb - mean) / std)
        found = module.decode_head(features)
        heads, outputs = [module.decode_head] * 3, found if isinstance(found, tuple) else [found]
        if module.with_auxiliary_head:
            heads = [module.decode_head, *module.auxiliary_head]
            outputs = [head(features) for head in heads]
        resized = [
            torch.nn.functional.interpolate(
                output, rgb.shape[2:], mode="bilinear", align_corners=head.align_corners
            )
            for output, head in zip(outputs, heads, strict=False)
        ]
    return [output.permute(0, 2, 3, 1).numpy() for output in resized]


def assert_same(module: Any, model: Any, outputs: tuple[str, ...]) -> None:
    for height, width in SIZES:
        image = references.images(height, width)
        found = model(image)
        for key, expected in zip(outputs, theirs(module, image), strict=True):
            if key == "detail_logits":
                expected = expected[..., 1:]  # of their two channels, what is detail
            references.assert_parity(np.asarray(found[key]), expected)


def narrow(name: str, head: dict[str, Any], **backbone: Any) -> Any:
    """A config with fewer channels."""
    chosen = mmseg_config(CONFIGS[name])
    chosen.model.backbone.update(backbone)
    chosen.model.decode_head.update(num_classes=CLASSES, **head)
    return chosen


def narrow_ddrnet() -> Any:
    return narrow("ddrnet_23_slim", {"in_channels": 16, "channels": 10}, channels=4, ppm_channels=6)


def narrow_pidnet(name: str) -> Any:
    return narrow(name, {"in_channels": 16, "channels": 10}, channels=4, ppm_channels=6)


def narrow_bisenetv2() -> Any:
    chosen = narrow(
        "bisenetv2",
        {"in_channels": 12, "channels": 9},
        detail_channels=(6, 8, 12),
        semantic_channels=(4, 6, 8, 12),
        semantic_expansion_ratio=3,
        bga_channels=12,
    )
    for head, width in zip(chosen.model.auxiliary_head, (4, 6, 8, 12), strict=True):
        head.update(in_channels=width, channels=width + 1, num_classes=CLASSES)
    return chosen


def narrow_stdc(name: str) -> Any:
    fusion = {"in_channels": 24, "out_channels": 20, "scale_factor": 4}
    chosen = narrow(
        name, {"in_channels": 20, "channels": 20}, last_in_channels=(32, 24), out_channels=8, ffm_cfg=fusion
    )
    chosen.model.backbone.backbone_cfg.channels = (4, 8, 16, 24, 32)
    for head, width in zip(chosen.model.auxiliary_head, (8, 8, 16), strict=True):
        head.update(in_channels=width, channels=6)
    for head in chosen.model.auxiliary_head[:2]:
        head.num_classes = CLASSES
    return chosen


def test_a_narrow_ddrnet():
    chosen = narrow_ddrnet()
    module = built(chosen)
    match, model = converted(references.tensors(module), {"cfg": chosen.pretty_text})
    assert match.model == "ddrnet" and dict(match.arguments) == {
        "classes": CLASSES,
        "variant": "ddrnet_23_slim",
        "sizes": {"channels": 4, "pyramid_filters": 6, "head_filters": 10},
        "auxiliary": True,
        "align_corners": False,
    }
    assert_same(module, model, DDRNET)


@pytest.mark.parametrize("name", ["pidnet_s", "pidnet_l"])
def test_a_narrow_pidnet(name):
    chosen = narrow_pidnet(name)
    module = built(chosen)
    match, model = converted(references.tensors(module), {"cfg": chosen.pretty_text})
    assert match.model == "pidnet" and dict(match.arguments) == {
        "classes": CLASSES,
        "variant": name,
        "sizes": {"channels": 4, "pyramid_filters": 6, "head_filters": 10},
        "auxiliary": True,
        "align_corners": True,
    }
    assert_same(module, model, PIDNET)


def test_a_narrow_bisenetv2():
    chosen = narrow_bisenetv2()
    module = built(chosen)
    match, model = converted(references.tensors(module), {"cfg": chosen.pretty_text})
    assert match.model == "bisenetv2" and dict(match.arguments) == {
        "classes": CLASSES,
        "detail_filters": (6, 8, 12),
        "semantic_filters": (4, 6, 8, 12),
        "expansion": 3,
        "head_filters": 9,
        "auxiliary": True,
        "auxiliary_filters": (5, 7, 9, 13),
        "align_corners": False,
    }
    assert_same(module, model, BISENETV2)


def test_a_narrow_stdc():
    chosen = narrow_stdc("stdc1")
    module = built(chosen)
    match, model = converted(references.tensors(module), {"cfg": chosen.pretty_text})
    assert match.model == "stdc" and dict(match.arguments) == {
        "classes": CLASSES,
        "variant": "stdc1",
        "sizes": {
            "channels": (4, 8, 16, 24, 32),
            "context_filters": 8,
            "fusion_filters": 20,
            "auxiliary_filters": 6,
        },
        "auxiliary": True,
        "align_corners": True,
    }
    assert_same(module, model, STDC)


FULL = {
    "ddrnet_23_slim": DDRNET,
    "ddrnet_23": DDRNET,
    "pidnet_s": PIDNET,
    "pidnet_m": PIDNET,
    "pidnet_l": PIDNET,
    "bisenetv2": BISENETV2,
    "stdc1": STDC,
    "stdc2": STDC,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_one_of_full_size(name):
    module = built(mmseg_config(CONFIGS[name]))
    match, model = converted(references.tensors(module), {})  # without a config
    sizes = {"sizes"} & set(match.arguments)
    assert match.arguments["classes"] == 19 and match.arguments["auxiliary"] and not sizes
    assert match.arguments.get("variant", "bisenetv2") == name
    assert_same(module, model, FULL[name])


# mmsegmentation's names -> those of the authors' code, in the order in which they are replaced.
AUTHORS = [
    (r"\.downsample\.conv\.", ".downsample.0."),
    (r"\.downsample\.bn\.", ".downsample.1."),
    (r"\.conv([123])\.conv\.", r".conv\1."),
    (r"\.conv([123])\.bn\.", r".bn\1."),
    (r"stem\.0\.conv", "conv1.0"),
    (r"stem\.0\.bn", "conv1.1"),
    (r"stem\.1\.conv", "conv1.3"),
    (r"stem\.1\.bn", "conv1.4"),
    (r"stem\.2\.", "layer1."),
    (r"stem\.4\.", "layer2."),
    (r"(context|i)_branch_layers\.0", "layer3"),
    (r"(context|i)_branch_layers\.1", "layer4"),
    (r"(context|i)_branch_layers\.2", "layer5"),
    (r"(spatial|p)_branch_layers\.0", "layer3_"),
    (r"(spatial|p)_branch_layers\.1", "layer4_"),
    (r"(spatial|p)_branch_layers\.2", "layer5_"),
    (r"d_branch_layers\.0", "layer3_d"),
    (r"d_branch_layers\.1", "layer4_d"),
    (r"d_branch_layers\.2", "layer5_d"),
    (r"down_2\.0\.conv", "down4.0"),
    (r"down_2\.0\.bn", "down4.1"),
    (r"down_2\.1\.conv", "down4.3"),
    (r"down_2\.1\.bn", "down4.4"),
    (r"spp\.scales\.0\.bn", "spp.scale0.0"),
    (r"spp\.scales\.0\.conv", "spp.scale0.2"),
    (r"spp\.scales\.(\d)\.1\.bn", r"spp.scale\1.1"),
    (r"spp\.scales\.(\d)\.1\.conv", r"spp.scale\1.3"),
    *((rf"spp\.processes\.{index - 1}\.bn", f"spp.process{index}.0") for index in range(1, 5)),
    *((rf"spp\.processes\.{index - 1}\.conv", f"spp.process{index}.2") for index in range(1, 5)),
    (r"spp\.processes\.bn", "spp.scale_process.0"),
    (r"spp\.processes\.conv", "spp.scale_process.2"),
    (r"spp\.(compression|shortcut)\.bn", r"spp.\1.0"),
    (r"spp\.(compression|shortcut)\.conv", r"spp.\1.2"),
    (r"dfm\.f_([pi])\.conv", r"dfm.conv_\1.0"),
    (r"dfm\.f_([pi])\.bn", r"dfm.conv_\1.1"),
    (r"dfm\.conv\.bn", "dfm.conv.0"),
    (r"dfm\.conv\.conv", "dfm.conv.2"),
    (r"pag_1\.f_p", "pag3.f_x"),
    (r"pag_1\.f_i", "pag3.f_y"),
    (r"pag_2\.f_p", "pag4.f_x"),
    (r"pag_2\.f_i", "pag4.f_y"),
    (r"(compression|down|diff)_1\.", r"\g<1>3."),
    (r"(compression|diff)_2\.", r"\g<1>4."),
    (r"^((compression|down|diff)[34]|pag[34]\.f_[xy])\.conv", r"\1.0"),
    (r"^((compression|down|diff)[34]|pag[34]\.f_[xy])\.bn", r"\1.1"),
    (r"decode_head\.(head\.0|i_head\.conv)\.bn", "final_layer.bn1"),
    (r"decode_head\.(head\.0|i_head\.conv)\.conv", "final_layer.conv1"),
    (r"decode_head\.(head\.1|i_head\.norm)", "final_layer.bn2"),
    (r"decode_head\.conv_seg", "final_layer.conv2"),
    (r"decode_head\.aux_head\.0\.bn", "seghead_extra.bn1"),
    (r"decode_head\.aux_head\.0\.conv", "seghead_extra.conv1"),
    (r"decode_head\.aux_head\.1", "seghead_extra.bn2"),
    (r"decode_head\.aux_cls_seg", "seghead_extra.conv2"),
    (r"decode_head\.([pd])_head\.conv\.bn", r"seghead_\1.bn1"),
    (r"decode_head\.([pd])_head\.conv\.conv", r"seghead_\1.conv1"),
    (r"decode_head\.([pd])_head\.norm", r"seghead_\1.bn2"),
    (r"decode_head\.([pd])_cls_seg", r"seghead_\1.conv2"),
]


def as_authors(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same network as its authors save it: wrapped, the loss's weights beside it, the stem with biases."""
    renamed = {}
    for name, array in tensors.items():
        name = name.removeprefix("backbone.")
        for pattern, theirs in AUTHORS:
            name = re.sub(pattern, theirs, name)
        renamed[f"model.{name}"] = array
    for conv, norm in (("0", "1"), ("3", "4")):
        bias = (
            np.random.default_rng(0).normal(size=renamed[f"model.conv1.{norm}.bias"].shape).astype("float32")
        )
        renamed[f"model.conv1.{conv}.bias"] = bias
        renamed[f"model.conv1.{norm}.running_mean"] = renamed[f"model.conv1.{norm}.running_mean"] + bias
    return {**renamed, "sem_loss.criterion.weight": np.ones(19, np.float32)}


def test_the_authors_names_are_theirs():
    """As issue threads and their code spell them."""
    module = built(narrow_pidnet("pidnet_s"))
    names = set(as_authors(references.tensors(module)))
    assert names >= {
        "model.conv1.0.bias",
        "model.layer1.0.conv1.weight",
        "model.layer1.0.bn1.running_mean",
        "model.layer3_d.conv1.weight",
        "model.layer3_d.downsample.0.weight",
        "model.layer4_d.0.conv3.weight",
        "model.layer5_.0.downsample.1.bias",
        "model.pag3.f_x.0.weight",
        "model.spp.scale_process.2.weight",
        "model.spp.scale4.1.weight",
        "model.dfm.conv_p.1.bias",
        "model.seghead_d.conv2.bias",
        "model.final_layer.bn2.weight",
    }


@pytest.mark.parametrize("name", ["ddrnet", "pidnet_s", "pidnet_l"])
def test_the_authors_own_files(name):
    """Logits as before; of PIDNet's heads for the loss, which read overwritten maps there, the norms say it."""
    chosen = narrow_ddrnet() if name == "ddrnet" else narrow_pidnet(name)
    module = built(chosen)
    match, model = converted(as_authors(references.tensors(module)), {})
    assert match.arguments["auxiliary"] and match.arguments["sizes"]["channels"] == 4
    image = references.images(*SIZES[0])
    expected = dict(zip(DDRNET if name == "ddrnet" else PIDNET, theirs(module, image), strict=True))
    found = model(image)
    references.assert_parity(np.asarray(found["logits"]), expected["logits"])
    if name == "ddrnet":
        references.assert_parity(np.asarray(found["aux_logits"]), expected["aux_logits"])
    else:
        assert match.arguments["after_relu"] and match.arguments["align_corners"]


def test_one_without_heads_for_the_loss_loads_too():
    tensors = references.tensors(built(narrow_ddrnet()))
    kept = {name: array for name, array in tensors.items() if "aux_" not in name}
    match, _ = converted(kept, {})
    assert match.arguments["auxiliary"] is False
    match, _ = converted(
        {name: array for name, array in as_authors(tensors).items() if "extra" not in name}, {}
    )
    assert match.arguments["auxiliary"] is False


def test_a_variant_that_is_none_is_one_sentence():
    with pytest.raises(
        ValueError, match="unknown variant 'pidnet_xl'; choose one of pidnet_s, pidnet_m, pidnet_l"
    ):
        zoo.build("pidnet", variant="pidnet_xl")
    with pytest.raises(ValueError, match="variant stdc1 has no size 'width'; it has blocks, channels"):
        zoo.build("stdc", sizes={"width": 3})
    with pytest.raises(ValueError, match="detail_filters and semantic_filters must end in the same number"):
        zoo.build("bisenetv2", detail_filters=(8, 8, 8))
