"""Hugging Face `SegformerForSemanticSegmentation` -> segformer.

Files on the hub, and those that transformers writes, have the names of transformers 4 (`encoder.block.0.0.attention.
self.query`); the modules of transformers 5 have others (`stages.0.blocks.0.attention.q_proj`), which are taken too.
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from zoo.backbones.mix_transformer import LAYOUTS, Layout
from zoo.convert import inputs
from zoo.convert.checkpoint import Checkpoint, Match, Tensors

KNOWN = "Hugging Face's SegFormer"
# What shapes do not say, and config.json does -> the paper's.
UNSAID = {"heads": (1, 2, 5, 8), "strides": (4, 2, 2, 2), "epsilon": 1e-5}
STAGES = range(4)
ENCODER = "segformer.encoder"
FUSION = "decode_head.linear_fuse"

# transformers 5 -> transformers 4
RENAMED = (
    (r"segformer\.stages\.(\d+)\.patch_embeddings\.", r"segformer.encoder.patch_embeddings.\1."),
    (r"segformer\.stages\.(\d+)\.blocks\.", r"segformer.encoder.block.\1."),
    (r"segformer\.stages\.(\d+)\.layer_norm\.", r"segformer.encoder.layer_norm.\1."),
    (r"attention\.q_proj\.", "attention.self.query."),
    (r"attention\.k_proj\.", "attention.self.key."),
    (r"attention\.v_proj\.", "attention.self.value."),
    (r"attention\.sequence_reduction\.sequence_reduction\.", "attention.self.sr."),
    (r"attention\.sequence_reduction\.layer_norm\.", "attention.self.layer_norm."),
    (r"attention\.o_proj\.", "attention.output.dense."),
    (r"mlp\.fc([12])\.", r"mlp.dense\1."),
    (r"layernorm_before\.", "layer_norm_1."),
    (r"layernorm_after\.", "layer_norm_2."),
    (r"decode_head\.linear_projections\.", "decode_head.linear_c."),
)

# What follows stageI_blockJ_ in our layers -> what follows block.I.J in theirs.
BLOCK = {
    "attention_norm": "layer_norm_1",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "reduction": "attention.self.sr",
    "reduction_norm": "attention.self.layer_norm",
    "projection": "attention.output.dense",
    "ffn_norm": "layer_norm_2",
    "ffn_in": "mlp.dense1",
    "ffn_depthwise": "mlp.dwconv.dwconv",
    "ffn_out": "mlp.dense2",
}
STAGE = {"patch_conv": "patch_embeddings.{}.proj", "patch_norm": "patch_embeddings.{}.layer_norm",
         "norm": "layer_norm.{}"}  # fmt: skip
HEAD = {"decoder_bn": "decode_head.batch_norm", "classifier": "decode_head.classifier"}


def recognise(checkpoint: Checkpoint) -> Match | None:
    """A SegFormer with its decoder, of any size; config.json adds what shapes cannot tell, such as heads.

    Raises ValueError on one that ours cannot be: another activation than GELU, other than four stages.
    """
    tensors = {_old_name(name): array for name, array in checkpoint.tensors.items()}
    if f"{ENCODER}.patch_embeddings.0.proj.weight" not in tensors or f"{FUSION}.weight" not in tensors:
        return None
    config = checkpoint.config
    if config.get("hidden_act", "gelu") != "gelu":
        raise ValueError(
            f"is a SegFormer with the activation {config['hidden_act']}; only gelu is known here"
        )
    if config.get("num_encoder_blocks", 4) != 4 or f"{ENCODER}.patch_embeddings.4.proj.weight" in tensors:
        raise ValueError("is a SegFormer with other than four stages, which is not known here")
    filters = tensors[f"{FUSION}.weight"].shape[0]
    # Theirs joins P5, P4, P3, P2; ours sums what each contributes.
    for stage, kernel in zip(reversed(STAGES), _split(tensors.pop(f"{FUSION}.weight")), strict=True):
        tensors[f"{FUSION}.P{stage + 2}.weight"] = kernel
    options = checkpoint.options
    said = _configured(config)
    # Of transformers' layer norms it is PyTorch's default, whatever config.json says in layer_norm_eps.
    said["epsilon"] = UNSAID["epsilon"] if config else None
    told = {name: options.take(name, said.get(name), value) for name, value in UNSAID.items()}
    layout = {**_layout(tensors), **said, **told}
    return Match(
        source="huggingface",
        model="segformer",
        arguments={
            "classes": tensors["decode_head.classifier.weight"].shape[0],
            **layout_arguments(layout),
            "decoder_filters": filters,
            "dropout": config.get("classifier_dropout_prob", 0.1),
        },
        names=_name,
        tensors={name: as_convolution(array) for name, array in tensors.items()},
        unused=(r".*\.num_batches_tracked",),
        classes=_classes(config),
        inputs=inputs.settle(inputs.of_huggingface(checkpoint.preprocessor), options),
    )


def layout_arguments(layout: Mapping[str, Any]) -> dict[str, Any]:
    """`backbone` and `backbone_sizes` for a layout's fields: the row of LAYOUTS that has most of them as they
    are, and the rest of them."""
    wanted = Layout(**layout)

    def differing(row: str) -> dict[str, Any]:
        pairs = {field.name: getattr(wanted, field.name) for field in fields(Layout)}
        return {name: value for name, value in pairs.items() if getattr(LAYOUTS[row], name) != value}

    best = min(LAYOUTS, key=lambda row: len(differing(row)))
    return {"backbone": best, "backbone_sizes": differing(best)}


def as_convolution(array: np.ndarray) -> np.ndarray:
    """A linear layer's (out, in) as the (out, in, 1, 1) of the 1x1 convolution that it is here."""
    return array[:, :, None, None] if array.ndim == 2 else array


def _layout(tensors: Tensors) -> dict[str, Any]:
    """What shapes tell of the encoder."""

    def shape(name: str) -> tuple[int, ...]:
        return tensors[name].shape if name in tensors else (1, 1, 1, 1)

    patches = [shape(f"{ENCODER}.patch_embeddings.{stage}.proj.weight") for stage in STAGES]
    first = [f"{ENCODER}.block.{stage}.0" for stage in STAGES]
    wide = [shape(f"{block}.mlp.dense1.weight") for block in first]
    return {
        "widths": tuple(patch[0] for patch in patches),
        "kernels": tuple(patch[2] for patch in patches),
        "blocks": tuple(_count(tensors, rf"{ENCODER}\.block\.{stage}\.(\d+)\..*") for stage in STAGES),
        "reductions": tuple(shape(f"{block}.attention.self.sr.weight")[2] for block in first),
        "expansions": tuple(rows // columns for rows, columns, *_ in wide),
    }


def _count(tensors: Tensors, pattern: str) -> int:
    found = {match.group(1) for match in map(re.compile(pattern).fullmatch, tensors) if match}
    return max(1, len(found))


def _configured(config: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json tells of the encoder and shapes do not."""
    known = {"num_attention_heads": "heads", "strides": "strides", "drop_path_rate": "drop_path"}
    found: dict[str, Any] = {ours: config[theirs] for theirs, ours in known.items() if theirs in config}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _classes(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names in id2label, unless they are the LABEL_0, LABEL_1, ... that stand for none."""
    labels = config.get("id2label") or {}
    names = tuple(str(labels[key]) for key in sorted(labels, key=int))
    return None if not names or all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names


def _split(kernel: np.ndarray) -> list[np.ndarray]:
    """(C, 4C, 1, 1) -> four of (C, C, 1, 1)."""
    return np.split(kernel, len(STAGES), axis=1)


def _old_name(name: str) -> str:
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _name(path: str) -> str:
    """The prefix of a layer's tensors."""
    if match := re.fullmatch(r"stage(\d)_block(\d+)_(\w+)", path):
        return f"{ENCODER}.block.{int(match[1]) - 1}.{int(match[2]) - 1}.{BLOCK[match[3]]}"
    if match := re.fullmatch(r"stage(\d)_(\w+)", path):
        return f"{ENCODER}.{STAGE[match[2]].format(int(match[1]) - 1)}"
    if match := re.fullmatch(r"decoder_P(\d)_linear", path):
        return f"decode_head.linear_c.{int(match[1]) - 2}.proj"
    if match := re.fullmatch(r"decoder_(P\d)_fusion", path):
        return f"{FUSION}.{match[1]}"
    return HEAD[path]
