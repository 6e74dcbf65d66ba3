"""The runtime needs nothing but requirements-runtime.txt: no TensorFlow, no Keras, no Pillow."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import cv2
import pytest

from tests import tiny_tflite as tiny
from tests.installed import spelt, succeeded
from tests.tiny import REPOSITORY

# Every import of a forbidden package fails, as it does where the package is not installed.
REFUSE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"tensorflow", "keras", "PIL", "matplotlib", "pandas", "keras_cv", "scipy"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
import runpy
sys.argv = ["python -m runtime", *sys.argv[1:]]
runpy.run_module("runtime", run_name="__main__")
"""


def prepared(folder: Path) -> list[str]:
    """A model and an image on disk; the arguments of `python -m runtime`."""
    tiny.write_bundle(folder / "tiny.tflite", tiny.mask_model())
    rgb, _ = tiny.colours()
    cv2.imwrite(str(folder / "street.png"), rgb[..., ::-1])
    return [str(folder / "tiny.tflite"), str(folder / "street.png"), "--out", str(folder / "out")]


def check_result(folder: Path) -> None:
    _, ids = tiny.colours()
    mask = cv2.imread(str(folder / "out" / "street_mask.png"), cv2.IMREAD_UNCHANGED)
    assert (mask == ids).all()
    assert len(json.loads((folder / "out" / "street.json").read_text(encoding="utf-8"))["classes"]) == 3


def test_runs_where_imports_of_tensorflow_fail(tmp_path):
    arguments = prepared(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", REFUSE, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    check_result(tmp_path)


def test_imports_of_the_runtime_stay_few():
    """What `import runtime.segmenter` brings in, besides the standard library."""
    code = (
        "import sys; before = set(sys.modules); import runtime.segmenter, runtime.video, runtime.threshold_segmenter;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names);"
        "import json; print(json.dumps([name for name in new if not name.startswith('_')]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    allowed = {"ai_edge_litert", "cv2", "numpy", "runtime", "ml_dtypes", "flatbuffers", "google", "tqdm"}
    assert set(json.loads(done.stdout)) <= allowed | {"backports", "typing_extensions", "fast_interpreter"}
    quick = (
        "import sys, runtime, runtime.errors; print('ai_edge_litert' in sys.modules, 'cv2' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", quick], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.slow
def test_runs_in_an_environment_of_its_own_requirements(tmp_path):
    environment = tmp_path / "env"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q", "-r", str(REPOSITORY / "requirements-runtime.txt")]
    done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode and any(
        sign in done.stderr for sign in ("Retrying", "ConnectionError", "Name or service")
    ):
        pytest.skip("no package index can be reached to install requirements-runtime.txt")
    assert done.returncode == 0, done.stderr
    frozen = subprocess.run(
        [str(python), "-m", "pip", "freeze"], capture_output=True, text=True, check=True
    ).stdout
    lines = (REPOSITORY / "requirements-runtime.txt").read_text(encoding="utf-8").splitlines()
    pinned = {spelt(line.partition(" ")[0]) for line in lines if "==" in line and not line.startswith("#")}
    assert set(map(spelt, frozen.split())) == pinned, (
        "requirements-runtime.txt pins all that is installed, and no more"
    )
    succeeded(python, "-m", "runtime", *prepared(tmp_path))
    check_result(tmp_path)
