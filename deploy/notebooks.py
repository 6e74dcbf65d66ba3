"""The notebooks of examples/notebooks: run them, and make pages of them.

    python -m deploy.notebooks [NAME.ipynb ...]      # runs each from start to end, and keeps what it shows

A notebook works in a temporary folder of its own, on two threads. What goes to stderr (progress bars) is not kept.
"""

import base64
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "examples" / "notebooks"
SECONDS = 3600  # that a cell may take, on a machine that is busy


def names() -> list[Path]:
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def executed(path: Path) -> Any:
    """The notebook after it was run in a new kernel; nbclient's CellExecutionError when a cell fails."""
    import nbformat
    from nbclient import NotebookClient

    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(
        os.pathsep
    )
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(NOTEBOOKS)}}
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
            for one in cell.outputs:
                if "text" in one:  # where the checkout lies is nobody's business
                    one["text"] = one["text"].replace(f"{ROOT}/", "")
    return notebook


def page(path: Path, folder: Path) -> str:
    """Markdown of a notebook, as it stands; its pictures go into `folder`."""
    import nbformat

    parts, pictures = [], 0
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                pictures += 1
                name = f"{path.stem}-{pictures}.png"
                (folder / name).write_bytes(base64.b64decode(data["image/png"]))
                parts.append(f"![what the cell above shows]({name})")
            elif text := (output.get("text") or data.get("text/plain", "")).strip("\n"):
                parts.append(f"```text\n{text}\n```")
    where = f"This page is `examples/notebooks/{path.name}`; `make test-all` runs it."
    head, _, rest = "\n\n".join(parts).partition("\n\n")
    return f"{head}\n\n{where}\n\n{rest}\n"


def main(argv: Sequence[str] | None = None) -> int:
    import nbformat

    chosen = list(sys.argv[1:] if argv is None else argv)
    for path in names():
        if not chosen or path.name in chosen:
            nbformat.write(executed(path), path)
            print(f"{path.name}: {path.stat().st_size:,} bytes", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
