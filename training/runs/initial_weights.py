"""What training starts from with --init: a run, FILE.weights.h5 or the name of a model, whatever its classes are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from runtime.bundle import numbered
from runtime.errors import UserError
from training.data.labels.same_classes import same_classes
from training.data.labels.taxonomies import Targets, plain_names
from training.runs import best_weights, recipe, trained_run
from training.runs.converted_weights import recipe_fields
from zoo.convert import model_config, named, ours

SHOWN = 12  # names that a line lists before it counts the rest


@dataclass(frozen=True)
class Start:
    """The weights named by --init, and the names of their classes; () where nothing says them."""

    path: Path
    classes: tuple[str, ...]


def architecture(init: Path, model: str) -> dict[str, Any]:
    """What the run or the config of the weights says of the model, without which they would not fit; {} where none is
    there. UserError when they are of another model than the one named."""
    init = named.weights(init)
    folder = trained_run.folder_of(init)
    return recipe.architecture(folder, model) if folder.is_dir() else recipe_fields(init, model)


def find(init: Path) -> Start:
    """The weights of --init. UserError, naming what would be right, when there are none."""
    init = named.weights(init)
    folder = trained_run.folder_of(init)
    path = folder / best_weights.NAME if folder.is_dir() else init
    if not path.is_file():
        raise UserError(f"{path}, of --init, is not there: name a run that has weights, or a .weights.h5")
    if not path.name.endswith(model_config.SUFFIX):
        raise UserError(
            f"--init {path} is neither a run nor a .weights.h5: a public checkpoint becomes one by "
            f"python -m zoo.convert {path} --out {path.with_suffix('').name}{model_config.SUFFIX}"
        )
    if (folder / trained_run.CLASSES).is_file() and folder.is_dir():
        kept = trained_run.read_classes(folder)
        return Start(path, kept.classes if kept else ())
    if folder.is_dir() and (folder / "recipe.json").is_file():
        return Start(path, trained_run.load(folder).spec.classes)
    found = model_config.read(path) if model_config.config_path(path).is_file() else {}
    return Start(path, tuple(found.get("classes") or ()))


def load(
    model: keras.Model,
    start: Start,
    classes: Sequence[str],
    mapping: Targets | None,
    say: Callable[[str], None],
) -> None:
    """Give the model all weights of `start` that fit, its head row by row: a class that both have keeps its row.

    `classes` are those of the data, in the order of the model's. Where the weights have no names of classes, their rows
    are taken in their order if there are as many, and none otherwise. Says what was taken and what is new. UserError,
    one sentence that names the layer, when one that ought to fit does not.
    """
    best_weights.check(start.path)
    with ours.opened(start.path) as stored:
        count = ours.class_count(model, stored, len(classes))
        theirs = start.classes if len(start.classes) == count else ()
        theirs = () if theirs == numbered(len(theirs)) else theirs
        rows = _rows(theirs, classes, mapping, count)
        try:
            taken = ours.take(model, stored, rows if count is not None else None)
        except ValueError as error:
            lacking = "" if start.classes else f" ({model_config.missing(start.path)})"
            raise UserError(f"{start.path}, of --init, {error}{lacking}") from error
    for line in _told(start.path, taken, theirs, classes, rows, count):
        say(line)


def _rows(
    theirs: Sequence[str], classes: Sequence[str], mapping: Targets | None, count: int | None
) -> ours.Rows:
    if theirs:
        return same_classes(theirs, classes, mapping)
    return list(range(len(classes))) if count == len(classes) else [None] * len(classes)


def _told(
    path: Path,
    taken: ours.Taken,
    theirs: Sequence[str],
    classes: Sequence[str],
    rows: ours.Rows,
    count: int | None,
) -> list[str]:
    """Two or three lines: what was taken, which classes were carried over, what is new."""
    total = len(taken.whole) + len(taken.heads) + len(taken.new)
    alike = list(rows) == list(range(len(classes))) and count == len(classes)
    if count is None or (alike and theirs):
        head = "" if count is None else f", the head with its {count} classes too"
        lines = [f"{path}: {total - len(taken.new)} of {total} layers taken{head}."]
    else:
        lines = [f"{path}: {len(taken.whole)} of {total} layers taken as they are."]
        lines += _told_of_head(taken.heads, theirs, classes, rows, int(count))
    if taken.new:
        lines.append(f"New, since the file has none: {_some(taken.new)}.")
    if taken.left:
        lines.append(f"Not taken, since this model has none: {_some(taken.left)}.")
    return lines


def _told_of_head(
    heads: Sequence[str], theirs: Sequence[str], classes: Sequence[str], rows: ours.Rows, count: int
) -> list[str]:
    where = " and ".join(heads)
    if not theirs:
        why = f"the names of its {count} classes are not known"
        if len(classes) == count:
            return [f"{where}: {why}, so its rows are taken in their order, the first for {classes[0]}."]
        return [f"{where}: new for all {len(classes)} classes, since {why}."]
    carried = [
        _as(theirs[source], name) for source, name in zip(rows, classes, strict=True) if source is not None
    ]
    fresh = [name for source, name in zip(rows, classes, strict=True) if source is None]
    if not carried:
        return [
            f"{where}: new for all {len(classes)} classes ({_some(classes)}), since none is among the {count} there "
            f"by name ({_some(theirs)})."
        ]
    lines = [f"{where}: carried over by name, {len(carried)} of {count} classes there: {_some(carried)}."]
    return [*lines, f"{where}: new, to be trained: {_some(fresh)}."] if fresh else lines


def _as(theirs: str, ours: str) -> str:
    return ours if plain_names([theirs]) == plain_names([ours]) else f"{ours} (there {theirs})"


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
