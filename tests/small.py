"""What makes each model of the zoo small enough for a test: keywords of zoo.build, one row a model."""

from typing import Any

SMALL: dict[str, dict[str, Any]] = {
    "deeplabv3plus": {
        "backbone": "mobilenet_v2",
        "output_stride": 32,
        "rates": (1, 2),
        "aspp_filters": 8,
        "decoder_filters": 8,
        "low_level_filters": 4,
    },
    "deeplabv3": {
        "backbone": "mobilenet_v2",
        "output_stride": 32,
        "rates": (1, 2),
        "aspp_filters": 8,
        "auxiliary": True,
        "auxiliary_filters": 8,
    },
    "fcn": {
        "backbone": "mobilenet_v2",
        "output_stride": 32,
        "head_filters": 8,
        "concat_input": True,
        "auxiliary": True,
        "auxiliary_filters": 8,
    },
    "lraspp": {"backbone": "mobilenet_v2", "output_stride": 32, "filters": 8},
    "unet": {"backbone": "mobilenet_v2", "decoder_filters": (16, 12, 8, 8, 8)},
    "segformer": {
        "backbone_sizes": {"widths": (8, 16, 20, 32), "blocks": (1, 1, 1, 1), "drop_path": 0.05},
        "decoder_filters": 16,
    },
    "ddrnet": {"sizes": {"channels": 4, "pyramid_filters": 6, "head_filters": 8}},
    "pidnet": {
        "sizes": {
            "channels": 4,
            "pyramid_filters": 6,
            "head_filters": 8,
            "stem_blocks": 1,
            "branch_blocks": 1,
        }
    },
    "bisenetv2": {
        "detail_filters": (8, 8, 16),
        "semantic_filters": (4, 8, 8, 16),
        "expansion": 2,
        "head_filters": 16,
        "auxiliary_filters": (4, 4, 4, 4),
    },
    "stdc": {
        "sizes": {
            "blocks": (1, 1, 1),
            "channels": (8, 8, 16, 24, 32),
            "context_filters": 8,
            "fusion_filters": 16,
            "auxiliary_filters": 4,
        }
    },
    "mask2former": {
        "backbone_sizes": {
            "blocks": (1, 2, 1, 1),
            "heads": (1, 2, 2, 4),
            "channels": 16,
            "window": 4,
            "drop_path": 0.05,
        },
        "queries": 6,
        "hidden": 32,
        "heads": 4,
        "encoder_layers": 1,
        "encoder_feedforward": 32,
        "decoder_layers": 2,
        "decoder_feedforward": 32,
    },
    "threshold": {"value": 100},
    "otsu": {"levels": 3},
}
# Other backbones that the contract is tested on as well.
MORE_BACKBONES = {"deeplabv3plus": ("mobilenet_v3_large", "kerascv_csp_darknet_s")}

SAM_SIZE = (32, 48)
TINY_SAM = {
    "image_size": SAM_SIZE, "patch": 8, "encoder_width": 24, "encoder_blocks": 2, "encoder_heads": 2,
    "encoder_ffn_width": 32, "window": 3, "global_blocks": (1,), "width": 16, "decoder_blocks": 2,
    "decoder_heads": 2, "decoder_ffn_width": 24, "iou_width": 12,
}  # fmt: skip

PROMPTED = ("sam",)  # inputs and outputs of its own: tests/zoo/test_sam.py
COUNTED = ("threshold", "otsu")  # nothing to optimise: tests/zoo/test_threshold.py has their training
ALIKE = (
    "deeplabv3",
    "fcn",
    "lraspp",
)  # deeplabv3plus' blocks on its backbone: what takes longest is slow for these
