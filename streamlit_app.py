"""The page: `streamlit run streamlit_app.py`. The tabs are in app/, a file each."""

import streamlit as st

from app import compare_tab, correct_tab, prompted_tab, results_tab, saved_tab, segment_tab, truth_tab
from app.frontend import FOLDER

# Address, title and what shows it.
TABS = (
    ("segment", "Segment", segment_tab.show),
    ("compare", "Compare", compare_tab.show),
    ("truth", "Truth", truth_tab.show),
    ("correct", "Correct", correct_tab.show),
    ("kept", "Kept", saved_tab.show),
    ("prompted", "Prompted", prompted_tab.show),
    ("results", "Results", results_tab.show),
)

st.set_page_config(page_title="Kerbside", layout="wide", initial_sidebar_state="collapsed")
st.html(FOLDER / "page.css")
st.markdown("#### Kerbside &ensp;:gray[:small[what every pixel of a road scene is]]")
pages = [st.Page(show, title=title, url_path=path, default=path == TABS[0][0]) for path, title, show in TABS]
st.navigation(pages, position="top").run()
