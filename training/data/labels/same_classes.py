"""Which class of one list is which class of another: by name, by a mapping of one's own, by the table of classes."""

import functools
from collections.abc import Sequence

from training.data.labels.taxonomies import COLUMNS, SETS, Targets, plain_names


def same_classes(
    theirs: Sequence[str], ours: Sequence[str], mapping: Targets | None = None
) -> list[int | None]:
    """For each of `ours` the place in `theirs` of the same class, None where there is none.

    A class of the same name comes first, however it is spelt; then the only one that `mapping`, theirs to ours, makes
    it; then the only one that the table knows to be it under another name: CamVid's Pavement is Cityscapes' sidewalk.
    No class of `theirs` is found twice by the table.
    """
    names, wanted = plain_names(theirs), plain_names(ours)
    found = [names.index(name) if name in names else None for name in wanted]
    made = {old: new for old, new in (mapping or {}).items() if new is not None}
    for place, name in enumerate(wanted):
        if found[place] is None:
            parts = [old for old, new in made.items() if plain_names([new]) == [name]]
            found[place] = _only([names.index(part) for part in plain_names(parts) if part in names])
    for place, name in enumerate(wanted):
        if found[place] is None:
            known = [index for index, other in enumerate(names) if frozenset((name, other)) in _aliases()]
            found[place] = _only([index for index in known if index not in found])
    return found


def reordered(theirs: Sequence[str], ours: Sequence[str]) -> list[int] | None:
    """The place in `theirs` of each of `ours`, where both are the same names in any order; None where they are not."""
    names, wanted = plain_names(theirs), plain_names(ours)
    if sorted(names) != sorted(wanted) or len(set(names)) < len(names):
        return None
    return [names.index(name) for name in wanted]


def _only(found: Sequence[int]) -> int | None:
    return found[0] if len(found) == 1 else None


@functools.cache
def _aliases() -> frozenset[frozenset[str]]:
    """Pairs of names of one class in two sets of the table: no other class of the one set becomes that of the other."""
    pairs = set()
    for rows in SETS.values():
        for column in COLUMNS:
            targets = [getattr(row, column) for row in rows.values()]
            for name, target in zip(rows, targets, strict=True):
                if target is not None and targets.count(target) == 1:
                    pairs.add(frozenset(plain_names([name, target])))
    return frozenset(pairs)
