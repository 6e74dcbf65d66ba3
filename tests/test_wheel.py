"""What `pip install .` installs, by whom it is needed, and that it runs where nothing else is."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import cv2
import pytest

from deploy.lock import plain
from runtime import Segmenter
from runtime.image import read_rgb
from runtime.version import VERSION
from tests.installed import PROJECT, PYPROJECT, succeeded
from tests.tiny import REPOSITORY

WHEEL = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
PACKAGES: list[str] = WHEEL["packages"]
MODEL = "deeplabv3plus_mobilenet_edgetpu_camvid_int8.tflite"
# Extras whose packages a package of ours may import; those of the base everybody may.
EXTRAS = {"runtime": ["onnx", "openvino"], "kerbside": ["train"], "app": ["app"]}
EVERY = ["train", "hf", "mlflow", "onnx", "openvino", "ethos"]


def locked() -> set[str]:
    texts = [path.read_text(encoding="utf-8") for path in REPOSITORY.glob("requirements*.txt")]
    return {plain(name) for text in texts for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}


def top_level() -> dict[str, set[str]]:
    """What the installed distributions put at the top of site-packages -> who does."""
    found = importlib.metadata.packages_distributions()
    return {name: {plain(one) for one in owners} - {"kerbside"} for name, owners in found.items()}


def test_no_locked_dependency_has_a_package_of_our_names() -> None:
    """zoo, training, app, ... go into site-packages as they are: what has one of these too would overwrite ours."""
    taken = {name: owners & locked() for name, owners in top_level().items()}
    assert taken["yaml"] == {"pyyaml"} and taken["cv2"] == {"opencv-python"}  # that it sees them at all
    assert not {name: taken[name] for name in PACKAGES if taken.get(name)}


def test_every_package_is_in_the_wheel_and_typed() -> None:
    rooms = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")} - {"tests"}
    assert rooms == set(PACKAGES), "pyproject.toml lists the packages of the wheel"
    assert all((REPOSITORY / name / "py.typed").is_file() for name in PACKAGES)


def test_what_ships_is_in_the_wheel() -> None:
    listed = WHEEL["force-include"]
    assert all((REPOSITORY / source).exists() for source in listed)
    assert all(target == f"kerbside/share/{source}" for source, target in listed.items())
    shipped = [*REPOSITORY.glob("models/*.tflite"), *REPOSITORY.glob("examples/*.jpg")]
    assert len(shipped) >= 6 and {path.relative_to(REPOSITORY).as_posix() for path in shipped} <= set(listed)


def imported(package: str) -> set[str]:
    """The names at the top of what a package imports, anywhere in it."""
    found = set()
    for path in (REPOSITORY / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").split(".")[0])
    return found - set(sys.stdlib_module_names) - set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_imports_is_asked_for(package: str) -> None:
    """By the base, or by the extra of its commands: what another dependency happens to bring may be gone tomorrow."""
    asked = [*PROJECT["dependencies"]]
    for extra in EXTRAS.get(package, EVERY):
        asked += PROJECT["optional-dependencies"][extra]
    names = {plain(re.split(r"[<>=\[ ]", one)[0]) for one in asked}
    owners = top_level()
    missing = {name for name in imported(package) if name in owners and not owners[name] & names}
    assert not missing, f"{package} imports {missing}, which no extra of pyproject.toml asks for"


def built(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(REPOSITORY)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode and any(
        sign in done.stderr for sign in ("Retrying", "ConnectionError", "Name or service")
    ):
        pytest.skip("no package index can be reached to fetch hatchling")
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("kerbside-*.whl")
    assert wheel.name == f"kerbside-{VERSION}-py3-none-any.whl"
    return wheel


@pytest.mark.slow
def test_the_wheel_segments_in_an_empty_environment(tmp_path: Path) -> None:
    """Base alone: no TensorFlow, none of this checkout, and the model by its name from the package."""
    wheel = built(tmp_path)
    assert wheel.stat().st_size < 17e6
    files = [path for name in PACKAGES for path in (REPOSITORY / name).rglob("*") if path.is_file()]
    sources = {path.relative_to(REPOSITORY).as_posix() for path in files if path.suffix != ".pyc"}
    with zipfile.ZipFile(wheel) as archive:
        assert sources <= set(archive.namelist())  # the page's scripts and the reports' templates too
    environment = tmp_path / "env"
    venv.create(environment, with_pip=True)
    python, command = environment / "bin" / "python", environment / "bin" / "kerbside"
    succeeded(python, "-m", "pip", "install", "-q", str(wheel), cwd=tmp_path)
    image = REPOSITORY / "examples" / "rain.jpg"
    arguments = ["run", f"models/{MODEL}", str(image), "--out", "out"]
    succeeded(command, *arguments, cwd=tmp_path)
    ids = cv2.imread(str(tmp_path / "out" / "rain_mask.png"), cv2.IMREAD_UNCHANGED)
    ours = Segmenter(REPOSITORY / "models" / MODEL).segment(read_rgb(image)).ids
    assert ids.shape == ours.shape and (ids == ours).mean() > 0.999
    assert succeeded(command, "--version", cwd=tmp_path).strip() == VERSION
    frozen = succeeded(python, "-m", "pip", "freeze", cwd=tmp_path).lower()
    assert "numpy" in frozen and not re.search("tensorflow|keras|streamlit|pillow", frozen)
    where = succeeded(python, "-c", "import kerbside, runtime; print(runtime.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(environment)
    refused = subprocess.run([command, "train", "unet"], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 2 and "pip install '.[train]'" in refused.stderr
