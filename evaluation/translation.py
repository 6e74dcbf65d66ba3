"""A model of one set of classes, measured on data of another: its predictions are mapped by the table of classes.

The scores are over classes that both can be read as. Three things are said and not hidden: classes that the model
cannot give (their pixels are void, and they have no score, rather than 0); classes of the model without counterpart
(predicting one is a mistake wherever the truth is known, and stands in a column of its own); and the mapping itself.
Merged classes are mapped after the model has decided; only probabilities are added up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from evaluation.measurement import Score
from evaluation.predictor import Predictor
from runtime.errors import UserError
from training.data.labels import taxonomies
from training.data.spec import VOID_ID, DatasetSpec, Example, Taxonomies

NO_COUNTERPART = "(no counterpart)"


@dataclass(frozen=True)
class Translation:
    """From a model's classes to those of the labels, `spec`.

    Where the model has classes without counterpart, `spec` ends with NO_COUNTERPART, which no label has.
    `predictions` is uint8 (256,), the model's ids to those of `spec`; `labels`, uint8 (256,), makes void what the
    model cannot give, which is `missing`. `targets` is the mapping by name, None for a class without counterpart.
    """

    spec: DatasetSpec
    predictions: np.ndarray
    labels: np.ndarray
    missing: tuple[str, ...]
    targets: taxonomies.Targets

    def apply(
        self, predictor: Predictor, examples: Sequence[Example]
    ) -> tuple[Predictor, DatasetSpec, list[Example]]:
        """What is measured, the classes and the images, all in the common classes."""
        own = predictor.score
        return (
            replace(
                predictor,
                predict=lambda rgb: self.predictions[predictor.predict(rgb)],
                score=partial(self._score, own) if own else None,
                labels=self.spec.classes,
            ),
            self.spec,
            [taxonomies.relabelled(example, self.labels) for example in examples],
        )

    def _score(self, own: Score, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ids, probabilities = own(rgb)
        count = probabilities.shape[-1]
        sums = np.zeros((count, len(self.spec.classes)), probabilities.dtype)
        sums[np.arange(count), self.predictions[:count]] = 1
        return self.predictions[ids], probabilities @ sums  # (H, W, C) @ (C, classes of spec)

    def to_json(self) -> dict[str, Any]:
        """For scores.json."""
        lost = [name for name, to in self.targets.items() if to is None]
        return {
            "translation": {
                "classes": self.spec.name,
                "mapping": dict(self.targets),
                "cannot_be_given": list(self.missing),
                "without_counterpart": lost,
            }
        }

    def text(self) -> str:
        """The same in sentences."""
        lines = [
            f"the model's {len(self.targets)} classes are mapped to {self.spec.name}, over which the scores are."
        ]
        if self.missing:
            lines.append(
                f"It cannot give {', '.join(self.missing)}: where the truth is that, nothing is scored."
            )
        lost = [name for name, to in self.targets.items() if to is None]
        if lost:
            lines.append(f"Nothing there is its {', '.join(lost)}: predicting that counts as a mistake.")
        return " ".join(lines)


def common(model: Sequence[str], known: Taxonomies) -> str | None:
    """The classes, of those that the data can be read in, that a model is best measured in: where the most are both
    given by the model and told apart by the data, the data's default first; None where there is no way."""
    source, default = taxonomies.set_of(model), taxonomies.set_of(next(iter(known.values())).classes)
    shared = {}
    for name, spec in known.items():
        target = taxonomies.set_of(spec.classes)
        if source and default and target and target in taxonomies.reachable(source):
            told = taxonomies.targets(default, target) if target in taxonomies.reachable(default) else {}
            given = set(taxonomies.targets(source, target).values())
            shared[name] = len((given & set(told.values())) - {None})
        elif _by_name(model, spec.classes):
            shared[name] = min(len(model), len(spec.classes))
    return max(shared, key=lambda name: shared[name], default=None)


def between(
    model: Sequence[str], data: DatasetSpec, own: taxonomies.Targets | None = None
) -> Translation | None:
    """How a model of the classes `model` is scored on labels of the classes of `data`; None where they are the same.

    By the user's own mapping where one names all classes of the model, else by the table, else by name, in any order,
    where all classes of the one are among the other's. UserError when none has a way, or when the model gives none of
    the classes.
    """
    if taxonomies.plain_names(model) == taxonomies.plain_names(data.classes):
        return None
    mapping = _targets(model, data, own)
    ids = taxonomies.lookup(model, mapping, data.classes)
    given = set(ids[: len(model)].tolist()) - {VOID_ID}
    if not given:
        raise UserError(f"The model gives none of the classes of {data.name}; name others with --classes.")
    missing = tuple(name for index, name in enumerate(data.classes) if index not in given)
    labels = np.array([index if index in given else VOID_ID for index in range(256)], np.uint8)
    spec = data
    if VOID_ID in ids[: len(model)]:
        spec = replace(data, classes=(*data.classes, NO_COUNTERPART), palette=(*data.palette, (0, 0, 0)))
        ids[: len(model)][ids[: len(model)] == VOID_ID] = len(data.classes)
    return Translation(spec, ids, labels, missing, mapping)


def _targets(model: Sequence[str], data: DatasetSpec, own: taxonomies.Targets | None) -> taxonomies.Targets:
    if own is not None and all(name in own for name in model):
        return {name: own[name] for name in model}
    source, target = taxonomies.set_of(model), taxonomies.set_of(data.classes)
    if source is None or target not in taxonomies.reachable(source):
        if by_name := _by_name(model, data.classes):
            return by_name
        raise UserError(
            f"There is no mapping from the model's classes ({', '.join(model)}) to those of {data.name} "
            f"({', '.join(data.classes)}); name classes that both can be read as with --classes, such as road11, or "
            "FILE.json with a mapping of both."
        )
    # The model and the data may spell the table's names in their own ways.
    spelt = dict(zip(taxonomies.classes(target), data.classes, strict=True))
    known = taxonomies.targets(source, target).values()
    return {name: spelt[to] if to else None for name, to in zip(model, known, strict=True)}


def _by_name(model: Sequence[str], data: Sequence[str]) -> taxonomies.Targets | None:
    """Each class of the model as the data spells it, None where the data has no such class; None for two lists of which
    neither holds the other."""
    spelt = dict(zip(taxonomies.plain_names(data), data, strict=True))
    names = taxonomies.plain_names(model)
    if len(set(names)) < len(names) or len(spelt) < len(data):
        return None  # names that are told apart by their signs alone
    if not set(names) <= spelt.keys() and not spelt.keys() <= set(names):
        return None
    return {own: spelt.get(name) for own, name in zip(model, names, strict=True)}
