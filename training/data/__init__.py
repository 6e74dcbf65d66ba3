"""The data sets that can be trained on: one row each, and one way to load them, checked."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from training.data import (
    ade20k,
    bdd100k,
    camvid,
    check,
    cityscapes,
    cityscapes_tfds,
    coco_stuff,
    folder,
    scenes,
    splits,
    voc,
)
from training.data.spec import Dataset, DatasetSpec, Example

DATASETS: dict[str, Dataset] = {
    "scenes": Dataset(scenes.TAXONOMIES, scenes.examples, needs_data_dir=False, drawn=True),
    "cityscapes": Dataset(cityscapes.TAXONOMIES, cityscapes.examples),
    "cityscapes_tfds": Dataset(cityscapes_tfds.TAXONOMIES, cityscapes_tfds.examples),
    "camvid": Dataset(camvid.TAXONOMIES, camvid.examples),
    "voc": Dataset(voc.TAXONOMIES, voc.examples, unlabelled=("test",)),
    "ade20k": Dataset(ade20k.TAXONOMIES, ade20k.examples, unlabelled=("test",)),
    "coco_stuff": Dataset(coco_stuff.TAXONOMIES, coco_stuff.examples, unlabelled=("test",)),
    "bdd100k": Dataset(bdd100k.TAXONOMIES, bdd100k.examples, unlabelled=("test",)),
    "folder": Dataset(folder.taxonomies, folder.examples),
}
Listing = Callable[[str], tuple[list[Example], list[str], str]]

COMMON = ("split", "data_dir", "taxonomy")  # what every `examples` function takes; the rest are options


def row(name: str) -> Dataset:
    """The row of DATASETS; UserError on an unknown name, listing the valid ones."""
    return DATASETS[_known("data set", name, DATASETS)]


def spec(
    name: str,
    taxonomy: str | None = None,
    data_dir: Path | str | None = None,
    options: dict[str, Any] | None = None,
) -> DatasetSpec:
    """Classes and palette of a data set; UserError on an unknown name or taxonomy, listing the valid ones.

    Only where the classes come with the data (folder, hf, tfds) are `data_dir` and `options` looked at.
    """
    specs = row(name).specs(data_dir, options)
    chosen = taxonomy or next(iter(specs))
    return specs[_known(f"--classes of {name}", chosen, specs)]


def load(
    name: str,
    split: str,
    data_dir: Path | str | None = None,
    taxonomy: str | None = None,
    *,
    skip_bad: bool = False,
    workers: int = 2,
    say: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> tuple[DatasetSpec, list[Example]]:
    """The classes and the checked examples of one split.

    Everything is read once (drawn scenes are not: there is no file that could be bad). Bad files are a
    UserError that lists them, or with `skip_bad` are left out, which `say` is told. `options` are the data
    set's own, and those of training/data/splits.py.
    """
    found, listing = opened(name, data_dir, taxonomy, options)
    if split in row(name).unlabelled and split not in found.splits:
        raise UserError(
            f"The {split} split of {name} has no public labels, so it cannot be scored here; use val."
        )
    _known(f"split of {name}", split, found.splits)
    examples, problems, note = listing(split)
    if note and say:
        say(f"{name}: {note}")
    if not row(name).drawn:
        examples, problems = check.check(examples, problems, workers=workers, progress=progress)
    if problems:
        if not skip_bad or not examples:
            raise UserError(check.refusal(f"{name} {split}", problems, len(examples)))
        if say:
            say(f"{len(problems)} bad pictures of {name} {split} are left out; {len(examples)} are used.")
    return found, examples


def opened(
    name: str, data_dir: Path | str | None, taxonomy: str | None, options: dict[str, Any]
) -> tuple[DatasetSpec, Listing]:
    """The classes, with the splits that there are, and a function that lists one of them, undecoded:
    split -> (examples, problems, a sentence on how it was made or "")."""
    found = row(name)
    own = [key for key in inspect.signature(found.examples).parameters if key not in COMMON]
    taken = own if found.drawn else [*own, *splits.OPTIONS]
    for key in options:
        if key not in taken:
            takes = f"it takes {', '.join(taken)}" if taken else "it takes none"
            raise UserError(f"The data set {name} has no option {key}; {takes}.")
    own_options = {key: value for key, value in options.items() if key in own}
    specs = found.specs(data_dir, own_options)
    chosen = _known(f"--classes of {name}", taxonomy or next(iter(specs)), specs)

    def listing(split: str) -> tuple[list[Example], list[str]]:
        return found.examples(split, data_dir, chosen, **own_options)

    there = specs[chosen].splits
    rule = None if found.drawn else splits.rule(options, there)
    if rule:
        divided = dataclasses.replace(specs[chosen], splits=splits.names(rule, there))
        return divided, functools.partial(splits.examples, rule, listing=listing)
    if "group" in options and not found.drawn:
        splits.refuse_straddling(there, options["group"], listing)
    return specs[chosen], lambda split: (*listing(split), "")


def _known(what: str, value: str, valid: Any) -> str:
    if value not in valid:
        raise UserError(f"There is no {what} called {value}; there is {', '.join(valid)}.")
    return value
