"""The address of a tab says what it shows: example, model, view, opacity, what is switched off, and settings.

    ?example=rain&model=deeplabv3plus_mobilenet_edgetpu_camvid_int8&view=outlines&hide=Sky&hide=Road

It is read once, when a visitor comes; after that the page writes it. An image of the visitor's own is in no address.
"""

from collections.abc import Callable
from typing import Any

import streamlit as st

from app import chosen, common, image_viewer, palettes
from app.plain_text import escaped
from runtime import strict_json
from runtime.fit import FITS
from runtime.threshold_segmenter import SIDES

SHOWN = 40  # letters of a bad value


def read() -> None:
    """Choose what the address says, when the visit begins; what is no value here is left out, and told by `tell`."""
    if st.session_state.get("address_read"):
        return
    st.session_state["address_read"] = True
    bad = []
    for name, (key, values, _) in _table().items():
        for given in st.query_params.get_all(name)[:1]:
            value = values(given) if callable(values) else values.get(given)
            if value is None:
                bad.append(f"{name}={strict_json.shown(given[:SHOWN])}")
            else:
                chosen.keep(key, value)
    if hidden := st.query_params.get_all("hide"):
        chosen.keep("hidden", tuple(sorted({name[: image_viewer.LONGEST] for name in hidden})))
    st.session_state["address_bad"] = bad


def tell() -> None:
    """What of the address is not here, in one sentence, once."""
    if bad := st.session_state.pop("address_bad", []):
        st.info(escaped(f"This page does not know {', '.join(bad)} of its address and left it out."))


def write(labels: tuple[str, ...] = ()) -> None:
    """Let the address say what is chosen, as far as it is not what a newcomer finds; of the classes that are switched
    off, those of these labels."""
    wanted: dict[str, str | list[str]] = {}
    for name, (key, values, first) in _table().items():
        now = chosen.get(key, first)
        if now != first:
            said = f"{now:g}" if callable(values) else next((s for s, v in values.items() if v == now), None)
            if said is not None:
                wanted[name] = said
    hidden = [name for name in chosen.get("hidden", ()) if name in labels]
    if hidden:
        wanted["hide"] = hidden
    if {name: st.query_params.get_all(name) for name in st.query_params} != {
        name: value if isinstance(value, list) else [value] for name, value in wanted.items()
    }:
        st.query_params.from_dict(wanted)


def _table() -> dict[str, tuple[str, dict[str, Any] | Callable[[str], Any], Any]]:
    """Name in the address -> name in `chosen`, value by word (or how to read it), and what a newcomer finds."""
    models = [*map(common.below, common.model_files())]
    methods = {name.removeprefix("models/").removesuffix(".tflite"): name for name in models}
    methods |= {"threshold": common.BINARY, "otsu": common.OTSU}
    stems = [path.stem for path in common.examples()]
    views = {name.lower().replace(" ", "-"): name for name in image_viewer.VIEWS}
    colours = {"standard": palettes.OWN, "safe": palettes.SAFE}
    levels = {str(number): number for number in common.LEVELS}
    return {
        "example": ("image", {stem: stem for stem in stems}, stems[0] if stems else None),
        "model": ("method", methods, next(iter(methods.values()))),
        "fit": ("fit", {name: name for name in FITS}, FITS[0]),
        "threshold": ("threshold", _threshold, 127),
        "levels": ("levels", levels, common.LEVELS[0]),
        "side": ("side", {side: side for side in SIDES}, SIDES[0]),
        "colours": ("colours", colours, palettes.OWN),
        "view": ("view", views, image_viewer.OVERLAY),
        "opacity": ("opacity", _opacity, common.OPACITY),
    }


def _threshold(text: str) -> int | None:
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 4 and int(text) < 256 else None


def _opacity(text: str) -> float | None:
    """0..1, in hundredths."""
    plain = text.isascii() and len(text) < 10 and text.replace(".", "", 1).isdecimal()
    return round(float(text), 2) if plain and 0 <= float(text) <= 1 else None
