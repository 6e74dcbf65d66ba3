"""The data sets that can be trained on: one row each, and one way to load them, checked."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from training.data import camvid, check, cityscapes, cityscapes_tfds, scenes
from training.data.spec import Dataset, DatasetSpec, Example

DATASETS: dict[str, Dataset] = {
    "scenes": Dataset(scenes.TAXONOMIES, scenes.examples, needs_data_dir=False, drawn=True),
    "cityscapes": Dataset(cityscapes.TAXONOMIES, cityscapes.examples),
    "cityscapes_tfds": Dataset(cityscapes_tfds.TAXONOMIES, cityscapes_tfds.examples),
    "camvid": Dataset(camvid.TAXONOMIES, camvid.examples),
}


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
    set's own.
    """
    found = row(name)
    own = [key for key in inspect.signature(found.examples).parameters if key not in COMMON]
    for key in options:
        if key not in own:
            takes = f"it takes {', '.join(own)}" if own else "it takes none"
            raise UserError(f"The data set {name} has no option {key}; {takes}.")
    specs = found.specs(data_dir, options)
    chosen = _known(f"--classes of {name}", taxonomy or next(iter(specs)), specs)
    _known(f"split of {name}", split, specs[chosen].splits)
    examples, problems = found.examples(split, data_dir, chosen, **options)
    if not found.drawn:
        examples, problems = check.check(examples, problems, workers=workers, progress=progress)
    if problems:
        if not skip_bad or not examples:
            raise UserError(check.refusal(f"{name} {split}", problems, len(examples)))
        if say:
            say(f"{len(problems)} bad pictures of {name} {split} are left out; {len(examples)} are used.")
    return specs[chosen], examples


def _known(what: str, value: str, valid: Any) -> str:
    if value not in valid:
        raise UserError(f"There is no {what} called {value}; there is {', '.join(valid)}.")
    return value
