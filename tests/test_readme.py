"""What the README and Getting started tell a newcomer to type works as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kerbside.__main__ import COMMANDS
from runtime.opencv import LIBRARIES
from tests.installed import PROJECT
from tests.tiny import REPOSITORY, environment, run

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
START = "\n".join(
    path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / "docs" / "start").glob("*.md"))
)
BLOCKS = re.findall(r"```python\n(.*?)```", README + START, flags=re.DOTALL)


def python_block(*words: str) -> str:
    found = [block for block in BLOCKS if all(word in block for word in words)]
    assert len(found) == 1
    return found[0]


def output_of(block: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_model_by_hand_in_ten_lines(tmp_path: Path) -> None:
    block = python_block("zoo.build", "fit")
    statements = [line for line in block.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(statements) <= 10
    assert "(65, 97)" in output_of(block, tmp_path)
    assert (tmp_path / "by_hand.tflite").stat().st_size > 1e6


def test_the_runtime_in_three_lines(tmp_path: Path) -> None:
    block = python_block("read_rgb")
    (image,) = sorted((REPOSITORY / "examples").glob("*.jpg"))[:1]
    (tmp_path / "street.jpg").write_bytes(image.read_bytes())
    (tmp_path / "models").symlink_to(REPOSITORY / "models")
    assert "Pavement" in output_of(block, tmp_path)


@pytest.mark.parametrize(
    "module", ["training.train", "training.evaluate", "export", "runtime", "runtime.prompted", "zoo.convert"]
)
def test_every_command_shown_has_the_flags_shown(tmp_path: Path, module: str) -> None:
    flags = set()
    for line in (README + START).replace("\\\n", " ").splitlines():
        if f"-m {module} " in line:
            flags |= set(re.findall(r"--[a-z-]+", line))
    shown = run(tmp_path, module, "--help")
    assert shown.returncode == 0, shown.stderr
    for flag in flags:
        assert flag in shown.stdout, f"{flag} of {module}"


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 120


def test_every_path_and_link_is_there() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r"(?<!docs/)models/[\w.]+\w", README):
        assert (REPOSITORY / path).exists(), path


def test_the_package_is_installed_and_called_as_shown() -> None:
    assert f"`{LIBRARIES}`" in README
    assert f"`kerbside {' | '.join(COMMANDS)}`" in README
    assert set(re.findall(r"^kerbside (\w+)", README, re.MULTILINE)) <= set(COMMANDS)
    extras = re.findall(r"\[(train|app|hf|mlflow)\]", README)
    assert set(extras) == {"train", "app", "hf", "mlflow"} <= set(PROJECT["optional-dependencies"])
    lowest, highest = re.findall(r"3\.(\d+)", PROJECT["requires-python"])
    assert (lowest, highest) == ("11", "14") and "Python 3.11, 3.12 or 3.13 (and `make`)" in README
