"""The rows of docs/models.md: every model and variant of the zoo, as its public checkpoints have it."""

from typing import Any, NamedTuple


class Row(NamedTuple):
    """A variant: model, keywords of zoo.build, the public checkpoints that load into it, and the files that one
    export of it writes."""

    model: str
    arguments: dict[str, Any]
    loads: str
    parts: tuple[str, ...] = ("",)


SMP = "segmentation_models_pytorch"
MMSEG = "mmsegmentation"
HF = "Hugging Face"
SMP_PLUS = {"rates": (12, 24, 36), "aspp_separable": True, "decoder_separable": True, "variant": SMP}
MMSEG_PLUS = {"output_stride": 8, "rates": (12, 24, 36), "aspp_filters": 512, "aspp_separable": True,
              "decoder_filters": 512, "decoder_separable": True, "variant": MMSEG}  # fmt: skip
MMSEG_V3 = {"output_stride": 8, "rates": (12, 24, 36), "aspp_filters": 512, "variant": MMSEG}
MMSEG_FCN = {"output_stride": 8, "head_filters": 512, "variant": MMSEG}
TORCHVISION_V3 = {"output_stride": 8, "rates": (12, 24, 36), "variant": "torchvision"}
TORCHVISION_FCN = {"output_stride": 8, "head_filters": 512, "variant": "torchvision"}
MOBILE = {"aspp_separable": True, "decoder_separable": True}
KERAS = "ImageNet (keras.applications)"

ROWS: dict[str, Row] = {
    "deeplabv3plus resnet101": Row("deeplabv3plus", {}, KERAS),
    "deeplabv3plus resnet50": Row("deeplabv3plus", {"backbone": "resnet50"}, KERAS),
    "deeplabv3plus mobilenet_v2": Row("deeplabv3plus", {"backbone": "mobilenet_v2", **MOBILE}, KERAS),
    "deeplabv3plus mobilenet_v3_large": Row(
        "deeplabv3plus", {"backbone": "mobilenet_v3_large", **MOBILE}, KERAS
    ),
    "deeplabv3plus mobilenet_edgetpu": Row(
        "deeplabv3plus", {"backbone": "mobilenet_edgetpu", **MOBILE}, "Cityscapes (Coral's `.tflite`)"
    ),
    **{
        f"deeplabv3plus efficientnet_lite{size}": Row(
            "deeplabv3plus",
            {"backbone": f"efficientnet_lite{size}", **MOBILE},
            f"ImageNet ({'its package, ' if size < 3 else ''}timm{', KerasHub' if size == 0 else ''})",
        )
        for size in range(5)
    },
    "deeplabv3plus resnet50_v1b": Row("deeplabv3plus", {"backbone": "resnet50_v1b", **SMP_PLUS}, SMP),
    "deeplabv3plus resnet101_v1b": Row("deeplabv3plus", {"backbone": "resnet101_v1b", **SMP_PLUS}, SMP),
    "deeplabv3plus resnext50_32x4d": Row("deeplabv3plus", {"backbone": "resnext50_32x4d", **SMP_PLUS}, SMP),
    "deeplabv3plus resnext101_32x8d": Row("deeplabv3plus", {"backbone": "resnext101_32x8d", **SMP_PLUS}, SMP),
    "deeplabv3plus mobilenet_v2_torchvision": Row(
        "deeplabv3plus", {"backbone": "mobilenet_v2_torchvision", **SMP_PLUS}, SMP
    ),
    "deeplabv3plus resnet50_v1c": Row("deeplabv3plus", {"backbone": "resnet50_v1c", **MMSEG_PLUS}, MMSEG),
    "deeplabv3plus resnet101_v1c": Row("deeplabv3plus", {"backbone": "resnet101_v1c", **MMSEG_PLUS}, MMSEG),
    "deeplabv3plus resnet50_v1b as in KerasHub": Row(
        "deeplabv3plus",
        {
            "backbone": "resnet50_v1b",
            "output_stride": 32,
            "rates": (6, 12, 18),
            "variant": "keras_hub",
        },
        "KerasHub",
    ),
    "deeplabv3plus kerascv_efficientnetv2_b0": Row(
        "deeplabv3plus",
        {"backbone": "kerascv_efficientnetv2_b0", "output_stride": 32, "rates": (3, 6, 9)},
        "none",
    ),
    "deeplabv3 resnet50_v1b": Row("deeplabv3", {"backbone": "resnet50_v1b", **TORCHVISION_V3}, "torchvision"),
    "deeplabv3 resnet101_v1b": Row(
        "deeplabv3", {"backbone": "resnet101_v1b", **TORCHVISION_V3}, "torchvision"
    ),
    "deeplabv3 resnet50_v1c": Row("deeplabv3", {"backbone": "resnet50_v1c", **MMSEG_V3}, MMSEG),
    "deeplabv3 resnet101_v1c": Row("deeplabv3", {"backbone": "resnet101_v1c", **MMSEG_V3}, MMSEG),
    "fcn resnet50_v1b": Row("fcn", {"backbone": "resnet50_v1b", **TORCHVISION_FCN}, "torchvision"),
    "fcn resnet101_v1b": Row("fcn", {"backbone": "resnet101_v1b", **TORCHVISION_FCN}, "torchvision"),
    "fcn resnet50_v1c": Row("fcn", {"backbone": "resnet50_v1c", **MMSEG_FCN}, MMSEG),
    "fcn resnet101_v1c": Row("fcn", {"backbone": "resnet101_v1c", **MMSEG_FCN}, MMSEG),
    "deeplabv3 mobilenet_v3_large_torchvision": Row(
        "deeplabv3",
        {"backbone": "mobilenet_v3_large_torchvision", **TORCHVISION_V3, "output_stride": 16},
        "torchvision",
    ),
    "lraspp mobilenet_v3_large_torchvision": Row(
        "lraspp", {"backbone": "mobilenet_v3_large_torchvision", "variant": "torchvision"}, "torchvision"
    ),
    "lraspp mobilenet_v2": Row("lraspp", {"backbone": "mobilenet_v2"}, KERAS),
    "lraspp efficientnet_lite0": Row(
        "lraspp", {"backbone": "efficientnet_lite0"}, "ImageNet (its package, timm, KerasHub)"
    ),
    "unet plain": Row("unet", {"backbone": None}, f"{MMSEG} (UNet-S5-D16)"),
    "unet mobilenet_v2_torchvision": Row("unet", {"backbone": "mobilenet_v2_torchvision"}, SMP),
    "unet resnext50_32x4d": Row("unet", {"backbone": "resnext50_32x4d"}, SMP),
    "unet resnet34_v1b": Row("unet", {"backbone": "resnet34_v1b"}, SMP),
    "unet resnet50_v1b": Row("unet", {"backbone": "resnet50_v1b"}, SMP),
    **{
        f"segformer mit_b{size}": Row("segformer", {"backbone": f"mit_b{size}"}, f"{HF}, {MMSEG}")
        for size in range(6)
    },
    **{
        f"ddrnet {name}": Row("ddrnet", {"variant": name, "auxiliary": False}, f"{MMSEG}, its authors")
        for name in ("ddrnet_23_slim", "ddrnet_23")
    },
    **{
        f"pidnet {name}": Row("pidnet", {"variant": name, "auxiliary": False}, f"{MMSEG}, its authors")
        for name in ("pidnet_s", "pidnet_m", "pidnet_l")
    },
    "bisenetv2": Row("bisenetv2", {"auxiliary": False}, MMSEG),
    **{
        f"stdc {name}": Row("stdc", {"variant": name, "auxiliary": False}, MMSEG)
        for name in ("stdc1", "stdc2")
    },
    "mask2former resnet50_v1b": Row("mask2former", {"backbone": "resnet50_v1b"}, HF),
    "mask2former swin_tiny": Row("mask2former", {"backbone": "swin_tiny"}, HF),
    "mask2former swin_small": Row("mask2former", {"backbone": "swin_small"}, HF),
    "mask2former swin_base": Row("mask2former", {"backbone": "swin_base"}, HF),
    "mask2former swin_large": Row("mask2former", {"backbone": "swin_large", "queries": 200}, HF),
    "sam vit_b": Row("sam", {}, HF, parts=("-encoder", "-decoder")),
    "threshold": Row("threshold", {}, "none: it counts"),
    "otsu": Row("otsu", {}, "none: it counts"),
    "otsu 4 levels": Row("otsu", {"levels": 4}, "none: it counts"),
}
