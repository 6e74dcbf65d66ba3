"""Where corrections are kept, and for whom: what was kept is other people's images.

KERBSIDE_FEEDBACK names the folder and opens it to every visitor of the page; "off" keeps nothing at all. Without it the
folder is feedback/ beside runs/, for whoever sits at the machine that runs the page: a visitor from elsewhere, or one
who comes through a proxy that says so, is not offered it.
"""

import os
from pathlib import Path
from typing import Any

import streamlit as st

from app import common
from app.plain_text import escaped

VARIABLE, OFF = "KERBSIDE_FEEDBACK", "off"
PROXIED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via")
NOT_HERE = "Whoever runs this page has not opened it for saving corrections; you can download yours."


def folder() -> Path | None:
    """The folder that this visitor may keep in, browse and delete from; None where there is none."""
    named = os.environ.get(VARIABLE, "")
    if named.lower() == OFF:
        return None
    if named:
        return Path(named).absolute()
    proxied = any(name in st.context.headers for name in PROXIED)
    return None if proxied or st.context.ip_address else common.root() / "feedback"


def told(here: Path) -> str:
    """Where it is, in Markdown: the path is for whoever sits at the machine, and no visitor's."""
    return "On the server of this page" if os.environ.get(VARIABLE) else f"Folder: {escaped(str(here))}"


def predicted_by(method: tuple[Any, ...]) -> str:
    """What a record says of what predicted it: the model's file below the root, or the threshold and its settings."""
    first = method[0]
    if isinstance(first, Path):
        return common.below(first)
    return " ".join(map(str, method))
