"""A figure that several pages repeat is the one that the shipped files state: a page that is older fails here.

Scores come from the note inside each shipped `.tflite` (measured by its export) and from its card; latencies from
docs/models/latency.json.
"""

import json
import re

import pytest

from runtime.bundle import read_bundle
from tests.tiny import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", DOCS / "results.md", *sorted((DOCS / "models").glob("*.md"))]
# How pages call a shipped file, in a row of a table or a sentence that has its scores.
NAMES = {
    "DeepLabV3+ MobileNetEdgeTPU": "deeplabv3plus_mobilenet_edgetpu_camvid_int8",
    "DeepLabV3+ MobileNetEdgeTPU at 720x960": "deeplabv3plus_mobilenet_edgetpu_camvid_720x960_int8",
}
LATENCY = json.loads((DOCS / "models" / "latency.json").read_text(encoding="utf-8"))["milliseconds"]


def stated(file: str) -> dict[str, str]:
    """mIoU of the file and of Keras in percent, its megabytes and milliseconds, as pages write them."""
    path = REPOSITORY / "models" / f"{file}.tflite"
    bundle = read_bundle(path)
    assert bundle is not None
    facts = bundle.facts
    return {
        "file": f"{100 * facts['scores']['miou']:.2f}",
        "keras": f"{100 * facts['parity']['keras']['miou']:.2f}",
        "size": f"{path.stat().st_size / 1e6:.2f} MB",
        "latency": f"{LATENCY[path.name]:.1f} ms",
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_s_row_is_what_the_file_states(name: str) -> None:
    (row,) = [
        line for line in PAGES[0].read_text(encoding="utf-8").splitlines() if line.startswith(f"| {name},")
    ]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    said = stated(NAMES[name])
    assert cells[2:] == [said["keras"], said["file"], said["size"], said["latency"]]


@pytest.mark.parametrize("name", NAMES)
def test_the_card_and_the_results_have_the_file_s_scores(name: str) -> None:
    said = stated(NAMES[name])
    file, network = re.sub(r"(_\d+x\d+)?_int8$", "", NAMES[name]), name.partition(" at ")[0]
    card = (DOCS / "models" / f"{file}.md").read_text(encoding="utf-8")
    results = (DOCS / "results.md").read_text(encoding="utf-8")
    (section,) = re.findall(
        rf"^## CamVid: {re.escape(network)}.*?(?=^## )", results, re.DOTALL | re.MULTILINE
    )
    for text in (card, section):
        assert said["file"] in text and said["keras"] in text, said
    assert said["size"] in section


def test_every_row_that_ends_in_a_score_of_a_shipped_file_has_it() -> None:
    """Such as docs/devices.md: FILE.tflite ... 75.75."""
    rows = 0
    for path in sorted(DOCS.rglob("*.md")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = re.fullmatch(r"(\w+_camvid_(?:int8|mixed))\.tflite\s.*\s(\d\d\.\d\d)", line)
            if row:
                rows += 1
                assert row[2] == stated(row[1])["file"], f"{path.name}: {line}"
    assert rows >= 2


def test_the_table_of_the_shipped_models_on_the_page_names_the_same() -> None:
    names = json.loads((DOCS / "models" / "names.json").read_text(encoding="utf-8"))
    assert set(NAMES.values()) <= set(names)
