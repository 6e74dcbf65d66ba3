"""Several data sets as one: `--data cityscapes+camvid+scenes --classes road11 --data-dir cityscapes=DIR camvid=DIR`.

Every part is read by its own code, in classes that all of them can be mapped to (training/data/labels/taxonomies.py).
What a part does not tell apart is void in its images, never background. The images of the parts follow each other
in one list, so that the order of an epoch, a resume and the hash of a recipe work as for any data set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from runtime.errors import UserError
from training.data.spec import DatasetSpec, Example, Taxonomies

SIGN = "+"
USUAL = "road11"  # the classes of a mixture whose parts have not all the same
MAPPING, WEIGHTS = "mapping", "mix"  # the options that hold a mapping of classes, and the weights
MOST = 1000.0  # the greatest weight

Folder = Path | str | Mapping[str, str] | None


class Part(NamedTuple):
    """One data set, with what of the command line is its own.

    `mapping` is the user's own, from the names of classes to names; `weight` is how often an epoch takes an image.
    """

    name: str
    folder: Path | str | None
    options: dict[str, Any]
    mapping: Mapping[str, str | None] | None = None
    weight: float = 1.0


def parts(name: str, data_dir: Folder = None, options: Mapping[str, Any] | None = None) -> list[Part]:
    """The data sets that a name stands for: one, or those between the signs.

    Raises UserError when one is named twice, or when a folder, an option or a weight belongs to none of them.
    """
    names = tuple(name.split(SIGN))
    for part in names:
        if names.count(part) > 1:
            raise UserError(
                f"The mixture {name} names {part} twice; to see it more often, use --mix {part}=2."
            )
    given = dict(options or {})
    folders, mapping = _folders(names, data_dir), given.pop(MAPPING, None)
    if len(names) == 1:
        if WEIGHTS in given:
            raise UserError(
                f"--mix weighs the data sets of a mixture such as {name}+scenes; {name} is but one."
            )
        return [Part(name, folders.get(name), given, mapping)]
    weights = _weights(names, given.pop(WEIGHTS, None) or {})
    own: dict[str, dict[str, Any]] = {part: {} for part in names}
    for key, value in given.items():
        part, _, rest = key.partition(".")
        if part not in own or not rest:
            raise UserError(
                f"The option {key} belongs to none of the data sets of {name}; write whose it is, such as "
                f"{names[0]}.{rest or key}."
            )
        own[part][rest] = value
    return [Part(part, folders.get(part), own[part], mapping, weights[part]) for part in names]


def _folders(names: Sequence[str], data_dir: Folder) -> dict[str, Path | str]:
    if not isinstance(data_dir, Mapping):
        if data_dir is not None and len(names) > 1:
            raise UserError(
                f"--data-dir {data_dir} does not say whose folder it is; write {names[0]}={data_dir}, and so on "
                f"for the others of {', '.join(names)}."
            )
        return {} if data_dir is None else {names[0]: data_dir}
    for part in data_dir:
        if part not in names:
            raise UserError(f"--data-dir names a folder for {part}, but the data is {', '.join(names)}.")
    return dict(data_dir)


def _weights(names: Sequence[str], given: Mapping[str, Any]) -> dict[str, float]:
    for part, weight in given.items():
        if part not in names:
            raise UserError(f"--mix weighs {part}, but the data is {', '.join(names)}.")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= MOST:
            raise UserError(
                f"--mix {part}={weight} is no weight; how often an epoch takes each image is right, above 0 and "
                f"up to {MOST:g}."
            )
    return {part: float(given.get(part, 1.0)) for part in names}


def folders(values: Sequence[str] | None, name: str) -> str | dict[str, str] | None:
    """What --data-dir was given: DIR, or NAME=DIR for each data set of a mixture."""
    if not values:
        return None
    names = name.split(SIGN)
    given: dict[str, str] = {}
    for value in values:
        part, _, folder = value.partition("=")
        if part in names and folder:
            given[part] = folder
        elif len(values) > 1 or len(names) > 1:
            raise UserError(
                f"--data-dir {value} is not NAME=DIR with a data set of {name}; {names[0]}={folder or value} is right."
            )
    return given if len(names) > 1 else given.get(name, values[0])


def common(specs: Mapping[str, Taxonomies]) -> Taxonomies:
    """The sets of classes that every part of a mixture can be read in, by --classes; the first is the default.

    That is the parts' own set where all have the same, else road11, else the first that there is. The splits are
    those that all have; the usual size is the first part's. UserError when the parts have no set in common.
    """
    first, *others = specs.values()
    shared = {key: spec for key, spec in first.items() if all(key in other for other in others)}
    if not shared:
        listed = "; ".join(f"{name}: {', '.join(own)}" for name, own in specs.items())
        raise UserError(
            f"The data sets have no classes in common ({listed}); give a mapping of your own with --classes FILE.json."
        )
    usual = [next(iter(own.values())).classes for own in specs.values()]
    same = next((key for key, spec in shared.items() if all(spec.classes == own for own in usual)), USUAL)
    order = [same, *shared] if same in shared else list(shared)
    splits = [own[order[0]].splits for own in specs.values()]
    there = tuple(split for split in splits[0] if all(split in other for other in splits))
    return {key: replace(shared[key], splits=there) for key in dict.fromkeys(order)}


def joined(found: Sequence[tuple[Part, Sequence[Example]]]) -> list[Example]:
    """The examples of all parts in one list; of a mixture, each under its data set's name and with its weight."""
    if len(found) == 1:
        return list(found[0][1])
    return [
        replace(example, name=f"{part.name}-{example.name}", part=part.name, weight=part.weight)
        for part, examples in found
        for example in examples
    ]


def shared_spec(specs: Sequence[DatasetSpec]) -> DatasetSpec:
    """The classes of a mixture whose parts were read in the same ones, with the splits that all have."""
    there = tuple(split for split in specs[0].splits if all(split in spec.splits for spec in specs))
    return replace(specs[0], splits=there)
