"""Weights that zoo.convert wrote, FILE.weights.h5 with FILE.json beside it, as if they were a run.

They know their model and mostly their classes, but not the data they were trained on: whoever measures,
exports or fine-tunes them names the data, or a folder of pictures without labels.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import zoo
from runtime.bundle import numbered, spread_palette
from runtime.errors import UserError
from runtime.image import IMAGE_SUFFIXES, read_rgb
from training.data import DATASETS
from training.data.spec import IGNORE_ID, DatasetSpec, Example
from training.weights import load_weights

SUFFIX = ".weights.h5"
PICTURES = "pictures"  # the "data set" of a folder without labels


@dataclass(frozen=True)
class Origin:
    """What of a recipe is known; `data` is "" until someone names it, `card_sha256` is of FILE.json."""

    model: str
    card_sha256: str
    data: str = ""
    data_dir: str | None = None
    taxonomy: str = ""
    skip_bad: bool = False
    data_options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def sha256(self) -> str:
        return self.card_sha256


@dataclass(frozen=True)
class Converted:
    """What export and evaluation ask of a run: `recipe`, `spec`, `weights_path`, `model(image_size)`."""

    folder: Path
    recipe: Origin
    weights_path: Path
    card: Mapping[str, Any]

    @property
    def spec(self) -> DatasetSpec:
        """The checkpoint's own classes, or those of the data named for it."""
        count = int(self.card["arguments"]["classes"])
        known = _spec_of_data(self.recipe, count) if self.recipe.data in DATASETS else None
        classes = tuple(self.card.get("classes") or ()) or (known.classes if known else numbered(count))
        palette = tuple(tuple(colour) for colour in self.card.get("palette") or ()) or _palette(classes)
        return DatasetSpec(self.card["source"]["name"], classes, palette, ("train", "val"), (512, 1024))

    def model(self, image_size: tuple[int, int] | None = None) -> keras.Model:
        model = build(self.card, image_size)
        load_weights(model, self.weights_path)
        return model

    def on(
        self, data: str, data_dir: str | None, taxonomy: str | None, skip_bad: bool = False
    ) -> "Converted":
        """The same with its data named. UserError when the data's classes are not the checkpoint's."""
        if data not in DATASETS:
            raise UserError(f"There is no data set called {data}; there is {', '.join(DATASETS)}.")
        names = tuple(self.card.get("classes") or ())
        chosen = taxonomy or _matching(data, names, int(self.card["arguments"]["classes"]))
        origin = dataclasses.replace(
            self.recipe, data=data, data_dir=data_dir, taxonomy=chosen, skip_bad=skip_bad
        )
        found = dataclasses.replace(self, recipe=origin)
        spec = DATASETS[data].spec(chosen)
        if names and _plain(names) != _plain(spec.classes):
            raise UserError(
                f"{self.weights_path} has the classes {', '.join(names)}, but {chosen} of {data} has "
                f"{', '.join(spec.classes)}: name data of the same classes with --data and --classes"
            )
        return found


def load(path: Path) -> Converted:
    """Open FILE.weights.h5 by the card beside it. UserError when either is missing or makes no sense."""
    card_path = card_of(path)
    if not path.is_file():
        raise UserError(f"{path} is not there: name a run folder, or weights that zoo.convert wrote")
    if not card_path.is_file():
        raise UserError(f"{card_path} is missing: it says which model {path.name} belongs to; convert again")
    try:
        text = card_path.read_bytes()
        card = json.loads(text)
        origin = Origin(str(card["model"]), hashlib.sha256(text).hexdigest())
        if (
            card["model"] not in zoo.MODELS
            or int(card["arguments"]["classes"]) < 2
            or not card["source"]["name"]
        ):
            raise ValueError(f"the model {card['model']} is not known")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{card_path} is not what zoo.convert writes ({error}): convert again") from error
    return Converted(path.parent, origin, path, card)


def card_of(path: Path) -> Path:
    """FILE.weights.h5 -> FILE.json."""
    return path.with_name(path.name.removesuffix(SUFFIX) + ".json")


def build(card: Mapping[str, Any], image_size: tuple[int, int] | None = None) -> keras.Model:
    """The card's model with fresh weights."""
    arguments = {
        name: tuple(value) if isinstance(value, list) else value for name, value in card["arguments"].items()
    }
    try:
        return zoo.build(card["model"], image_size=image_size, **arguments)
    except ValueError as error:
        raise UserError(str(error)) from error


def pictures(folder: Path) -> list[Example]:
    """The pictures of a folder without labels: every pixel is void."""

    def example(path: Path) -> Example:
        def read() -> tuple[np.ndarray, np.ndarray]:
            rgb = read_rgb(path)
            return rgb, np.full(rgb.shape[:2], IGNORE_ID, np.uint8)

        return Example(path.stem, read)

    if not folder.is_dir():
        raise UserError(f"--pictures {folder} is not a folder: name one that holds pictures")
    found = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise UserError(f"--pictures {folder} holds no pictures; {', '.join(IMAGE_SUFFIXES[:5])} are read")
    return [example(path) for path in found]


def _spec_of_data(origin: Origin, count: int) -> DatasetSpec | None:
    spec = DATASETS[origin.data].spec(origin.taxonomy or None)
    return spec if len(spec.classes) == count else None


def _matching(data: str, names: tuple[str, ...], count: int) -> str:
    """The taxonomy of the data whose classes are the checkpoint's, by name, else by number."""
    taxonomies = DATASETS[data].taxonomies
    for key, spec in taxonomies.items():
        if _plain(spec.classes) == _plain(names) or (not names and len(spec.classes) == count):
            return key
    return next(iter(taxonomies))


def _palette(classes: tuple[str, ...]) -> tuple[tuple[int, int, int], ...]:
    """The colours of a data set that has the same classes, else colours far from each other."""
    for row in DATASETS.values():
        for spec in row.taxonomies.values():
            if _plain(spec.classes) == _plain(classes):
                return spec.palette
    return spread_palette(len(classes))


def _plain(names: tuple[str, ...]) -> list[str]:
    """'Traffic light' and 'traffic_light' are one class."""
    return ["".join(letter for letter in name.lower() if letter.isalnum()) for name in names]
