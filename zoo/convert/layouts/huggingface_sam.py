"""Hugging Face `SamModel`, and the authors' `sam_vit_*.pth`, -> sam.

The authors' files have other names for the same tensors; they are renamed first, and one way leads on from there.
They differ in one thing that no tensor tells: the layer norms of the decoder's blocks have an epsilon of 1e-5 in
the authors' code and the one of config.json, 1e-6 unless it is stated, in Hugging Face's.
"""

import re
from functools import partial
from typing import Any

import numpy as np

from zoo.convert import inputs
from zoo.convert.checkpoint import Checkpoint, Match, Tensors

KNOWN = "SAM of Hugging Face and of its authors"
AUTHORS_EPSILON = 1e-5
# What shapes do not say, and config.json does -> as every SAM that was published has it (the authors' epsilon: above).
UNSAID = {"decoder_heads": 8, "epsilon": 1e-6}

# Without these it is no SAM, or one without position embeddings, which none of the published is.
NEEDED = (
    "vision_encoder.pos_embed",
    "vision_encoder.layers.0.attn.rel_pos_h",
    "mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight",
)
# The authors' names -> Hugging Face's.
RENAMED = (
    (r"image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"image_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision_encoder.layers.\1.layer_norm\2."),
    (r"image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    (r"image_encoder\.", "vision_encoder."),
    (
        r"prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix",
        "shared_image_embedding.positional_embedding",
    ),
    (r"prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"prompt_encoder\.mask_downscaling\.", "prompt_encoder.mask_embed."),
    (r"mask_decoder\.transformer\.norm_final_attn\.", "mask_decoder.transformer.layer_norm_final_attn."),
    (r"(mask_decoder\.transformer\.layers\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    # Perceptrons, which have three layers there.
    (r"(mask_decoder\.\w+(?:\.\d+)?)\.layers\.0\.(weight|bias)", r"\1.proj_in.\2"),
    (r"(mask_decoder\.\w+(?:\.\d+)?)\.layers\.2\.(weight|bias)", r"\1.proj_out.\2"),
    (r"(mask_decoder\.\w+(?:\.\d+)?)\.layers\.1\.(weight|bias)", r"\1.layers.0.\2"),
)

# Our layers -> their prefixes.
WHOLE = {
    "patch_embedding": "vision_encoder.patch_embed.projection",
    "position": "vision_encoder",
    "neck_reduce": "vision_encoder.neck.conv1",
    "neck_reduce_norm": "vision_encoder.neck.layer_norm1",
    "neck_smooth": "vision_encoder.neck.conv2",
    "neck_smooth_norm": "vision_encoder.neck.layer_norm2",
    "prompt_encoder": "prompt_encoder",
    "no_mask": "prompt_encoder",
    "output_tokens": "mask_decoder",
    "upscale1": "mask_decoder.upscale_conv1",
    "upscale1_norm": "mask_decoder.upscale_layer_norm",
    "upscale2": "mask_decoder.upscale_conv2",
    "decoder_final_norm": "mask_decoder.transformer.layer_norm_final_attn",
}
# What follows blockI_ in ours -> what follows vision_encoder.layers.I in theirs.
BLOCK = {
    "attention_norm": "layer_norm1",
    "qkv": "attn.qkv",
    "attention": "attn",
    "projection": "attn.proj",
    "ffn_norm": "layer_norm2",
    "ffn_in": "mlp.lin1",
    "ffn_out": "mlp.lin2",
}
# The same of decoder_blockI_ and mask_decoder.transformer.layers.I, without the attentions' parts.
DECODER_BLOCK = {
    "self_norm": "layer_norm1",
    "to_image_norm": "layer_norm2",
    "ffn0": "mlp.lin1",
    "ffn1": "mlp.lin2",
    "ffn_norm": "layer_norm3",
    "to_tokens_norm": "layer_norm4",
}
ATTENTION = {
    "self": "self_attn",
    "to_image": "cross_attn_token_to_image",
    "to_tokens": "cross_attn_image_to_token",
}
# Weights of our own layers -> the tensors that they are.
TOKENS = {
    "prompt_encoder.positions": "shared_image_embedding.positional_embedding",
    "prompt_encoder.empty": "prompt_encoder.not_a_point_embed.weight",
    "prompt_encoder.no_mask": "prompt_encoder.no_mask_embed.weight",
    "mask_decoder.iou_token": "mask_decoder.iou_token.weight",
    "mask_decoder.mask_tokens": "mask_decoder.mask_tokens.weight",
}
PART = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}


def recognise(checkpoint: Checkpoint) -> Match | None:
    """A SAM of any size with decomposed relative positions; config.json adds what shapes cannot tell.

    Raises ValueError on one that ours cannot be: another activation than GELU.
    """
    authors, tensors = "image_encoder.pos_embed" in checkpoint.tensors, checkpoint.tensors
    if authors:
        tensors = {_renamed(name): array for name, array in tensors.items()}
    if not all(name in tensors for name in NEEDED):
        return None
    vision = checkpoint.config.get("vision_config") or {}
    decoder = checkpoint.config.get("mask_decoder_config") or {}
    if vision.get("hidden_act", "gelu") != "gelu":
        raise ValueError(f"is a SAM with the activation {vision['hidden_act']}; only gelu is known here")
    try:
        arguments, turned = {**_encoder(tensors), **_decoder(tensors)}, _turned(tensors)
    except KeyError as error:
        raise ValueError(f"is a SAM that lacks the tensor {error}") from error
    options, has_config = checkpoint.options, bool(checkpoint.config)
    heads, epsilon = UNSAID["decoder_heads"], AUTHORS_EPSILON if authors else UNSAID["epsilon"]
    arguments["decoder_heads"] = options.take(
        "decoder_heads", decoder.get("num_attention_heads", heads if has_config else None), heads
    )
    arguments["decoder_norm_epsilon"] = options.take(
        "epsilon", decoder.get("layer_norm_eps", epsilon if has_config else None), epsilon
    )
    return Match(
        source="segment_anything" if authors else "huggingface",
        model="sam",
        arguments=arguments,
        names=partial(_name, arguments["iou_layers"]),
        tensors=turned,
        unused=(r"prompt_encoder\.mask_embed\..*", r"prompt_encoder\.shared_embedding\.positional_embedding"),
        inputs=inputs.settle(inputs.of_huggingface(checkpoint.preprocessor), options),
    )


def _encoder(tensors: Tensors) -> dict[str, Any]:
    """What shapes tell of the image encoder."""
    width, _, patch, _ = tensors["vision_encoder.patch_embed.projection.weight"].shape
    _, height, columns, _ = tensors["vision_encoder.pos_embed"].shape
    blocks = _count(tensors, r"vision_encoder\.layers\.(\d+)\..*")
    tables = [tensors[f"vision_encoder.layers.{block}.attn.rel_pos_h"].shape for block in range(blocks)]
    # A table has 2 side - 1 rows. A window as large as the map is no window.
    sides = [(rows + 1) // 2 for rows, _ in tables]
    return {
        "image_size": (height * patch, columns * patch),
        "patch": patch,
        "encoder_width": width,
        "encoder_blocks": blocks,
        "encoder_heads": width // tables[0][1],
        "encoder_ffn_width": tensors["vision_encoder.layers.0.mlp.lin1.weight"].shape[0],
        "window": min(sides),
        "global_blocks": tuple(block for block, side in enumerate(sides) if side == height),
        "width": tensors["vision_encoder.neck.conv1.weight"].shape[0],
    }


def _decoder(tensors: Tensors) -> dict[str, Any]:
    """What shapes tell of the mask decoder."""
    first = "mask_decoder.transformer.layers.0"
    inner, width = tensors[f"{first}.cross_attn_token_to_image.q_proj.weight"].shape
    return {
        "decoder_blocks": _count(tensors, r"mask_decoder\.transformer\.layers\.(\d+)\..*"),
        "decoder_ffn_width": tensors[f"{first}.mlp.lin1.weight"].shape[0],
        "attention_downsampling": width // inner,
        "iou_layers": _count(tensors, r"mask_decoder\.iou_prediction_head\.layers\.(\d+)\..*") + 2,
        "iou_width": tensors["mask_decoder.iou_prediction_head.proj_in.weight"].shape[0],
    }


def _count(tensors: Tensors, pattern: str) -> int:
    return len({match.group(1) for match in map(re.compile(pattern).fullmatch, tensors) if match})


def _renamed(name: str) -> str:
    for pattern, replacement in RENAMED:
        name = re.sub(f"^{pattern}", replacement, name)
    return name


def _turned(tensors: Tensors) -> dict[str, np.ndarray]:
    """The tensors as our layers have them: tokens joined, linear layers of the encoder as 1x1 convolutions, the
    kernels of transposed convolutions as matrices."""
    found = dict(tensors)
    for name, array in tensors.items():
        if name.startswith("vision_encoder.layers.") and name.endswith(".weight") and array.ndim == 2:
            found[name] = array[:, :, None, None]
    kinds = [found.pop(f"prompt_encoder.point_embed.{kind}.weight") for kind in range(4)]
    found["prompt_encoder.kinds"] = np.concatenate(kinds)
    for ours, theirs in TOKENS.items():
        found[ours] = found.pop(theirs)
    for number in (1, 2):
        prefix = f"mask_decoder.upscale_conv{number}"
        kernel = found.pop(f"{prefix}.weight")  # (in, out, 2, 2)
        found[f"{prefix}.kernel"] = kernel.transpose(0, 2, 3, 1).reshape(len(kernel), -1)
    return found


def _name(iou_layers: int, path: str) -> str:
    """The prefix of a layer's tensors."""
    if path in WHOLE:
        return WHOLE[path]
    if match := re.fullmatch(r"block(\d+)_(\w+)", path):
        return f"vision_encoder.layers.{match[1]}.{BLOCK[match[2]]}"
    if match := re.fullmatch(r"mask(\d)_filter(\d)", path):
        return f"mask_decoder.output_hypernetworks_mlps.{match[1]}.{_in_perceptron(int(match[2]), 3)}"
    if match := re.fullmatch(r"iou_head(\d+)", path):
        return f"mask_decoder.iou_prediction_head.{_in_perceptron(int(match[1]), iou_layers)}"
    if match := re.fullmatch(r"decoder_final_(\w+)", path):
        return f"mask_decoder.transformer.final_attn_token_to_image.{PART[match[1]]}"
    block, _, rest = path.removeprefix("decoder_block").partition("_")
    prefix = f"mask_decoder.transformer.layers.{block}"
    if rest in DECODER_BLOCK:
        return f"{prefix}.{DECODER_BLOCK[rest]}"
    attention, _, part = rest.rpartition("_")
    return f"{prefix}.{ATTENTION[attention]}.{PART[part]}"


def _in_perceptron(index: int, layers: int) -> str:
    return {0: "proj_in", layers - 1: "proj_out"}.get(index, f"layers.{index - 1}")
