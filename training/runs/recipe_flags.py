"""A recipe's flags, made of what its settings say of themselves (training/runs/settings.py), and back to words."""

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from runtime.errors import UserError
from training.command_line import Parser, add_option, setting, size
from training.data.augmentation import Augmentation
from training.data.mixture import MAPPING, WEIGHTS
from training.runs.settings import GROUPS, DataSettings, Option, all_options, options

MIX = "how often an epoch takes an image of each data set of a mixture: cityscapes=0.5 camvid=2"


def add_flags(command: Parser) -> None:
    """One section a group; what is not given is None, but for the data set."""
    for title, group in GROUPS.items():
        section = command.add_argument_group(title)
        for said in options(group).values():
            if said.help:
                add_option(
                    section, said.flag, former=said.former, dest=said.key, help=said.help, **_form(said)
                )
        if group is DataSettings:
            section.add_argument("--mix", help=MIX, metavar="NAME=WEIGHT", nargs="+", type=setting)
    command.set_defaults(data="scenes")


def _form(said: Option) -> dict[str, Any]:
    """How argparse reads a flag of this kind."""
    if said.kind is bool:
        return {"action": "store_true", "default": None}
    if said.named_values:
        return {"nargs": "+", "metavar": said.metavar or "NAME=VALUE", "type": setting}
    if said.kind == tuple[int, int]:
        return {"metavar": said.metavar, "type": size}
    several = get_origin(said.kind) is tuple or any(get_origin(one) is dict for one in get_args(said.kind))
    kind = {"type": said.kind} if said.kind in (int, float) else {}
    return {"metavar": said.metavar, **kind, **({"nargs": "+"} if several else {})}


def changed(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a recipe, by their keys, with those given on the command line; NAME=VALUE change a part of one."""
    found = dict(values)
    for said in all_options():
        new = given.get(said.key)
        if new is None:
            continue
        if said.kind is Augmentation:
            found[said.key] = _augmentation(found.get(said.key, Augmentation()), dict(new), said.flag)
        elif said.named_values:
            found[said.key] = {**found.get(said.key, {}), **dict(new)}
        else:
            found[said.key] = tuple(new) if get_origin(said.kind) is tuple else new
    return found


def _augmentation(usual: Augmentation, given: dict[str, Any], flag: str) -> Augmentation:
    try:
        return dataclasses.replace(usual, **given)
    except (TypeError, ValueError) as error:
        valid = ", ".join(one.name for one in dataclasses.fields(Augmentation))
        raise UserError(f"{flag}: {error}; it takes {valid}") from error


def words(said: Option, bare: Any, wanted: Any) -> list[str]:
    """The words of a command line that turn one value of an option into the one that is wanted."""
    if bare == wanted or wanted is None:
        return []
    if said.kind is bool:
        return [said.flag]
    if said.kind == tuple[int, int]:
        return [said.flag, "x".join(map(str, wanted))]
    if said.kind is Augmentation:
        bare, wanted = dataclasses.asdict(bare), dataclasses.asdict(wanted)
    if isinstance(wanted, dict):
        new = {key: value for key, value in wanted.items() if _text(bare.get(key, "")) != _text(value)}
        mix = []
        if said.key == "data_options":  # two of which have flags of their own
            weights, _ = new.pop(WEIGHTS, {}), new.pop(MAPPING, None)
            mix = ["--mix", *_pairs(weights)] if weights else []
        return [*([said.flag, *_pairs(new)] if new else []), *mix]
    return [said.flag, *map(str, wanted)] if isinstance(wanted, tuple) else [said.flag, _text(wanted)]


def _pairs(values: Mapping[str, Any]) -> list[str]:
    return [f"{key}={_text(value)}" for key, value in values.items()]


def _text(value: Any) -> str:
    """What command_line.setting reads back."""
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value)) or "()"
    return str(value).lower() if isinstance(value, bool) else str(value)
