"""torchvision's DeepLabV3 and FCN converted: the same logits, auxiliary ones too, and Pascal VOC's classes."""

import numpy as np
import pytest

import zoo
from tests import references
from tests.reference_networks import torchvision_network, torchvision_outputs
from zoo.convert import assign, recognise
from zoo.convert.checkpoint import Checkpoint
from zoo.convert.layouts import torchvision
from zoo.convert.options import Options

SIZES = ((64, 96), (65, 97))


def reference(name: str, **options):
    """A network of torchvision with random weights."""
    segmentation = references.torchvision().models.segmentation
    references.torch().manual_seed(3)
    module = getattr(segmentation, name)(weights=None, weights_backbone=None, **options)
    return references.randomise(module)


def converted(module, name: str = "tiny.pth"):
    match = torchvision.recognise(Checkpoint(references.tensors(module), name))
    model = zoo.build(match.model, **match.arguments)
    report = assign.assign(model, match)
    assert report.left_over == () and report.fresh == ()
    return match, model


def assert_same(module, model) -> None:
    for height, width in SIZES:
        image = references.images(height, width)
        expected, found = torchvision_outputs(module, image), model(image)
        assert len(expected) == len(found)
        references.assert_parity(np.asarray(found["logits"]), expected["out"])
        if "aux" in expected:
            references.assert_parity(np.asarray(found["aux_logits"]), expected["aux"])


@pytest.mark.parametrize("auxiliary", [True, False], ids=["auxiliary", "plain"])
@pytest.mark.parametrize("model", ["deeplabv3", "fcn"])
def test_a_tiny_network_has_the_same_logits(model, auxiliary):
    module = torchvision_network(model, num_classes=5, aux=auxiliary)
    match, ours = converted(module)
    assert match.model == model and match.classes is None and match.palette is None
    assert match.arguments["backbone_sizes"] == {"blocks": (1, 1, 2, 2)}
    assert_same(module, ours)


def test_an_auxiliary_head_of_other_classes_is_left_out():
    """As it is when the classifier of the published weights was replaced."""
    module = torchvision_network("deeplabv3", num_classes=21, aux=True)
    module.classifier[4] = references.torch().nn.Conv2d(256, 5, 1)
    match, ours = converted(references.randomise(module))
    assert match.arguments["classes"] == 5 and "auxiliary" not in match.arguments and match.classes is None
    image = references.images(64, 96)
    references.assert_parity(np.asarray(ours(image)["logits"]), torchvision_outputs(module, image)["out"])


def test_one_class_becomes_two():
    module = torchvision_network("fcn", num_classes=1, aux=True)
    match = recognise(Checkpoint(references.tensors(module), "binary"))
    model = zoo.build(match.model, **match.arguments)
    assign.assign(model, match)
    image = references.images(64, 96)
    found, expected = model(image), torchvision_outputs(module, image)
    for ours, name in (("logits", "out"), ("aux_logits", "aux")):
        one = expected[name]
        references.assert_parity(np.asarray(found[ours]), np.concatenate([np.zeros_like(one), one], axis=-1))
    assert match.assumed["threshold"] == 0.5


def test_what_a_state_dict_does_not_say_is_asked_for_or_assumed():
    library = references.torchvision()
    backbone = library.models.resnet.ResNet(library.models.resnet.Bottleneck, [1, 1, 1, 1],
                                            replace_stride_with_dilation=[False, False, True])  # fmt: skip
    references.torch().manual_seed(3)
    module = library.models.segmentation.deeplabv3._deeplabv3_resnet(backbone, 5, False)
    module.classifier = library.models.segmentation.deeplabv3.DeepLabHead(2048, 5, (2, 4))
    tensors = references.tensors(references.randomise(module))
    options = Options({"rates": (2, 4), "output_stride": 16})
    match = recognise(Checkpoint(tensors, "x", options=options))
    assert set(match.assumed) == {"epsilon", "mean", "std", "factor", "channels"}
    model = zoo.build(match.model, **match.arguments)
    assign.assign(model, match)
    assert_same(module, model)
    with pytest.raises(ValueError, match="2 atrous rates"):
        recognise(Checkpoint(tensors, "x"))
    with pytest.raises(ValueError, match="has nothing that --set heads could say; it takes .*rates=12,24,36"):
        recognise(Checkpoint(tensors, "x", options=Options({**options.asked, "heads": 2})))
    with pytest.raises(ValueError, match="has rates like 12,24,36; --set rates=large is not"):
        recognise(Checkpoint(tensors, "x", options=Options({"rates": "large"})))


def test_twenty_one_classes_are_those_of_pascal_voc():
    library = references.torchvision()
    module = torchvision_network("fcn", num_classes=21, aux=False)
    match = torchvision.recognise(Checkpoint(references.tensors(module), ""))
    names = library.models.segmentation.FCN_ResNet50_Weights.DEFAULT.meta["categories"]
    assert match.classes == ("background", *names[1:])
    assert match.palette == tuple(voc_colour(index) for index in range(21))


def voc_colour(index: int) -> tuple[int, int, int]:
    """VOCdevkit's rule: the bits of the class id, three at a time, from the top bit of R, G and B down."""
    colour = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            colour[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    red, green, blue = colour
    return red, green, blue


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["deeplabv3_resnet50", "deeplabv3_resnet101", "fcn_resnet50", "fcn_resnet101"]
)
def test_a_network_of_full_size_has_the_same_logits(name):
    module = reference(name, aux_loss=True)
    match, model = converted(module, f"{name}.pth")
    kind, _, backbone = name.partition("_")
    assert (match.model, match.arguments["backbone"]) == (kind, f"{backbone}_v1b")
    assert "backbone_sizes" not in match.arguments
    assert_same(module, model)
    # as many as torchvision counts in the weights that it publishes, which have the auxiliary classifier
    table = (
        {"deeplabv3": "DeepLabV3", "fcn": "FCN"}[kind] + backbone.replace("resnet", "_ResNet") + "_Weights"
    )
    published = getattr(references.torchvision().models.segmentation, table).DEFAULT.meta["num_params"]
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == published


def test_what_is_not_torchvisions_is_left_to_others():
    for tensors in (
        {},
        {"classifier.4.weight": np.zeros((5, 2, 1, 1))},
        {"backbone.conv1.weight": np.zeros(1)},
    ):
        assert torchvision.recognise(Checkpoint(tensors, "x")) is None


def test_other_atrous_rates_are_refused():
    tensors = references.tensors(torchvision_network("deeplabv3", num_classes=5, aux=False))
    fewer = {name: array for name, array in tensors.items() if "convs.4" not in name}
    with pytest.raises(
        ValueError, match="with 2 atrous rates, which it does not tell; say them with --set rates"
    ):
        torchvision.recognise(Checkpoint(fewer, "x"))
