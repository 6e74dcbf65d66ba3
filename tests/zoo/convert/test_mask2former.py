"""Mask2Former converted from Hugging Face: the same queries, masks and class ids, the same names, sizes read."""

import numpy as np
import pytest

import zoo
from tests import references
from zoo.convert import assign
from zoo.convert.checkpoint import Checkpoint
from zoo.convert.layouts import huggingface_mask2former
from zoo.layers import IMAGENET_DEVIATION, IMAGENET_MEAN

STAGES = ["stage1", "stage2", "stage3", "stage4"]
# Neither blocks, heads, widths, window nor any size of the decoders are those of a row.
SWIN = {
    "embed_dim": 16,
    "depths": [1, 2, 1, 1],
    "num_heads": [1, 2, 2, 4],
    "window_size": 4,
    "mlp_ratio": 2.0,
}
RESNET = {"depths": [1, 1, 2, 1], "embedding_size": 64, "hidden_sizes": [256, 512, 1024, 2048]}
TINY = {
    "feature_size": 64,
    "mask_feature_size": 64,
    "hidden_dim": 64,
    "encoder_feedforward_dim": 48,
    "encoder_layers": 2,
    "decoder_layers": 5,  # one more than there are: the untouched queries count as a layer
    "num_attention_heads": 4,
    "dim_feedforward": 40,
    "num_queries": 7,
}
ROWS = {
    "swin_tiny": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
    "swin_small": {"embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
    "swin_base": {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 12},
    "swin_large": {
        "embed_dim": 192,
        "depths": [2, 2, 18, 2],
        "num_heads": [6, 12, 24, 48],
        "window_size": 12,
    },
}


def huggingface(backbone, labels=5, size=(64, 64), seed=1, **options):
    """(module with random weights, several classes in its answer at that size, its config.json)."""
    transformers, torch = references.transformers(), references.torch()
    names = {str(label): f"LABEL_{label}" for label in range(labels)}
    torch.manual_seed(seed)  # what is not drawn below is as transformers initialises it
    config = transformers.Mask2FormerConfig(backbone_config=backbone, id2label=names, **options)
    module = references.randomise(transformers.Mask2FormerForUniversalSegmentation(config))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            embeds = "embed" in name and "mask_embedder" not in name and "patch" not in name
            if parameter.ndim > 1 and not embeds:
                deviation = 1.0 if name.endswith("table") else parameter[0].numel() ** -0.5
                parameter.normal_(0, deviation, generator=generator)
            if name.endswith("sampling_offsets.weight"):
                parameter.mul_(3.0)  # points beyond the border too
        embedder = module.model.transformer_module.decoder.mask_predictor.mask_embedder
        stand_apart(module, embedder.get_submodule("2.0"), 0.3, size)
        stand_apart(module, module.class_predictor, 3.0, size)
    return module, config.to_dict()


def stand_apart(module, linear, wanted: float, size) -> None:
    """Random queries are much alike: let what they differ by decide, of a linear layer that reads them."""
    seen = []
    hook = linear.register_forward_hook(lambda layer, inputs, output: seen.append(output))
    theirs(module, references.images(*size))
    hook.remove()
    mean, deviation = seen[-1].mean((0, 1)), seen[-1].std((0, 1)).mean()
    linear.bias.sub_(mean)
    for parameter in (linear.weight, linear.bias):
        parameter.mul_(wanted / deviation)


def swin(**options):
    return references.transformers().SwinConfig(out_features=STAGES, **options)


def resnet(**options):
    return references.transformers().ResNetConfig(out_features=STAGES, **options)


def converted(match):
    model = zoo.build(match.model, **match.arguments)
    assert assign.assign(model, match).left_over == ()
    return model


def theirs(module, images: np.ndarray):
    torch = references.torch()
    pixels = ((images / 255 - IMAGENET_MEAN) / IMAGENET_DEVIATION).transpose(0, 3, 1, 2)
    with torch.no_grad():
        return module(torch.tensor(pixels, dtype=torch.float32), output_auxiliary_logits=True)


def semantic(outputs, size) -> np.ndarray:
    """MaskFormer's semantic inference at the image's size, of PyTorch's parts: (B, H, W, C)."""
    torch = references.torch()
    masks = torch.nn.functional.interpolate(outputs.masks_queries_logits, size, mode="bilinear").sigmoid()
    classes = outputs.class_queries_logits.softmax(-1)[..., :-1]
    return torch.einsum("bqc,bqhw->bhwc", classes, masks).numpy()


def assert_close(ours, expected) -> None:
    ours, expected = np.asarray(ours), np.asarray(expected)
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).max() < 1e-4 * np.ptp(expected)


def assert_same(model, module, sizes) -> None:
    for size in sizes:
        images = references.images(*size)
        found, expected = model(images), theirs(module, images)
        assert_close(found["query_logits"], expected.class_queries_logits)
        assert_close(found["mask_logits"], expected.masks_queries_logits)
        scores = semantic(expected, size)
        ours = np.exp(np.asarray(found["logits"]))
        assert_close(ours, scores)
        # Many random queries give nearly even classes: only where the reference's lead is more than the bound on
        # each of two scores can the class be asked for.
        second, best = np.sort(scores, axis=-1)[..., -2:].transpose(3, 0, 1, 2)
        led = best - second > 2e-4 * np.ptp(scores)
        assert led.mean() > 0.05, "the reference hardly decides anything: another seed"
        equal = (ours.argmax(-1) == scores.argmax(-1))[led].mean()
        references.record(np.abs(ours - scores).max() / np.ptp(scores), equal)
        assert equal >= 0.9999
        assert len(np.unique(scores.argmax(-1))) > 1 or size != (64, 64)
        earlier = expected.auxiliary_logits
        assert found["aux_query_logits"].shape[1] == len(earlier)
        for layer, aux in enumerate(earlier):
            assert_close(found["aux_query_logits"][:, layer], aux["class_queries_logits"])
            assert_close(found["aux_mask_logits"][:, layer], aux["masks_queries_logits"])


def test_a_tiny_mask2former_on_swin_says_the_same():
    module, config = huggingface(swin(**SWIN), **TINY)
    match = huggingface_mask2former.recognise(Checkpoint(references.tensors(module), "tiny", config))
    assert match.classes is None  # LABEL_0 and so on
    assert match.arguments["backbone_sizes"]["window"] == 4 and match.arguments["decoder_layers"] == 4
    assert_same(converted(match), module, [(64, 64), (65, 97)])


def test_a_tiny_mask2former_on_resnet_says_the_same():
    module, config = huggingface(resnet(**RESNET), **TINY)
    match = huggingface_mask2former.recognise(Checkpoint(references.tensors(module), "tiny", config))
    assert match.arguments["backbone"] == "resnet50_v1b"
    assert match.arguments["backbone_sizes"] == {"blocks": (1, 1, 2, 1)}
    assert_same(converted(match), module, [(64, 64), (65, 97)])


def test_class_ids_are_those_of_hugging_faces_post_processing():
    """It brings masks to 384x384 whatever the image, so there alone it does what the paper's code does."""
    module, config = huggingface(swin(**SWIN), size=(384, 384), **TINY)
    match = huggingface_mask2former.recognise(Checkpoint(references.tensors(module), "tiny", config))
    images = references.images(384, 384)
    processor = references.transformers().Mask2FormerImageProcessor()
    expected = processor.post_process_semantic_segmentation(theirs(module, images), [(384, 384)])[0].numpy()
    found = np.asarray(converted(match)(images)["logits"])[0].argmax(-1)
    assert (found == expected).mean() >= 0.9999 and len(np.unique(expected)) > 1


@pytest.mark.parametrize("backbone", ["swin", "resnet"])
def test_a_folder_that_hugging_face_wrote_is_read(backbone, tmp_path):
    """It has the names that the files on the hub have, which are not those of the modules."""
    from safetensors.numpy import load_file

    module, config = huggingface(swin(**SWIN) if backbone == "swin" else resnet(**RESNET), **TINY)
    config["id2label"] = {str(label): name for label, name in enumerate("abcde")}
    module.save_pretrained(tmp_path)
    written = load_file(tmp_path / "model.safetensors")
    match = huggingface_mask2former.recognise(Checkpoint(written, "tiny", config))
    assert match.classes == ("a", "b", "c", "d", "e")
    in_memory = huggingface_mask2former.recognise(Checkpoint(references.tensors(module), "tiny", config))
    assert match.arguments == in_memory.arguments
    for ours, expected in zip(converted(match).weights, converted(in_memory).weights, strict=True):
        np.testing.assert_array_equal(ours, expected, err_msg=ours.path)


@pytest.mark.parametrize("name", ROWS)
def test_the_published_sizes_are_recognised_as_rows(name):
    """Of the shapes alone: config.json is left out."""
    torch, transformers = references.torch(), references.transformers()
    queries = 200 if name == "swin_large" else 100
    with torch.device("meta"):
        config = transformers.Mask2FormerConfig(backbone_config=swin(**ROWS[name]), num_queries=queries)
        module = transformers.Mask2FormerForUniversalSegmentation(config)
    shapes = {key: np.broadcast_to(np.float32(0), value.shape) for key, value in module.state_dict().items()}
    match = huggingface_mask2former.recognise(Checkpoint(shapes, name))
    assert match.arguments == {
        "classes": 2,
        "queries": queries,
        "hidden": 256,
        "heads": 8,
        "points": 4,
        "encoder_layers": 6,
        "encoder_feedforward": 1024,
        "decoder_layers": 9,
        "decoder_feedforward": 2048,
        "dropout": 0.0,
        "backbone": name,
        "backbone_sizes": None,
    }


# With the first seed, the random ResNet's queries see no class at all in the second image.
SEEDS = {"swin_tiny": 1, "swin_large": 1, "resnet50_v1b": 5}


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEDS)
def test_full_sizes_say_the_same(name):
    if name in ROWS:
        backbone = swin(**ROWS[name])
    else:
        backbone = resnet(**{**RESNET, "depths": [3, 4, 6, 3]})
    module, config = huggingface(
        backbone, 19, seed=SEEDS[name], num_queries=200 if name == "swin_large" else 100
    )
    match = huggingface_mask2former.recognise(Checkpoint(references.tensors(module), name, config))
    sizes = match.arguments["backbone_sizes"] or {}
    assert match.arguments["backbone"] == name and set(sizes) <= {"drop_path"}
    assert_same(converted(match), module, [(64, 64), (65, 129)])


def test_anything_else_is_not_recognised():
    assert huggingface_mask2former.recognise(Checkpoint({}, "empty")) is None
    other = {"segformer.encoder.patch_embeddings.0.proj.weight": np.zeros((8, 3, 7, 7), np.float32)}
    assert huggingface_mask2former.recognise(Checkpoint(other, "segformer")) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pre_norm": True}, "pre_norm is True"),
        ({"activation_function": "gelu"}, "activation_function is 'gelu'"),
        ({"backbone_config": {"hidden_act": "relu"}}, "hidden_act is 'relu'"),
        ({"backbone_config": {"use_absolute_embeddings": True}}, "use_absolute_embeddings is True"),
        (None, "needs its config.json"),
    ],
)
def test_what_ours_cannot_be_is_refused_in_one_sentence(change, message):
    module, config = huggingface(swin(**SWIN), **TINY)
    config = {} if change is None else {**config, **change}
    with pytest.raises(ValueError, match=message):
        huggingface_mask2former.recognise(Checkpoint(references.tensors(module), "tiny", config))


def test_unequal_channels_and_other_backbones_are_refused():
    module, config = huggingface(swin(**SWIN), **{**TINY, "mask_feature_size": 32})
    with pytest.raises(ValueError, match="64 channels in its encoder, 64 in its decoder and 32 in its masks"):
        huggingface_mask2former.recognise(Checkpoint(references.tensors(module), "tiny", config))
    module, config = huggingface(swin(**SWIN), **TINY)
    tensors = {
        name: array
        for name, array in references.tensors(module).items()
        if not name.startswith("model.pixel_level_module.encoder.")
    }
    with pytest.raises(ValueError, match="neither a Swin Transformer nor a ResNet"):
        huggingface_mask2former.recognise(Checkpoint(tensors, "tiny", config))
