"""A run's recipe: frozen, typed, validated when it is made, and kept as JSON in the run folder."""

import dataclasses
import hashlib
import inspect
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zoo
from runtime.errors import UserError
from training.data import DATASETS
from training.data.augment import Augmentation
from training.losses import CLASS_WEIGHTS, LOSSES, MODEL_LOSSES, WEIGHTED
from training.schedules import SCHEDULES
from zoo.backbones import BACKBONES

OPTIMIZERS = ("adamw", "sgd")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run computes. Two runs of one recipe on one machine give the same bits.

    Sizes are (height, width) in pixels, rates are per step, epochs count passes over the training split.
    A `backbone` of "" and an `output_stride` of 0 mean the model's own, if it has one at all; a `loss` of "" too.
    """

    model: str
    data: str
    data_dir: str | None = None
    taxonomy: str = ""
    skip_bad: bool = False
    data_options: dict[str, Any] = field(default_factory=dict)
    backbone: str = ""
    backbone_weights: str = "none"
    output_stride: int = 0
    model_options: dict[str, Any] = field(default_factory=dict)
    init: str | None = None
    crop: tuple[int, int] = (512, 512)
    batch: int = 8
    epochs: int = 100
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)
    loss: str = ""
    auxiliary_weight: float = 0.4
    class_weights: str = "none"
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    backbone_rate: float = 1.0
    weight_decay: float = 1e-4
    schedule: str = "poly"
    warmup_epochs: float = 1.0
    clip_norm: float = 1.0
    ema: float = 0.999
    bn_momentum: float = 0.95
    precision: str = "float32"
    patience: int = 0

    def __post_init__(self) -> None:
        _one_of("model", self.model, zoo.names())
        _one_of("data", self.data, DATASETS)
        object.__setattr__(self, "taxonomy", self.taxonomy or next(iter(DATASETS[self.data].taxonomies)))
        _one_of("classes", self.taxonomy, DATASETS[self.data].taxonomies)
        self._take_model_defaults()
        object.__setattr__(self, "loss", self.loss or MODEL_LOSSES.get(self.model, "cross_entropy"))
        _one_of("loss", self.loss, LOSSES)
        _one_of("class weights", self.class_weights, CLASS_WEIGHTS)
        if self.class_weights != "none" and self.loss not in WEIGHTED:
            raise UserError(f"the loss {self.loss} has no class weights: leave --class-weights out")
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("precision", self.precision, PRECISIONS)
        if DATASETS[self.data].needs_data_dir and not self.data_dir:
            raise UserError(f"--data {self.data} reads files: say where they are with --data-dir DIR")
        for name, low, high in _BOUNDS:
            value = getattr(self, name)
            if not low <= value <= high:
                raise UserError(f"{name} is {value}: it must lie in {low} to {high}")
        if len(self.crop) != 2 or min(self.crop) < 32:
            raise UserError(f"crop is {self.crop}: it must be height x width, each 32 pixels or more")

    def _take_model_defaults(self) -> None:
        """Fill in backbone and output stride from the model's signature; refuse them where it has none."""
        parameters = inspect.signature(zoo.MODELS[self.model]).parameters
        for name, unset in (("backbone", ""), ("output_stride", 0)):
            if name in parameters and getattr(self, name) == unset:
                object.__setattr__(self, name, parameters[name].default or unset)
            if name not in parameters and getattr(self, name) != unset:
                raise UserError(f"{self.model} has no {name.replace('_', ' ')} to choose: leave it out")
        if self.backbone:
            _one_of("backbone", self.backbone, BACKBONES)

    def sha256(self) -> str:
        """Of what the recipe says, wherever its data lie on this machine."""
        content = {key: value for key, value in self.as_dict().items() if key not in MACHINE_FIELDS}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=2) + "\n"

    def differences(self, other: "Recipe") -> list[str]:
        """One clause a field that differs, machine-dependent paths of the data left aside."""
        mine, theirs = self.as_dict(), other.as_dict()
        return [
            f"{key} ({theirs[key]} there, {mine[key]} here)"
            for key in mine
            if key not in MACHINE_FIELDS and mine[key] != theirs[key]
        ]


MACHINE_FIELDS = ("data_dir",)

_BOUNDS: tuple[tuple[str, float, float], ...] = (
    ("batch", 1, 4096),
    ("epochs", 1, 100_000),
    ("seed", 0, 2**31 - 1),
    ("learning_rate", 1e-9, 100.0),
    ("backbone_rate", 0.0, 100.0),
    ("auxiliary_weight", 0.0, 100.0),
    ("weight_decay", 0.0, 1.0),
    ("warmup_epochs", 0.0, 10_000.0),
    ("clip_norm", 0.0, 1e6),
    ("ema", 0.0, 0.999999),
    ("bn_momentum", 0.0, 0.99999),
    ("patience", 0, 100_000),
)


def _one_of(what: str, value: str, valid: Any) -> None:
    if value not in valid:
        raise UserError(f"unknown {what} '{value}': it must be one of {', '.join(valid)}")


def from_json(path: Path) -> Recipe:
    """Read a recipe.json. Raises UserError, naming the file, when it is not one."""
    try:
        content = json.loads(path.read_text())
        content["augmentation"] = Augmentation(**_tuples(content["augmentation"]))
        return Recipe(**_tuples(content))
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there: name a run folder, such as runs/NAME") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is not a recipe of this version ({error})") from error


def _tuples(content: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}


# One row a (model, data): what differs from the Recipe's own defaults. A flag on the command line wins over it.
RECIPES: dict[tuple[str, str], dict[str, Any]] = {
    # The paper's model at the size and crop of mmsegmentation's 80k schedule (80.97 mIoU there). Needs a GPU;
    # not measured here.
    ("deeplabv3plus", "cityscapes"): {
        "crop": (512, 1024),
        "epochs": 215,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "weight_decay": 5e-4,
        "backbone_weights": "imagenet",
        "bn_momentum": 0.9,
        "ema": 0.0,
    },
    # `make train`: a small network from scratch that shows something in 10 minutes on two cores.
    ("deeplabv3plus", "scenes"): {
        "backbone": "mobilenet_v2",
        "model_options": {"rates": (3, 6, 9, 12), "aspp_filters": 128, "decoder_filters": 128,
                          "aspp_separable": True, "decoder_separable": True},
        "data_options": {"size": (128, 256), "train_count": 400, "val_count": 50},
        "crop": (128, 256),
        "epochs": 20,
        "learning_rate": 2e-3,
        "bn_momentum": 0.9,
        "ema": 0.98,
    },
    # 480x360 pictures on a phone: docs/results.md has the command, the hours and the scores.
    ("deeplabv3plus", "camvid"): {
        "backbone": "mobilenet_v2",
        "model_options": {"rates": (3, 6, 9, 12), "aspp_filters": 128, "decoder_filters": 128,
                          "aspp_separable": True, "decoder_separable": True},
        "crop": (320, 320),
        "epochs": 100,
        "backbone_rate": 0.3333,
        "class_weights": "inverse_log",
        "augmentation": Augmentation(scale=(0.6, 2.0)),
        "ema": 0.998,
    },
    # mmsegmentation's 80k schedule and auxiliary head (80.20 mIoU there). Needs a GPU; not measured here.
    ("deeplabv3", "cityscapes"): {
        "output_stride": 8,
        "model_options": {"rates": (12, 24, 36), "aspp_filters": 512, "projection_kernel": 3, "auxiliary": True},
        "crop": (512, 1024),
        "epochs": 215,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "weight_decay": 5e-4,
        "backbone_weights": "imagenet",
        "bn_momentum": 0.9,
        "ema": 0.0,
    },
    # From scratch in minutes on two cores.
    ("deeplabv3", "scenes"): {
        "backbone": "mobilenet_v2",
        "output_stride": 16,
        "model_options": {"rates": (3, 6, 9), "aspp_filters": 128, "aspp_separable": True},
        "data_options": {"size": (128, 256), "train_count": 400, "val_count": 50},
        "crop": (128, 256),
        "epochs": 20,
        "learning_rate": 2e-3,
        "bn_momentum": 0.9,
        "ema": 0.98,
    },
    # mmsegmentation's 80k schedule, head and auxiliary head (75.13 mIoU there with ResNet-101). Needs a GPU; not
    # measured here.
    ("fcn", "cityscapes"): {
        "model_options": {"head_convolutions": 2, "concat_input": True, "auxiliary": True},
        "crop": (512, 1024),
        "epochs": 215,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "weight_decay": 5e-4,
        "backbone_weights": "imagenet",
        "bn_momentum": 0.9,
        "ema": 0.0,
    },
    # From scratch in minutes on two cores.
    ("fcn", "scenes"): {
        "backbone": "mobilenet_v2",
        "output_stride": 16,
        "model_options": {"head_filters": 128},
        "data_options": {"size": (128, 256), "train_count": 400, "val_count": 50},
        "crop": (128, 256),
        "epochs": 20,
        "learning_rate": 2e-3,
        "bn_momentum": 0.9,
        "ema": 0.98,
    },
    # The paper's schedule (section 4.1): 160,000 steps of 8 pictures, the decoder at ten times the encoder's rate.
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
    # From scratch in minutes on two cores.
    ("segformer", "scenes"): {
        "backbone": "mit_b0",
        "data_options": {"size": (128, 256), "train_count": 400, "val_count": 50},
        "crop": (128, 256),
        "epochs": 20,
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
        "bn_momentum": 0.9,
        "ema": 0.98,
    },
    ("segformer", "camvid"): {
        "backbone": "mit_b0",
        "crop": (320, 320),
        "epochs": 100,
        "learning_rate": 6e-4,
        "backbone_rate": 0.3333,
        "weight_decay": 0.01,
        "class_weights": "inverse_log",
        "augmentation": Augmentation(scale=(0.6, 2.0)),
        "bn_momentum": 0.9,
        "ema": 0.998,
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
        "backbone": "mobilenet_v2",
        "model_options": {"queries": 24, "hidden": 64, "encoder_layers": 2, "encoder_feedforward": 128,
                          "decoder_layers": 3, "decoder_feedforward": 128},
        "data_options": {"size": (128, 256), "train_count": 400, "val_count": 50},
        "crop": (128, 256),
        "epochs": 20,
        "learning_rate": 1e-3,
        "weight_decay": 0.01,
        "bn_momentum": 0.9,
        "ema": 0.98,
    },
    # mmsegmentation's UNet-S5-D16 and its 160k schedule of 16 pictures (69.10 mIoU there). Needs a GPU; not
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
    # From scratch in minutes on two cores.
    ("unet", "scenes"): {
        "backbone": "mobilenet_v2",
        "model_options": {"decoder_filters": (96, 64, 48, 24, 16)},
        "data_options": {"size": (128, 256), "train_count": 400, "val_count": 50},
        "crop": (128, 256),
        "epochs": 20,
        "learning_rate": 2e-3,
        "bn_momentum": 0.9,
        "ema": 0.98,
    },
    ("unet", "camvid"): {
        "backbone": "mobilenet_v2",
        "model_options": {"decoder_filters": (128, 96, 64, 32, 16)},
        "crop": (320, 320),
        "epochs": 100,
        "backbone_rate": 0.3333,
        "class_weights": "inverse_log",
        "augmentation": Augmentation(scale=(0.6, 2.0)),
        "ema": 0.998,
    },
    # Prompts of drawn regions, from scratch: an encoder of 5 small blocks, a decoder of a quarter of SAM's width.
    ("sam", "scenes"): {
        "model_options": {"patch": 8, "encoder_width": 96, "encoder_blocks": 5, "encoder_heads": 3,
                          "encoder_ffn_width": 288, "window": 8, "global_blocks": (2, 4), "width": 64,
                          "decoder_heads": 4, "decoder_ffn_width": 256, "iou_width": 64},
        "data_options": {"size": (128, 256), "train_count": 400, "val_count": 50},
        "crop": (128, 256),
        "epochs": 30,
        "learning_rate": 8e-4,
        "weight_decay": 0.1,
        "schedule": "cosine",
        "ema": 0.98,
    },
}  # fmt: skip


def split_options(options: dict[str, Any], split: str) -> dict[str, Any]:
    """A data set's options for one split: `train_count` becomes `count` for train, and is left out for val."""
    chosen = {}
    for name, value in options.items():
        prefix, _, rest = name.partition("_")
        if prefix not in ("train", "val"):
            chosen[name] = tuple(value) if isinstance(value, list) else value
        elif prefix == split:
            chosen[rest] = value
    return chosen


def default_recipe(model: str, data: str) -> dict[str, Any]:
    """The row of RECIPES, or none: then the Recipe's own defaults hold."""
    return RECIPES.get((model, data), {})
