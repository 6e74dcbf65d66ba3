"""Names of strangers in everything that the page renders as Markdown: by CommonMark, in every tab, in a browser."""

import html
import os
import socket
import subprocess
import sys
import urllib.request
from typing import Any

import pytest

from app.plain_text import JOINER, escaped
from runtime import corrections
from runtime.segmenter import Segmentation
from tests import tiny_tflite as tiny
from tests.page import in_a_browser
from tests.tiny import REPOSITORY

AppTest = pytest.importorskip("streamlit.testing.v1", reason="needs Streamlit (requirements-app.txt)").AppTest

IMAGE = "![p](http://127.0.0.1:9/x.png)"
NAMES = [
    *(IMAGE, "[road](http://127.0.0.1:9)", "http://127.0.0.1:9/x", "HTTPS://127.0.0.1:9", "www.example.com"),
    *(
        "me@example.com",
        "<img src=x>",
        "`a` *b* _c_ **d** ~~e~~ &amp; # | $x$ \\",
        "# road",
        "- road",
        "1. road",
    ),
    *("* road", "> road", "---", "    road", "- [ ] road", "[^1]", ":smile:", ":red[x]", ":material/home:"),
    *(":streamlit:", "a -> b <- c -- d >= e <= f ~= g", "road\n\n# road", "plain: 1, 2"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_stays_what_it_is_by_the_rules_of_commonmark(name):
    markdown_it = pytest.importorskip("markdown_it", reason="markdown-it-py renders what the page would")
    shown = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render(escaped(name))
    assert shown.replace(JOINER, "") == f"<p>{html.escape(' '.join(name.split()), quote=False)}</p>\n"


def tab(name) -> None:
    import importlib

    importlib.import_module(f"app.{name}_tab").show()


def rendered(page: Any) -> str:
    """All that is Markdown on the page: what messages, captions, tables, buttons and labels say."""
    kinds = (
        "error info warning success caption markdown metric table button radio selectbox multiselect slider"
    )
    more = "download_button checkbox toggle file_uploader"
    said = []
    for kind in f"{kinds} {more}".split():
        for element in page.get(kind):
            if kind in ("selectbox", "multiselect", "file_uploader"):  # what was chosen is plain text there
                said.append(element.label)
            elif kind == "table":
                said += [str(cell) for row in element.value.itertuples(index=False) for cell in row]
            else:
                said.append(getattr(element, "value", None) if hasattr(element, "value") else element.proto)
                said.append(getattr(element, "label", ""))
    return "\n".join(map(str, said))


@pytest.mark.parametrize("name", ["segment", "compare", "truth", "correct", "saved", "results"])
def test_no_tab_renders_a_name_as_markdown(root, mask_bytes, monkeypatch, name):
    """The classes of the models, the image and the mask all have the name of an image elsewhere."""
    monkeypatch.setenv("KERBSIDE_FEEDBACK", str(root / "feedback"))
    labels, facts = (IMAGE, "green", "blue"), {"data": IMAGE, "precision": IMAGE}
    for index in range(2):
        order = labels[:: 1 - 2 * index]
        tiny.write_bundle(root / "models" / f"m{index}.tflite", mask_bytes, labels=list(order), **facts)
    rgb, ids = tiny.colours()
    corrections.keep(root / "feedback", Segmentation(ids, labels, tiny.PALETTE, 0.1, rgb), ids, IMAGE, IMAGE)
    page = AppTest.from_function(tab, kwargs={"name": name}, default_timeout=60).run()
    assert not page.exception and IMAGE not in rendered(page)
    for key in [uploader.key for uploader in page.file_uploader][::-1]:
        uploader = page.file_uploader(key=key)
        bad = (f"{IMAGE}.png", b"no image", "image/png")
        uploader.set_value([bad] if uploader.proto.multiple_files else bad).run()
        assert not page.exception and IMAGE not in rendered(page)
        assert page.error and escaped(IMAGE) in page.error[0].value


SAYS = """
import streamlit as st
from app.plain_text import escaped
from tests.app.test_plain_text import NAMES
for name in NAMES:
    st.error(escaped(name))
    st.caption(escaped(name))
    st.button(escaped(name))
st.table({"name": [escaped(name) for name in NAMES]})
st.radio("names", NAMES, format_func=escaped)
st.button("![p](http://127.0.0.1:9/seen.png)")
"""


class TestInABrowser:
    pytestmark = in_a_browser

    @pytest.fixture
    def address(self, tmp_path):
        (tmp_path / "says.py").write_text(SAYS, encoding="utf-8")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = ["--server.headless", "true", "--server.port", str(port), "--server.address", "127.0.0.1"]
        command = [sys.executable, "-m", "streamlit", "run", str(tmp_path / "says.py"), *options]
        process = subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": "."})
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        process.wait(timeout=30)

    def test_names_are_text_in_every_element(self, address, browser):
        """Streamlit makes links, pictures and other letters of plain text after Markdown has been read."""
        page, asked = browser.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=2).read()
                break
            except OSError:
                page.wait_for_timeout(100)
        page.goto(address)
        page.locator('img[src="http://127.0.0.1:9/seen.png"]').wait_for(state="attached")
        wanted = [" ".join(name.split()) for name in NAMES]
        for place in (
            "stAlert",
            "stCaptionContainer",
            "stTable td",
            "stRadio label [data-testid=stMarkdownContainer]",
        ):
            first, _, rest = place.partition(" ")
            found = page.locator(f"[data-testid={first}] {rest}")
            texts = [text.replace(JOINER, "").strip() for text in found.all_inner_texts()]
            assert [" ".join(text.split()) for text in texts if text != "names"] == wanted, place
            for kind in ("a", "img", "li", "h1", "hr", "code", "em", "strong", '[role="img"]'):
                assert found.locator(kind).count() == 0, (place, kind)
        strange = [url for url in asked if "127.0.0.1:9" in url]
        assert set(strange) == {"http://127.0.0.1:9/seen.png"}  # of the name that was not escaped
        page.close()
