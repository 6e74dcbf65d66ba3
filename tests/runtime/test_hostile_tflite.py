"""`.tflite` files of strangers: what is in the archive behind the model, and the model itself."""

import hashlib
import io
import json
import resource
import subprocess
import time
import zipfile
from pathlib import Path

import pytest

from runtime import bundle, first_run, shipped_files
from runtime.bundle import NOTE, foreign_labels, read_bundle, read_note
from runtime.errors import UserError
from runtime.segmenter import Segmenter
from tests.shared import CASES, present

MODEL = b"\x1c\0\0\0TFL3" + bytes(100)  # what begins as a flatbuffer does
FACTS = {
    "format": 1,
    "labels": ["road", "car"],
    "palette": [[128, 64, 128], [0, 0, 142]],
    "ignore_id": 255,
    "output": "mask",
    "size": [8, 12],
    "flatbuffer_bytes": len(MODEL),
    "flatbuffer_sha256": hashlib.sha256(MODEL).hexdigest(),
}


def file(path: Path, *entries: tuple[str, bytes, int], model: bytes = MODEL) -> Path:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data, packed in entries:
            archive.writestr(zipfile.ZipInfo(name), data, packed)
    path.write_bytes(model + buffer.getvalue())
    return path


def noted(path: Path, packed: int = zipfile.ZIP_DEFLATED, **changes) -> Path:
    return file(path, (NOTE, json.dumps({**FACTS, **changes}).encode(), packed))


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_bundle(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600 and str(path) in message
    assert isinstance(read_note(path), dict)  # the list of models is shown all the same
    return message


@pytest.mark.parametrize("packed", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_note_is_read(tmp_path, packed):
    found = read_bundle(noted(tmp_path / "a.tflite", packed))
    assert found.labels == ("road", "car") and found.palette[1] == (0, 0, 142) and found.size == (8, 12)


@pytest.mark.parametrize("packed", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_another_packing_is_refused(tmp_path, packed):
    assert f"packed by method {packed}" in refusal(noted(tmp_path / "a.tflite", packed))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": "road"}, "\"labels\" is 'road', and has to be a list, each text"),
        ({"labels": ["road", 3]}, '"labels" is'),
        ({"palette": [[1, 2], [3, 4, 5]]}, '"palette" is'),
        ({"palette": [[1, 2, 300], [3, 4, 5]]}, "numbers from 0 to 255"),
        ({"size": [8.5, 12]}, '"size" is [8.5, 12]'),
        ({"size": [True, 12]}, '"size" is [True, 12]'),
        ({"flatbuffer_bytes": "many"}, '"flatbuffer_bytes" is'),
        ({"output": "x" * 100_000}, "2 labels, 2 colours, output"),
        ({"format": 2}, "note of format 2"),
        ({"format": "x" * 100_000}, '"format" is'),
        ({"flatbuffer_sha256": "0" * 64}, "is damaged: its model has SHA-256"),
    ],
)
def test_a_note_of_other_types_is_one_sentence(tmp_path, change, words):
    assert words in refusal(noted(tmp_path / "a.tflite", **change))


def test_the_results_tab_lists_what_holds_and_leaves_out_the_rest(tmp_path):
    noted(tmp_path / "a.tflite", labels=3, scores={"miou": "high", "split": "val", "pixel_accuracy": True})
    noted(tmp_path / "b.tflite", scores={"miou": 0.5})
    file(tmp_path / "c.tflite", *((f"{n}.txt", b"", 0) for n in range(1500)))
    first, second, third = shipped_files.rows(tmp_path)
    assert first["classes"] is None and first["miou"] is None and first["split"] == "val"
    assert first["pixel_accuracy"] is None and second["miou"] == 0.5 and third["model"] is None


def test_an_archive_of_many_or_large_entries_is_bounded(tmp_path):
    path = file(tmp_path / "many.tflite", *((f"{n}.txt", b"", 0) for n in range(1500)))
    assert "has 1500 entries" in refusal(path)
    path = file(
        tmp_path / "few.tflite", *((f"{n}.txt", bytes(3_900_000), zipfile.ZIP_DEFLATED) for n in range(60))
    )
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    assert "60 entries, of which 234.0 MB would be read" in refusal(path)
    assert read_note(path) == {}
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert grown < 100_000 and time.monotonic() - start < 5
    large = file(tmp_path / "large.tflite", ("a.txt", bytes(bundle.MAX_NOTE_BYTES + 1), zipfile.ZIP_DEFLATED))
    assert read_bundle(large) is None and foreign_labels(large) is None


def test_a_label_of_megabytes_is_cut(tmp_path):
    path = file(tmp_path / "a.tflite", ("labels.txt", b"x" * 3_000_000 + b"\nroad", zipfile.ZIP_DEFLATED))
    assert [len(label) for label in foreign_labels(path)] == [200, 4]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deep_json.tflite", "nests deeper than 64 levels"),
        ("bad_utf8_name.tflite", "the archive at its end cannot be read"),
        ("lzma_bad.tflite", "packed by method 14"),
        ("zip_bomb_bz2.tflite", "has 1500 entries"),
        ("foreign_abort.tflite", "ended by signal 6"),
    ],
)
def test_the_files_that_were_found(name, words):
    path = present(CASES / name)
    with pytest.raises(UserError, match=words):
        Segmenter(path)


def test_another_s_file_is_tried_once_and_ours_never(tmp_path, monkeypatch):
    started = []
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(a) or real(*a, **k))
    foreign = tmp_path / "foreign.tflite"
    foreign.write_bytes(MODEL)
    for expected in (1, 1):  # LiteRT refuses it in words, and these come from the loading after the trial
        with pytest.raises(UserError, match="LiteRT|truncated or damaged TFLite"):
            Segmenter(foreign)
        assert len(started) == expected
    foreign.write_bytes(MODEL + b"x")
    with pytest.raises(UserError):
        Segmenter(foreign, trusted=True)
    assert len(started) == 1
    with pytest.raises(UserError):
        Segmenter(noted(tmp_path / "ours.tflite"))
    assert len(started) == 1
    first_run._PASSED.discard((hashlib.sha256(MODEL).hexdigest(), 2))
