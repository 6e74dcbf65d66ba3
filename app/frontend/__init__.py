"""What the browser gets: our own components in plain HTML, CSS and JavaScript, the page's CSS, and images as text.

A component is three files of one name beside this one. Nothing else is loaded for them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from streamlit.components.v2 import component

from runtime.encoding import data_uri, encoded

FOLDER = Path(__file__).parent


def registered(name: str, *before: str) -> Callable[..., Any]:
    """The component NAME.html, NAME.css and NAME.js as Streamlit mounts it; before its script come those of `before`,
    whose names it uses."""
    html, css = ((FOLDER / f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("html", "css"))
    js = "\n".join((FOLDER / f"{part}.js").read_text(encoding="utf-8") for part in (*before, name))
    return component(f"kerbside_{name}", html=html, css=css, js=js)


def address(image: np.ndarray, kind: str = ".jpg") -> str:
    """An image, RGB or ids, as an address that holds all of it."""
    return data_uri(encoded(image, kind))


def sent(data: dict[str, Any]) -> bytes:
    """JSON as bytes, which Streamlit hands on as they are: for a dict it would import pandas, to look for a data frame
    in it, and the first visitor would wait a second for that."""
    return json.dumps(data).encode()
