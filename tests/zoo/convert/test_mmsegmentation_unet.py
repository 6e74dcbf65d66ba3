"""mmsegmentation's UNet-S5-D16 converted: the package itself, built from its own config, gives the same logits."""

import pytest

from tests.reference_networks import assert_same_as_mmseg, mmseg_config, mmseg_converted, mmseg_network

CITYSCAPES = "unet/unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024"


def test_narrow():
    chosen = mmseg_config(CITYSCAPES)
    chosen.model.backbone.base_channels = 4
    chosen.model.decode_head.update(in_channels=4, channels=6, num_classes=5)
    chosen.model.auxiliary_head.update(in_channels=8, channels=7, num_classes=5)
    module = mmseg_network(chosen)
    match, model = mmseg_converted(module, {"cfg": chosen.pretty_text})
    assert match.model == "unet" and dict(match.arguments) == {
        "classes": 5,
        "base_filters": 4,
        "depth": 5,
        "head_filters": 6,
        "dropout": 0.1,
        "auxiliary": True,
        "auxiliary_filters": 7,
    }
    assert_same_as_mmseg(module, model, ((64, 64), (64, 96)))


@pytest.mark.slow
def test_cityscapes_as_published():
    module = mmseg_network(mmseg_config(CITYSCAPES))
    match, model = mmseg_converted(module, {})
    assert match.arguments["base_filters"] == 64 and match.arguments["classes"] == 19
    assert_same_as_mmseg(module, model, ((64, 64), (64, 96)))
