"""What pyproject.toml asks for, and commands of environments that a test makes by it."""

import os
import subprocess
import tomllib
from pathlib import Path

from deploy.lock import plain
from tests.tiny import REPOSITORY

PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]


def succeeded(python: Path, *arguments: str, cwd: Path = REPOSITORY, **variables: str) -> str:
    """What a command of another environment prints; it finds nothing of ours but by its folder."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), *arguments], cwd=cwd, env=clean | variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def spelt(pin: str) -> str:
    """A pin with its package's name as every registry spells it."""
    name, _, version = pin.partition("==")
    return f"{plain(name)}=={version}"
