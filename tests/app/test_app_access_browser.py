"""axe-core on each tab, light and dark, wide and on a phone: no fault that it calls serious or critical."""

import numpy as np
import pytest

from runtime import corrections
from runtime.segmenter import Segmentation
from tests import tiny_tflite as tiny
from tests.page import give, image, in_a_browser, png, still

pytest.importorskip("playwright.sync_api", reason="needs the pip package playwright")
pytestmark = in_a_browser

IDS = np.array([[1, 1, 2], [1, 1, 2]], np.uint8)
MASK = np.kron(IDS, np.ones((60, 60), np.uint8))
STREET = image(60, IDS)
# Address, what is there once the tab is shown, and what else of it is looked at.
TABS = {
    "": ".legend",
    "compare": ".scores",
    "truth": ".confusion",
    "correct": ".frame",
    "kept": '[data-testid="stImage"]',
    "results": '[data-testid="stDataFrame"]',
}


def faults(page) -> list[str]:
    """What axe-core calls serious or critical on the page as it is now."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.fixture(scope="module")
def kept(server):
    rgb = np.full((*MASK.shape, 3), 90, np.uint8)
    found = Segmentation(MASK, tuple(tiny.LABELS), tiny.PALETTE, 0.1, rgb)
    corrected = np.where(MASK == 2, 0, MASK).astype(np.uint8)
    for number in range(2):  # the second is set aside for testing
        corrections.keep(server[1] / "feedback", found, corrected, f"{number}.png", "models/a_ours.tflite")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_no_tab_has_a_serious_fault(server, browser, kept, scheme, width):
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    wrong = {}
    for tab, sign in TABS.items():
        page.goto(f"{server[0]}/{tab}")
        still(page)
        if tab == "truth":
            give(page, "truth_upload", "street.png", STREET)
            give(page, "truth_mask", "mask.png", png(np.array(tiny.PALETTE, np.uint8)[MASK]))
        page.locator(sign).first.wait_for()
        still(page)
        wrong[tab] = faults(page)
    context.close()
    assert not {tab: found for tab, found in wrong.items() if found}


def test_a_fault_is_seen(server, page):
    """The test above sees what it looks for: an image without words, and pale text."""
    page.goto(server[0])
    still(page)
    page.evaluate(
        """document.body.innerHTML = '<img src="data:,"><p style="color: #ccc; background: #fff">pale</p>'"""
    )
    assert {fault.partition(":")[0] for fault in faults(page)} >= {"image-alt", "color-contrast"}
