"""Videos of strangers: only containers that hold their own frames are opened, in a process with bounds."""

import os
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import confined, containers
from runtime.confined_video import segment_safely
from runtime.errors import UserError
from runtime.video import checked_video
from tests.shared import CASES, present

OPTIONS = {"most_frames": 100, "most_pixels": 4096 * 2304, "opacity": 0.5, "smooth": 1}


def written(path: Path, codec: str, frames: int = 4) -> bytes:
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), 25.0, (64, 48))
    assert writer.isOpened()
    noise = np.random.default_rng(0)
    for _ in range(frames):
        writer.write(noise.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    return path.read_bytes()


@pytest.mark.parametrize(
    ("suffix", "codec", "name"),
    [
        (".mp4", "mp4v", "MP4 or MOV"),
        (".mov", "mp4v", "MP4 or MOV"),
        (".m4v", "mp4v", "MP4 or MOV"),
        (".avi", "MJPG", "AVI"),
        (".mkv", "MJPG", "MKV or WebM"),
        (".webm", "VP80", "MKV or WebM"),
        (".mpg", "PIM1", "MPEG"),
        (".ts", "mp4v", "MPEG"),
    ],
)
def test_every_container_is_known_by_its_content(tmp_path, suffix, codec, name):
    data = written(tmp_path / f"a{suffix}", codec, 50 if suffix == ".ts" else 4)
    assert containers.container(data[:400]) == name
    (tmp_path / "of no name").write_bytes(data)
    capture = containers.opened(tmp_path / "of no name")
    assert capture.read()[0]
    capture.release()


OTHERS = {
    "ffconcat": b"ffconcat version 1.0\nfile film.mkv\n",
    "HLS": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n",
    "DASH": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    "SDP": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "text": b"words " * 100,
    "a PNG": bytes(cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1]),
    "nothing": b"",
    "RIFF of another kind": b"RIFF\x10\0\0\0WAVEfmt ",
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_names_other_files_or_is_no_video_is_refused_unopened(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", None)  # to call it would be an error of another type
    path = tmp_path / "film.mkv"
    path.write_bytes(OTHERS[kind])
    with pytest.raises(
        UserError, match="film.mkv is no video that is read here; MP4 or MOV, MKV or WebM, AVI"
    ):
        containers.opened(path)


def test_ffmpeg_itself_is_told_what_it_may_open(tmp_path, monkeypatch):
    """Should a text ever pass as a container: FFmpeg has been told which demuxers it has."""
    written(tmp_path / "a.mp4", "mp4v")
    (tmp_path / "list.mkv").write_text("ffconcat version 1.0\nfile a.mp4\n", encoding="utf-8")
    monkeypatch.setenv(containers.VARIABLE, "")
    assert cv2.VideoCapture(str(tmp_path / "list.mkv"), cv2.CAP_FFMPEG).isOpened()
    monkeypatch.setattr(containers, "container", lambda start: "AVI")
    with pytest.raises(UserError, match="cannot be read as a video"):
        containers.opened(tmp_path / "list.mkv")
    assert "protocol_whitelist;file" in os.environ[containers.VARIABLE]


def test_options_of_the_user_stay(tmp_path, monkeypatch):
    written(tmp_path / "a.mp4", "mp4v")
    monkeypatch.setenv(containers.VARIABLE, "threads;1")
    for _ in range(2):
        containers.opened(tmp_path / "a.mp4").release()
    assert os.environ[containers.VARIABLE].split("|") == ["threads;1", *containers.OPTIONS]


def test_frames_beyond_the_limit_are_refused_by_the_header(tmp_path, monkeypatch):
    written(tmp_path / "a.mp4", "mp4v")
    monkeypatch.setattr(containers, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(UserError, match="frames of 64x48 pixels"):
        checked_video(tmp_path / "a.mp4", "a.mp4", 100, 10**9)


def test_a_video_is_segmented_in_a_process_of_its_own(model, tmp_path):
    lines: list[str] = []
    data = written(tmp_path / "a.mp4", "mp4v")
    made = segment_safely(model, data, "drive.mp4", OPTIONS, lines.append)
    assert made.facts["video"] == "drive.mp4" and made.facts["frames"] == 4 and len(lines) == 4
    (tmp_path / "o.webm").write_bytes(made.video)
    assert containers.container(made.video[:400]) == "MKV or WebM"
    capture = containers.opened(tmp_path / "o.webm")
    assert capture.read()[1].shape == (48, 64, 3)
    with pytest.raises(UserError, match="drive.mp4 has 4 frames; up to 3"):
        segment_safely(model, data, "drive.mp4", {**OPTIONS, "most_frames": 3}, lines.append)
    with pytest.raises(UserError, match="my drive.mp4 cannot be read as a video"):
        segment_safely(model, data[:200], "my drive.mp4", OPTIONS, lines.append)


def test_the_video_that_was_found(model):
    path = present(CASES / "film.mkv")
    start = time.monotonic()
    with pytest.raises(UserError, match="film.mkv is no video that is read here"):
        segment_safely(model, path.read_bytes(), "film.mkv", OPTIONS, print)
    assert time.monotonic() - start < 10


TIGHT = confined.Bounds(megabytes=600, seconds=4, silence=3)


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("memory", "needed more than 600 MB of memory"),
        ("abort", "ended by signal 6"),
        ("silence", "took longer than 3 s"),
        ("talk", "took longer than 4 s"),
        ("sentence", "^x.mp4 is damaged; copy it again.$"),
        ("traceback", "ended with code 1"),
        ("deaf", "did not end"),
    ],
)
def test_a_child_that_does_not_end_well_is_one_sentence(way, words, monkeypatch):
    children = []
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: children.append(real(*a, **k)) or children[-1])
    with pytest.raises(UserError, match=words) as caught:
        confined.run("tests.bounded_child", [way], "film.mp4", TIGHT)
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)
    assert children[0].poll() is not None  # it has ended


def test_a_child_that_ends_well():
    assert confined.run("tests.bounded_child", ["well"], "x", TIGHT) == ["begun"]
