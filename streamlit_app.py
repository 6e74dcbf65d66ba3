"""The page: `streamlit run streamlit_app.py`. The tabs are in app/, a file each."""

import streamlit as st

from app import (
    address,
    compare_tab,
    correct_tab,
    page_head,
    prompted_tab,
    results_tab,
    saved_tab,
    segment_tab,
    truth_tab,
)

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

page_head.configure()
pages = [
    st.Page(show, title=title, url_path=path, default=path == TABS[0][0])
    for path, title, show in TABS
    if path != "prompted" or prompted_tab.prompted_files()  # needs a model of its own
]
tab = st.navigation(pages, position="hidden")
page_head.show(pages)
address.read()
address.tell()
tab.run()
page_head.foot()
