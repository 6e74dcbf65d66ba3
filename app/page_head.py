"""What stands above and below every tab: title, links to the tabs, and where all of it comes from."""

import html
import os
from collections.abc import Sequence
from importlib import metadata

import streamlit as st

from app.frontend import FOLDER

NAME, WHAT = "Kerbside", "upload a street photo; see road, cars, people and more, coloured pixel by pixel"


def configure() -> None:
    """Title, icon and width; before anything is shown."""
    st.set_page_config(
        page_title=f"{NAME}: {WHAT}",
        page_icon=str(FOLDER / "icon.png"),
        layout="wide",
        initial_sidebar_state="collapsed",
    )
    st.html(FOLDER / "page.css")


def show(pages: Sequence[st.Page]) -> None:
    """The title, and a link to each tab that stays in sight at any width."""
    with st.container(key="head", gap=None):
        st.html(f'<h1 class="title">{NAME} <span>{WHAT.capitalize()}</span></h1>')
        with st.container(horizontal=True, key="tabs", gap=None):
            for page in pages:
                st.page_link(page)


def foot() -> None:
    """Version, licence and source."""
    try:
        version = metadata.version("kerbside")
    except metadata.PackageNotFoundError:
        version = ""
    parts = [f"{NAME} {version}".strip(), "Apache License 2.0"]
    if source := source_address():
        parts.append(f'<a href="{html.escape(source)}" target="_blank" rel="noopener">Source</a>')
    st.html(f'<footer class="foot">{" · ".join(parts)}</footer>')


def source_address() -> str:
    """Where the source is: what KERBSIDE_SOURCE says, else what the installed package says; "" where neither does."""
    given = os.environ.get("KERBSIDE_SOURCE", "")
    if not given:
        try:
            urls = metadata.metadata("kerbside").get_all("Project-URL") or []
        except metadata.PackageNotFoundError:
            urls = []
        given = next((url.partition(", ")[2] for url in urls if url.startswith("Source")), "")
    return given if given.startswith("https://") else ""
