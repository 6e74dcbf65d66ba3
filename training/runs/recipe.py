"""A run's recipe: frozen, typed, validated when it is made, and kept as JSON in the run folder."""

import collections.abc
import dataclasses
import hashlib
import inspect
import json
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zoo
from runtime import strict_json
from runtime.errors import UserError
from training import data as data_sets
from training.data import mixture
from training.data.augment import Augmentation
from training.engine import schedules
from training.engine.schedules import SCHEDULES
from training.losses import MODEL_LOSSES, check_class_weights, parse, written
from training.runs.recipes import QUANTIZED, RECIPES
from zoo.backbones import BACKBONES

OPTIMIZERS = ("adamw", "sgd")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
FROZEN_NORMS = ("none", "backbone", "all")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run computes. Two runs of one recipe on one machine give the same bits.

    Sizes are (height, width) in pixels, rates are per step, epochs count passes over the training split.
    A `backbone` of "" and an `output_stride` of 0 mean the model's own, if it has one at all; a `loss` of "" too.
    """

    model: str
    data: str
    data_dir: str | dict[str, str] | None = None
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
    accumulate: int = 1
    epochs: int = 100
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)
    loss: str = ""
    loss_options: dict[str, Any] = field(default_factory=dict)
    auxiliary_weight: float = 0.4
    class_weights: str = "none"
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    backbone_rate: float = 1.0
    rates: dict[str, float] = field(default_factory=dict)
    freeze: tuple[str, ...] = ()
    freeze_bn: str = "none"
    weight_decay: float = 1e-4
    schedule: str = "poly"
    schedule_options: dict[str, Any] = field(default_factory=dict)
    warmup_epochs: float = 1.0
    clip_norm: float = 1.0
    ema: float = 0.999
    bn_momentum: float = 0.95
    precision: str = "float32"
    patience: int = 0
    teacher: str | None = None
    teacher_sha256: str = ""
    teacher_weight: float = 1.0
    teacher_temperature: float = 1.0
    quantize: bool = False

    def __post_init__(self) -> None:
        if wrong := strict_json.wrong_field(self):
            raise UserError(wrong)
        _one_of("model", self.model, zoo.names())
        object.__setattr__(self, "model_options", zoo.renamed(self.model_options))
        # Classes that come with the data are checked when it is loaded: a recipe has to open without its data.
        names: tuple[str, ...] = ()
        if known := data_sets.static(self.data):
            object.__setattr__(self, "taxonomy", self.taxonomy or next(iter(known)))
            names = data_sets.spec(self.data, self.taxonomy, self.data_dir, self.data_options).classes
        self._take_model_defaults()
        self._check_model_options()
        terms = parse(self.loss or MODEL_LOSSES.get(self.model, "cross_entropy"), self.loss_options)
        object.__setattr__(self, "loss", written(terms))
        check_class_weights(self.class_weights, self.loss_options, names)
        if self.class_weights != "none" and not any(term.loss.weighted for term in terms):
            raise UserError(f"the loss {self.loss} takes no class weights: leave --class-weights out")
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        schedules.check(self.schedule, self.schedule_options)
        _one_of("frozen BatchNorm", self.freeze_bn, FROZEN_NORMS)
        _one_of("precision", self.precision, PRECISIONS)
        if self.quantize and not self.init:
            raise UserError(
                "--quantize goes on from weights that were trained in float: name them with --init runs/NAME"
            )
        for part in data_sets.without_folder(self.data, self.data_dir):
            place = "DIR" if part == self.data else f"{part}=DIR"
            raise UserError(f"--data {part} reads files: say where they are with --data-dir {place}")
        for name, low, high in _BOUNDS:
            value = getattr(self, name)
            if not low <= value <= high:
                raise UserError(f"{name} is {value}: it must lie in {low} to {high}")
        for prefix, rate in self.rates.items():
            if not isinstance(rate, int | float) or not 0.0 <= rate <= 100.0:
                raise UserError(f"--rates {prefix} is {rate}: it must lie in 0.0 to 100.0")
        if self.batch % self.accumulate:
            raise UserError(f"a batch of {self.batch} cannot be taken in {self.accumulate} parts of one size")
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

    def _check_model_options(self) -> None:
        """UserError for an option that the model does not have, or of another type than it takes."""
        hints = zoo.keywords(self.model)
        valid = [name for name in hints if name not in DECIDED_ELSEWHERE]
        for name, value in self.model_options.items():
            if name not in valid:
                raise UserError(f"{self.model} has no option {name}: --set takes {', '.join(valid)}")
            if not _fits(value, hints[name]):
                raise UserError(
                    f"--set {name} is {value!r}: for {self.model} it has to be {strict_json.named(hints[name])}"
                )

    def sha256(self) -> str:
        """Of what the recipe says, wherever its data lie on this machine."""
        return hashlib.sha256(json.dumps(self.shared(), sort_keys=True).encode()).hexdigest()

    def shared(self) -> dict[str, Any]:
        """What is the same on every machine that runs it."""
        return {key: value for key, value in self.as_dict().items() if key not in MACHINE_FIELDS}

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


# Arguments of a model that the data and other fields of the recipe decide.
DECIDED_ELSEWHERE = ("classes", "image_size", "backbone", "output_stride", "batch_norm_momentum")
MACHINE_FIELDS = ("data_dir", "teacher")  # the teacher is known by its hash, wherever it lies

_BOUNDS: tuple[tuple[str, float, float], ...] = (
    ("batch", 1, 4096),
    ("accumulate", 1, 4096),
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
    ("teacher_weight", 0.0, 1e6),
    ("teacher_temperature", 0.01, 1000.0),
)


def _fits(value: Any, hint: Any) -> bool:
    """strict_json.fits, where it knows the annotation; the zoo refuses the rest itself."""
    if typing.get_origin(hint) is collections.abc.Sequence:
        hint = types.GenericAlias(tuple, (typing.get_args(hint)[0], ...))
    try:
        return strict_json.fits(value, hint)
    except TypeError:
        return True


def _one_of(what: str, value: str, valid: Any) -> None:
    if value not in valid:
        raise UserError(f"unknown {what} '{value}': it must be one of {', '.join(valid)}")


def from_json(path: Path) -> Recipe:
    """Read a recipe.json. Raises UserError, naming the file, when it is not one."""
    try:
        content = strict_json.checked(strict_json.read(path), {"augmentation": dict[str, Any]})
        content["augmentation"] = Augmentation(**_tuples(content["augmentation"]))
        return Recipe(**_tuples(content))
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there: name a run folder, such as runs/NAME") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is not a recipe of this version ({error})") from error


def at(recipe: Any, folders: Sequence[str] | None) -> Any:
    """The same recipe, or what is known of one, with its data where --data-dir, `folders`, says; of a mixture each data
    set that is not named stays where it was."""
    found = mixture.folders(folders, recipe.data)
    if found and isinstance(found, dict):
        found = {**(recipe.data_dir or {}), **found}
    return dataclasses.replace(recipe, data_dir=found) if found else recipe


def architecture(run: Path, model: str) -> dict[str, Any]:
    """What the run that training starts from says of its model: backbone, output stride and options, without which its
    weights would not fit; {} where it has no recipe.json. UserError when it is a run of another model."""
    path = run / "recipe.json"
    if not path.is_file():
        return {}
    found = from_json(path)
    if found.model != model:
        raise UserError(f"--init {run} is a {found.model}, not a {model}: train that, or leave --init out")
    chosen = {name: getattr(found, name) for name in ("backbone", "output_stride")}
    return {**chosen, "model_options": _tuples(found.model_options)}


def _tuples(content: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}


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


def default_recipe(model: str, data: str, quantize: bool = False) -> dict[str, Any]:
    """The row of RECIPES, or none: then the Recipe's own defaults hold. To quantise, QUANTIZED wins over it."""
    return {**RECIPES.get((model, data), {}), **(QUANTIZED if quantize else {})}
