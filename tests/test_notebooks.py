"""The notebooks of examples/notebooks run from start to end, and what they keep is what they showed."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from deploy import notebooks

EACH = pytest.mark.parametrize("path", notebooks.names(), ids=lambda path: path.stem)
INSTALLED = pytest.mark.skipif(
    importlib.util.find_spec("nbclient") is None, reason="needs pip install -r requirements-docs.txt"
)


def test_there_are_three() -> None:
    assert [path.stem for path in notebooks.names()] == ["compare", "first_model", "your_own_classes"]


@EACH
def test_what_it_keeps_is_small_and_no_error(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert not any(output.get("name") == "stderr" or output["output_type"] == "error" for output in outputs)
    assert path.stat().st_size < 600_000
    for output in outputs:  # a relative path of the repository, not where it lay on somebody's machine
        assert not re.search(r"(?<![\w.])/\S+/(models|examples|runs)/", "".join(output.get("text", "")))


@INSTALLED
def test_a_page_has_text_code_output_and_pictures(tmp_path: Path) -> None:
    import nbformat

    cells = [
        nbformat.v4.new_markdown_cell("# A title\n\nWords."),
        nbformat.v4.new_code_cell(
            "1 + 1",
            outputs=[
                nbformat.v4.new_output("stream", name="stdout", text="two\n"),
                nbformat.v4.new_output("display_data", {"image/png": "iVBORw0=", "text/plain": "<Figure>"}),
            ],
        ),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "one.ipynb")
    page = notebooks.page(tmp_path / "one.ipynb", tmp_path)
    assert page.startswith("# A title\n\nThis page is `examples/notebooks/one.ipynb`")
    assert "```python\n1 + 1\n```\n\n```text\ntwo\n```\n\n![what the cell above shows](one-1.png)" in page
    assert (tmp_path / "one-1.png").read_bytes() == b"\x89PNG\r"


@pytest.mark.slow
@INSTALLED
@EACH
def test_it_runs(path: Path) -> None:
    """nbclient raises where a cell fails."""
    notebook = notebooks.executed(path)
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)
