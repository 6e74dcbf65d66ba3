"""The page needs nothing but requirements-app.txt: it is started in an environment made of that alone."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests import tiny_tflite as tiny
from tests.installed import spelt, succeeded
from tests.page import png
from tests.tiny import REPOSITORY

# A visitor of the page, in the page's own environment: every tab, and no exception.
VISIT = """
import sys
from streamlit.testing.v1 import AppTest
sys.path.insert(0, ".")
page = AppTest.from_file(sys.argv[1], default_timeout=120).run()
assert not page.exception, page.exception
kinds = [element.proto.component_name for element in page.get("bidi_component")]
assert kinds == ["kerbside_picker", "kerbside_viewer"], kinds
import runpy
tabs = runpy.run_path("streamlit_app.py", run_name="tabs")["TABS"]
for name, title, show in tabs:
    script = f"import {show.__module__} as tab; tab.{show.__name__}()"
    shown = AppTest.from_string(script, default_timeout=120).run()
    assert not shown.exception, (name, shown.exception)
heavy = {"tensorflow", "keras", "scipy", "sklearn", "matplotlib"} & {name.split(".")[0] for name in sys.modules}
assert not heavy, heavy
print("looked at", len(tabs), "tabs")
"""


def pinned(file: str) -> set[str]:
    """The lines of a requirements file and of those that it takes in."""
    lines: set[str] = set()
    for line in (REPOSITORY / file).read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            lines |= pinned(str(Path(file).parent / line[3:].strip()))
        elif "==" in line and not line.startswith("#"):
            lines.add(spelt(line.partition(" ")[0]))  # the hashes stand behind it
    return lines


@pytest.mark.slow
def test_the_page_runs_in_an_environment_of_its_own_requirements(tmp_path):
    environment = tmp_path / "env"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    requirements = (
        REPOSITORY / "deploy" / "requirements.txt"
    )  # which takes in requirements-app.txt, as a host does
    install = [str(python), "-m", "pip", "install", "-q", "-r", str(requirements)]
    done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=800)
    signs = ("Retrying", "ConnectionError", "Name or service")
    if done.returncode and any(sign in done.stderr for sign in signs):
        pytest.skip("no package index can be reached to install requirements-app.txt")
    assert done.returncode == 0, done.stderr
    freeze = [str(python), "-m", "pip", "freeze"]
    frozen = subprocess.run(freeze, capture_output=True, text=True, check=True).stdout
    assert set(map(spelt, frozen.split())) == pinned("requirements-app.txt")

    for folder in ("models", "examples"):
        (tmp_path / "root" / folder).mkdir(parents=True)
    tiny.write_bundle(tmp_path / "root" / "models" / "tiny.tflite", tiny.mask_model())
    (tmp_path / "root" / "examples" / "bands.png").write_bytes(png(tiny.colours()[0]))
    for start in ("streamlit_app.py", "deploy/page.py"):
        said = succeeded(python, "-c", VISIT, start, KERBSIDE_ROOT=str(tmp_path / "root"))
        assert "looked at" in said


def test_the_light_requirements_hold_no_trainer():
    names = {line.partition("==")[0] for line in pinned("requirements-app.txt")}
    assert {"streamlit", "ai-edge-litert", "numpy", "opencv-python"} <= names
    assert not names & {"tensorflow", "keras", "torch", "scipy", "matplotlib", "tensorflow-datasets"}
    assert pinned("deploy/requirements.txt") == pinned("requirements-app.txt")


def test_the_start_for_hosts_shows_the_same_page(tmp_path, monkeypatch):
    testing = pytest.importorskip("streamlit.testing.v1", reason="needs Streamlit (requirements-app.txt)")
    monkeypatch.setenv("KERBSIDE_ROOT", str(tmp_path))
    page = testing.AppTest.from_file(str(REPOSITORY / "deploy" / "page.py"), default_timeout=60).run()
    assert not page.exception and any("No model yet" in info.value for info in page.info)
    assert str(REPOSITORY) in sys.path
