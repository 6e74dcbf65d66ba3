"""mmsegmentation's UNet-S5-D16 converted: the package itself, built from its own config, gives the same logits."""

import pytest

from tests.zoo.convert.test_mmsegmentation import assert_same, built, converted, library_config

CITYSCAPES = "unet/unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024"


def test_narrow():
    chosen = library_config(CITYSCAPES)
    chosen.model.backbone.base_channels = 4
    chosen.model.decode_head.update(in_channels=4, channels=6, num_classes=5)
    chosen.model.auxiliary_head.update(in_channels=8, channels=7, num_classes=5)
    module = built(chosen)
    match, model = converted(module, {"cfg": chosen.pretty_text})
    assert match.model == "unet" and dict(match.arguments) == {
        "classes": 5,
        "base_filters": 4,
        "depth": 5,
        "head_filters": 6,
        "dropout": 0.1,
        "auxiliary": True,
        "auxiliary_filters": 7,
    }
    assert_same(module, model, ((64, 64), (64, 96)))


@pytest.mark.slow
def test_cityscapes_as_published():
    module = built(library_config(CITYSCAPES))
    match, model = converted(module, {})
    assert match.arguments["base_filters"] == 64 and match.arguments["classes"] == 19
    assert_same(module, model, ((64, 64), (64, 96)))
