"""Weights of segmentation_models_pytorch: the same logits, and one clear sentence for what is not known."""

import json

import numpy as np
import pytest

import zoo
from tests import references
from tests.reference_networks import smp_network
from zoo.convert import recognise
from zoo.convert.assign import assign
from zoo.convert.checkpoint import Checkpoint
from zoo.convert.files import readers
from zoo.convert.layouts import smp
from zoo.convert.options import Options, parse
from zoo.layers import leaves

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of get_preprocessing_params, for RGB in 0..1
slow = pytest.mark.slow


def their_logits(module, images: np.ndarray) -> np.ndarray:
    """uint8 (B, H, W, 3) -> logits (B, H, W, C), the image normalised as that library's examples do."""
    torch = references.torch()
    normal = (images / 255.0 - np.array(MEAN)) / np.array(DEVIATION)
    with torch.inference_mode():
        logits = module(torch.from_numpy(normal.astype(np.float32).transpose(0, 3, 1, 2).copy()))
    return (logits[0] if isinstance(logits, tuple) else logits).numpy().transpose(0, 2, 3, 1)


def converted(module, config=None, left_over=()):
    """Our model with all of the module's tensors in it."""
    match = recognise(Checkpoint(references.tensors(module), "random", config or {}))
    assert match.source == "segmentation_models_pytorch"
    model = zoo.build(match.model, **match.arguments)
    report = assign(model, match)
    assert report.left_over == left_over and not report.fresh
    learnt = [name for name in references.tensors(module) if not name.endswith("num_batches_tracked")]
    assert set(report.used) == {name for name in learnt if not name.startswith("classification_head")}
    return model


def assert_same_logits(module, model, sizes) -> None:
    for height, width in sizes:
        images = references.images(height, width)
        references.assert_parity(np.asarray(model(images)["logits"]), their_logits(module, images))


def assert_same_strides_and_rates(module, model) -> None:
    """Of every convolution larger than 1x1: random features vary too little to tell each rate from its half."""
    names = recognise(Checkpoint(references.tensors(module), "random")).names
    convolutions = [layer for layer in leaves(model) if getattr(layer, "kernel_size", (1, 1)) != (1, 1)]
    assert len(convolutions) > 15
    for layer in convolutions:
        theirs = module.get_submodule(names(layer.name))
        assert (layer.strides, layer.dilation_rate) == (theirs.stride, theirs.dilation), layer.name


UNET_ENCODERS = {
    "resnet18": "resnet18_v1b",
    "mobilenet_v2": "mobilenet_v2_torchvision",
    "resnet34": "resnet34_v1b",
    "resnet50": "resnet50_v1b",
    "resnet101": "resnet101_v1b",
    "resnext50_32x4d": "resnext50_32x4d",
    "resnext101_32x8d": "resnext101_32x8d",
}
QUICK = ("resnet18", "mobilenet_v2")
ENCODERS = [pytest.param(name, marks=[] if name in QUICK else [slow]) for name in UNET_ENCODERS]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_unet(encoder):
    module = smp_network("Unet", encoder)
    model = converted(module)
    assert model.name == "unet"
    # 33x47: that library doubles to the size of what is joined too
    assert_same_logits(module, model, [(64, 64), (64, 96), (33, 47)])


@pytest.mark.parametrize("encoder", UNET_ENCODERS)
def test_the_encoder_is_found_from_shapes(encoder):
    library, torch = references.segmentation_models_pytorch(), references.torch()
    with torch.device("meta"):
        module = library.Unet(encoder, encoder_weights=None)
    tensors = {name: np.empty(tensor.shape, np.float32) for name, tensor in module.state_dict().items()}
    arguments = recognise(Checkpoint(tensors, "random")).arguments
    assert arguments["backbone"] == UNET_ENCODERS[encoder] and "backbone_sizes" not in arguments


@pytest.mark.parametrize("output_stride", [16, pytest.param(8, marks=slow)])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_deeplabv3plus(encoder, output_stride):
    module = smp_network("DeepLabV3Plus", encoder, encoder_output_stride=output_stride)
    model = converted(module, {"encoder_output_stride": output_stride})
    assert_same_strides_and_rates(module, model)
    assert_same_logits(module, model, [(64, 64), (64, 96)])


def test_options_of_deeplabv3plus():
    options = {
        "encoder_output_stride": 8,
        "decoder_channels": 24,
        "decoder_atrous_rates": (1, 2, 3),
        "decoder_aspp_separable": False,
        "decoder_aspp_dropout": 0.2,
    }
    module = smp_network("DeepLabV3Plus", "resnet18", **options)
    model = converted(module, options)
    assert model.get_layer("aspp_dropout").rate == 0.2
    assert_same_logits(module, model, [(64, 64), (64, 96)])


def test_what_a_state_dict_does_not_say_is_asked_for_or_assumed():
    """Stride 8 and rates 6, 12, 18: assumed to be 16 and 12, 24, 36, its logits are off by percents of their range."""
    module = smp_network("DeepLabV3Plus", "resnet18", encoder_output_stride=8, decoder_atrous_rates=(1, 2, 3))
    tensors = references.tensors(module)
    silent = recognise(Checkpoint(tensors, "x"))
    assert silent.assumed == {
        "output_stride": 16, "rates": (12, 24, 36), "epsilon": 1e-5,
        "mean": MEAN, "std": DEVIATION, "factor": 1 / 255, "channels": "rgb",
    }  # fmt: skip
    match = recognise(Checkpoint(tensors, "x", options=Options(parse(["output_stride=8", "rates=1,2,3"]))))
    assert match.assumed.keys() == {"epsilon", "mean", "std", "factor", "channels"}
    model = zoo.build(match.model, **match.arguments)
    assign(model, match)
    assert_same_logits(module, model, [(64, 96)])


def test_images_as_that_library_s_examples_prepare_them():
    """0..255 less a mean of 0..1: --set factor=1."""
    module = smp_network("Unet", "mobilenet_v2", decoder_channels=(16, 12, 8, 8, 8))
    match = recognise(Checkpoint(references.tensors(module), "x", options=Options({"factor": 1})))
    model = zoo.build(match.model, **match.arguments)
    assign(model, match)
    images = references.images(64, 64)
    expected = their_logits(module, 255.0 * images)
    references.assert_parity(np.asarray(model(images)["logits"]), expected)


BILINEAR = [
    {"config": {"decoder_interpolation": "bilinear"}},
    {"options": Options({"interpolation": "bilinear"})},
]


@pytest.mark.parametrize("told", BILINEAR, ids=["config", "set"])
def test_a_bilinear_decoder(told):
    module = smp_network(
        "Unet", "resnet18", decoder_channels=(16, 12, 8, 8, 8), decoder_interpolation="bilinear"
    )
    match = recognise(Checkpoint(references.tensors(module), "x", **told))
    model = zoo.build(match.model, **match.arguments)
    assign(model, match)
    assert_same_logits(module, model, [(64, 96), (33, 47)])


def test_one_class_becomes_two_of_which_the_first_is_nothing():
    module = smp_network("Unet", "mobilenet_v2", classes=1, decoder_channels=(16, 12, 8, 8, 8))
    match = recognise(Checkpoint(references.tensors(module), "binary"))
    model = zoo.build(match.model, **match.arguments)
    assign(model, match)
    images = references.images(64, 96)
    ours, theirs = np.asarray(model(images)["logits"]), their_logits(module, images)
    assert np.all(ours[..., 0] == 0)
    references.assert_parity(ours, np.concatenate([np.zeros_like(theirs), theirs], axis=-1))


def test_a_wrapped_network_with_a_classifier_beside_it():
    """As a PyTorch Lightning module keeps it, and with aux_params, whose head tells classes of images."""
    module = smp_network(
        "Unet", "mobilenet_v2", decoder_channels=(16, 12, 8, 8, 8), aux_params={"classes": 3}
    )
    tensors = {f"model.{name}": array for name, array in references.tensors(module).items()}
    match = recognise(Checkpoint({**tensors, "mean": np.zeros(3)}, "wrapped"))
    model = zoo.build(match.model, **match.arguments)
    assert assign(model, match).left_over == ("mean",)
    assert_same_logits(module, model, [(64, 64)])


def test_what_save_pretrained_writes(tmp_path):
    module = smp_network(
        "DeepLabV3Plus",
        "resnet18",
        encoder_output_stride=8,
        decoder_atrous_rates=(2, 4, 6),
        decoder_channels=16,
    )
    module.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    checkpoint = readers.read(tmp_path).checkpoint
    assert dict(checkpoint.config) == config
    match = smp.recognise(checkpoint)
    assert match.arguments["rates"] == (2, 4, 6) and match.arguments["output_stride"] == 8
    model = zoo.build(match.model, **match.arguments)
    assign(model, match)
    assert_same_logits(module, model, [(64, 96)])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"encoder_name": "vgg11"}, "VGG encoder; known here is ResNet, ResNeXt and MobileNetV2"),
        ({"encoder_name": "efficientnet-b0"}, "an encoder of another family; known here is ResNet"),
        ({"encoder_depth": 4, "decoder_channels": (32, 16, 16, 8)}, "encoder_depth=4; known here is 5"),
        ({"decoder_attention_type": "scse"}, "scSE attention in its decoder; known here is none"),
        (
            {"decoder_interpolation": "bicubic"},
            "decoder_interpolation='bicubic'; known here is 'nearest' and",
        ),
    ],
)
def test_what_is_not_known_is_said_in_a_sentence(options, sentence):
    chosen = {"encoder_name": "resnet18", **options}
    library, torch = references.segmentation_models_pytorch(), references.torch()
    with torch.device("meta"):
        module = library.Unet(**chosen, encoder_weights=None)
    tensors = {name: np.empty(tensor.shape, np.float32) for name, tensor in module.state_dict().items()}
    with pytest.raises(ValueError, match=f"^is a Unet of segmentation_models_pytorch with .*{sentence}"):
        smp.recognise(Checkpoint(tensors, "other", {"_model_class": "Unet", **chosen}))


@pytest.mark.parametrize("network", ["FPN", "Linknet", "MAnet", "PSPNet", "DeepLabV3", "UnetPlusPlus"])
def test_another_network_is_not_taken_for_one_of_these(network):
    library, torch = references.segmentation_models_pytorch(), references.torch()
    with torch.device("meta"):
        module = getattr(library, network)("resnet18", encoder_weights=None)
    tensors = {name: np.empty(tensor.shape, np.float32) for name, tensor in module.state_dict().items()}
    assert smp.recognise(Checkpoint(tensors, network)) is None
