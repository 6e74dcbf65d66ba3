"""SAM converted from Hugging Face and from the authors' files: the same masks, the same IoU, sizes read."""

import re

import numpy as np
import pytest

import zoo
from tests import references
from zoo.backbones import vit
from zoo.convert import assign, rebuild
from zoo.convert.__main__ import main as convert_main
from zoo.convert.checkpoint import Checkpoint
from zoo.convert.layouts import huggingface_sam
from zoo.prompt_encoder import NO_BOX, UNUSED

MEAN = np.array([123.675, 116.28, 103.53], np.float32)
DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
# None of the sizes is ViT-B's. Windows of 3 in a map of 4 (padded) and of 6 (even).
TINY = {
    "vision_config": {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "patch_size": 8,
                      "window_size": 3, "global_attn_indexes": [1], "mlp_dim": 40, "output_channels": 32,
                      "num_pos_feats": 16},
    "prompt_encoder_config": {"hidden_size": 32, "patch_size": 8},
    "mask_decoder_config": {"hidden_size": 32, "mlp_dim": 48, "num_attention_heads": 4, "iou_head_hidden_dim": 20,
                            "iou_head_depth": 4},
}  # fmt: skip
SIDES = (32, 48)
# (x, y, label) of the points and a box of each of two prompts an image, in shares of the side; None: there is none
PROMPTS = {
    "a point": ([[(0.3, 0.6, 1)], [(0.9, 0.2, 1)]], None),
    "points": ([[(0.3, 0.6, 1), (0.5, 0.1, 0)], [(0.9, 0.2, 1), (0.7, 0.8, 1)]], None),
    "padded": ([[(0.3, 0.6, 1), (0.5, 0.1, -10)], [(0.9, 0.2, -1), (0.7, 0.8, 1)]], None),
    "a box": (None, [(0.1, 0.2, 0.7, 0.9), (0.4, 0.0, 0.9, 0.5)]),
    "both": ([[(0.3, 0.6, 1)], [(0.9, 0.2, 0)]], [(0.1, 0.2, 0.7, 0.9), (0.4, 0.0, 0.9, 0.5)]),
}


def huggingface(side: int | None = None, **parts):
    """(module with random weights, its config.json)."""
    transformers = references.transformers()
    references.torch().manual_seed(1)
    for part in () if side is None else ("vision_config", "prompt_encoder_config"):
        parts[part] = {**parts[part], "image_size": side}
    config = transformers.SamConfig(**parts)
    module = references.randomise(transformers.SamModel(config))
    with references.torch().no_grad():
        for name, parameter in module.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:  # which begin as zeros
                parameter.normal_(0, 0.5)
            elif name.startswith("vision_encoder") and name.endswith("weight") and parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5)  # which begin next to nothing
        module.shared_image_embedding.positional_embedding.normal_(0, 1)
    return module, config.to_dict()


def arrays(prompt: str, side: int, unused: int = 0):
    """points (1, 2, P, 2), labels (1, 2, P) and boxes (1, 2, 4), None for what is not there; with `unused` slots."""
    given, boxes = PROMPTS[prompt]
    points = labels = None
    if given is not None:
        points = side * np.array(given, np.float32)[None, ..., :2]
        labels = np.array(given)[None, ..., 2].astype(np.int32)
    return points, labels, None if boxes is None else side * np.array(boxes, np.float32)[None]


def theirs(module, embedding, points, labels, boxes, multimask):
    torch = references.torch()
    given = {"input_points": points, "input_labels": labels, "input_boxes": boxes}
    with torch.no_grad():
        found = module(
            image_embeddings=embedding,
            multimask_output=multimask,
            **{name: torch.from_numpy(array) for name, array in given.items() if array is not None},
        )
    return found.pred_masks.numpy(), found.iou_scores.numpy()


def ours(model, embedding, points, labels, boxes):
    """With two slots more than there are points, wherever they stand."""
    count = 0 if points is None else points.shape[2]
    all_points = np.full((1, 2, count + 2, 2), 7.0, np.float32)
    all_labels = np.full((1, 2, count + 2), UNUSED, np.int32)
    if points is not None:
        all_points[:, :, 1:-1], all_labels[:, :, 1:-1] = points, labels
    if boxes is None:
        boxes = np.tile(np.array(NO_BOX, np.float32), (1, 2, 1))
    decoder = model.get_layer("prompt_decoder")
    return decoder(
        {"image_embedding": embedding, "points": all_points, "point_labels": all_labels, "boxes": boxes}
    )


def converted(match):
    model = zoo.build(match.model, **match.arguments)
    report = assign.assign(model, match)
    assert report.left_over == () and report.fresh == ()
    return model


def assert_near(ours, theirs):
    ours = np.asarray(ours)
    assert ours.shape == theirs.shape
    scale = theirs.max() - theirs.min()
    assert scale > 0 and np.isfinite(ours).all()
    references.record(np.abs(ours - theirs).max() / scale, float(((ours > 0) == (theirs > 0)).mean()))
    assert np.abs(ours - theirs).max() < 1e-4 * scale, np.abs(ours - theirs).max() / scale


def assert_same(module, model, side):
    image = references.images(side, side).astype(np.float32)
    pixels = references.torch().from_numpy(((image - MEAN) / DEVIATION).transpose(0, 3, 1, 2))
    their_embedding = module.get_image_embeddings(pixels)
    our_embedding = np.asarray(model.get_layer("image_encoder")(image))
    assert_near(our_embedding, their_embedding.numpy().transpose(0, 2, 3, 1))
    for prompt in PROMPTS:
        given = arrays(prompt, side)
        found = ours(model, our_embedding, *given)
        masks, iou = theirs(module, their_embedding, *given, multimask=True)
        assert_near(found["masks"], masks)
        assert_near(found["iou"], iou)
        equal = (np.asarray(found["masks"]) > 0) == (masks > 0)
        assert equal.mean() >= 0.9999
        mask, score = theirs(module, their_embedding, *given, multimask=False)
        assert_near(found["single_mask"], mask)
        assert np.abs(np.asarray(found["single_iou"]) - score).max() < 1e-4 * (iou.max() - iou.min())


@pytest.mark.parametrize("side", SIDES)
def test_masks_and_iou_are_those_of_hugging_face(side, monkeypatch):
    if side == SIDES[1]:  # and with heads one after the other, as large images have them
        monkeypatch.setattr(vit, "MANY", 10)
    module, config = huggingface(side, **TINY)
    match = huggingface_sam.recognise(Checkpoint(references.tensors(module), "sam", config=config))
    assert match.arguments["image_size"] == (side, side)
    assert_same(module, converted(match), side)


def authors_names(tensors):
    """The names of sam_vit_b_01ec64.pth, written down from segment_anything's modules, for a state dict of
    Hugging Face's."""
    block = {"layer_norm1": "norm1", "layer_norm2": "norm2", "layer_norm3": "norm3", "layer_norm4": "norm4"}
    neck = {"conv1": "0", "layer_norm1": "1", "conv2": "2", "layer_norm2": "3"}
    upscaling = {"upscale_conv1": "0", "upscale_layer_norm": "1", "upscale_conv2": "3"}
    downscaling = {"conv1": "0", "layer_norm1": "1", "conv2": "3", "layer_norm2": "4", "conv3": "6"}
    found = {}
    for name, array in tensors.items():
        parts = name.split(".")
        if parts[0] == "vision_encoder":
            parts[0] = "image_encoder"
            if parts[1] == "layers":
                parts[1], parts[3] = "blocks", block.get(parts[3], parts[3])
            elif parts[1] == "neck":
                parts[2] = neck[parts[2]]
            elif parts[1] == "patch_embed":
                parts[2] = "proj"
        elif name == "shared_image_embedding.positional_embedding":
            parts = ["prompt_encoder", "pe_layer", "positional_encoding_gaussian_matrix"]
        elif parts[0] == "prompt_encoder":
            if parts[1] == "shared_embedding":
                continue
            if parts[1] == "mask_embed":
                parts[1:3] = "mask_downscaling", downscaling[parts[2]]
            elif parts[1] == "point_embed":
                parts[1] = "point_embeddings"
        elif parts[1] == "transformer":
            if parts[2] == "layers":
                parts[4] = block.get(parts[4], parts[4])
            elif parts[2] == "layer_norm_final_attn":
                parts[2] = "norm_final_attn"
        elif parts[1] in upscaling:
            parts[1:2] = "output_upscaling", upscaling[parts[1]]
        elif parts[1] in ("output_hypernetworks_mlps", "iou_prediction_head"):
            text = ".".join(parts).replace("layers.0.", "layers.1.")
            parts = text.replace("proj_in", "layers.0").replace("proj_out", "layers.2").split(".")
        found[".".join(parts)] = array
    return found


def test_the_authors_files_give_the_same_model_with_their_epsilon():
    parts = {**TINY, "mask_decoder_config": {**TINY["mask_decoder_config"], "iou_head_depth": 3}}
    parts["mask_decoder_config"]["layer_norm_eps"] = 1e-5
    parts["mask_decoder_config"]["num_attention_heads"] = 8  # what shapes cannot tell is that of ViT-B
    module, _ = huggingface(32, **parts)
    tensors = authors_names(references.tensors(module))
    assert "image_encoder.blocks.2.attn.rel_pos_w" in tensors
    assert "mask_decoder.output_hypernetworks_mlps.3.layers.2.bias" in tensors
    match = huggingface_sam.recognise(Checkpoint(tensors, "sam_vit_b.pth"))
    assert match.source == "segment_anything" and match.arguments["decoder_norm_epsilon"] == 1e-5
    assert_same(module, converted(match), 32)


def test_a_state_dict_alone_is_enough_where_the_heads_are_those_of_the_published():
    parts = {**TINY, "mask_decoder_config": {**TINY["mask_decoder_config"], "num_attention_heads": 8}}
    module, config = huggingface(32, **parts)
    tensors = references.tensors(module)
    alone = huggingface_sam.recognise(Checkpoint(tensors, "sam.safetensors"))
    assert alone.arguments == huggingface_sam.recognise(Checkpoint(tensors, "sam", config=config)).arguments
    assert alone.arguments["global_blocks"] == (1,) and alone.arguments["window"] == 3
    assert alone.arguments["iou_layers"] == 4 and alone.arguments["encoder_heads"] == 3


def test_what_is_missing_is_said_and_nothing_is_assigned():
    module, config = huggingface(32, **TINY)
    tensors = references.tensors(module)
    for name in ("prompt_encoder.point_embed.2.weight", "vision_encoder.neck.conv1.weight"):
        less = {other: array for other, array in tensors.items() if other != name}
        with pytest.raises(ValueError, match=f"lacks the tensor '{re.escape(name)}'"):
            huggingface_sam.recognise(Checkpoint(less, "sam", config=config))
    name = "mask_decoder.transformer.layers.1.cross_attn_image_to_token.v_proj.bias"
    less = {other: array for other, array in tensors.items() if other != name}
    match = huggingface_sam.recognise(Checkpoint(less, "sam", config=config))
    with pytest.raises(ValueError, match=re.escape(name)):
        assign.assign(zoo.build("sam", **match.arguments), match)
    assert huggingface_sam.recognise(Checkpoint({"conv1.weight": np.zeros((1, 1, 1, 1))}, "other")) is None
    config["vision_config"]["hidden_act"] = "quick_gelu"
    with pytest.raises(ValueError, match="activation quick_gelu; only gelu"):
        huggingface_sam.recognise(Checkpoint(tensors, "sam", config=config))


@pytest.mark.slow
def test_vit_b_at_its_own_size():
    module, config = huggingface(vision_config={}, prompt_encoder_config={}, mask_decoder_config={})
    match = huggingface_sam.recognise(Checkpoint(references.tensors(module), "sam", config=config))
    defaults = zoo.build.__globals__["MODELS"]["sam"].__kwdefaults__
    assert {**defaults, "decoder_norm_epsilon": 1e-6} == match.arguments
    model = converted(match)
    counts = {name: parameter.numel() for name, parameter in module.named_parameters()}
    masks = sum(count for name, count in counts.items() if "mask_embed" in name and "no_mask" not in name)
    assert model.count_params() == sum(counts.values()) - masks  # which are not built: no mask is a prompt
    assert_same(module, model, 1024)


def test_a_folder_of_hugging_face_is_converted_and_rebuilt_at_its_size(tmp_path, capsys):
    module, _ = huggingface(32, **TINY)
    module.save_pretrained(tmp_path / "sam")
    assert convert_main([str(tmp_path / "sam"), "--out", str(tmp_path / "sam.weights.h5")]) == 0
    assert "0 left over, 0 missing" in capsys.readouterr().out
    assert_same(module, rebuild(tmp_path / "sam.weights.h5"), 32)
