"""RECIPES: how each model is trained on each data set. What a row leaves out is the Recipe's own default."""

from typing import Any

from training.data.augmentation import Augmentation

# Drawn streets, from scratch, in minutes on two cores.
SCENES: dict[str, Any] = {
    "data_options": {"size": (128, 256), "train_count": 400, "val_count": 50},
    "crop": (128, 256),
    "epochs": 20,
    "learning_rate": 2e-3,
    "bn_momentum": 0.9,
    "ema": 0.98,
}
# 367 images of 480x360, from an ImageNet backbone.
CAMVID: dict[str, Any] = {
    "crop": (320, 320),
    "epochs": 100,
    "backbone_rate": 0.3333,
    "class_weights": "inverse_log",
    "augmentation": Augmentation(scale=(0.6, 2.0)),
    "ema": 0.998,
}
# The same for what ships: strong colours and blur, which helped on a drive that training had not seen
# (docs/ablations.md).
CAMVID_SHIPPED: dict[str, Any] = {
    **CAMVID,
    "epochs": 80,
    "augmentation": Augmentation(scale=(0.6, 2.0), brightness=0.4, contrast=0.4, saturation=0.5, hue=0.05, blur=0.25,
                                 blur_sigma=(0.3, 2.0)),
}  # fmt: skip
# The same for networks without ImageNet weights: BatchNorms follow sooner, for all is new. A teacher helps them most:
# --teacher models/deeplabv3plus_mobilenet_edgetpu_camvid.weights.h5.
CAMVID_FROM_SCRATCH: dict[str, Any] = {**CAMVID_SHIPPED, "bn_momentum": 0.9}
# mmsegmentation's 80,000 steps of 8 images on Cityscapes. Needs a GPU; not measured here.
SCHEDULE_80K: dict[str, Any] = {
    "crop": (512, 1024),
    "epochs": 215,
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "weight_decay": 5e-4,
    "backbone_weights": "imagenet",
    "bn_momentum": 0.9,
    "ema": 0.0,
}

# mmsegmentation's schedules of 16 crops of 512x512. There, images are first brought to a short side of 512; here the
# scales are of an image's own size, as in DeepLab's papers, because that is the size it is evaluated at.
SCHEDULE_512: dict[str, Any] = {**SCHEDULE_80K, "crop": (512, 512), "batch": 16}

# The schedule that PIDNet's and DDRNet's authors and mmsegmentation share: 120,000 steps of 12 crops, and class weights
# as OCNet has them. They start from ImageNet weights, which these rows do not. Needs a GPU; not measured here.
SCHEDULE_120K: dict[str, Any] = {
    "crop": (1024, 1024),
    "batch": 12,
    "epochs": 484,
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "weight_decay": 5e-4,
    "warmup_epochs": 0.0,
    "clip_norm": 0.0,
    "bn_momentum": 0.9,
    "ema": 0.0,
    "class_weights": "0.8373,0.918,0.866,1.0345,1.0166,0.9969,0.9754,1.0489,0.8786,1.0023,0.9539,0.9843,1.1116,"
    "0.9037,1.0865,1.0955,1.0865,1.1529,1.0507",
}

# What --quantize changes of a row: trained weights only have to settle on what 8 bits can hold. A tenth of the usual
# rate, as Krishnamoorthi 2018 (arXiv:1806.08342, section 3.2.2) fine-tunes; not measured here.
QUANTIZED: dict[str, Any] = {
    "epochs": 10,
    "learning_rate": 1e-4,
    "warmup_epochs": 0.5,
    "backbone_weights": "none",
}

# What was corrected on the page, few images as a rule, from the run that predicted (--init): a small rate, BatchNorms
# as they are, and crops that most images fill. docs/results/page.md has what was measured.
FEEDBACK: dict[str, Any] = {
    "crop": (320, 320),
    "batch": 4,
    "epochs": 20,
    "learning_rate": 1e-4,
    "warmup_epochs": 0.5,
    "augmentation": Augmentation(scale=(0.75, 1.5)),
    "freeze_bn": "all",
    "ema": 0.95,
}

# One row a (model, data): what differs from the Recipe's own defaults. A flag on the command line wins over it.
RECIPES: dict[tuple[str, str], dict[str, Any]] = {
    # The paper's model at the size and crop of mmsegmentation's 80k schedule (80.97 mIoU there). Needs a GPU;
    # not measured here.
    ("deeplabv3plus", "cityscapes"): SCHEDULE_80K,
    # 40,000 steps on train_aug (78.62 mIoU there, R-101-D8). Needs a GPU; not measured here.
    ("deeplabv3plus", "voc"): {**SCHEDULE_512, "epochs": 61, "data_options": {"sbd": True}},
    # 160,000 steps (45.47 mIoU there, R-101-D8). Needs a GPU; not measured here.
    ("deeplabv3plus", "ade20k"): {**SCHEDULE_512, "epochs": 127},
    # 160,000 steps, as published there for DeepLabV3 (41.82 mIoU, R-101-D8). Needs a GPU; not measured here.
    ("deeplabv3plus", "coco_stuff"): {**SCHEDULE_512, "epochs": 22},
    # The 80,000 steps of 16 images of BDD100K's own model zoo (64.49 mIoU there, R-101-D8). Needs a GPU; not
    # measured here.
    ("deeplabv3plus", "bdd100k"): {**SCHEDULE_80K, "batch": 16, "epochs": 183},
    # `make train`: a small network from scratch that shows something in 10 minutes on two cores.
    ("deeplabv3plus", "scenes"): {
        **SCENES,
        "backbone": "mobilenet_v2",
        "model_options": {"rates": (3, 6, 9, 12), "aspp_filters": 128, "decoder_filters": 128,
                          "aspp_separable": True, "decoder_separable": True},
    },
    # 480x360 images on a phone: docs/results.md has the command, the hours and the scores; docs/ablations.md why.
    ("deeplabv3plus", "camvid"): {
        **CAMVID_SHIPPED,
        "backbone": "mobilenet_v2",
        "model_options": {"rates": (3, 6, 9, 12), "aspp_filters": 128, "decoder_filters": 128,
                          "aspp_separable": True, "decoder_separable": True, "size_divisor": 16},
    },
    # mmsegmentation's 80k schedule and auxiliary head (80.20 mIoU there). Needs a GPU; not measured here.
    ("deeplabv3", "cityscapes"): {
        **SCHEDULE_80K,
        "output_stride": 8,
        "model_options": {"rates": (12, 24, 36), "aspp_filters": 512, "projection_kernel": 3, "auxiliary": True},
    },
    ("deeplabv3", "scenes"): {
        **SCENES,
        "backbone": "mobilenet_v2",
        "output_stride": 16,
        "model_options": {"rates": (3, 6, 9), "aspp_filters": 128, "aspp_separable": True},
    },
    # mmsegmentation's 80k schedule, head and auxiliary head (75.13 mIoU there with ResNet-101). Needs a GPU; not
    # measured here.
    ("fcn", "cityscapes"): {
        **SCHEDULE_80K,
        "model_options": {"head_convolutions": 2, "concat_input": True, "auxiliary": True},
    },
    ("fcn", "scenes"): {
        **SCENES,
        "backbone": "mobilenet_v2",
        "output_stride": 16,
        "model_options": {"head_filters": 128},
    },
    ("deeplabv3", "camvid"): {
        **CAMVID,
        "backbone": "mobilenet_v2",
        "output_stride": 16,
        "model_options": {"rates": (3, 6, 9), "aspp_filters": 128, "aspp_separable": True, "size_divisor": 16},
    },
    ("fcn", "camvid"): {
        **CAMVID,
        "backbone": "mobilenet_v2",
        "output_stride": 16,
        "model_options": {"head_filters": 128, "size_divisor": 16},
    },
    # mmsegmentation's 320,000 steps of 16 crops (67.87 mIoU there from random weights, 69.54 from ImageNet's, with two
    # finer levels in the head). Needs a GPU; not measured here.
    ("lraspp", "cityscapes"): {**SCHEDULE_80K, "batch": 16, "epochs": 1721},
    ("lraspp", "scenes"): {**SCENES, "backbone": "mobilenet_v2", "model_options": {"filters": 64}},
    ("lraspp", "camvid"): {**CAMVID, "backbone": "mobilenet_v2", "model_options": {"size_divisor": 16}},
    # The paper's schedule (section 4.1): 160,000 steps of 8 images, the decoder at ten times the encoder's rate.
    # It starts from an encoder trained on ImageNet, by `init`. Needs a GPU; not measured here.
    ("segformer", "cityscapes"): {
        "backbone": "mit_b0",
        "crop": (1024, 1024),
        "epochs": 430,
        "learning_rate": 6e-4,
        "backbone_rate": 0.1,
        "weight_decay": 0.01,
        "schedule": "linear",
        "warmup_epochs": 4.0,
        "clip_norm": 0.0,
        "bn_momentum": 0.9,
        "ema": 0.0,
    },
    ("segformer", "scenes"): {
        **SCENES,
        "backbone": "mit_b0",
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
    },
    # From scratch, so let it learn from what ships: --teacher models/deeplabv3plus_mobilenet_edgetpu_camvid.weights.h5.
    ("segformer", "camvid"): {
        **CAMVID_SHIPPED,
        "crop": (256, 256),
        "epochs": 70,
        "backbone": "mit_b0",
        "model_options": {"size_divisor": 32},
        "learning_rate": 6e-4,
        "weight_decay": 0.01,
        "bn_momentum": 0.9,
    },
    # 77.84 mIoU with DDRNet-23-slim at mmsegmentation, 79.53 with DDRNet-23 (`variant`).
    ("ddrnet", "cityscapes"): {
        **SCHEDULE_120K,
        "loss": "ohem",
        "loss_options": {"thresh": 0.9, "min_kept": 0.02},
        "auxiliary_weight": 0.4,
    },
    ("ddrnet", "scenes"): {**SCENES, "model_options": {"sizes": {"channels": 24, "pyramid_filters": 64}}},
    ("ddrnet", "camvid"): {**CAMVID_FROM_SCRATCH, "model_options": {"size_divisor": 64}},
    # 78.74 mIoU with PIDNet-S at mmsegmentation, 80.22 and 80.89 with M and L (`variant`).
    ("pidnet", "cityscapes"): {**SCHEDULE_120K},
    ("pidnet", "scenes"): {**SCENES, "model_options": {"sizes": {"channels": 24, "pyramid_filters": 64}}},
    ("pidnet", "camvid"): {**CAMVID_FROM_SCRATCH, "model_options": {"size_divisor": 64}},
    # mmsegmentation's 160,000 steps of 16 crops from random weights, the booster's heads weighing as much as the main
    # one (73.21 mIoU there, 75.76 with 32 crops). Needs a GPU; not measured here.
    ("bisenetv2", "cityscapes"): {
        "crop": (1024, 1024),
        "batch": 16,
        "epochs": 860,
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "weight_decay": 5e-4,
        "schedule_options": {"floor": 0.002},
        "warmup_epochs": 5.4,
        "clip_norm": 0.0,
        "auxiliary_weight": 1.0,
        "bn_momentum": 0.9,
        "ema": 0.0,
    },
    ("bisenetv2", "scenes"): {
        **SCENES,
        "model_options": {"head_filters": 128, "auxiliary_filters": (16, 32, 64, 128)},
        "auxiliary_weight": 1.0,
    },
    ("bisenetv2", "camvid"): {
        **CAMVID_FROM_SCRATCH,
        "model_options": {"size_divisor": 32},
        "auxiliary_weight": 1.0,
    },
    # mmsegmentation's 80,000 steps of 48 crops (75.10 mIoU there with STDC1 from ImageNet weights, which this row does
    # not start from, 71.82 without; 77.17 with STDC2). Needs a GPU; not measured here.
    ("stdc", "cityscapes"): {
        "crop": (512, 1024),
        "batch": 48,
        "epochs": 1291,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "weight_decay": 5e-4,
        "loss_options": {"ohem.thresh": 0.7, "ohem.min_kept": 10000},
        "schedule_options": {"floor": 0.01},
        "warmup_epochs": 16.1,
        "clip_norm": 0.0,
        "auxiliary_weight": 1.0,
        "bn_momentum": 0.9,
        "ema": 0.0,
    },
    ("stdc", "scenes"): {
        **SCENES,
        "model_options": {"sizes": {"channels": (16, 32, 128, 256, 512)}},
        "auxiliary_weight": 1.0,
    },
    ("stdc", "camvid"): {
        **CAMVID_FROM_SCRATCH,
        "model_options": {"size_divisor": 32},
        "auxiliary_weight": 1.0,
    },
    # The authors' schedule (section 4.1 and their Cityscapes configuration): 90,000 steps of 16 crops, a tenth of the
    # rate in the backbone. It starts from a backbone trained on ImageNet, by `init`. Needs a GPU; not measured here.
    ("mask2former", "cityscapes"): {
        "backbone": "swin_tiny",
        "crop": (512, 1024),
        "batch": 16,
        "epochs": 484,
        "learning_rate": 1e-4,
        "backbone_rate": 0.1,
        "weight_decay": 0.05,
        "warmup_epochs": 0.0,
        "clip_norm": 0.01,
        "ema": 0.0,
    },
    # From scratch on two cores: a small backbone, and decoders of a few narrow layers.
    ("mask2former", "scenes"): {
        **SCENES,
        "backbone": "mobilenet_v2",
        "model_options": {"queries": 24, "hidden": 64, "encoder_layers": 2, "encoder_feedforward": 128,
                          "decoder_layers": 3, "decoder_feedforward": 128},
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
    },
    # mmsegmentation's UNet-S5-D16 and its 160k schedule of 16 images (69.10 mIoU there). Needs a GPU; not
    # measured here.
    ("unet", "cityscapes"): {
        "model_options": {"head_filters": 64, "dropout": 0.1, "auxiliary": True},
        "crop": (512, 1024),
        "batch": 16,
        "epochs": 860,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "weight_decay": 5e-4,
        "bn_momentum": 0.9,
        "ema": 0.0,
    },
    ("unet", "scenes"): {
        **SCENES,
        "backbone": "mobilenet_v2",
        "model_options": {"decoder_filters": (96, 64, 48, 24, 16)},
    },
    ("unet", "camvid"): {
        **CAMVID_SHIPPED,
        "epochs": 60,
        "backbone": "mobilenet_v2",
        "model_options": {"decoder_filters": (128, 96, 64, 32, 16), "size_divisor": 32},
    },
    # Prompts of drawn regions, from scratch: an encoder of 4 small blocks, a decoder of a quarter of SAM's width.
    # The masks stay empty for some 200 steps, until places are told from each other; then they grow fast.
    ("sam", "scenes"): {
        **SCENES,
        "model_options": {"patch": 8, "encoder_width": 96, "encoder_blocks": 4, "encoder_heads": 3,
                          "encoder_ffn_width": 288, "window": 6, "global_blocks": (1, 3), "width": 64,
                          "decoder_heads": 4, "decoder_ffn_width": 256, "iou_width": 64},
        "data_options": {"size": (96, 192), "train_count": 400, "val_count": 50},
        "crop": (96, 192),
        "epochs": 30,
        "learning_rate": 2e-3,
        "weight_decay": 0.01,
        "schedule": "cosine",
    },
    ("deeplabv3plus", "feedback"): FEEDBACK,
    ("deeplabv3", "feedback"): FEEDBACK,
    ("fcn", "feedback"): FEEDBACK,
    ("lraspp", "feedback"): FEEDBACK,
    ("unet", "feedback"): FEEDBACK,
    ("segformer", "feedback"): FEEDBACK,
    ("ddrnet", "feedback"): FEEDBACK,
    ("pidnet", "feedback"): FEEDBACK,
    ("bisenetv2", "feedback"): FEEDBACK,
    ("stdc", "feedback"): FEEDBACK,
    # One pass that counts.
    ("threshold", "scenes"): {**SCENES, "epochs": 1},
    ("otsu", "scenes"): {**SCENES, "epochs": 1},
}  # fmt: skip
