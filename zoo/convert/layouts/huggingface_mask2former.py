"""Hugging Face `Mask2FormerForUniversalSegmentation` -> mask2former, with a Swin or a ResNet backbone.

Files on the hub, and those that transformers writes, have the names of transformers 4 for the Swin Transformer
(`encoder.encoder.layers.0.blocks.0.attention.self.query`); the modules of transformers 5 have others
(`encoder.swin.encoder.layers.0.blocks.0.attention.q_proj`), which are taken too. Checkpoints for instances and
panoptics have the same network and load as well; what is served of them is their semantic segmentation.
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from zoo.backbones.resnet import LAYOUTS
from zoo.backbones.swin import SIZES
from zoo.convert import inputs
from zoo.convert.checkpoint import Checkpoint, Match, Tensors
from zoo.convert.options import Options

BACKBONE = "model.pixel_level_module.encoder"
PIXELS = "model.pixel_level_module.decoder"
QUERIES = "model.transformer_module"
KNOWN = "Hugging Face's Mask2Former"
# What shapes do not say, and config.json does -> as every Mask2Former that was published has it.
UNSAID = {"heads": 8}
HIDDEN = 256
LEVELS = 3

# transformers 5 -> transformers 4, and the level embedding under a layer's name
RENAMED = (
    (rf"({BACKBONE})\.swin\.", r"\1."),
    (r"attention\.q_proj\.", "attention.self.query."),
    (r"attention\.k_proj\.", "attention.self.key."),
    (r"attention\.v_proj\.", "attention.self.value."),
    (r"attention\.relative_position_bias\.", "attention.self."),
    (r"attention\.o_proj\.", "attention.output.dense."),
    (r"mlp\.fc1\.", "intermediate.dense."),
    (r"mlp\.fc2\.", "output.dense."),
    (rf"({PIXELS}\.level_embed)$", r"\1.weight"),
)

# What follows stageI_blockJ_ in our Swin Transformer -> what follows layers.I.blocks.J in theirs.
SWIN_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "mlp1": "intermediate.dense",
    "mlp2": "output.dense",
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/projection": "attention.output.dense",
    "attention/bias": "attention.self",
}
# Whole paths of ours -> theirs.
WHOLE = {
    "patches_conv": f"{BACKBONE}.embeddings.patch_embeddings.projection",
    "patches_norm": f"{BACKBONE}.embeddings.norm",
    "conv1_conv": f"{BACKBONE}.embedder.embedder.convolution",
    "conv1_bn": f"{BACKBONE}.embedder.embedder.normalization",
    "encoder_level_embedding": f"{PIXELS}.level_embed",
    "fpn_lateral_conv": f"{PIXELS}.adapter_1.0",
    "fpn_lateral_norm": f"{PIXELS}.adapter_1.1",
    "fpn_output_conv": f"{PIXELS}.layer_1.0",
    "fpn_output_norm": f"{PIXELS}.layer_1.1",
    "mask_features": f"{PIXELS}.mask_projection",
    "decoder_level_embedding": f"{QUERIES}.level_embed",
    "query_features": f"{QUERIES}.queries_features",
    "query_positions": f"{QUERIES}.queries_embedder",
    "decoder_norm": f"{QUERIES}.decoder.layernorm",
    "class_predictor": "class_predictor",
}
# What follows encoder_layerI_ and decoder_layerI_ in ours -> what follows layers.I in theirs.
ENCODER_LAYER = {
    "attention/offsets": "self_attn.sampling_offsets",
    "attention/weights": "self_attn.attention_weights",
    "attention/value": "self_attn.value_proj",
    "attention/output": "self_attn.output_proj",
    "norm1": "self_attn_layer_norm",
    "mlp1": "fc1",
    "mlp2": "fc2",
    "norm2": "final_layer_norm",
}
PROJECTIONS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "projection": "out_proj"}
DECODER_LAYER = {
    **{f"cross_attention/{ours}": f"cross_attn.{theirs}" for ours, theirs in PROJECTIONS.items()},
    **{f"self_attention/{ours}": f"self_attn.{theirs}" for ours, theirs in PROJECTIONS.items()},
    "norm1": "cross_attn_layer_norm",
    "norm2": "self_attn_layer_norm",
    "mlp1": "fc1",
    "mlp2": "fc2",
    "norm3": "final_layer_norm",
}
CONVOLUTION = {"conv": "convolution", "bn": "normalization"}

# config.json's keys that ours cannot follow elsewhere than at these values
ONLY = {
    "pre_norm": False,
    "activation_function": "relu",
    "common_stride": 4,
    "enforce_input_projection": False,
}
ONLY_SWIN = {"hidden_act": "gelu", "layer_norm_eps": 1e-5, "patch_size": 4, "use_absolute_embeddings": False}
ONLY_RESNET = {
    "hidden_act": "relu",
    "layer_type": "bottleneck",
    "downsample_in_bottleneck": False,
    "downsample_in_first_stage": False,
}


def recognise(checkpoint: Checkpoint) -> Match | None:
    """A Mask2Former of any size, on a Swin Transformer or a ResNet of bottlenecks.

    Raises ValueError on one that ours cannot be, and on one of other than 256 channels without config.json, which
    alone tells its attention heads.
    """
    tensors = {_old_name(name): array for name, array in checkpoint.tensors.items()}
    if f"{QUERIES}.queries_features.weight" not in tensors or f"{PIXELS}.level_embed.weight" not in tensors:
        return None
    config = checkpoint.config
    _refuse(config, ONLY)
    sizes = _sizes(tensors, config, checkpoint.options)
    backbone = _backbone(tensors, config.get("backbone_config") or {})
    for name in [name for name in tensors if name.endswith(("in_proj_weight", "in_proj_bias"))]:
        tensors.update(_thirds(name, tensors.pop(name)))
    return Match(
        source="huggingface",
        model="mask2former",
        arguments={**sizes, **backbone},
        names=_name,
        tensors=tensors,
        unused=(
            r"criterion\.empty_weight",
            rf"{re.escape(BACKBONE)}\.layernorm\.(weight|bias)",  # before the classifier that is not there
            r".*\.relative_position_index",
            r".*\.num_batches_tracked",
        ),
        classes=_classes(config),
        inputs=inputs.settle(inputs.of_huggingface(checkpoint.preprocessor), checkpoint.options),
    )


def _sizes(tensors: Tensors, config: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """What shapes and config.json tell of everything but the backbone."""
    rows, hidden = tensors[f"{QUERIES}.queries_features.weight"].shape
    masks, features = tensors[f"{PIXELS}.mask_projection.weight"].shape[:2]
    if not masks == features == hidden:
        raise ValueError(
            f"is a Mask2Former with {features} channels in its encoder, {hidden} in its decoder and {masks} in "
            "its masks; only equal numbers are known here"
        )
    said = config.get("num_attention_heads", UNSAID["heads"] if config else None)
    if "num_attention_heads" not in config and hidden != HIDDEN and "heads" not in options.asked:
        raise ValueError(
            "needs its config.json, which tells the number of attention heads, or --set heads=..."
        )
    heads = options.take("heads", said, UNSAID["heads"])
    encoder, decoder = f"{PIXELS}.encoder.layers", f"{QUERIES}.decoder.layers"
    attention = tensors[f"{encoder}.0.self_attn.attention_weights.weight"]
    return {
        "classes": tensors["class_predictor.weight"].shape[0] - 1,
        "queries": rows,
        "hidden": hidden,
        "heads": heads,
        "points": attention.shape[0] // (heads * LEVELS),
        "encoder_layers": _count(tensors, rf"{re.escape(encoder)}\.(\d+)\..*"),
        "encoder_feedforward": tensors[f"{encoder}.0.fc1.weight"].shape[0],
        "decoder_layers": _count(tensors, rf"{re.escape(decoder)}\.(\d+)\..*"),
        "decoder_feedforward": tensors[f"{decoder}.0.fc1.weight"].shape[0],
        "dropout": config.get("dropout", 0.0),
    }


def _backbone(tensors: Tensors, config: Mapping[str, Any]) -> dict[str, Any]:
    """`backbone` and `backbone_sizes`: the row that has most fields as they are, and the rest of them."""
    if f"{WHOLE['patches_conv']}.weight" in tensors:
        _refuse(config, ONLY_SWIN)
        return _nearest(SIZES, _swin_sizes(tensors, config))
    if f"{WHOLE['conv1_conv']}.weight" in tensors:
        _refuse(config, ONLY_RESNET)
        rows = {name: LAYOUTS[name] for name in ("resnet50_v1b", "resnet101_v1b")}
        stages = [
            rf"{re.escape(BACKBONE)}\.encoder\.stages\.{stage}\.layers\.(\d+)\..*" for stage in range(4)
        ]
        return _nearest(rows, {"blocks": tuple(_count(tensors, stage) for stage in stages)})
    raise ValueError("is a Mask2Former on a backbone that is neither a Swin Transformer nor a ResNet")


def _swin_sizes(tensors: Tensors, config: Mapping[str, Any]) -> dict[str, Any]:
    stages = [f"{BACKBONE}.encoder.layers.{stage}.blocks" for stage in range(4)]
    tables = [tensors[f"{stage}.0.attention.self.relative_position_bias_table"].shape for stage in stages]
    widths = tensors[f"{stages[0]}.0.intermediate.dense.weight"].shape
    known = {"drop_path": config["drop_path_rate"]} if "drop_path_rate" in config else {}
    return {
        "blocks": tuple(_count(tensors, rf"{re.escape(stage)}\.(\d+)\..*") for stage in stages),
        "heads": tuple(heads for _, heads in tables),
        "channels": widths[1],
        "window": (round(tables[0][0] ** 0.5) + 1) // 2,
        "mlp_ratio": widths[0] // widths[1],
        **known,
    }


def _nearest(rows: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    def differing(row: Any) -> dict[str, Any]:
        names = [field.name for field in fields(row) if field.name in wanted]
        return {name: wanted[name] for name in names if getattr(row, name) != wanted[name]}

    best = min(rows, key=lambda name: len(differing(rows[name])))
    return {"backbone": best, "backbone_sizes": differing(rows[best]) or None}


def _refuse(config: Mapping[str, Any], only: Mapping[str, Any]) -> None:
    for key, value in only.items():
        if config.get(key, value) != value:
            raise ValueError(f"is a Mask2Former whose {key} is {config[key]!r}; only {value!r} is known here")


def _count(tensors: Tensors, pattern: str) -> int:
    return len({match.group(1) for match in map(re.compile(pattern).fullmatch, tensors) if match})


def _thirds(name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    """in_proj_weight (3C, C), or in_proj_bias (3C,), -> those of query, key and value."""
    prefix, _, kind = name.rpartition("in_proj_")
    return {
        f"{prefix}{part}_proj.{kind}": third for part, third in zip("qkv", np.split(array, 3), strict=True)
    }


def _classes(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names in id2label, unless they are the LABEL_0, LABEL_1, ... that stand for none."""
    labels = config.get("id2label") or {}
    names = tuple(str(labels[key]) for key in sorted(labels, key=int))
    return None if not names or all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names


def _old_name(name: str) -> str:
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _name(path: str) -> str:
    """The prefix of a layer's tensors."""
    if path in WHOLE:
        return WHOLE[path]
    if match := re.fullmatch(r"stage(\d)_block(\d+)_(.+)", path):
        return (
            f"{BACKBONE}.encoder.layers.{int(match[1]) - 1}.blocks.{int(match[2]) - 1}.{SWIN_BLOCK[match[3]]}"
        )
    if match := re.fullmatch(r"stage(\d)_merge_(\w+)", path):
        return f"{BACKBONE}.encoder.layers.{int(match[1]) - 2}.downsample.{match[2]}"
    if match := re.fullmatch(r"stage(\d)_norm", path):
        return f"{BACKBONE}.hidden_states_norms.stage{match[1]}"
    if match := re.fullmatch(r"conv(\d)_block(\d+)_(\d)_(conv|bn)", path):
        part = "shortcut" if match[3] == "0" else f"layer.{int(match[3]) - 1}"
        block = f"{BACKBONE}.encoder.stages.{int(match[1]) - 2}.layers.{int(match[2]) - 1}"
        return f"{block}.{part}.{CONVOLUTION[match[4]]}"
    if match := re.fullmatch(r"encoder_P(\d)_(conv|norm)", path):
        return f"{PIXELS}.input_projections.{5 - int(match[1])}.{('conv', 'norm').index(match[2])}"
    if match := re.fullmatch(r"mask_embedding(\d)", path):
        return f"{QUERIES}.decoder.mask_predictor.mask_embedder.{int(match[1]) - 1}.0"
    if match := re.fullmatch(r"encoder_layer(\d+)_(.+)", path):
        return f"{PIXELS}.encoder.layers.{int(match[1]) - 1}.{ENCODER_LAYER[match[2]]}"
    if match := re.fullmatch(r"decoder_layer(\d+)_(.+)", path):
        return f"{QUERIES}.decoder.layers.{int(match[1]) - 1}.{DECODER_LAYER[match[2]]}"
    raise KeyError(path)
