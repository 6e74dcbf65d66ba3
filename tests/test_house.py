"""Who may import whom: zoo <- training <- export, and runtime is a leaf (docs/architecture.md)."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"tensorflow", "keras", "keras_cv", "tensorflow_datasets"}
BACKENDS = {"tensorflow", "jax", "torch"}
REFERENCES = {
    "torchvision",
    "transformers",
    "timm",
    "segmentation_models_pytorch",
    "mmseg",
    "mmengine",
    "keras_hub",
}
# What the files of a room must not import; a test for each. A room within a room is judged by its own row.
FORBIDDEN = {
    "zoo": BACKENDS | {"training", "export", "streamlit", "h5py", "pathlib", "os", "io"},
    # The one place of the zoo that reads files: those of public checkpoints, which ask for no other library.
    "zoo/convert": BACKENDS | REFERENCES | {"training", "export", "streamlit"},
    "training": {"export", "streamlit"},
    "export": {"streamlit"},
    "runtime": HEAVY | {"zoo", "training", "export", "streamlit"},
    "training/metrics.py": HEAVY | {"zoo", "export"},
    "training/data/spec.py": HEAVY | {"zoo", "export"},
    "streamlit_app.py": HEAVY | {"zoo", "export"},
    "app": HEAVY | {"zoo", "export"},
}


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the room's name"
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_only_what_it_may(room):
    path = ROOT / room
    if not path.exists():
        pytest.skip(f"{room} is not there yet")
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    inner = [ROOT / other for other in FORBIDDEN if other.startswith(f"{room}/") and (ROOT / other).is_dir()]
    files = [file for file in files if not any(file.is_relative_to(other) for other in inner)]
    assert files
    for file in files:
        forbidden = imported(file) & FORBIDDEN[room]
        assert not forbidden, f"{file.relative_to(ROOT)} imports {', '.join(sorted(forbidden))}"


def test_keras_cv_is_imported_only_when_a_backbone_of_it_is_built():
    tree = ast.parse((ROOT / "zoo/backbones/keras_cv.py").read_text(encoding="utf-8"))
    at_the_top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not any("keras_cv" in ast.dump(node) for node in at_the_top)


def test_the_light_modules_load_neither_tensorflow_nor_keras():
    """The static test cannot see what a package's __init__ drags in."""
    code = (
        "import sys, runtime.errors, training.metrics, training.data.spec\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_no_utils_module():
    assert not [path for path in ROOT.glob("*/**/utils.py") if ".venv" not in path.parts]


def test_no_two_layers_have_one_registered_name():
    """Keras would hand one out for the other, without a word, when a model is rebuilt from its configuration."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "zoo").rglob("*.py")]
    names = [name for text in texts for name in re.findall(r'serializable\("kerbside"\)\nclass (\w+)', text)]
    assert len(names) > 10 and len(names) == len(set(names))


TEXT_MODES = set("rwaxt+")
OTHER_OPENS = {"Image", "os", "tarfile", "zipfile", "fsspec"}  # their open() takes no encoding, or no mode


def without_encoding(path: Path) -> list[int]:
    """The lines of a file that read or write text in the locale's encoding."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        method = isinstance(node.func, ast.Attribute)
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        mode = node.args[0 if method else 1 :][:1]
        text = not mode or (isinstance(mode[0], ast.Constant) and set(str(mode[0].value)) <= TEXT_MODES)
        owner = getattr(getattr(node.func, "value", None), "id", "")
        opens = name == "open" and text and owner not in OTHER_OPENS
        if opens or (method and name in ("read_text", "write_text")):
            found.append(node.lineno)
    return found


def test_text_is_utf_8_and_not_what_the_locale_says():
    """A list of images, a recipe or a page of results has to read the same on Windows and under LC_ALL=C."""
    files = [path for path in ROOT.rglob("*.py") if ".venv" not in path.parts]
    assert len(files) > 200
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in files
        if not path.is_relative_to(ROOT / "tests") or not path.name.startswith("test_")
        for line in without_encoding(path)
    ]
    assert not found, f'say encoding="utf-8" in {", ".join(found)}'
