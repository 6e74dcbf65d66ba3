"""A recipe's settings in five groups. Each field says once what it is: its flag, its help, its bounds or choices.

`training/runs/recipe_flags.py` makes the command line of it, `training/runs/recipe.py` recipe.json and what the groups
have to do with each other. Neither TensorFlow nor Keras is imported here: --help and a wrong flag answer at once.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_origin, get_type_hints

from runtime import strict_json
from runtime.errors import UserError
from training import data as data_sets
from training.data import mixture
from training.data.augmentation import Augmentation
from training.data.spec import DatasetSpec

OPTIMIZERS = ("adamw", "sgd")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
FROZEN_NORMS = ("none", "backbone", "all")
MOST_FACTOR = 100.0  # of a learning rate
REQUIRED: Any = dataclasses.MISSING


@dataclass(frozen=True)
class Option:
    """What a field says of itself.

    `key` is its name in recipe.json and in RECIPES, `flag` that on the command line, both the field's own unless said;
    without `help` it has no flag. `former` is the flag's name of before, which works for one version, unshown.
    """

    help: str = ""
    key: str = ""
    flag: str = ""
    metavar: str | None = None
    choices: tuple[Any, ...] = ()
    noun: str = ""  # what a choice is called; the key if not said
    bounds: tuple[float, float] | None = None
    former: str = ""
    kind: Any = None  # its annotation

    @property
    def named_values(self) -> bool:
        """Whether the flag takes NAME=VALUE, several of them, each of which changes a part of the value."""
        return self.kind is Augmentation or get_origin(self.kind) is dict


def option(default: Any, help: str = "", **said: Any) -> Any:
    """A field of a group; `default` may be a function that makes it."""
    metadata = {"option": Option(help, **said)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@cache
def options(group: type) -> dict[str, Option]:
    """The fields of a group by name, with key, flag and annotation filled in."""
    kinds, found = get_type_hints(group), {}
    for one in dataclasses.fields(group):
        said: Option = one.metadata["option"]
        key = said.key or one.name
        flag = said.flag or f"--{key.replace('_', '-')}"
        found[one.name] = dataclasses.replace(said, key=key, flag=flag, kind=kinds[one.name])
    return found


class Checked:
    """A group whose fields are of their types, within their bounds and among their choices, or UserError."""

    def __post_init__(self) -> None:
        group: type = type(self)
        known = options(group)
        if wrong := strict_json.wrong_field(self, {name: said.key for name, said in known.items()}):
            raise UserError(wrong)
        for name, said in known.items():
            value = getattr(self, name)
            if said.bounds and not said.bounds[0] <= value <= said.bounds[1]:
                low, high = said.bounds
                raise UserError(f"{said.key} is {value}: it must lie in {low} to {high}")
            if said.choices:
                one_of(said.noun or said.key.replace("_", " "), value, said.choices)


def one_of(what: str, value: Any, valid: Any) -> None:
    """UserError, with those that there are, for a name that is not among them."""
    if value not in valid:
        raise UserError(f"unknown {what} '{value}': it must be one of {', '.join(map(str, valid))}")


@dataclass(frozen=True)
class ModelSettings(Checked):
    """What is trained, and from what. A `backbone` of "" and an `output_stride` of 0 mean the model's own, if any."""

    name: str = option(REQUIRED, key="model")
    backbone: str = option("", "resnet50, resnet101, mobilenet_v2, ...")
    backbone_weights: str = option("none", "what the backbone starts from", metavar="none|imagenet|FILE")
    output_stride: int = option(0, "8, 16 or 32", metavar="N", choices=(0, 8, 16, 32))
    options: dict[str, Any] = option(
        dict, "options of the model: rates=3,6,9,12 dropout=0.1", key="model_options", flag="--set"
    )
    init: str | None = option(
        None,
        "start from a run's best weights, a .weights.h5, or a model of kerbside list, of any classes",
        metavar="RUN_OR_FILE",
    )
    bn_momentum: float = option(
        0.95, "of the moving statistics of BatchNorm", metavar="M", bounds=(0.0, 0.99999)
    )
    quantize: bool = option(
        False, "go on from --init with 8 bits simulated, for an int8 export (docs/how-to/training.md)"
    )


@dataclass(frozen=True)
class DataSettings(Checked):
    """What is learnt from, and how a training crop is made of it. `crop` is (height, width) in pixels."""

    name: str = option(REQUIRED, "scenes (drawn, the default), cityscapes, camvid+scenes, ...", key="data")
    folder: str | dict[str, str] | None = option(
        None, "the data set's folder, or camvid=DIR cityscapes=DIR", key="data_dir", metavar="DIR"
    )
    taxonomy: str = option(
        "",
        "other classes: cityscapes8, road11, or a mapping of your own",
        flag="--classes",
        metavar="NAME|FILE.json",
    )
    skip_bad: bool = option(False, "go on without files that are bad")
    options: dict[str, Any] = option(
        dict,
        "options of the data set: size=128x256 count=400, or scenes.count=400 in a mixture",
        key="data_options",
        flag="--data-option",
        former="--data-set",
    )
    crop: tuple[int, int] = option((512, 512), "the size of a training crop, in pixels", metavar="HxW")
    augmentation: Augmentation = option(
        Augmentation, "augmentation: scale=0.5,2.0 rotation=5 blur=0.1", flag="--augment"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.crop) < 32:
            raise UserError(f"crop is {self.crop}: it must be height x width, each 32 pixels or more")

    def spec(self) -> DatasetSpec:
        """Its classes; UserError on an unknown name or taxonomy."""
        return data_sets.spec(self.name, self.taxonomy, self.folder, self.options)

    def at(self, folders: Sequence[str] | None) -> "DataSettings":
        """The same data where --data-dir, `folders`, says; of a mixture each data set that is not named stays where it
        was."""
        found = mixture.folders(folders, self.name)
        if isinstance(found, dict) and isinstance(self.folder, dict):
            found = {**self.folder, **found}
        return dataclasses.replace(self, folder=found) if found else self


@dataclass(frozen=True)
class OptimisationSettings(Checked):
    """How weights are changed. Rates are per step, epochs count passes over the training split."""

    epochs: int = option(100, "passes over the training split", metavar="N", bounds=(1, 100_000))
    batch: int = option(8, "crops that a step learns from", metavar="N", bounds=(1, 4096))
    accumulate: int = option(
        1, "take the batch in N parts one after another, to save memory", metavar="N", bounds=(1, 4096)
    )
    optimizer: str = option("adamw", " or ".join(OPTIMIZERS), choices=OPTIMIZERS)
    learning_rate: float = option(1e-3, "at its highest", metavar="RATE", bounds=(1e-9, 100.0))
    backbone_rate: float = option(
        1.0, "the backbone's rate, relative to it", metavar="FACTOR", bounds=(0.0, MOST_FACTOR)
    )
    rates: dict[str, float] = option(
        dict,
        "rates of layers whose path begins so, relative to --learning-rate: backbone/stage1=0.1 decoder=2",
        flag="--lr-mult",
        former="--rates",
        metavar="LAYER=FACTOR",
    )
    freeze: tuple[str, ...] = option(
        (), "train no layer whose path begins so, such as backbone", metavar="LAYER"
    )
    freeze_bn: str = option(
        "none",
        "keep these BatchNorms as they are",
        metavar="|".join(FROZEN_NORMS),
        choices=FROZEN_NORMS,
        noun="frozen BatchNorm",
    )
    weight_decay: float = option(1e-4, "of kernels, decoupled", metavar="DECAY", bounds=(0.0, 1.0))
    schedule: str = option("poly", "poly, linear, cosine, step, one_cycle or constant")
    schedule_options: dict[str, Any] = option(
        dict, "options of the schedule: gamma=0.1 milestones=0.6,0.8", flag="--schedule-set"
    )
    warmup_epochs: float = option(1.0, "over which the rate rises", metavar="N", bounds=(0.0, 10_000.0))
    clip_norm: float = option(
        1.0, "of all gradients together; 0: not clipped", metavar="NORM", bounds=(0.0, 1e6)
    )
    ema: float = option(0.999, "of the averaged weights; 0: none", metavar="DECAY", bounds=(0.0, 0.999999))
    precision: str = option("float32", "float32, mixed_bfloat16 or mixed_float16", choices=PRECISIONS)

    def __post_init__(self) -> None:
        super().__post_init__()
        for prefix, rate in self.rates.items():
            if not 0.0 <= rate <= MOST_FACTOR:
                raise UserError(f"--lr-mult {prefix} is {rate}: it must lie in 0.0 to {MOST_FACTOR}")
        if self.batch % self.accumulate:
            raise UserError(f"a batch of {self.batch} cannot be taken in {self.accumulate} parts of one size")


@dataclass(frozen=True)
class LossSettings(Checked):
    """What a step makes smaller. `terms` of "" mean the model's own."""

    terms: str = option("", "terms of training/losses, such as ce, ohem or ce+0.5*dice", key="loss")
    options: dict[str, Any] = option(
        dict, "options of the loss: label_smoothing=0.1 dice.smooth=1", key="loss_options", flag="--loss-set"
    )
    auxiliary_weight: float = option(
        0.4, "of the auxiliary head's loss, if there is one", metavar="WEIGHT", bounds=(0.0, 100.0)
    )
    class_weights: str = option(
        "none",
        "none, inverse_log, median_frequency, effective_number, or a number for each class",
        metavar="NAME|W,W,...",
    )
    teacher: str | None = option(
        None, "learn from a run, a .weights.h5, or a .tflite with scores too", metavar="RUN_OR_FILE"
    )
    teacher_sha256: str = option("")
    teacher_weight: float = option(1.0, "of what it says; 1", metavar="WEIGHT", bounds=(0.0, 1e6))
    teacher_temperature: float = option(1.0, "that softens both; 1", metavar="T", bounds=(0.01, 1000.0))
    unlabeled: str | None = option(
        None, "learn from the images below a folder too, which have no labels", metavar="DIR"
    )
    unlabeled_images: int = option(0)
    unlabeled_weight: float = option(1.0, "of what they teach; 1", metavar="WEIGHT", bounds=(0.0, 1e6))


@dataclass(frozen=True)
class RunSettings(Checked):
    """What is of the run itself."""

    seed: int = option(0, "two runs of one seed on one machine give the same bits", bounds=(0, 2**31 - 1))
    patience: int = option(
        0, "stop after N epochs without a better mIoU; 0: never", metavar="N", bounds=(0, 100_000)
    )
    validation_scale: float = option(
        1.0,
        "validate on images scaled by this, as an export of a larger size sees them; 1",
        metavar="SCALE",
        bounds=(0.25, 4.0),
    )


# The groups of a Recipe by the name of its field.
GROUPS: dict[str, type] = {
    "model": ModelSettings,
    "data": DataSettings,
    "optimisation": OptimisationSettings,
    "loss": LossSettings,
    "run": RunSettings,
}


def all_options() -> list[Option]:
    """Those of every group, in their order."""
    return [said for group in GROUPS.values() for said in options(group).values()]


@cache
def usual() -> dict[str, Any]:
    """The default of every key that has one, as JSON has it."""
    found = {}
    for group in GROUPS.values():
        for one in dataclasses.fields(group):
            default = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
            if default is not dataclasses.MISSING:
                found[options(group)[one.name].key] = plain(default)
    return found


def plain(value: Any) -> Any:
    """As JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return json.loads(json.dumps(value))


def split_options(options: dict[str, Any], split: str) -> dict[str, Any]:
    """A data set's options for one split: `train_count` becomes `count` for train, and is left out for val.

    In a mixture `scenes.train_count` becomes `scenes.count`.
    """
    chosen = {}
    for name, value in options.items():
        whose, dot, own = name.rpartition(".")
        prefix, _, rest = own.partition("_")
        if prefix not in ("train", "val"):
            chosen[name] = tuple(value) if isinstance(value, list) else value
        elif prefix == split:
            chosen[whose + dot + rest] = value
    return chosen
