"""`python -m runtime` on an address and on a camera that is not there."""

import functools
import http.server
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime import streams
from runtime.__main__ import main
from runtime.errors import exit_on_user_error

GREEN = 20  # frames


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Frames of plain green, which the tiny model calls class 1."""
    path = tmp_path / "sent" / "clip.mp4"
    path.parent.mkdir()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (48, 32))
    for _ in range(GREEN):
        writer.write(np.full((32, 48, 3), (0, 200, 0), np.uint8))
    writer.release()
    return path


@pytest.fixture
def address(clip: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None: ...

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(clip.parent))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://me:secret@127.0.0.1:{server.server_port}/clip.mp4"
    server.shutdown()
    server.server_close()


def test_what_is_a_stream() -> None:
    for text in ("0", "12", "/dev/video3", "rtsp://10.0.0.2/live", "udp://@:5000", "HTTP://x/y.mp4"):
        assert streams.is_stream(text), text
    for text in ("street.jpg", "./0", "photos", "file:///etc/passwd", "concat://a|b", "/dev/null", "1234"):
        assert not streams.is_stream(text), text


def test_a_password_is_not_shown() -> None:
    assert streams.shown("rtsp://me:secret@cam.local/live?token=1") == "rtsp://cam.local/live"
    assert streams.stem("rtsp://me:secret@cam.local/live/1") == "cam_local_live_1"
    assert streams.shown("/dev/video0") == "camera /dev/video0" and streams.stem("/dev/video0") == "camera0"


def test_an_address_is_segmented_to_its_end_and_up_to_some_frames(model, address, tmp_path, capsys) -> None:
    for frames, wanted in ((None, GREEN), (5, 5)):
        out = tmp_path / f"out{frames}"
        words = [] if frames is None else ["--frames", str(frames)]
        assert main([str(model), address, "--out", str(out), *words]) == 0
        facts = json.loads((out / "127_0_0_1_clip_mp4.json").read_text(encoding="utf-8"))
        assert facts["frames"] == wanted and [row["name"] for row in facts["classes"]] == ["green"]
        assert (out / "127_0_0_1_clip_mp4_overlay.mp4").stat().st_size > 0
        assert "secret" not in json.dumps(facts) + "".join(capsys.readouterr())


def test_a_play_list_leads_to_no_file_of_this_machine(model, clip, address, tmp_path, capsys) -> None:
    (clip.parent / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{clip}\n#EXT-X-ENDLIST\n", encoding="utf-8"
    )
    there = address.replace("clip.mp4", "list.m3u8")
    assert exit_on_user_error(main, [str(model), there, "--out", str(tmp_path / "out")]) == 2
    assert "list.m3u8 gives no picture: is the address right" in capsys.readouterr().err


def test_nothing_is_sent(model, tmp_path, capsys) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for source, told in (
        (f"http://127.0.0.1:{port}/x.mp4", "gives no picture: is the address right"),
        ("/dev/video97", "camera /dev/video97 gives no picture: is a camera plugged in and free?"),
    ):
        assert exit_on_user_error(main, [str(model), source, "--out", str(tmp_path / "out")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
    assert exit_on_user_error(main, [str(model), "0", "--frames", "0", "--out", str(tmp_path / "out")]) == 2
    assert "--frames is 0; it has to be 1 or more" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_a_live_stream_over_udp_ends_at_the_frames_asked_for(model, clip, tmp_path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = f"udp://127.0.0.1:{port}"
    sender = subprocess.Popen(
        ["ffmpeg", "-v", "quiet", "-re", "-stream_loop", "-1", "-i", clip]
        + ["-c:v", "mpeg2video", "-g", "5", "-f", "mpegts", f"{there}?pkt_size=1316"]
    )
    try:
        assert main([str(model), there, "--out", str(tmp_path / "out"), "--frames", "30"]) == 0
    finally:
        sender.kill()
        sender.wait()
    facts = json.loads((tmp_path / "out" / "127_0_0_1.json").read_text(encoding="utf-8"))
    assert facts["frames"] == 30 and facts["classes"][0]["name"] == "green"
