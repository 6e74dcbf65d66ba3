"""The page: `streamlit run streamlit_app.py`. The tabs are in app/, a file each."""

import streamlit as st

from app import common, compare, correct, kept, prompted, results, segment, truth

# Address, title and what shows it.
TABS = (
    ("segment", "Segment", segment.show),
    ("compare", "Compare", compare.show),
    ("truth", "Truth", truth.show),
    ("correct", "Correct", correct.show),
    ("kept", "Kept", kept.show),
    ("prompted", "Prompted", prompted.show),
    ("results", "Results", results.show),
)

st.set_page_config(page_title="Kerbside", layout="wide", initial_sidebar_state="collapsed")
st.html(common.STYLE)
st.markdown("#### Kerbside &ensp;:gray[:small[what every pixel of a road scene is]]")
pages = [st.Page(show, title=title, url_path=path, default=path == TABS[0][0]) for path, title, show in TABS]
st.navigation(pages, position="top").run()
