"""What is said in one place only, and how files become whole: runtime/files.py, encoding.py and strict_json.py."""

import base64
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from app import frontend
from runtime import strict_json
from runtime.encoding import data_uri, encoded
from runtime.files import file_sha256, write_json, write_together, write_whole

ROOT = Path(__file__).parents[1]
ROOMS = ("runtime", "app", "training", "evaluation", "drawing", "export", "zoo", "benchmarks")
ONCE = {
    "os.fsync(": {"runtime/files.py"},
    "hashlib.file_digest(": {"runtime/files.py"},
    "base64.b64encode(": {"runtime/encoding.py"},
    "allow_nan=False": {"runtime/strict_json.py", "export/provenance.py"},
    '"kerbside.json"': {"runtime/bundle.py"},
    '"labels.txt"': {"runtime/bundle.py"},
    # Of HTML, CSS and JavaScript, which are files of their own.
    "<style": set(),
    "<html": set(),
    "document.": set(),
    "export default": set(),
}


@pytest.mark.parametrize("words", ONCE)
def test_it_is_said_in_one_place(words):
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 150
    users = {path.relative_to(ROOT).as_posix() for path in files if words in path.read_text(encoding="utf-8")}
    assert users == ONCE[words]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(os, "fsync", lambda handle: told.append(os.readlink(f"/proc/self/fd/{handle}")))
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (told.append("renamed"), real(old, new)))
    write_whole(tmp_path / "a" / "x.bin", b"one", memoryview(b"two"))
    part, renamed, folder = told
    assert Path(part).parent == tmp_path / "a" and Path(part).suffix == ".bin" and renamed == "renamed"
    assert folder == str(tmp_path / "a")
    assert (tmp_path / "a" / "x.bin").read_bytes() == b"onetwo"
    told.clear()
    write_together({tmp_path / "y": b"1", tmp_path / "z": b"2"})  # of one image of many: not flushed
    assert told == ["renamed"] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "y", "z"]


def test_a_number_that_does_not_exist_is_null_in_json(tmp_path):
    value = {"a": [float("nan"), (float("inf"), 1.5)], "b": {"c": np.float64("nan")}, "d": "NaN", "e": True}
    write_json(tmp_path / "a.json", value)
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert found == {"a": [None, [None, 1.5]], "b": {"c": None}, "d": "NaN", "e": True}
    assert strict_json.written({"a": 1}) == b'{\n  "a": 1\n}\n'


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(("kind", "begins"), [(".png", b"\x89PNG"), (".jpg", b"\xff\xd8")])
def test_an_address_holds_the_whole_image(kind, begins):
    image = np.zeros((4, 6, 3), np.uint8)
    head, _, body = frontend.address(image, kind).partition(",")
    assert head == f"data:image/{'png' if kind == '.png' else 'jpeg'};base64"
    assert base64.b64decode(body) == encoded(image, kind) and base64.b64decode(body).startswith(begins)
    assert data_uri(encoded(image, kind)) == f"{head},{body}"


def test_the_files_of_the_page_stand_beside_its_code():
    """Where they are found in an installed package too."""
    there = {path.name for path in frontend.FOLDER.iterdir()}
    parts = {
        f"{name}.{kind}"
        for name in ("canvas", "picker", "timeline", "viewer")
        for kind in ("html", "css", "js")
    }
    parts |= {"viewer_ids.js", "viewer_keys.js", "viewer_panes.js", "page.css", "scores.css"}
    assert parts <= there and frontend.FOLDER.parent.name == "app"
