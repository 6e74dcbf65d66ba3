"""Weights that zoo.convert wrote, FILE.weights.h5 with FILE.json beside it, as if they were a run.

They know their model and mostly their classes, but not the data they were trained on: whoever measures,
exports or fine-tunes them names the data, or a folder of images without labels.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import zoo
from runtime.bundle import numbered, spread_palette
from runtime.errors import UserError
from runtime.files import file_sha256
from runtime.folders import distinct, files_below
from runtime.image import IMAGE_SUFFIXES, read_rgb
from training.data import DATASETS, specs
from training.data.labels.taxonomies import plain_names
from training.data.spec import VOID_ID, DatasetSpec, Example, Taxonomies
from training.runs import learnt_from
from training.runs.settings import DataSettings
from training.runs.trained_model import StoredModel
from zoo.convert import model_config

NO_DATA = DataSettings("")


@dataclass(frozen=True)
class Converted:
    """A StoredModel; `card_sha256` is of FILE.json."""

    folder: Path
    weights_path: Path
    card_sha256: str
    facts: Mapping[str, Any]
    data: DataSettings = NO_DATA

    @property
    def spec(self) -> DatasetSpec:
        """The checkpoint's own classes, or those of the data named for it."""
        count = int(self.facts["arguments"].get("classes", 0))
        known = _spec_of_data(self.data, count) if self.data.name else None
        classes = tuple(self.facts.get("classes") or ()) or (known.classes if known else numbered(count))
        palette = tuple(tuple(colour) for colour in self.facts.get("palette") or ()) or _palette(classes)
        try:
            return DatasetSpec(self.facts["source"]["name"], classes, palette, ("train", "val"), (512, 1024))
        except ValueError as error:
            raise UserError(
                f"{model_config.config_path(self.weights_path)} cannot be used: {error}."
            ) from error

    @property
    def labelled(self) -> bool:
        """Whether it is compared on data with labels."""
        return bool(self.data.name)

    @property
    def name(self) -> str:
        return str(self.facts["model"])

    @property
    def quantized(self) -> bool:
        return False

    @property
    def source(self) -> Mapping[str, Any]:
        return self.facts["source"]

    @property
    def learnt_from(self) -> list[learnt_from.Source]:
        try:
            return learnt_from.of_card(self.facts)
        except ValueError as error:
            raise UserError(
                f"{model_config.config_path(self.weights_path)} cannot be used: {error}."
            ) from error

    @property
    def label(self) -> str:
        return self.weights_path.name.removesuffix(model_config.SUFFIX)

    @property
    def fixed_size(self) -> tuple[int, int]:
        height, width = self.arguments["image_size"]
        return height, width

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.facts["arguments"])

    def sha256(self) -> str:
        return self.card_sha256

    def model(self, image_size: tuple[int, int] | None = None) -> keras.Model:
        return model_config.rebuild(self.weights_path, image_size)

    def on(
        self,
        data: str,
        data_dir: str | dict[str, str] | None,
        taxonomy: str | None,
        skip_bad: bool = False,
        data_options: dict[str, Any] | None = None,
    ) -> "Converted":
        """The same with its data named. UserError when the data's classes are not the checkpoint's."""
        options = data_options or {}
        names = tuple(self.facts.get("classes") or ())
        known = specs(data, data_dir, options)
        chosen = taxonomy or _matching(known, names, int(self.facts["arguments"].get("classes", 0)))
        settings = DataSettings(data, data_dir, chosen, skip_bad, options)
        found = dataclasses.replace(self, data=settings)
        spec_there = settings.spec()
        if names and plain_names(names) != plain_names(spec_there.classes):
            raise UserError(
                f"{self.weights_path} has the classes {', '.join(names)}, but {chosen} of {data} has "
                f"{', '.join(spec_there.classes)}: name data of the same classes with --data and --classes"
            )
        return found


def card(run: StoredModel) -> dict[str, Any]:
    """What stands in FILE.json beside weights that are handed on, but for their hash."""
    spec = run.spec
    own = {"kind": "Kerbside", "name": run.label, "sha256": file_sha256(run.weights_path)}
    return {
        "format": model_config.FORMAT,
        "model": run.name,
        "arguments": run.arguments,
        "classes": list(spec.classes),
        "palette": [[int(value) for value in colour] for colour in spec.palette],
        "source": run.source or own,
        learnt_from.KEY: [dict(one) for one in run.learnt_from],
    }


def load(path: Path) -> Converted:
    """Open FILE.weights.h5 by the config beside it. UserError when either is missing or makes no sense."""
    if not path.is_file():
        raise UserError(f"{path} is not there: name a run folder, or weights that zoo.convert wrote")
    found = model_config.read(path)
    if found["model"] not in zoo.MODELS:
        raise UserError(f"{path} is a {found['model']}, which this version has no model of: convert it again")
    sha256 = file_sha256(model_config.config_path(path))
    return Converted(path.parent, path, sha256, found)


def recipe_fields(path: Path, model: str) -> dict[str, Any]:
    """What a Recipe says of the model's architecture, from the config of the weights that training starts from;
    {} where they have none. UserError when they are of another model than the one named."""
    if not model_config.config_path(path).is_file():
        return {}
    found = model_config.read(path)
    if found["model"] != model:
        raise UserError(
            f"--init {path} is a {found['model']}, not a {model}: train that, or leave --init out"
        )
    options = {key: value for key, value in found["arguments"].items() if key not in RECIPES_OWN}
    named = {key: options.pop(key) for key in ("backbone", "output_stride") if key in options}
    return {**named, "model_options": options}


RECIPES_OWN = ("classes", "image_size", "batch_norm_momentum")  # decided by the data and the recipe


def unlabelled(folder: Path) -> list[Example]:
    """The images below a folder without labels: every pixel is void."""

    def example(path: Path, name: str) -> Example:
        def read() -> tuple[np.ndarray, np.ndarray]:
            rgb = read_rgb(path)
            return rgb, np.full(rgb.shape[:2], VOID_ID, np.uint8)

        return Example(name, read)

    if not folder.is_dir():
        raise UserError(f"--images {folder} is not a folder: name one that holds images")
    found = files_below(folder, IMAGE_SUFFIXES)
    if not found:
        raise UserError(f"--images {folder} holds no images; {', '.join(IMAGE_SUFFIXES[:5])} are read")
    names = [path.relative_to(folder).as_posix().replace("/", "__") for path in found]
    own = distinct([Path(name).with_suffix("").name for name in names], names)
    return [example(path, name) for path, name in zip(found, own, strict=True)]


def _spec_of_data(data: DataSettings, count: int) -> DatasetSpec | None:
    found = data.spec()
    return found if len(found.classes) == count else None


def _matching(specs: Taxonomies, names: tuple[str, ...], count: int) -> str:
    """The taxonomy of the data whose classes are the checkpoint's, by name, else by number."""
    for key, found in specs.items():
        if plain_names(found.classes) == plain_names(names) or (not names and len(found.classes) == count):
            return key
    return next(iter(specs))


def _palette(classes: tuple[str, ...]) -> tuple[tuple[int, int, int], ...]:
    """The colours of a data set that has the same classes, else colours far from each other."""
    for data in DATASETS.values():
        for known in data.static.values():
            if plain_names(known.classes) == plain_names(classes):
                return known.palette
    return spread_palette(len(classes))
