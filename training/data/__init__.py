"""The data sets that can be trained on: one row each, and one way to load them, checked."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from inspect import signature  # not the module: training.data.inspect is one of ours
from typing import Any

import numpy as np

from runtime.errors import UserError
from training.data import (
    ade20k,
    bdd100k,
    camvid,
    check_files,
    cityscapes,
    cityscapes_tfds,
    coco_stuff,
    feedback,
    folder,
    hf,
    idd,
    mixture,
    scenes,
    tfds,
    voc,
)
from training.data.files import random_splits
from training.data.labels import taxonomies
from training.data.labels.class_counts import Occurrence
from training.data.mixture import Folder, Part
from training.data.spec import Dataset, DatasetSpec, Example, Taxonomies

DATASETS: dict[str, Dataset] = {
    "scenes": Dataset(scenes.TAXONOMIES, scenes.examples, needs_data_dir=False, drawn=True),
    "cityscapes": Dataset(cityscapes.TAXONOMIES, cityscapes.examples, notes=cityscapes.notes),
    "cityscapes_tfds": Dataset(cityscapes_tfds.TAXONOMIES, cityscapes_tfds.examples),
    "camvid": Dataset(camvid.TAXONOMIES, camvid.examples),
    "voc": Dataset(voc.TAXONOMIES, voc.examples, unlabelled=("test",)),
    "ade20k": Dataset(ade20k.TAXONOMIES, ade20k.examples, unlabelled=("test",)),
    "coco_stuff": Dataset(coco_stuff.TAXONOMIES, coco_stuff.examples, unlabelled=("test",)),
    "bdd100k": Dataset(bdd100k.TAXONOMIES, bdd100k.examples, unlabelled=("test",)),
    "idd": Dataset(idd.TAXONOMIES, idd.examples, unlabelled=("test",)),
    "folder": Dataset(folder.taxonomies, folder.examples, notes=folder.notes),
    "feedback": Dataset(feedback.taxonomies_of, feedback.examples),
    "hf": Dataset(hf.taxonomies, hf.examples, needs_data_dir=False),
    "tfds": Dataset(tfds.taxonomies, tfds.examples, needs_data_dir=False),
}
Listing = Callable[[str], tuple[list[Example], list[str], str]]

COMMON = ("split", "data_dir", "taxonomy")  # what every `examples` function takes; the rest are options


def row(name: str) -> Dataset:
    """The row of DATASETS; UserError on an unknown name, listing the valid ones."""
    return DATASETS[_known("data set", name, DATASETS)]


def is_drawn(name: str) -> bool:
    """Whether a data set has no files, but is drawn as it is read."""
    return row(name).drawn


def specs(name: str, data_dir: Folder = None, options: dict[str, Any] | None = None) -> Taxonomies:
    """What --classes may name for a data set, or for a mixture such as camvid+scenes; the first is the default.

    Only where the classes come with the data (folder, feedback, hf, tfds) are `data_dir` and `options` looked at.
    """
    parts = mixture.parts(name, data_dir, options)
    found = {
        part.name: taxonomies.extended(row(part.name).specs(part.folder, part.options)) for part in parts
    }
    return mixture.common(found) if len(parts) > 1 else found[name]


def static(name: str) -> Taxonomies:
    """Those of `specs` that are known without looking at any data; none where classes come with the data."""
    return specs(name) if all(row(part.name).static for part in mixture.parts(name)) else {}


def without_folder(name: str, data_dir: Folder) -> list[str]:
    """The data sets of a name that read files and were given no folder."""
    parts = mixture.parts(name, data_dir)
    return [part.name for part in parts if row(part.name).needs_data_dir and not part.folder]


def spec(
    name: str,
    taxonomy: str | None = None,
    data_dir: Folder = None,
    options: dict[str, Any] | None = None,
) -> DatasetSpec:
    """Classes and palette of a data set; UserError on an unknown name or taxonomy, listing the valid ones."""
    parts = mixture.parts(name, data_dir, options)
    if parts[0].mapping is not None:
        own = [(part, row(part.name).specs(part.folder, part.options)) for part in parts]
        return mixture.shared_spec([_classes(part, specs, taxonomy)[1] for part, specs in own])
    known = specs(name, data_dir, options)
    return known[_known(f"--classes of {name}", taxonomy or next(iter(known)), known)]


def load(
    name: str,
    split: str,
    data_dir: Folder = None,
    taxonomy: str | None = None,
    *,
    skip_bad: bool = False,
    workers: int = 2,
    say: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    occurrence: Occurrence | None = None,
    **options: Any,
) -> tuple[DatasetSpec, list[Example]]:
    """The classes and the checked examples of one split of a data set, or of a mixture.

    Everything is read once (drawn scenes are not: there is no file that could be bad). Bad files are a
    UserError that lists them, or with `skip_bad` are left out, which `say` is told. What is read is counted in
    `occurrence`. `options` are the data
    set's own, and those of training/data/files/random_splits.py; in a mixture each begins with the name of its data
    set, such as "scenes.count". `mapping` is a mapping of classes of one's own, `mix` has the weights of a mixture.
    """
    found, listings = _opened(name, data_dir, taxonomy, options)
    loaded = []
    for part, splits_there, listing in listings:
        if split in row(part.name).unlabelled and split not in splits_there:
            raise UserError(
                f"The {split} split of {part.name} has no public labels, so it cannot be scored here; use val."
            )
        if split == "train" and "train" not in splits_there and not row(part.name).drawn:
            raise UserError(
                f"{part.name} has no train split, only {' and '.join(splits_there)}; to train on a part of it, say so "
                f"with --data-option ratios=0.8,0.1,0.1 pool={','.join(splits_there)}."
            )
        _known(f"split of {part.name}", split, splits_there)
        examples, problems, note = listing(split)
        if note and say:
            say(f"{part.name}: {note}")
        if not row(part.name).drawn:
            examples, problems = check_files.check(
                examples, problems, workers=workers, progress=progress, occurrence=occurrence
            )
        if problems and (not skip_bad or not examples):
            raise UserError(check_files.refusal(f"{part.name} {split}", problems, len(examples)))
        if problems and say:
            say(f"{len(problems)} bad images of {part.name} {split} are left out; {len(examples)} are used.")
        if say:
            for remarks in dict.fromkeys(example.remarks for example in examples if example.remarks):
                for sentence in remarks():
                    say(f"{part.name} {split}: {sentence}")
        loaded.append((part, examples))
    return found, mixture.joined(loaded)


def opened(
    name: str, data_dir: Folder, taxonomy: str | None, options: dict[str, Any]
) -> tuple[DatasetSpec, Listing]:
    """The classes, with the splits that there are, and a function that lists one of them, undecoded:
    split -> (examples, problems, a sentence on how it was made or "")."""
    found, listings = _opened(name, data_dir, taxonomy, options)

    def listing(split: str) -> tuple[list[Example], list[str], str]:
        listed = [(part, *list_part(split)) for part, _, list_part in listings]
        examples = mixture.joined([(part, examples) for part, examples, *_ in listed])
        problems = [problem for _, _, of_part, _ in listed for problem in of_part]
        return examples, problems, " ".join(note for *_, note in listed if note)

    return found, listing


def _opened(
    name: str, data_dir: Folder, taxonomy: str | None, options: dict[str, Any]
) -> tuple[DatasetSpec, list[tuple[Part, tuple[str, ...], Listing]]]:
    """The classes of a name, and for each of its data sets the splits and the function that lists one."""
    parts = mixture.parts(name, data_dir, options)
    if len(parts) > 1 and parts[0].mapping is None:  # parts have defaults of their own: the mixture's counts
        known = specs(name, data_dir, options)
        taxonomy = _known(f"--classes of {name}", taxonomy or next(iter(known)), known)
    found = [(part, *_open_part(part, taxonomy)) for part in parts]
    listings = [(part, spec.splits, listing) for part, spec, listing in found]
    return mixture.shared_spec([spec for _, spec, _ in found]), listings


def _open_part(part: Part, taxonomy: str | None) -> tuple[DatasetSpec, Listing]:
    found, options = row(part.name), part.options
    own = [key for key in signature(found.examples).parameters if key not in COMMON]
    taken = own if found.drawn else [*own, *random_splits.OPTIONS]
    for key in options:
        if key not in taken:
            takes = f"it takes {', '.join(taken)}" if taken else "it takes none"
            raise UserError(f"The data set {part.name} has no option {key}; {takes}.")
    own_options = {key: value for key, value in options.items() if key in own}
    chosen, target, ids = _classes(part, found.specs(part.folder, own_options), taxonomy)

    def listing(split: str) -> tuple[list[Example], list[str]]:
        examples, problems = found.examples(split, part.folder, chosen, **own_options)
        return [
            taxonomies.relabelled(one, ids) for one in examples
        ] if ids is not None else examples, problems

    there = target.splits
    notes = found.notes(part.folder, options) if found.notes else []
    rule = None if found.drawn else random_splits.rule(options, there)
    if rule:
        notes += ["There is no val split."] if "ratios" not in options and "train" in there else []
        divided = dataclasses.replace(target, splits=random_splits.names(rule, there))
        return divided, _noted(notes, functools.partial(random_splits.examples, rule, listing=listing))
    if "group" in options and not found.drawn:
        random_splits.refuse_straddling(there, options["group"], listing)
    return target, _noted(notes, lambda split: (*listing(split), ""))


def _noted(notes: Sequence[str], listing: Listing) -> Listing:
    """The same with the notes before its own."""

    def noted(split: str) -> tuple[list[Example], list[str], str]:
        examples, problems, note = listing(split)
        return examples, problems, " ".join(text for text in (*notes, note) if text)

    return noted


def _classes(part: Part, own: Taxonomies, taxonomy: str | None) -> tuple[str, DatasetSpec, np.ndarray | None]:
    """The set of classes that a data set is read in, those asked for, and the lookup from the one to the other."""
    first = next(iter(own))
    if part.mapping is not None:
        return first, *taxonomies.mapped(own[first], taxonomy or first, part.mapping)
    if not taxonomy or taxonomy in own:  # a recipe of data that brings its classes has none: ""
        return taxonomy or first, own[taxonomy or first], None
    known = taxonomies.extended(own)
    target = known[_known(f"--classes of {part.name}", taxonomy, known)]
    return first, target, taxonomies.table(str(taxonomies.set_of(own[first].classes)), taxonomy)


def _known(what: str, value: str, valid: Any) -> str:
    if value not in valid:
        raise UserError(f"There is no {what} called {value}; there is {', '.join(valid)}.")
    return value
