"""mmsegmentation's SegFormer (MixVisionTransformer and SegformerHead) -> segformer.

Their attention is PyTorch's MultiheadAttention, which keeps query, key and value in one tensor; their head has a
batch norm after each level's linear layer and 256 channels for every size.
"""

import re
from typing import Any

import numpy as np

from zoo.convert import inputs
from zoo.convert.checkpoint import Checkpoint, Match, Tensors
from zoo.convert.layouts.huggingface_segformer import as_convolution, layout_arguments
from zoo.convert.layouts.mmsegmentation_config import Config, config, described, part, prepared
from zoo.convert.options import Options

KNOWN = "mmsegmentation's SegFormer"
# What a file without a config does not say -> what every SegFormer of the library has.
UNSAID: dict[str, Any] = {"heads": (1, 2, 5, 8), "epsilon": 1e-6, "threshold": 0.3}
STAGES = range(4)
FUSION = "decode_head.fusion_conv"

# What follows stageI_blockJ_ in our layers -> what follows layers.I.1.J in theirs.
BLOCK = {
    "attention_norm": "norm1",
    "query": "attn.attn.query",
    "key": "attn.attn.key",
    "value": "attn.attn.value",
    "reduction": "attn.sr",
    "reduction_norm": "attn.norm",
    "projection": "attn.attn.out_proj",
    "ffn_norm": "norm2",
    "ffn_in": "ffn.layers.0",
    "ffn_depthwise": "ffn.layers.1",
    "ffn_out": "ffn.layers.4",
}
STAGE = {"patch_conv": "0.projection", "patch_norm": "0.norm", "norm": "2"}
HEAD = {"decoder_bn": f"{FUSION}.bn", "classifier": "decode_head.conv_seg"}
LEVEL = {"linear": "conv", "bn": "bn"}


def recognise(checkpoint: Checkpoint) -> Match | None:
    """A SegFormer of any size, or None. Raises ValueError where its config asks for what ours cannot do."""
    if "backbone.layers.0.0.projection.weight" not in checkpoint.tensors:
        return None
    if f"{FUSION}.conv.weight" not in checkpoint.tensors:
        return None
    tensors = _split(checkpoint.tensors)
    classes, palette = described(checkpoint.meta)
    said, options = config(checkpoint.meta), checkpoint.options
    if part(said, "model", "decode_head").get("align_corners"):
        raise ValueError("is a SegFormer that aligns corners; known here is one that does not")
    count = tensors["decode_head.conv_seg.weight"].shape[0]
    return Match(
        source="mmsegmentation",
        model="segformer",
        arguments={
            "classes": count,
            **layout_arguments({**_layout(tensors), **_told(said, options)}),
            "decoder_filters": tensors[f"{FUSION}.P2.weight"].shape[0],
            "decoder_norm": True,
        },
        names=_name,
        tensors=tensors,
        unused=(r".*\.num_batches_tracked",),
        classes=classes,
        palette=palette,
        inputs=inputs.settle(prepared(said), options),
        threshold=_threshold(said, options) if count == 1 else None,
    )


def _told(said: Config, options: Options) -> dict[str, Any]:
    """Heads and epsilon: as --set says, as the config says, or assumed."""
    backbone, is_said = part(said, "model", "backbone"), bool(part(said, "model"))
    heads = tuple(backbone.get("num_heads") or ()) or (UNSAID["heads"] if is_said else None)
    norm = part(said, "model", "backbone", "norm_cfg")
    epsilon = norm.get("eps", UNSAID["epsilon"] if is_said else None)
    return {
        "heads": options.take("heads", heads, UNSAID["heads"]),
        "epsilon": options.take("epsilon", epsilon, UNSAID["epsilon"]),
    }


def _threshold(said: Config, options: Options) -> float:
    stated = part(said, "model", "decode_head").get("threshold")
    if stated is None and part(said, "model"):
        stated = UNSAID["threshold"]
    return float(options.take("threshold", stated, UNSAID["threshold"]))


def _split(tensors: Tensors) -> dict[str, np.ndarray]:
    """Attention's in_proj into query, key and value; the fusion's kernel, which reads P2, P3, P4, P5, in four."""
    split: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        before, fused, kind = name.partition("in_proj_")
        if fused:
            parts = zip(("query", "key", "value"), np.split(array, 3), strict=True)
            split.update({f"{before}{part}.{kind}": as_convolution(rows) for part, rows in parts})
        elif name == f"{FUSION}.conv.weight":
            for stage, kernel in zip(STAGES, np.split(array, 4, axis=1), strict=True):
                split[f"{FUSION}.P{stage + 2}.weight"] = kernel
        else:
            split[name] = as_convolution(array)
    return split


def _layout(tensors: Tensors) -> dict[str, Any]:
    """What shapes tell of the encoder."""
    layers = [f"backbone.layers.{stage}" for stage in STAGES]
    patches = [tensors[f"{layer}.0.projection.weight"].shape for layer in layers]
    reductions = [tensors.get(f"{layer}.1.0.attn.sr.weight", np.ones((1, 1, 1, 1))).shape for layer in layers]
    wide = [tensors[f"{layer}.1.0.ffn.layers.0.weight"].shape for layer in layers]
    blocks = [{name.split(".")[4] for name in tensors if name.startswith(f"{layer}.1.")} for layer in layers]
    return {
        "widths": tuple(patch[0] for patch in patches),
        "kernels": tuple(patch[2] for patch in patches),
        "blocks": tuple(len(found) for found in blocks),
        "reductions": tuple(shape[2] for shape in reductions),
        "expansions": tuple(rows // columns for rows, columns, *_ in wide),
    }


def _name(path: str) -> str:
    """The prefix of a layer's tensors."""
    if match := re.fullmatch(r"stage(\d)_block(\d+)_(\w+)", path):
        return f"backbone.layers.{int(match[1]) - 1}.1.{int(match[2]) - 1}.{BLOCK[match[3]]}"
    if match := re.fullmatch(r"stage(\d)_(\w+)", path):
        return f"backbone.layers.{int(match[1]) - 1}.{STAGE[match[2]]}"
    if match := re.fullmatch(r"decoder_(P\d)_fusion", path):
        return f"{FUSION}.{match[1]}"
    if match := re.fullmatch(r"decoder_P(\d)_(\w+)", path):
        return f"decode_head.convs.{int(match[1]) - 2}.{LEVEL[match[2]]}"
    return HEAD[path]
