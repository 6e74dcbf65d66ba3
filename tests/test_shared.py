"""What tests share stands in conftest.py and in modules that are no tests; what lies beside the repository, in one."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import shared
from tests.tiny import REPOSITORY

FILES = sorted((REPOSITORY / "tests").rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Every name that is imported, as its module and itself: tests.tiny.run."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def test_no_test_is_imported() -> None:
    wrong = {
        f"{path.relative_to(REPOSITORY)} imports {name}"
        for path in FILES
        for name in imported(path)
        if name.startswith("tests.") and any(part.startswith("test_") for part in name.split("."))
    }
    assert len(FILES) > 100 and not wrong


def test_one_module_knows_the_folder_beside_the_repository() -> None:
    words = ('"shared"', "../shared", "shared/", "KERBSIDE_" + "SHARED")
    knowing = {path.name for path in FILES if any(word in path.read_text(encoding="utf-8") for word in words)}
    assert knowing == {"shared.py", Path(__file__).name}


@pytest.mark.parametrize(
    ("said", "found"), [("/some/where", "/some/where"), ("", str(REPOSITORY.parent / "shared"))]
)
def test_the_folder_is_what_the_variable_says(said: str, found: str) -> None:
    code = "from tests.shared import CAMVID, PEERS; print(CAMVID.parents[1], PEERS.parent)"
    environment = {**os.environ, "KERBSIDE_SHARED": said}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == [found, found], done.stderr


def test_what_is_not_there_skips_and_says_what_would_help(tmp_path: Path) -> None:
    absent = tmp_path / "none"
    assert not shared.needs(tmp_path).args[0]
    mark = shared.needs(tmp_path, absent)
    assert mark.args == (True,) and str(absent) in mark.kwargs["reason"]
    assert shared.present(tmp_path) == tmp_path
    with pytest.raises(pytest.skip.Exception, match=f"{absent} is not there; KERBSIDE_SHARED names"):
        shared.present(absent)
