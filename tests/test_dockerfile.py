"""The Dockerfile's stages: what they copy is there and reaches docker, and has what their programs import."""

import ast
import fnmatch
import re
import sys
from pathlib import Path

from tests.tiny import REPOSITORY

TEXT = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
STAGES = dict(re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM |\Z)", TEXT, re.MULTILINE | re.DOTALL))
SENT = [
    line[1:]
    for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    if line.startswith("!")
]
OURS = {path.name for path in REPOSITORY.iterdir() if (path / "__init__.py").is_file()}


def copied(stage: str) -> list[str]:
    """The sources of a stage's COPY lines, those of the base among them."""
    lines = re.findall(r"^COPY (.+)$", STAGES["base"] + STAGES[stage], re.MULTILINE)
    return [word for line in lines for word in line.split()[:-1]]


def imported(path: Path) -> set[str]:
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {
        name.partition(".")[0]
        for node in tree
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip


def test_the_last_stage_is_the_page_and_one_serves() -> None:
    assert list(STAGES) == ["base", "serve", "page"]
    assert 'CMD ["streamlit", "run"' in STAGES["page"] and "server.py" in STAGES["serve"]
    for stage in ("serve", "page"):
        assert "USER visitor" in STAGES[stage] and "HEALTHCHECK" in STAGES[stage]


def test_what_is_copied_is_there_and_docker_is_sent_it() -> None:
    for stage in ("serve", "page"):
        for source in copied(stage):
            assert list(REPOSITORY.glob(source)), f"{source} is not there"
            assert any(fnmatch.fnmatch(source, sent) or source == sent for sent in SENT), source
    served = re.search(r'CMD \["(models/[^"]+)"', STAGES["serve"])
    assert served and (REPOSITORY / served[1]).is_file()


def test_the_server_has_what_it_imports() -> None:
    server = REPOSITORY / "examples" / "serving" / "server.py"
    names = imported(server) - set(sys.stdlib_module_names)
    pinned = (REPOSITORY / "requirements-serve.txt").read_text(encoding="utf-8")
    for name in names:
        assert name in copied("serve") if name in OURS else f"\n{name}==" in pinned, name
    assert "requirements-serve.txt" in copied("serve") and "requirements-runtime.txt" in copied("serve")
