"""Splits by ratio and seed, image by image or in whole groups (city, drive, sequence). NumPy only.

A video's neighbouring frames are nearly one image: when some are trained on and the others tested on, the
score says little about a new street. Groups keep them together.
"""

import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from runtime.errors import UserError
from training.data.spec import Example

NAMES = ("train", "val", "test")
DEFAULT = (0.8, 0.1, 0.1)
DEFAULT_BESIDE_TEST = (0.9, 0.1)
ALIASES = {  # in small letters; a year may stand behind, as in train2017
    "train": ("train", "training"),
    "val": ("val", "validation", "valid", "dev", "eval", "evaluation"),
    "test": ("test", "testing"),
}
YEAR = re.compile(r"[_-]?(19|20)\d\d$")
FOLDER = "folder"
ORDERS = 200  # random orders of the groups that are tried

Listing = Callable[[str], tuple[list[Example], list[str]]]


class Rule(NamedTuple):
    """How a data set is divided anew.

    `ratios` are shares that sum to 1, or counts that sum to the number of images, for train, val and perhaps
    test. `group` is "" (image by image), "folder", or a regular expression on the image's name: its
    first bracket, or all that it matches, is the group. `pool` are the data's own splits that are divided.
    """

    ratios: tuple[float, ...]
    pool: tuple[str, ...]
    seed: int = 0
    group: str = ""


OPTIONS = Rule._fields  # what --data-option takes for every data set of files


def rule(options: Mapping[str, Any], own: Sequence[str]) -> Rule | None:
    """The rule that the options ask for, or that a data set without val needs; None: `own` stand.

    Where nothing is asked for, train alone is divided (or all, where there are no splits): a val or a test split is
    what its maker says, and is not trained on by accident. Where something is, all but test are.
    """
    ratios, pool = options.get("ratios"), options.get("pool")
    if ratios is None and ("val" in own or own == ("test",)):
        for option in ("pool", "seed"):
            if option in options:
                raise UserError(
                    f"{option}={options[option]} is for a split by ratios=0.8,0.1,0.1: add ratios."
                )
        return None
    pool = _texts(pool) or tuple(name for name in own if name != "test") or tuple(own)
    for name in pool:
        if name not in own:
            raise UserError(f"pool={','.join(pool)} names {name}, and the data has {', '.join(own)}.")
    if ratios is None:
        ratios = DEFAULT_BESIDE_TEST if "test" in own and "test" not in pool else DEFAULT
    return Rule(_ratios(ratios), pool, _seed(options.get("seed", 0)), str(options.get("group", "")))


def named(named: tuple[Any, ...], own: Sequence[str], shown: str) -> dict[str, str]:
    """Our split names to the data set's `own`: `named` are those for train, val and test, else the usual ones."""
    if len(named) > len(ALIASES):
        raise UserError(
            f"splits={','.join(map(str, named))} has to name splits for train, val and perhaps test."
        )
    for name in named:
        if name not in own:
            raise UserError(f"{shown} has no split {name}; it has {', '.join(own)}.")
    if named:
        return dict(zip(ALIASES, named, strict=False))
    return one_each(own, f"splits of {shown}", "say which with splits=TRAIN,VAL,TEST") or {"train": own[0]}


def meaning(name: str) -> str | None:
    """train, val or test, as a split, a folder or a list of this name is usually meant, in whatever case; else None."""
    plain = YEAR.sub("", name.casefold())
    return next((ours for ours, usual in ALIASES.items() if plain in usual), None)


def one_each(own: Sequence[str], what: str, mend: str) -> dict[str, str]:
    """Our split names to theirs, train first; UserError, with `mend` as what to do, when two names mean one split."""
    found: dict[str, str] = {}
    for ours in NAMES:
        meant = [name for name in own if meaning(name) == ours]
        if len(meant) > 1:
            raise UserError(f"The {what} {' and '.join(meant)} both mean {ours}: {mend}.")
        if meant:
            found[ours] = meant[0]
    return found


def names(rule: Rule | None, own: Sequence[str]) -> tuple[str, ...]:
    """The splits that there are under the rule: its own, and the data's test split where it leaves that alone."""
    if rule is None:
        return tuple(own)
    made = NAMES[: len(rule.ratios)]
    return (*made, "test") if "test" in own and "test" not in (*made, *rule.pool) else made


def examples(rule: Rule, split: str, listing: Listing) -> tuple[list[Example], list[str], str]:
    """The examples of one split under the rule, the problems met in its pool, and a sentence on the sizes.

    `listing(own split)` gives (examples, problems) as a data set's row does.
    """
    made = NAMES[: len(rule.ratios)]
    if split not in made:  # the data's own test split, which the rule leaves alone
        return *listing(split), ""
    found, problems = pooled({name: listing(name) for name in rule.pool})
    groups = groups_of(found, rule.group) if rule.group else None
    parts = divide([example.name for example in found], rule.ratios, seed=rule.seed, groups=groups)
    sizes = ", ".join(f"{name} {len(part)}" for name, part in zip(made, parts, strict=True))
    how = f"whole groups by {rule.group}" if groups else "image by image"
    note = f"{len(found)} images split with seed {rule.seed}, {how}: {sizes}."
    return [found[index] for index in parts[made.index(split)]], problems, note


def refuse_straddling(own: Sequence[str], group: str, listing: Listing) -> None:
    """UserError when a group of neighbouring images lies in two of the data's own splits."""
    found = {}
    for name in own:
        with contextlib.suppress(UserError):  # a split that is not there: the test split, mostly
            found[name] = listing(name)[0]
    refuse_overlap({name: groups_of(examples, group) for name, examples in found.items()}, "group")


def pooled(listed: Mapping[str, tuple[list[Example], list[str]]]) -> tuple[list[Example], list[str]]:
    """Several splits as one: the split's name goes before the images' names where these come twice."""
    found = [(name, example) for name, (own, _) in listed.items() for example in own]
    twice = len({example.name for _, example in found}) < len(found)
    if twice:
        found = [
            (name, dataclasses.replace(example, name=f"{name}_{example.name}")) for name, example in found
        ]
    return [example for _, example in found], [problem for _, own in listed.values() for problem in own]


def divide(
    names: Sequence[str], ratios: Sequence[float], *, seed: int, groups: Sequence[str] | None = None
) -> list[np.ndarray]:
    """Indices of each part, int64, ascending: disjoint, and all of `names` together.

    The same names, in whatever order, are divided the same way. With `groups`, one a name, the sizes come near
    to the ratios and no part is left empty. UserError when that cannot be done.
    """
    wanted = counts(len(names), ratios)
    order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
    generator = np.random.default_rng([seed, len(names)])
    if groups is None:
        shuffled = order[generator.permutation(len(order))]
        return [np.sort(part) for part in np.split(shuffled, np.cumsum(wanted)[:-1])]
    members: dict[str, list[int]] = {}
    for index in order:
        members.setdefault(groups[index], []).append(int(index))
    return _whole_groups([members[label] for label in sorted(members)], wanted, generator)


def counts(total: int, ratios: Sequence[float]) -> list[int]:
    """How many of `total` images go where.

    Counts are taken as they are. Of shares, all but the first are rounded up and the first takes what is left,
    as scikit-learn's train_test_split rounds: 0.85, 0.075, 0.075 of 3475 are 2953, 261, 261.
    """
    if sum(ratios) == total and all(float(part).is_integer() for part in ratios):
        found = [int(part) for part in ratios]
    elif math.isclose(sum(ratios), 1.0, abs_tol=1e-6):
        rest = [math.ceil(round(total * part, 6)) for part in ratios[1:]]
        found = [total - sum(rest), *rest]
    else:
        raise UserError(
            f"ratios={_shown(ratios)} sum to {sum(ratios):g}: they have to be shares that sum to 1, "
            f"or counts that sum to the {total} images that there are."
        )
    if any(count < 1 for count, part in zip(found, ratios, strict=True) if part > 0):
        raise UserError(f"ratios={_shown(ratios)} leave no image for a split, with {total} images in all.")
    return found


def groups_of(examples: Sequence[Example], group: str) -> list[str]:
    """The group of each example: its folder, or what the regular expression `group` finds in its name."""
    if group == FOLDER:
        found = [example.group for example in examples]
        if "" in found:
            raise UserError("group=folder: these images lie in no folders; name a regular expression.")
        return found
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise UserError(f"group={group} is not a regular expression ({error}), nor 'folder'.") from error
    return [_group(pattern, example.name) for example in examples]


def refuse_overlap(splits: Mapping[str, Sequence[str]], what: str = "image") -> None:
    """UserError when two splits share a name, in one sentence that says which."""
    listed = list(splits.items())
    for place, (first, mine) in enumerate(listed):
        for second, theirs in listed[place + 1 :]:
            both = sorted(set(mine) & set(theirs))
            if both:
                shown = ", ".join(both[:3]) + (f" and {len(both) - 3} more" if len(both) > 3 else "")
                raise UserError(
                    f"The splits {first} and {second} overlap in {len(both)} {what}{'s' * (len(both) > 1)} "
                    f"({shown}): a model would be tested on what it was trained on, so take them out of one."
                )


def _whole_groups(
    members: Sequence[list[int]], wanted: Sequence[int], generator: np.random.Generator
) -> list[np.ndarray]:
    """The best of ORDERS random orders of the groups, each cut where the sizes come nearest to those wanted."""
    filled = [place for place, count in enumerate(wanted) if count]
    if len(members) < len(filled):
        raise UserError(
            f"{len(members)} groups cannot be divided into {len(filled)} splits: choose another group."
        )
    sizes, targets = (
        np.array([len(group) for group in members]),
        np.array([wanted[place] for place in filled]),
    )
    best: tuple[int, list[np.ndarray]] | None = None
    for _ in range(ORDERS):
        order = generator.permutation(len(members))
        chosen = np.split(order, _cuts(np.cumsum(sizes[order]), targets))
        miss = int(sum(abs(sizes[part].sum() - target) for part, target in zip(chosen, targets, strict=True)))
        if best is None or miss < best[0]:
            best = miss, chosen
    assert best
    parts = [np.zeros(0, np.int64) for _ in wanted]
    for place, part in zip(filled, best[1], strict=True):
        parts[place] = np.sort(np.concatenate([np.array(members[index], np.int64) for index in part]))
    return parts


def _cuts(ends: np.ndarray, targets: np.ndarray) -> list[int]:
    """Where to cut groups that end at the images `ends` into as many parts as `targets`, none of them empty."""
    cuts: list[int] = []
    for place, target in enumerate(np.cumsum(targets)[:-1]):
        nearest = int(np.abs(ends - target).argmin()) + 1
        low, high = (cuts[-1] if cuts else 0) + 1, len(ends) - (len(targets) - 1 - place)
        cuts.append(min(max(nearest, low), high))
    return cuts


def _group(pattern: re.Pattern[str], name: str) -> str:
    found = pattern.search(name)
    if not found:
        raise UserError(f"group={pattern.pattern} finds nothing in the image's name {name}.")
    return str(found.group(1) if pattern.groups else found.group())


def _ratios(value: Any) -> tuple[float, ...]:
    parts = tuple(value) if isinstance(value, list | tuple) else (value,)
    numbers = all(isinstance(part, int | float) and not isinstance(part, bool) for part in parts)
    if (
        not numbers
        or not 2 <= len(parts) <= 3
        or any(not 0 <= part < math.inf for part in parts)
        or not parts[0]
    ):
        raise UserError(
            f"ratios={_shown(parts)} has to be two or three numbers, for train, val and perhaps test: "
            "ratios=0.8,0.1,0.1."
        )
    return parts


def _seed(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UserError(f"seed={value} has to be a whole number from 0 on.")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(map(str, value)) if isinstance(value, list | tuple) else (str(value),)


def _shown(parts: Sequence[Any]) -> str:
    return ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in parts)
