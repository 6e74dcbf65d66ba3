"""Backbones against keras.applications, KerasCV and the arithmetic of strides and dilation."""

import keras
import numpy as np
import pytest

from zoo import backbones, contract
from zoo.backbones.resnet import Layout, resnet
from zoo.convert.layouts.keras_applications import assign_by_layer_name
from zoo.layers import leaves

OURS = tuple(name for name, row in backbones.BACKBONES.items() if row.keras_application)
KERASCV = tuple(name for name in backbones.BACKBONES if name.startswith("kerascv_"))
# One of each family, the smallest, is built in the fast tests; the others take long.
SMALLEST = (
    "resnet50",
    "resnet18_v1b",
    "resnet18_v1c",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_edgetpu",
    "efficientnet_lite0",
    "kerascv_resnet18_v2",
    "mit_b0",
    "swin_tiny",
)


def slow_unless_smallest(names):
    return [pytest.param(name, marks=[] if name in SMALLEST else [pytest.mark.slow]) for name in names]


# Layers of keras.applications whose outputs are our levels. MobileNetV3's activations have no stable name
# there, so its three expanded levels are followed from the norm before them.
REFERENCE_LEVELS = {
    "resnet50": ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"),
    "resnet101": ("conv2_block3_out", "conv3_block4_out", "conv4_block23_out", "conv5_block3_out"),
    "mobilenet_v2": (
        "block_3_expand_relu",
        "block_6_expand_relu",
        "block_13_expand_relu",
        "block_16_project_BN",
    ),
    "mobilenet_v3_large": (
        "expanded_conv_3_expand_bn",
        "expanded_conv_6_expand_bn",
        "expanded_conv_12_expand_bn",
        "expanded_conv_14_add",
    ),
}
PREPROCESSING = {
    "resnet50": keras.applications.resnet.preprocess_input,
    "resnet101": keras.applications.resnet.preprocess_input,
    "mobilenet_v2": keras.applications.mobilenet_v2.preprocess_input,
    "mobilenet_v3_large": keras.applications.mobilenet_v3.preprocess_input,
}
# Without the classifier's last convolution where keras.applications counts it (1280 and 960 channels, each
# with its batch norm of 4 values a channel).
PARAMETERS = {
    "resnet50": 23_587_712,
    "resnet101": 42_658_176,
    "mobilenet_v2": 2_257_984 - 320 * 1280 - 4 * 1280,
    "mobilenet_v3_large": 2_996_352 - 160 * 960 - 4 * 960,
    # the weights and biases of Coral's file (deeplab_mobilenet_edgetpu_slim_cityscapes) without its head, a bias being
    # one of a norm's four values
    "mobilenet_edgetpu": 2_039_912 - (1280 * 144 + 2 * 1280 * 128 + 256 * 128 + 128 * 19) + 4 * 13_784,
    # published with KerasCV's presets
    "kerascv_resnet18_v2": 11_183_488,
    "kerascv_resnet50_v2": 23_564_800,
    "kerascv_efficientnetv2_b0": 5_919_312,
    "kerascv_csp_darknet_s": 4_223_488,
    # keras.applications' networks of the same layout
    "kerascv_mobilenet_v3_large": 2_996_352 - 160 * 960 - 4 * 960,
    "kerascv_densenet121": 7_037_504,
}


def rgb(height: int, width: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (batch, height, width, 3), np.uint8)


def randomise(model: keras.Model) -> None:
    """Random norms and biases, so that a wrong order of layers, a wrong epsilon or statistic shows."""
    rng = np.random.default_rng(2)
    ranges = {"gamma": (0.8, 1.2), "moving_variance": (0.5, 1.5), "beta": (-0.2, 0.2)}
    ranges |= {"moving_mean": (-0.2, 0.2), "bias": (-0.2, 0.2)}
    for variable in model.weights:
        kind = variable.path.rsplit("/", 1)[-1]
        if kind in ranges:
            variable.assign(rng.uniform(*ranges[kind], variable.shape))


def largest_relative_difference(expected, found) -> float:
    expected, found = np.asarray(expected), np.asarray(found)
    assert expected.shape == found.shape
    return float(np.abs(expected - found).max() / np.abs(expected).max())


@pytest.mark.parametrize("size", [(64, 96), (65, 97)], ids=str)
@pytest.mark.parametrize("name", slow_unless_smallest(OURS))
def test_equals_keras_applications(name, size):
    application = getattr(keras.applications, backbones.BACKBONES[name].keras_application)
    reference = application(include_top=False, weights=None, input_shape=(*size, 3))
    randomise(reference)
    ours = backbones.build(name, size)
    assign_by_layer_name(ours, {layer.name: layer.get_weights() for layer in reference.layers})

    image = rgb(*size, batch=2)
    outputs = [reference.get_layer(layer).output for layer in REFERENCE_LEVELS[name]]
    expected = keras.Model(reference.input, outputs)(PREPROCESSING[name](image.astype(np.float32)))
    expected = [np.asarray(level) for level in expected]
    if name == "mobilenet_v3_large":
        expected[0] = np.maximum(expected[0], 0)
        expected[1:3] = [level * np.clip(level + 3, 0, 6) / 6 for level in expected[1:3]]
    pyramid = ours(image)
    for level, features in zip(contract.LEVELS, expected, strict=True):
        assert largest_relative_difference(features, pyramid[level]) < 1e-5


@pytest.mark.parametrize("name", slow_unless_smallest(PARAMETERS))
def test_parameters(name):
    if name == "kerascv_densenet121":
        reference = keras.applications.DenseNet121(include_top=False, weights=None)
        assert reference.count_params() == PARAMETERS[name]
    assert backbones.build(name).count_params() == PARAMETERS[name]


@pytest.mark.parametrize("name", slow_unless_smallest(backbones.BACKBONES))
def test_levels_have_their_true_strides(name):
    size = (33, 47)
    for output_stride in backbones.BACKBONES[name].output_strides:
        strides = backbones.strides(output_stride)
        pyramid = backbones.build(name, size, output_stride).output
        assert set(pyramid) - {"P1"} == {"P2", "P3", "P4", "P5"}
        assert "P1" in pyramid or not name.startswith(("resn", "mobilenet_", "efficientnet_"))
        for level, features in pyramid.items():
            for side, found in zip(size, features.shape[1:3], strict=True):
                exact = -(-side // strides[level])
                allowed = {exact, exact - 1} if name in KERASCV else {exact}
                assert found in allowed, (level, output_stride)


def test_strides():
    assert backbones.strides(32) == {"P1": 2, "P2": 4, "P3": 8, "P4": 16, "P5": 32}
    assert backbones.strides(8) == {"P1": 2, "P2": 4, "P3": 8, "P4": 8, "P5": 8}


SMALL_RESNET = Layout(blocks=(1, 1, 2, 2))
SMALL_BASIC = Layout(blocks=(1, 1, 2, 2), basic=True, deep_stem=True, bias=False)
SMALL_RESNEXT = Layout(blocks=(1, 1, 2, 2), stride_on_3x3=True, groups=32, group_width=4, bias=False)
NARROW_LITE = {"width": 0.25, "depth": 0.4}
DILATED = {
    "resnet": lambda stride: resnet(SMALL_RESNET, None, stride, 0.9),
    "resnext": lambda stride: resnet(SMALL_RESNEXT, None, stride, 0.9),
    "resnet_basic": lambda stride: resnet(SMALL_BASIC, None, stride, 0.9),
    "mobilenet_v2": lambda stride: backbones.build("mobilenet_v2", None, stride),
    "mobilenet_v3_large": lambda stride: backbones.build("mobilenet_v3_large", None, stride),
    "mobilenet_edgetpu": lambda stride: backbones.build("mobilenet_edgetpu", None, stride),
    "efficientnet_lite": lambda stride: backbones.build(
        "efficientnet_lite0", None, stride, sizes=NARROW_LITE
    ),
    "efficientnet_lite_timm": lambda stride: backbones.build(
        "efficientnet_lite0_timm", None, stride, sizes=NARROW_LITE
    ),
}


@pytest.mark.parametrize("output_stride", [pytest.param(8, marks=pytest.mark.slow), 16])
@pytest.mark.parametrize("family", DILATED)
def test_dilated_features_are_the_strided_ones_computed_densely(family, output_stride):
    """Every s-th position of the dilated features is the strided network's, borders included.

    At sides of 32 n + 1 each stride lands on positions 0, 2, 4, ... in both. Squeeze-and-excitation averages
    over all positions, so its gates are held constant here.
    """
    strided, dilated = DILATED[family](32), DILATED[family](output_stride)
    randomise(strided)
    for layer in leaves(strided):
        if layer.name.endswith("squeeze_excite_conv_1"):
            layer.kernel.assign(np.zeros(layer.kernel.shape))
    dilated.set_weights(strided.get_weights())
    image = rgb(65, 97)
    expected, found = strided(image), dilated(image)
    for level, features in expected.items():
        step = backbones.strides(32)[level] // backbones.strides(output_stride)[level]
        assert largest_relative_difference(features, found[level][:, ::step, ::step]) < 1e-5


# torchvision's published counts of trainable parameters, less the classifier's 1000 * (channels + 1).
TRAINABLE = {
    "resnet18_v1b": 11_689_512 - 513_000,
    "resnet34_v1b": 21_797_672 - 513_000,
    "resnet50_v1b": 25_557_032 - 2_049_000,
    "resnet101_v1b": 44_549_160 - 2_049_000,
    "resnext50_32x4d": 25_028_904 - 2_049_000,
    "resnext101_32x8d": 88_791_336 - 2_049_000,
    # three 3x3 convolutions and two more norms of 32 channels in place of the 7x7
    "resnet50_v1c": 25_557_032 - 2_049_000 - 49 * 3 * 64 + 9 * (3 * 32 + 32 * 32 + 32 * 64) + 2 * 2 * 32,
}


@pytest.mark.parametrize("name", slow_unless_smallest(TRAINABLE))
def test_layouts_of_torchvision_have_its_parameters(name):
    model = backbones.build(name)
    assert sum(int(np.prod(variable.shape)) for variable in model.trainable_variables) == TRAINABLE[name]


def rates(name: str, output_stride: int, **sizes) -> list[list[int]]:
    """Of each stack from conv2 on, the atrous rates of the 3x3 convolutions."""
    model = backbones.build(name, output_stride=output_stride, sizes=sizes)
    convs = [layer for layer in leaves(model) if "_block" in layer.name and layer.name.endswith("conv")]
    convs = [layer for layer in convs if layer.kernel_size == (3, 3)]
    return [
        [layer.dilation_rate[0] for layer in convs if layer.name.startswith(f"conv{stack}_")]
        for stack in (2, 3, 4, 5)
    ]


def test_rates_of_a_dilated_network_are_those_of_its_publisher():
    """torchvision's replace_stride_with_dilation, mmsegmentation's contract_dilation and the basic blocks there,
    and the whole stacks that segmentation_models_pytorch's make_dilated sets to one rate."""
    blocks = (1, 1, 2, 2)
    assert rates("resnet50_v1c", 8, blocks=blocks) == [[1], [1], [1, 2], [2, 4]]
    assert rates("resnet50_v1b", 16, blocks=blocks) == [[1], [1], [1, 1], [1, 2]]
    assert rates("resnet18_v1c", 8, blocks=blocks) == [[1, 1], [1, 1], [1, 1, 2, 1], [2, 1, 4, 1]]
    smp = {"blocks": blocks, "contracted": False, "second_dilated": True}
    assert rates("resnet50_v1b", 8, **smp) == [[1], [1], [2, 2], [4, 4]]
    assert rates("resnet18_v1b", 16, **smp) == [[1, 1], [1, 1], [1, 1, 1, 1], [2, 2, 2, 2]]


@pytest.mark.parametrize("name", slow_unless_smallest(["kerascv_resnet18_v2", "kerascv_densenet121"]))
def test_top_of_kerascv_is_its_own_output(name):
    """P5 comes after the final norm and ReLU, so it is nowhere negative."""
    features = np.asarray(backbones.build(name)(rgb(64, 64))["P5"])
    assert features.min() == 0 < features.max()


def test_kerascv_network_that_takes_even_sizes_gets_zeros_at_the_far_side():
    model = backbones.build("kerascv_csp_darknet_s")
    image = rgb(33, 47)
    expected = model(np.pad(image, ((0, 0), (0, 1), (0, 1), (0, 0))))
    for level, features in model(image).items():
        assert largest_relative_difference(expected[level], features) < 1e-6


@pytest.mark.parametrize("name", slow_unless_smallest(KERASCV))
def test_names_of_kerascv_layers_do_not_depend_on_what_was_built_before(name):
    """Weights load by name, in another process too."""
    first, second = ([layer.name for layer in leaves(backbones.build(name))] for _ in range(2))
    assert first == second
    assert len(set(first)) == len(first)


@pytest.mark.parametrize("name", ["mobilenet_v2", "kerascv_resnet18_v2"])
def test_momentum_reaches_every_norm(name):
    model = backbones.build(name, batch_norm_momentum=0.7)
    norms = [layer for layer in leaves(model) if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) > 10 and {layer.momentum for layer in norms} == {0.7}


def test_errors_list_what_is_valid():
    with pytest.raises(ValueError, match="unknown backbone 'vgg'; choose one of resnet50, resnet101"):
        backbones.build("vgg")
    with pytest.raises(ValueError, match="kerascv_densenet121 has no output_stride 16; it can do 32"):
        backbones.build("kerascv_densenet121", output_stride=16)
    with pytest.raises(ValueError, match="mobilenet_v2 has no output_stride 4; it can do 8, 16, 32"):
        backbones.build("mobilenet_v2", output_stride=4)
    with pytest.raises(ValueError, match="batch_norm_momentum"):
        backbones.build("mobilenet_v2", batch_norm_momentum=1.0)
