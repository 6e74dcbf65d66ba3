"""A run's recipe: frozen, typed, validated when it is made, and kept as JSON in the run folder.

Its settings stand in five groups (training/runs/settings.py); whoever needs some of them is handed their group. In
recipe.json, in RECIPES and in what is hashed they stand flat, under their keys, as they always have.
"""

import collections.abc
import dataclasses
import hashlib
import inspect
import json
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zoo
from runtime import strict_json
from runtime.errors import UserError
from training import data as data_sets
from training.data.augmentation import Augmentation
from training.engine import schedules
from training.engine.schedules import SCHEDULES
from training.losses import MODEL_LOSSES, check_class_weights, parse, written
from training.runs.recipes import QUANTIZED, RECIPES
from training.runs.settings import (
    GROUPS,
    DataSettings,
    LossSettings,
    ModelSettings,
    OptimisationSettings,
    RunSettings,
    one_of,
    options,
    plain,
    usual,
)
from zoo.backbones import BACKBONES


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run computes. Two runs of one recipe on one machine give the same bits.

    What the model, the data set and the losses leave open, their own backbone, classes and terms, is filled in.
    """

    model: ModelSettings
    data: DataSettings
    optimisation: OptimisationSettings
    loss: LossSettings
    run: RunSettings

    def __post_init__(self) -> None:
        one_of("model", self.model.name, zoo.names())
        data = _with_classes(self.data)
        model = _with_own_defaults(self.model)
        _check_model_options(model)
        loss = _with_terms(self.loss, model.name, data)
        for name, group in (("model", model), ("data", data), ("loss", loss)):
            object.__setattr__(self, name, group)
        one_of("schedule", self.optimisation.schedule, SCHEDULES)
        schedules.check(self.optimisation.schedule, self.optimisation.schedule_options)
        if self.run.validation_scale != 1 and model.name == "sam":
            raise UserError(
                "--validation-scale is for models of classes: sam sees all images at its own size"
            )
        if model.quantize and not model.init:
            raise UserError(
                "--quantize goes on from weights that were trained in float: name them with --init runs/NAME"
            )
        for part in data_sets.without_folder(data.name, data.folder):
            place = "DIR" if part == data.name else f"{part}=DIR"
            raise UserError(f"--data {part} reads files: say where they are with --data-dir {place}")

    @classmethod
    def of(cls, **values: Any) -> "Recipe":
        """By the keys of recipe.json and RECIPES. TypeError for a key that is none, and without model and data."""
        made = {}
        for name, group in GROUPS.items():
            own = {field: said.key for field, said in options(group).items() if said.key in values}
            made[name] = group(**{field: values.pop(key) for field, key in own.items()})
        if values:
            raise TypeError(f"a recipe has no {', '.join(values)}")
        return cls(**made)

    def flat(self) -> dict[str, Any]:
        """Every value by its key."""
        return {
            said.key: getattr(getattr(self, name), field)
            for name, group in GROUPS.items()
            for field, said in options(group).items()
        }

    def changed(self, **values: Any) -> "Recipe":
        """The same with other values, by their keys."""
        return Recipe.of(**{**self.flat(), **values})

    def at(self, folders: Sequence[str] | None) -> "Recipe":
        """The same with its data where --data-dir says."""
        return dataclasses.replace(self, data=self.data.at(folders))

    def sha256(self) -> str:
        """Of what the recipe says, wherever its data lie on this machine."""
        return hashlib.sha256(json.dumps(self.shared(), sort_keys=True).encode()).hexdigest()

    def shared(self) -> dict[str, Any]:
        """What is the same on every machine that runs it."""
        return {
            key: value
            for key, value in self.as_dict().items()
            if key not in MACHINE_KEYS and not (key in LATER and value == usual()[key])
        }

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {key: plain(value) for key, value in self.flat().items()}

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=2) + "\n"

    def differences(self, other: "Recipe") -> list[str]:
        """One clause a key that differs, machine-dependent paths of the data left aside."""
        mine, theirs = self.as_dict(), other.as_dict()
        return [
            f"{key} ({theirs[key]} there, {mine[key]} here)"
            for key in mine
            if key not in MACHINE_KEYS and mine[key] != theirs[key]
        ]


# Arguments of a model that the data and other settings decide.
DECIDED_ELSEWHERE = ("classes", "image_size", "backbone", "output_stride", "batch_norm_momentum")
# The teacher is known by its hash, wherever it lies, images without labels by their number, and by data.json.
MACHINE_KEYS = ("data_dir", "teacher", "unlabeled")
LATER = (
    "unlabeled_images",
    "unlabeled_weight",
    "validation_scale",
)  # keys that a run of before has not, whose hash stays what it was


def _with_classes(data: DataSettings) -> DataSettings:
    """With the data set's usual classes unless others are named. Those that come with the data are checked when it is
    loaded: a recipe has to open without its data."""
    known = data_sets.static(data.name)
    if not known:
        return data
    found = dataclasses.replace(data, taxonomy=data.taxonomy or next(iter(known)))
    found.spec()
    return found


def _with_own_defaults(model: ModelSettings) -> ModelSettings:
    """With backbone and output stride of the model's signature unless others are named; UserError where it has none."""
    parameters = inspect.signature(zoo.MODELS[model.name]).parameters
    own: dict[str, Any] = {"options": zoo.renamed(model.options)}
    for name, unset in (("backbone", ""), ("output_stride", 0)):
        if name in parameters and getattr(model, name) == unset:
            own[name] = parameters[name].default or unset
        if name not in parameters and getattr(model, name) != unset:
            raise UserError(f"{model.name} has no {name.replace('_', ' ')} to choose: leave it out")
    found = dataclasses.replace(model, **own)
    if found.backbone:
        one_of("backbone", found.backbone, BACKBONES)
    return found


def _check_model_options(settings: ModelSettings) -> None:
    """UserError for an option that the model does not have, or of another type than it takes."""
    hints = zoo.keywords(settings.name)
    valid = [name for name in hints if name not in DECIDED_ELSEWHERE]
    for name, value in settings.options.items():
        if name not in valid:
            raise UserError(f"{settings.name} has no option {name}: --set takes {', '.join(valid)}")
        if not _fits(value, hints[name]):
            raise UserError(
                f"--set {name} is {value!r}: for {settings.name} it has to be {strict_json.named(hints[name])}"
            )


def _with_terms(loss: LossSettings, model: str, data: DataSettings) -> LossSettings:
    """With the model's own terms unless others are named, written out; UserError for class weights that cannot be."""
    terms = parse(loss.terms or MODEL_LOSSES.get(model, "cross_entropy"), loss.options)
    found = dataclasses.replace(loss, terms=written(terms))
    classes = data.spec().classes if data_sets.static(data.name) else ()
    check_class_weights(loss.class_weights, loss.options, classes)
    if loss.class_weights != "none" and not any(term.loss.weighted for term in terms):
        raise UserError(f"the loss {found.terms} takes no class weights: leave --class-weights out")
    return found


def _fits(value: Any, hint: Any) -> bool:
    """strict_json.fits, where it knows the annotation; the zoo refuses the rest itself."""
    if typing.get_origin(hint) is collections.abc.Sequence:
        hint = types.GenericAlias(tuple, (typing.get_args(hint)[0], ...))
    try:
        return strict_json.fits(value, hint)
    except TypeError:
        return True


def from_json(path: Path) -> Recipe:
    """Read a recipe.json. Raises UserError, naming the file, when it is not one."""
    try:
        content = strict_json.checked(strict_json.read(path), {"augmentation": dict[str, Any]})
        content["augmentation"] = Augmentation(**_tuples(content["augmentation"]))
        return Recipe.of(**_tuples(content))
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there: name a run folder, such as runs/NAME") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is not a recipe of this version ({error})") from error


def architecture(run: Path, model: str) -> dict[str, Any]:
    """What the run that training starts from says of its model: backbone, output stride and options, without which its
    weights would not fit; {} where it has no recipe.json. UserError when it is a run of another model."""
    path = run / "recipe.json"
    if not path.is_file():
        return {}
    found = from_json(path)
    if found.model.name != model:
        raise UserError(
            f"--init {run} is a {found.model.name}, not a {model}: train that, or leave --init out"
        )
    chosen = {"backbone": found.model.backbone, "output_stride": found.model.output_stride}
    return {**chosen, "model_options": _tuples(found.model.options)}


def _tuples(content: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}


def default_recipe(model: str, data: str, quantize: bool = False) -> dict[str, Any]:
    """The row of RECIPES, or none: then the Recipe's own defaults hold. To quantise, QUANTIZED wins over it."""
    return {**RECIPES.get((model, data), {}), **(QUANTIZED if quantize else {})}
