"""The console command and the face: what `kerbside ...` and `import kerbside` are."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import kerbside
from kerbside import __main__ as command
from runtime import installation
from runtime.errors import UserError
from runtime.version import VERSION
from tests.tiny import REPOSITORY, environment, run

# What `import cv2` says on a bare Debian.
NO_LIBRARY = "libGL.so.1: cannot open shared object file: No such file or directory"


def printed(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = {"tensorflow", "keras", "cv2", "numpy", "ai_edge_litert", "zoo", "training", "export"}
    assert printed(f"import sys, kerbside; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_each_name_is_the_one_of_its_package() -> None:
    import zoo
    from runtime.segmenter import Segmenter

    assert kerbside.build is zoo.build and kerbside.Segmenter is Segmenter
    assert kerbside.__version__ == VERSION
    assert all(getattr(kerbside, name) for name in kerbside.__all__)
    with pytest.raises(AttributeError, match="it has Segmenter, "):
        kerbside.nothing  # noqa: B018


@pytest.mark.parametrize(
    "name, module",
    [("train", "training.train"), ("evaluate", "training.evaluate"), ("export", "export.__main__")],
)
def test_keywords_are_flags(monkeypatch: pytest.MonkeyPatch, name: str, module: str) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(f"{module}.main", seen.append)
    flags = {"data_dir": Path("a"), "size": ["2x3", "4x5"], "skip_bad": True, "out": None, "fresh": False}
    assert getattr(kerbside, name)("x", **flags) == 0
    assert seen == [["x", "--data-dir", "a", "--size", "2x3", "4x5", "--skip-bad"]]


def test_bad_input_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        kerbside.export(tmp_path / "nowhere")  # type: ignore[arg-type]


def test_every_command_is_a_module_that_can_be_started() -> None:
    for module, extra, _ in command.COMMANDS.values():
        found = importlib.util.find_spec(module)
        assert found and found.origin, module
        started = Path(found.origin)
        started = started.with_name("__main__.py") if started.name == "__init__.py" else started
        assert module == "streamlit" or 'if __name__ == "__main__":' in started.read_text(encoding="utf-8")
        assert extra in ("", *command.SIGNS)


@pytest.mark.parametrize("name", ["run", "train"])
def test_a_command_says_what_its_module_says(tmp_path: Path, name: str) -> None:
    ours, theirs = (
        run(tmp_path, "kerbside", name, "--help"),
        run(tmp_path, command.COMMANDS[name][0], "--help"),
    )
    assert ours.returncode == theirs.returncode == 0, ours.stderr
    assert ours.stdout == theirs.stdout and "usage: " in ours.stdout


def test_a_command_gives_its_exit_code(tmp_path: Path) -> None:
    done = run(tmp_path, "kerbside", "run", "nothing.tflite", "nothing.png", "--out", "out")
    assert done.returncode == 2 and done.stderr.startswith("error: nothing.png does not exist")


def test_the_page_of_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr("runpy.run_module", lambda module, **_: started.append((module, sys.argv)))
    monkeypatch.setattr("sys.argv", [])
    monkeypatch.setattr("sys.excepthook", sys.excepthook)
    assert command.main(["app", "--server.port", "8600"]) == 0
    page = str(REPOSITORY / "streamlit_app.py")
    flags = ["--server.address", "localhost", "--server.port", "8600"]
    assert started == [("streamlit", ["streamlit", "run", page, *flags])]


def test_what_is_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["fly"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: kerbside has no command 'fly'") and "train, evaluate, compare" in said
    assert command.main([]) == 0
    assert (
        all(name in command.usage() for name in command.COMMANDS)
        and command.usage() in capsys.readouterr().out
    )
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == VERSION


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(command.SIGNS, "train", "a_package_that_is_not_there")
    assert command.main(["export", "runs/x"]) == 2
    assert "pip install '.[train]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("runtime",), ("training.evaluate",), ("export",), ("kerbside", "run"), ("kerbside", "app")]
)
def test_opencv_without_its_libraries_is_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "cv2.py").write_text(f"raise ImportError({NO_LIBRARY!r}, name='cv2')", encoding="utf-8")
    path = f"{tmp_path}:{REPOSITORY}"
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    (line,) = done.stderr.strip().splitlines()
    assert done.returncode == 2 and line.startswith(f"error: OpenCV does not load ({NO_LIBRARY})")
    assert "apt-get install -y libgl1 libglib2.0-0 libxcb1" in line


def test_a_shipped_model_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (ours, *_) = sorted((REPOSITORY / "models").glob("*.tflite"))
    assert installation.model_file(ours.name) == installation.model_file(f"models/{ours.name}") == ours
    elsewhere, unknown = Path("other") / ours.name, Path("models/unknown.tflite")
    assert installation.model_file(elsewhere) == elsewhere  # another folder was meant
    assert installation.model_file(unknown) == unknown
    Path(ours.name).write_bytes(b"")
    assert installation.model_file(ours.name) == Path(ours.name)  # the user's own comes first
