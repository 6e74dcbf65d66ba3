"""Names in any script: on consoles that lack their letters, and in charts."""

import io
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from evaluation import chart_fonts
from evaluation.report import chart_images
from runtime.errors import UserError, exit_on_user_error
from runtime.figures import confusion_image
from tests.tiny import REPOSITORY
from training.data import sample_sheet
from training.data.spec import DatasetSpec

CHINESE = ("\u9053\u8def", "\u8f66", "sky")  # road, car
NO_COMMANDS = {"first_run.py"}  # what another process of ours starts
SPEC = DatasetSpec("own", CHINESE, ((0, 0, 0), (255, 0, 0), (0, 0, 255)), ("train",), (16, 24))


def test_a_console_without_the_letters_gets_them_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """cp1252, the usual one of Windows, for output and for the sentence of an error."""
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="cp1252") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)

    def main() -> int:
        print(f"{CHINESE[0]}: \u00e9")
        raise UserError(f"{CHINESE[1]} is no class")

    assert exit_on_user_error(main) == 2
    monkeypatch.undo()
    written = {}
    for name, stream in streams.items():
        stream.flush()
        written[name] = stream.detach().getvalue()  # type: ignore[attr-defined]
    assert written["stdout"].split() == [b"\\u9053\\u8def:", b"\xe9"]
    assert written["stderr"].startswith(b"error: \\u8f66 is no class")


def test_every_command_goes_through_the_one_door_that_sees_to_consoles_and_memory() -> None:
    for room in ("zoo", "training", "export", "runtime", "examples"):
        for path in (REPOSITORY / room).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if path.name in NO_COMMANDS:
                continue
            if re.search(r"^if __name__ == .__main__.:", text, re.MULTILINE):
                assert "sys.exit(exit_on_user_error(main" in text, path


def test_when_memory_ends_there_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        return len(np.zeros((2**20, 2**20, 2**6)))  # 512 TiB

    assert exit_on_user_error(main) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: there is not enough memory") and said.count("\n") == 1


@pytest.mark.slow
def test_a_whole_command_on_cp1252(tmp_path: Path) -> None:
    """It prints the names, and draws them with a legend."""
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for index in range(3):
            cv2.imwrite(str(tmp_path / kind / f"{index}.png"), np.full((40, 60), index, np.uint8))
    (tmp_path / "classes.json").write_text(json.dumps(CHINESE), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "training.data.inspect", "folder", "--data-dir", ".", "--out", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert rb"\u9053\u8def" in done.stdout and b"Glyph" not in done.stderr
    assert (tmp_path / "out/samples.png").exists()


def test_the_page_s_matrix_has_the_letters() -> None:
    """OpenCV brings a font for them: two names do not look alike, as two boxes would."""
    matrix = np.array([[5, 1], [0, 3]])
    drawn = [confusion_image(matrix, (name, "sky")) for name in (CHINESE[1], "\u6865", "\u6865")]
    assert (drawn[0] != drawn[1]).any() and (drawn[1] == drawn[2]).all()


@pytest.mark.parametrize("installed", [True, False])
def test_charts_draw_every_name_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    """With a font for it where there is one, as \\uXXXX elsewhere; the letters are matplotlib's own there."""
    if installed and len(chart_fonts.families()) == 1:
        pytest.skip("no font with Chinese letters is installed")
    if not installed:
        monkeypatch.setattr(chart_fonts, "OTHERS", ())
        for cached in (chart_fonts.families, chart_fonts._letters):
            cached.cache_clear()
            monkeypatch.setattr(chart_fonts, cached.__name__, cached)
        assert chart_fonts.drawable(f"{CHINESE[0]}\nsky \u00e9") == "\\u9053\\u8def\nsky \u00e9"
    matrix = np.array([[5, 1, 0], [0, 3, 1], [2, 0, 9]])
    bounds = [(1.0, 2.0)] * 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in (
            chart_images.confusion(matrix, CHINESE, CHINESE[0]),
            chart_images.bars(CHINESE, [0.5, 0.2, 0.1], CHINESE[1]),
            chart_images.intervals(CHINESE, [("mIoU", [1.5] * 3, bounds)]),
        ):
            assert chart_images.png(figure).startswith(b"\x89PNG")
        rgb, ids = np.zeros((16, 24, 3), np.uint8), np.zeros((16, 24), np.uint8)
        sample_sheet.draw(tmp_path / "samples.png", [(f"train/{CHINESE[0]}", rgb, ids)], SPEC)
    for cached in (chart_fonts.families, chart_fonts._letters):
        cached.cache_clear()
