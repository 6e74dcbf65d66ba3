"""torchvision's LR-ASPP and DeepLabV3 on MobileNetV3 converted: the same logits, auxiliary ones too."""

from functools import partial

import numpy as np
import pytest

import zoo
from tests import references
from tests.reference_networks import torchvision_outputs
from zoo.convert import assign, recognise
from zoo.convert.checkpoint import Checkpoint
from zoo.convert.options import Options

WIDTH = 0.25
SIZES = ((64, 96), (65, 97))
# Our outputs, and theirs.
OUTPUTS = {"logits": "out", "aux_logits": "aux"}


def network(kind: str, width: float = WIDTH, *, dilated: bool = True, small: bool = False, **options):
    """A network as torchvision puts it together, on a MobileNetV3 of this width, with random weights."""
    library = references.torchvision()
    mobilenet, segmentation = library.models.mobilenetv3, library.models.segmentation
    references.torch().manual_seed(3)
    name = f"mobilenet_v3_{'small' if small else 'large'}"
    settings, last = mobilenet._mobilenet_v3_conf(name, width_mult=width, dilated=dilated)
    backbone = mobilenet.MobileNetV3(settings, last)
    assemble = {
        "lraspp": segmentation.lraspp._lraspp_mobilenetv3,
        "deeplabv3": partial(segmentation.deeplabv3._deeplabv3_mobilenetv3, aux=options.pop("aux", None)),
    }
    return references.randomise(assemble[kind](backbone, **options))


def converted(module, **asked):
    checkpoint = Checkpoint(references.tensors(module), "tiny.pth", options=Options(asked))
    match = recognise(checkpoint)
    model = zoo.build(match.model, **match.arguments)
    report = assign.assign(model, match)
    assert report.left_over == () and report.fresh == ()
    return match, model


def assert_same(module, model) -> None:
    for height, width in SIZES:
        image = references.images(height, width)
        expected, found = torchvision_outputs(module, image), model(image)
        assert set(found) == {ours for ours, name in OUTPUTS.items() if name in expected}
        for ours in found:
            references.assert_parity(np.asarray(found[ours]), expected[OUTPUTS[ours]])


def test_a_narrow_lraspp():
    module = network("lraspp", num_classes=5)
    match, model = converted(module)
    assert (match.model, match.arguments["classes"], match.arguments["filters"]) == ("lraspp", 5, 128)
    assert match.arguments["backbone_sizes"] == {"width": WIDTH} and match.arguments["output_stride"] == 16
    assert_same(module, model)


@pytest.mark.parametrize("auxiliary", [True, False], ids=["auxiliary", "plain"])
def test_a_narrow_deeplabv3(auxiliary):
    module = network("deeplabv3", num_classes=5, aux=auxiliary)
    match, model = converted(module)
    assert match.model == "deeplabv3" and match.arguments["rates"] == (12, 24, 36)
    assert_same(module, model)


def test_a_backbone_that_was_not_dilated_is_said():
    module = network("lraspp", dilated=False, num_classes=5)
    match, model = converted(module, output_stride=32)
    assert "output_stride" not in match.assumed
    assert_same(module, model)


def test_one_class_becomes_two():
    """The logits of both classifiers add up, and only one may carry the threshold."""
    module = network("lraspp", num_classes=1)
    _, model = converted(module, threshold=0.7)
    image = references.images(64, 96)
    one = torchvision_outputs(module, image)["out"]
    both = np.concatenate([np.full_like(one, np.log(0.7 / 0.3)), one], axis=-1)
    references.assert_parity(np.asarray(model(image)["logits"]), both)


def test_mobilenet_v3_small_is_refused():
    with pytest.raises(ValueError, match="is on another backbone than torchvision's MobileNetV3-Large"):
        converted(network("lraspp", 1.0, small=True, num_classes=5))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "table", "options"),
    [
        ("lraspp_mobilenet_v3_large", "LRASPP_MobileNet_V3_Large_Weights", {}),
        ("deeplabv3_mobilenet_v3_large", "DeepLabV3_MobileNet_V3_Large_Weights", {"aux_loss": True}),
    ],
)
def test_a_network_of_full_size_has_the_same_logits(name, table, options):
    segmentation = references.torchvision().models.segmentation
    references.torch().manual_seed(3)
    module = references.randomise(getattr(segmentation, name)(weights=None, weights_backbone=None, **options))
    match, model = converted(module)
    assert match.arguments["backbone"] == "mobilenet_v3_large_torchvision"
    assert "backbone_sizes" not in match.arguments
    assert len(match.classes) == 21 and match.palette[1] == (128, 0, 0)  # Pascal VOC's, of 21
    assert_same(module, model)
    # as many as torchvision counts in the weights that it publishes
    published = getattr(segmentation, table).DEFAULT.meta["num_params"]
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == published
