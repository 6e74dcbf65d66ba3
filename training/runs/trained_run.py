"""A finished (or running) run: its recipe and its model, rebuilt by our own code from recipe.json."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

import zoo
from runtime import strict_json
from runtime.errors import UserError
from runtime.files import write_json
from training import data
from training.data.files import fingerprint
from training.data.labels.class_counts import Occurrence
from training.data.spec import DatasetSpec, Example
from training.progress_bar import counter
from training.runs import best_weights, checkpoints, converted_weights, learnt_from
from training.runs.converted_weights import Converted
from training.runs.load_weights import load_weights
from training.runs.recipe import Recipe, from_json
from training.runs.settings import DataSettings, ModelSettings, split_options
from zoo.convert import model_config, named

CLASSES = "classes.json"


@dataclass(frozen=True)
class Run:
    """A run folder that has weights."""

    folder: Path
    recipe: Recipe
    weights_path: Path
    labelled: bool = True  # False where images without labels take the place of its data

    def at(self, folders: Sequence[str] | None) -> "Run":
        """The same run with its data where --data-dir says."""
        return dataclasses.replace(self, recipe=self.recipe.at(folders))

    def check_classes(self) -> None:
        """UserError when the data, which may have moved, has other classes than those that the run was trained on."""
        found = self.data.spec()
        if found.classes != self.spec.classes:
            raise UserError(
                f"{self.folder} was trained on the classes {', '.join(self.spec.classes)}, and {self.data.name} in "
                f"{_shown(self.data.folder)} has {', '.join(found.classes)}: name data of the same classes"
            )

    @property
    def spec(self) -> DatasetSpec:
        """As classes.json keeps it; a run that is older than that file has its data set's."""
        return read_classes(self.folder) or self.data.spec()

    @property
    def name(self) -> str:
        return self.recipe.model.name

    @property
    def data(self) -> DataSettings:
        return self.recipe.data

    @property
    def quantized(self) -> bool:
        return self.recipe.model.quantize

    @property
    def source(self) -> None:
        return None

    @property
    def learnt_from(self) -> list[learnt_from.Source]:
        return learnt_from.read(self.folder)

    @property
    def label(self) -> str:
        return self.folder.resolve().name

    @property
    def fixed_size(self) -> tuple[int, int]:
        return self.data.crop

    @property
    def arguments(self) -> dict[str, Any]:
        return arguments(self.recipe.model, len(self.spec.classes))

    def sha256(self) -> str:
        return self.recipe.sha256()

    def model(self, image_size: tuple[int, int] | None = None) -> keras.Model:
        """The model with the run's best weights, in float32, at a static (H, W) or at any size."""
        model = build_model(self.recipe, len(self.spec.classes), image_size)
        load_weights(model, self.weights_path)
        return model


def folder_of(path: str | Path) -> Path:
    """runs/NAME of runs/NAME/best.weights.h5, which stands for its run; any other path as it is."""
    path = Path(path)
    return path.parent if path.name == best_weights.NAME and (path.parent / "recipe.json").is_file() else path


def load(path: str | Path) -> Run | Converted:
    """Open a run folder, its best.weights.h5, FILE.weights.h5 of zoo.convert, or a model by name
    (zoo/convert/named.py). UserError, naming what is missing, when it cannot be used."""
    folder = folder_of(named.weights(path))
    if folder.name.endswith(model_config.SUFFIX):
        return converted_weights.load(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a run folder: name one such as runs/NAME, or a FILE.weights.h5")
    recipe = from_json(folder / "recipe.json")
    weights = folder / best_weights.NAME
    if not weights.exists():
        raise UserError(f"{weights} is not there yet: a run has weights after its first epoch")
    return Run(folder, recipe, weights)


def _shown(folder: str | Mapping[str, str] | None) -> str:
    if isinstance(folder, Mapping):
        return ", ".join(map(str, folder.values()))
    return str(folder)


def read_classes(folder: Path) -> DatasetSpec | None:
    """The classes that a run was trained on; None where it has no classes.json."""
    path = folder / CLASSES
    if not path.exists():
        return None
    try:
        return DatasetSpec.from_dict(strict_json.read(path))
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise UserError(
            f"{path} is not what a run keeps of its classes ({error}): delete it, and they are read "
            "from the data again"
        ) from error


def keep_classes(folder: Path, spec: DatasetSpec) -> None:
    """Write classes.json, so that nobody needs the data for the names. UserError when the data has other
    classes now than when the run began: its weights would mean something else."""
    kept = read_classes(folder)
    if kept and kept.classes != spec.classes and checkpoints.listed(folder / "checkpoints"):
        raise UserError(
            f"{folder} was trained on the classes {', '.join(kept.classes)}, and the data now has "
            f"{', '.join(spec.classes)}: choose another --name, or start over with --fresh"
        )
    write_json(folder / CLASSES, spec.as_dict())


def keep_data(folder: Path, now: Mapping[str, fingerprint.Images]) -> None:
    """Write data.json, by which the run knows its data again. UserError, naming what has changed, when it is not the
    data that the run was begun on: it would be trained on one and be measured on the other."""
    if checkpoints.listed(folder / "checkpoints"):
        before = fingerprint.kept(folder)
        changed = fingerprint.differences(before, now) if before else []
        if changed:
            raise UserError(
                f"the data is not what {folder} was trained on: {'; '.join(changed)}; bring it back as it was, train "
                f"on the new data from the run's best weights, with --init {folder} and another --name, or start over "
                "with --fresh"
            )
    fingerprint.keep(folder, now)


def load_split(
    settings: DataSettings,
    split: str,
    say: Callable[[str], None] = print,
    occurrence: Occurrence | None = None,
) -> tuple[DatasetSpec, list[Example]]:
    """Its classes and the checked examples of one split, counted in `occurrence`."""
    return data.load(
        settings.name,
        split,
        settings.folder,
        settings.taxonomy,
        skip_bad=settings.skip_bad,
        say=say,
        progress=counter(f"checking {split}"),
        occurrence=occurrence,
        **split_options(settings.options, split),
    )


def arguments(settings: ModelSettings, classes: int) -> dict[str, Any]:
    """What zoo.build takes for a recipe's model, but for image_size."""
    common = {
        "classes": classes,
        "backbone": settings.backbone,
        "output_stride": settings.output_stride,
        "batch_norm_momentum": settings.bn_momentum,
    }
    taken = inspect.signature(zoo.MODELS[settings.name]).parameters
    common = {name: value for name, value in common.items() if name in taken and value != ""}
    return {**common, **model_config.tuples(settings.options)}


def build_model(recipe: Recipe, classes: int, image_size: tuple[int, int] | None = None) -> keras.Model:
    """The recipe's model with fresh weights. zoo's ValueError becomes a UserError."""
    fixed = inspect.signature(zoo.MODELS[recipe.model.name]).parameters["image_size"].default is not None
    if fixed:  # a model for images of one size only
        image_size = image_size or recipe.data.crop
    try:
        return zoo.build(recipe.model.name, image_size=image_size, **arguments(recipe.model, classes))
    except ValueError as error:
        raise UserError(str(error)) from error
