"""How the page calls things: models, classes, numbers."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime import installation, strict_json

# What a model has seen by the data that its file names, and where it knows less.
LEARNT_FROM = {
    "camvid": "three drives through one English town, by day and at dusk, from one camera",
    "cityscapes": "streets of fifty cities in and near Germany, by day and in good weather",
    "scenes": "drawn scenes, not photographs",
}
SHOWN_AS = {"SignSymbol": "Sign"}  # names of classes as their data sets spell them; files keep that spelling


def counted(number: int, noun: str) -> str:
    """The number with its noun: 1 correction, 2 corrections."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def percent(share: float) -> str:
    """A share, 0..1, in per cent with a decimal; what is there but rounds to nothing is "<0.1%"."""
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def data_of(facts: Mapping[str, Any]) -> str:
    """What a model has learnt from, as `not_for` takes it, by what its file says of itself: it need not be the data
    that the file was compared on, `facts["data"]`."""
    sources = facts.get("learnt_from")
    known: list[dict[str, str]] = (
        sources if isinstance(sources, list) and strict_json.fits(sources, list[dict[str, str]]) else []
    )
    own = [one.get("what", "").lower() for one in known if one.get("how") == "data"]
    return "+".join(own) if any(name in LEARNT_FROM for name in own) else str(facts.get("data") or "")


def not_for(stem: str, data: str) -> str:
    """What a model is not for, in two lines of Markdown: its card's words for one that ships, by its file's name
    (`stem`: no suffix), else by the data that it learnt from."""
    if lines := _shipped().get(Path(stem).name, {}).get("not_for"):
        return "  \n".join(lines)
    known = [LEARNT_FROM[name] for name in data.split("+") if name in LEARNT_FROM]
    learnt = (
        f"It learnt from {', and from '.join(known)}"
        if known
        else "It knows streets like those it learnt from"
    )
    return (
        "Not for anything that steers a vehicle or warns a driver.  \n"
        f"{learnt}: elsewhere, at night and in bad weather it is wrong more often."
    )


def class_name(name: str) -> str:
    """A class as the page shows it."""
    return SHOWN_AS.get(name, name)


@functools.cache
def _shipped() -> dict[str, dict[str, Any]]:
    path = installation.shipped() / "docs" / "models" / "names.json"
    return strict_json.read(path) if path.is_file() else {}


def model_name(stem: str) -> str:
    """A model that ships by the name that people know it by, any other by its file's (`stem`: no suffix)."""
    known = _shipped().get(Path(stem).name)
    return known["name"] if known else stem


def model_choice(stem: str) -> str:
    """`model_name` and what the model is good for, for a list to choose from."""
    known = _shipped().get(Path(stem).name)
    return f"{known['name']}: {known['note']}" if known else stem


def zero_shot_miou(stem: str) -> float | None:
    """mIoU, 0..1, on a data set that nothing of the model has learnt from, in the classes that both have; None of a
    model that was scored on streets like those that it learnt from."""
    return _shipped().get(Path(stem).name, {}).get("zero_shot_miou")


def unseen_miou(stem: str) -> float | None:
    """mIoU, 0..1, of the model's recipe on a drive that its training had not seen; None where nobody measured it."""
    return _shipped().get(Path(stem).name, {}).get("unseen_miou")
