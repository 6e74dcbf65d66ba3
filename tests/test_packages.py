"""Who may import whom, and how long a file and a function may be (docs/explanation/architecture.md)."""

import ast
import functools
import graphlib
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
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
# What the files of a package must not import. A package within a package is judged by its own row.
FORBIDDEN = {
    "runtime": HEAVY | {"zoo", "drawing", "training", "evaluation", "export", "app", "streamlit"},
    "drawing": HEAVY | {"zoo", "training", "evaluation", "export", "app", "streamlit"},
    "zoo": BACKENDS
    | {"drawing", "training", "evaluation", "export", "app", "streamlit", "h5py", "pathlib", "os", "io"},
    # The one place of the zoo that reads files: those of public checkpoints, which ask for no other library.
    "zoo/convert": BACKENDS
    | REFERENCES
    | {"drawing", "training", "evaluation", "export", "app", "streamlit"},
    "training": {"export", "app", "streamlit"},
    "evaluation": {"export", "app", "streamlit"},
    "export": {"app", "streamlit"},
    "app": HEAVY | {"zoo", "drawing", "training", "export"},
    "streamlit_app.py": HEAVY | {"zoo", "drawing", "training", "evaluation", "export"},
    "evaluation/metrics.py": HEAVY | {"zoo", "export"},
    "training/data/spec.py": HEAVY | {"zoo", "export"},
}
# Packages within training and evaluation, the lowest first: none imports from one that stands further on. What two of
# them need has a row of its own.
LAYERS = (
    ("runtime", "drawing", "zoo"),
    ("training.progress_bar", "training.start_tensorflow", "training.command_line"),
    ("evaluation.metrics", "evaluation.confusion_counts", "evaluation.chart_fonts"),
    ("training.data",),
    ("training.losses", "training.distributed", "training.engine.schedules"),
    ("training.runs",),
    ("evaluation",),
    ("training.tracking", "training.engine"),
    ("evaluation.predictor", "evaluation.cache", "evaluation.translation"),
    ("training", "training.data.inspect", "export"),
)
# Commands: they assemble, and nothing imports them.
COMMANDS = ("training.train", "training.evaluate", "training.compare", "training.data.inspect")
LONGEST_FUNCTION, LONGEST_FILE = 60, 400
OURS = (
    "app",
    "benchmarks",
    "deploy",
    "drawing",
    "evaluation",
    "examples",
    "export",
    "runtime",
    "training",
    "zoo",
)


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the package's name"
            found.add((node.module or "").split(".")[0])
    return found


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    paths = [path for package in OURS for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(paths) > 200
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


@functools.cache
def graph() -> dict[str, set[str]]:
    """Which module of ours imports which, inside functions too."""
    return {name: set(_imports(path)) - {name} for name, path in modules().items()}


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in modules() or node.module in modules():
                    yield whole if whole in modules() else str(node.module)


def layer(module: str) -> int | None:
    """The place in LAYERS of a module: that of the longest name that it begins with."""
    named = [
        (len(name), place)
        for place, row in enumerate(LAYERS)
        for name in row
        if f"{module}.".startswith(f"{name}.")
    ]
    return max(named)[1] if named else None


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_imports_only_what_it_may(package):
    path = ROOT / package
    assert path.exists(), f"{package} is gone: mend this table"
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    inner = [
        ROOT / other for other in FORBIDDEN if other.startswith(f"{package}/") and (ROOT / other).is_dir()
    ]
    files = [file for file in files if not any(file.is_relative_to(other) for other in inner)]
    assert files
    for file in files:
        forbidden = imported(file) & FORBIDDEN[package]
        assert not forbidden, f"{file.relative_to(ROOT)} imports {', '.join(sorted(forbidden))}"


def test_every_name_of_the_tables_is_there():
    for name in (*(name for row in LAYERS for name in row), *COMMANDS):
        assert name in modules(), f"{name} is gone: mend this table"


def test_no_import_points_upwards():
    found = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in others
        if (mine := layer(name)) is not None and (theirs := layer(other)) is not None and theirs > mine
    ]
    assert not found, "\n".join(sorted(found))


def test_nothing_imports_a_command():
    found = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in others
        if (other in COMMANDS or other.endswith(".__main__"))
        and not name.startswith(("benchmarks", "kerbside"))
    ]
    assert not found, "\n".join(sorted(found))


def test_there_is_no_circle():
    """Imports inside functions count too: they only hide it."""
    order = graphlib.TopologicalSorter(graph())
    try:
        order.prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_no_private_name_is_taken_from_another_module():
    found = [
        f"{path.relative_to(ROOT)}:{line} takes {name}"
        for path in modules().values()
        for line, name in _private(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(found)


def _private(tree: ast.Module) -> Iterator[tuple[int, str]]:
    local = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if f"{node.module}.{alias.name}" in modules():
                    local.add(alias.asname or alias.name)
                elif node.module in modules() and alias.name.startswith("_"):
                    yield node.lineno, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            local |= {alias.asname or alias.name for alias in node.names if alias.name in modules()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if ast.unparse(node.value) in local:
                yield node.lineno, f"{ast.unparse(node.value)}.{node.attr}"


def test_no_file_and_no_function_is_too_long():
    found = []
    for path in modules().values():
        text = path.read_text(encoding="utf-8")
        if (lines := len(text.splitlines())) > LONGEST_FILE:
            found.append(f"{path.relative_to(ROOT)} has {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if (lines := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION:
                    found.append(f"{path.relative_to(ROOT)}: {node.name} has {lines} lines")
    assert not found, "\n".join(found)


def test_keras_cv_is_imported_only_when_a_backbone_of_it_is_built():
    tree = ast.parse((ROOT / "zoo/backbones/keras_cv.py").read_text(encoding="utf-8"))
    at_the_top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not any("keras_cv" in ast.dump(node) for node in at_the_top)


def test_the_light_modules_load_neither_tensorflow_nor_keras():
    """The static test cannot see what a package's __init__ drags in."""
    code = (
        "import sys, runtime.errors, evaluation.metrics, training.data.spec\n"
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


PRIVATE = re.compile(r"keras\.src|tensorflow\.python|tensorflow\.lite\.python|_flatten_layers|mlir_quantize")
PRIVATE_FILES = {
    "zoo/keras_private.py",
    "export/tensorflow_private.py",
    "training/distributed/coordination.py",  # TensorFlow's coordination service, and nothing else
}


def test_private_names_of_keras_and_tensorflow_stand_in_their_files_alone():
    found = {
        path.relative_to(ROOT).as_posix()
        for path in modules().values()
        if PRIVATE.search(path.read_text(encoding="utf-8"))
    }
    assert found == PRIVATE_FILES


def test_the_private_names_were_seen_in_the_versions_that_are_installed():
    from export import tensorflow_private
    from zoo import keras_private

    seen = {**tensorflow_private.SEEN_IN, "keras": keras_private.SEEN_IN}
    assert seen == {name: importlib.metadata.version(name) for name in seen}
