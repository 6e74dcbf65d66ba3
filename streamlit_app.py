"""The page: `streamlit run streamlit_app.py`. The tabs are in app/, a file each."""

import streamlit as st

from app import compare_tab, correct_tab, prompted_tab, results_tab, saved_tab, segment_tab, truth_tab
from app.frontend import FOLDER

# Address, title and what shows it.
TABS = (
    ("segment", "Segment", segment_tab.show),
    ("compare", "Compare", compare_tab.show),
    ("truth", "Check against a mask", truth_tab.show),
    ("correct", "Correct", correct_tab.show),
    ("kept", "Saved corrections", saved_tab.show),
    ("prompted", "Cut out one object", prompted_tab.show),
    ("results", "Results", results_tab.show),
)

TITLE = "Kerbside: upload a street photo; see road, cars, people and more, coloured pixel by pixel"

st.set_page_config(
    page_title=TITLE,
    page_icon=str(FOLDER / "icon.png"),
    layout="wide",
    initial_sidebar_state="collapsed",
)
st.html(FOLDER / "page.css")
name, _, what = TITLE.partition(": ")
st.html(f'<h1 class="title">{name} <span>{what.capitalize()}</span></h1>')
pages = [
    st.Page(show, title=title, url_path=path, default=path == TABS[0][0])
    for path, title, show in TABS
    if path != "prompted" or prompted_tab.prompted_files()  # needs a model of its own
]
st.navigation(pages, position="top").run()
