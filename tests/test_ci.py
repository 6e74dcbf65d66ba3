"""What continuous integration may not let pass: references that are not there, lint, and another Python."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from runtime.version import VERSION
from tests.tiny import REPOSITORY

# An interpreter of which pip installs nothing, as where no index is reached.
NO_PIP = "#!/bin/sh\necho 'no index can be reached' >&2\nexit 1\n"


def make(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", *words]
    clean = {"PATH": "/usr/local/bin:/usr/bin:/bin"}  # neither CI nor MAKEFLAGS of whoever runs the tests
    return subprocess.run(command, cwd=REPOSITORY, env=clean, capture_output=True, text=True)


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", ["parity", "extras", "docs"])
def test_what_cannot_be_installed_skips_tests_here_and_fails_ci(tmp_path: Path, name: str) -> None:
    executable(tmp_path / "bin" / "python", NO_PIP)
    (tmp_path / ".installed").touch()
    words = (f"{tmp_path}/.{name}", f"VENV={tmp_path}")
    here, ci = make(*words), make(*words, "CI=true")
    assert here.returncode == 0 and ci.returncode != 0, (here.stderr, ci.stderr)
    for done in (here, ci):
        assert "could not be installed" in done.stderr and "tests will skip" in done.stderr
    assert not (tmp_path / f".{name}").exists()  # it is tried again the next time
    assert (tmp_path / f"{name}.log").read_text(encoding="utf-8") == "no index can be reached\n"


def test_ci_lints_before_it_tests(tmp_path: Path) -> None:
    lint, tests = re.compile(r"bin/mypy$", re.MULTILINE), re.compile("-m pytest .*not slow")
    here, ci = (make("-n", "test", f"VENV={tmp_path}", *more).stdout for more in ((), ("CI=true",)))
    assert tests.search(here) and not lint.search(here)
    linted, tested = lint.search(ci), tests.search(ci)
    assert linted and tested and linted.start() < tested.start()
    assert "\nmake test CI=true\n" in (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "version, taken", [((3, 10), False), ((3, 11), True), ((3, 13), True), ((3, 14), False)]
)
def test_the_pythons_that_are_taken(tmp_path: Path, version: tuple[int, int], taken: bool) -> None:
    """The interpreter says that it is another version; of `-m venv`, which comes next, it says no more."""
    code = f"import sys; sys.version_info = {(*version, 0)}; exec(sys.argv[1])"
    fake = f'#!/bin/sh\n[ "$1" = -c ] || exit 9\nexec {sys.executable} -c \'{code}\' "$2"\n'
    python = executable(tmp_path / "python", fake)
    done = make(f"{tmp_path}/env/.installed", f"VENV={tmp_path}/env", f"PYTHON={python}")
    assert done.returncode == 2
    assert ("Python 3.11, 3.12 or 3.13 is needed" in done.stderr) != taken
    assert ("Error 9" in done.stderr) == taken


def test_the_changelog_has_the_version() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text, re.MULTILINE)
    released = [number for number, date in versions if date]
    assert released[:1] == [VERSION] and "0.1.0" in released
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["version"], str(cited["date-released"])) == next(one for one in versions if one[1])
    assert [number for number, date in versions if not date] in ([], ["Unreleased"])
    assert set(re.findall(r"^### (\w+)", text, re.MULTILINE)) <= {
        *("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
    }
