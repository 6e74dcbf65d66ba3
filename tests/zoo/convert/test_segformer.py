"""SegFormer converted from Hugging Face and mmsegmentation: the same logits, the same names, sizes read."""

import numpy as np
import pytest

import zoo
from tests import references
from tests.reference_networks import SEGFORMER, attentive, segformer_network
from zoo.convert import assign, inputs, recognise
from zoo.convert.checkpoint import Checkpoint
from zoo.convert.files import readers
from zoo.convert.layouts import huggingface_segformer, mmsegmentation_segformer

MEAN = np.array([123.675, 116.28, 103.53], np.float32)
DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
# hidden sizes, depths and decoder of B0 to B5 on the hub
SIZES = {
    "mit_b0": ([32, 64, 160, 256], [2, 2, 2, 2], 256),
    "mit_b1": ([64, 128, 320, 512], [2, 2, 2, 2], 256),
    "mit_b2": ([64, 128, 320, 512], [3, 4, 6, 3], 768),
    "mit_b3": ([64, 128, 320, 512], [3, 4, 18, 3], 768),
    "mit_b4": ([64, 128, 320, 512], [3, 8, 27, 3], 768),
    "mit_b5": ([64, 128, 320, 512], [3, 6, 40, 3], 768),
}


def theirs(forward, image: np.ndarray) -> np.ndarray:
    """Logits (B, H, W, C) at the image's size; both references leave the last resize to the caller."""
    torch = references.torch()
    pixels = torch.from_numpy(((image - MEAN) / DEVIATION).transpose(0, 3, 1, 2))
    with torch.no_grad():
        logits = forward(pixels)
        logits = torch.nn.functional.interpolate(logits, image.shape[1:3], mode="bilinear")
    return logits.permute(0, 2, 3, 1).numpy()


def converted(match):
    model = zoo.build(match.model, **match.arguments)
    report = assign.assign(model, match)
    assert report.left_over == ()
    return model


def assert_same(model, forward, sizes) -> None:
    for height, width in sizes:
        image = references.images(height, width).astype(np.float32)
        references.assert_parity(np.asarray(model(image)["logits"]), theirs(forward, image))


def test_a_tiny_segformer_of_hugging_face_has_the_same_logits():
    module, config = segformer_network(**SEGFORMER)
    match = huggingface_segformer.recognise(Checkpoint(references.tensors(module), "tiny", config))
    assert match.classes is None  # LABEL_0 and so on
    assert_same(converted(match), lambda x: module(x).logits, [(64, 64), (61, 95)])


def test_the_names_that_files_have_are_those_of_transformers_4(tmp_path):
    """What transformers 5 writes, as what is on the hub, does not have its modules' names."""
    from safetensors.numpy import load_file

    module, config = segformer_network(**SEGFORMER)
    module.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert "segformer.encoder.block.1.1.attention.self.query.weight" in tensors
    match = huggingface_segformer.recognise(Checkpoint(tensors, "tiny", config))
    other = huggingface_segformer.recognise(Checkpoint(references.tensors(module), "tiny", config))
    assert match.arguments == other.arguments
    pairs = zip(converted(match).get_weights(), converted(other).get_weights(), strict=True)
    assert all(np.array_equal(one, two) for one, two in pairs)


HALF = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2]}


@pytest.mark.parametrize(
    "said",
    [HALF, {"do_normalize": False}, {"do_rescale": False}, {"rescale_factor": 1 / 127.5, **HALF}],
    ids=["half", "not normalised", "not rescaled", "factor"],
)
def test_images_are_prepared_as_the_preprocessor_says(tmp_path, said):
    """transformers' own pipeline, from the folder that it writes itself."""
    transformers = references.transformers()
    module, _ = segformer_network(**SEGFORMER)
    module.save_pretrained(tmp_path)
    transformers.SegformerImageProcessor(do_resize=False, **said).save_pretrained(tmp_path)
    processor = transformers.SegformerImageProcessor.from_pretrained(tmp_path)
    match = recognise(readers.read(tmp_path).checkpoint)
    assert match.assumed == {}
    image = references.images(64, 96)
    pixels = processor(images=[image[0]], return_tensors="pt")["pixel_values"]
    torch = references.torch()
    with torch.no_grad():
        logits = torch.nn.functional.interpolate(module(pixels).logits, image.shape[1:3], mode="bilinear")
    references.assert_parity(
        np.asarray(converted(match)(image)["logits"]), logits.permute(0, 2, 3, 1).numpy()
    )


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"image_mean": [0.5, 0.5]}, "a mean of .* where three numbers should be"),
        ({"image_std": [0.5, 0, 0.5]}, "which have to be above 0"),
        ({"do_normalize": "no"}, "do_normalize 'no' .* where true or false should be"),
        ({"image_processor_type": "ViTImageProcessor"}, "a ViTImageProcessor that states no image_mean"),
    ],
)
def test_a_preprocessor_that_makes_no_sense_is_refused(said, sentence):
    with pytest.raises(ValueError, match=sentence):
        inputs.of_huggingface(said)


def test_one_class_becomes_two_whose_first_is_nothing():
    module, config = segformer_network(**{**SEGFORMER, "num_labels": 1, "id2label": {0: "road"}})
    match = recognise(Checkpoint(references.tensors(module), "binary", config))
    assert match.classes == ("background", "road") and match.assumed["threshold"] == 0.5
    image = references.images(64, 64).astype(np.float32)
    one = theirs(lambda x: module(x).logits, image)
    references.assert_parity(
        np.asarray(converted(match)(image)["logits"]), np.concatenate([np.zeros_like(one), one], axis=-1)
    )


def sizes_of(name: str) -> dict:
    hidden, depths, decoder = SIZES[name]
    return {"hidden_sizes": hidden, "depths": depths, "decoder_hidden_size": decoder, "num_labels": 19}


@pytest.mark.parametrize(
    "name", ["mit_b0", *(pytest.param(f"mit_b{n}", marks=pytest.mark.slow) for n in range(1, 6))]
)
def test_a_segformer_of_the_paper_is_found_by_its_shapes_alone(name):
    """Without config.json, and with the logits of the reference."""
    module, _ = segformer_network(**sizes_of(name))
    match = huggingface_segformer.recognise(Checkpoint(references.tensors(module), name))
    assert match.arguments["backbone"] == name
    assert match.arguments["backbone_sizes"] == {"epsilon": 1e-5}
    assert_same(converted(match), lambda x: module(x).logits, [(64, 64), (65, 125)])


def test_class_names_come_in_the_order_of_their_ids():
    labels = {str(key): f"class {key}" for key in range(12)}
    module, config = segformer_network(**{**SEGFORMER, "num_labels": 12, "id2label": labels})
    match = huggingface_segformer.recognise(Checkpoint(references.tensors(module), "tiny", config))
    assert match.classes == tuple(f"class {number}" for number in range(12))
    assert match.palette is None


def test_what_is_no_segformer_or_one_that_ours_cannot_be():
    module, config = segformer_network(**SEGFORMER)
    tensors = references.tensors(module)
    encoder = {name: array for name, array in tensors.items() if not name.startswith("decode_head")}
    for asked in (huggingface_segformer.recognise, mmsegmentation_segformer.recognise):
        assert asked(Checkpoint({"features.0.weight": np.zeros(3)}, "other")) is None
        assert asked(Checkpoint(encoder, "encoder alone", config)) is None
    with pytest.raises(ValueError, match="relu"):
        huggingface_segformer.recognise(Checkpoint(tensors, "relu", {**config, "hidden_act": "relu"}))
    with pytest.raises(ValueError, match="four stages"):
        huggingface_segformer.recognise(Checkpoint(tensors, "five", {**config, "num_encoder_blocks": 5}))


def mmsegmentation(embed: int, blocks: list[int], channels: int, classes: int = 19, **options):
    """mmsegmentation's encoder and head, put together as its EncoderDecoder is: (state dict, forward)."""
    references.mmseg()
    torch = references.torch()
    torch.manual_seed(2)
    from mmseg.models.backbones import MixVisionTransformer
    from mmseg.models.decode_heads import SegformerHead

    backbone = MixVisionTransformer(embed_dims=embed, num_layers=blocks, num_heads=[1, 2, 5, 8], **options)
    head = SegformerHead(
        in_channels=[embed, 2 * embed, 5 * embed, 8 * embed],
        in_index=[0, 1, 2, 3],
        channels=channels,
        num_classes=classes,
        norm_cfg={"type": "BN"},
        align_corners=False,
    )
    whole = torch.nn.ModuleDict({"backbone": backbone, "decode_head": head})
    attentive(references.randomise(whole))
    return references.tensors(whole), lambda pixels: head(backbone(pixels))


@pytest.mark.parametrize(
    ("embed", "blocks", "channels"),
    [
        (4, [1, 2, 1, 1], 16),
        pytest.param(32, [2, 2, 2, 2], 256, marks=pytest.mark.slow),
        pytest.param(64, [3, 6, 40, 3], 256, marks=pytest.mark.slow),
    ],
)
def test_a_segformer_of_mmsegmentation_has_the_same_logits(embed, blocks, channels):
    tensors, forward = mmsegmentation(embed, blocks, channels)
    meta = {"CLASSES": ["road", "car"], "PALETTE": [[128, 64, 128], [0, 0, 142]]}
    match = mmsegmentation_segformer.recognise(Checkpoint(tensors, "mmseg", meta=meta))
    assert match.classes == ("road", "car") and match.palette == ((128, 64, 128), (0, 0, 142))
    newer = {"dataset_meta": {"classes": ("road", "car"), "palette": [[128, 64, 128], [0, 0, 142]]}}
    again = mmsegmentation_segformer.recognise(Checkpoint(tensors, "mmseg", meta=newer))
    assert (again.classes, again.palette) == (match.classes, match.palette)
    assert_same(converted(match), forward, [(64, 64), (61, 95)])
