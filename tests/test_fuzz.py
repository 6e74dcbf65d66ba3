"""Damaged files of every kind, each read in a process with 2 GB and 10 s: they are read or refused, and nothing else.

A new reader of files is covered by its line in tests/fuzz_readers.py. More of them, by hand:

    python -m tests.test_fuzz SEED COUNT [READER ...]
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.fuzz_readers import HEAVY, LIGHT, READERS
from tests.tiny import REPOSITORY

EACH = 25  # files a reader
SLOW = ("tflite of others",)  # a process of its own for each file
QUICK = {"light": [name for name in LIGHT if name not in SLOW], "heavy": list(HEAVY)}


def fuzzed(folder: Path, seed: int, count: int, names: list[str]) -> list[dict]:
    """What became of the files, a row a reader; AssertionError names reader, number and file of what broke it."""
    command = [sys.executable, "-m", "tests.fuzz_readers", str(folder), str(seed), str(count), *names]
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, env=environment, errors="replace"
    )
    now = (folder / "now").read_text(encoding="utf-8") if (folder / "now").is_file() else "before the first"
    assert done.returncode == 0 and now == "done", (
        f"seed {seed}: {now} (in {folder}) ended the process with {done.returncode}: {done.stderr[-1500:]}"
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("part", QUICK)
def test_damaged_files_are_read_or_refused(tmp_path, part):
    rows = fuzzed(tmp_path, 1, EACH, QUICK[part])
    assert [row["reader"] for row in rows] == QUICK[part]
    for row in rows:
        assert (
            row["read"] + row["refused"] == EACH or row["reader"] == "pth"
        )  # where PyTorch is not installed
        # The whole files are among them; of `note` the model is cut, so that its hash is another.
        assert row["read"] >= 1 or row["reader"] in ("note", "pth"), row


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files_are_read_or_refused(tmp_path, name):
    (row,) = fuzzed(tmp_path, 2, 60 if name in SLOW else 1500, [name])
    assert row["refused"] > 10 or name in ("pth", "note in a list", "history", "labels"), row


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("raise", "ValueError: invalid literal"),
        ("abort", "ended the process with -6"),
        ("hang", "ended the process with -27"),
        ("memory", "MemoryError"),
    ],
)
def test_a_reader_that_breaks_is_named_with_its_file(tmp_path, way, words, monkeypatch):
    """What the test above would say: each of these is planted into the reader of images."""
    plant = (
        "import os, sys, numpy, tests.fuzz_readers as f, runtime.image\n"
        "ways = {'raise': lambda: int('planted'), 'abort': os.abort, 'hang': lambda: sum(iter(int, 1)),\n"
        "        'memory': lambda: numpy.ones(3 << 30, 'u1')}\n"
        "def bad(path):\n"
        "    if f.Path('now').read_text().split()[1] == '3':\n"
        f"        ways['{way}']()\n"
        "runtime.image.read_rgb = bad\nf.SECONDS = 1\nf.main(*sys.argv[1:])\n"
    )
    real = subprocess.run

    def run(command, **more):
        return real([command[0], "-c", plant, *command[3:]], **more)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(AssertionError, match="seed 1: image 3 a.png") as caught:
        fuzzed(tmp_path, 1, 10, ["image"])
    assert words in str(caught.value)


if __name__ == "__main__":
    for reader in sys.argv[3:] or list(READERS):
        with tempfile.TemporaryDirectory() as place:
            print(*fuzzed(Path(place), int(sys.argv[1]), int(sys.argv[2]), [reader]))
