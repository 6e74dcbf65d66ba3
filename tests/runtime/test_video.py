"""Videos and long folders: steady classes, files that end early, names that are asked for, memory that stays."""

import json
import os
import subprocess
import sys
import threading
from functools import partial

import cv2
import numpy as np
import pytest

from runtime.__main__ import main
from runtime.errors import UserError
from runtime.segmenter import Segmentation, Segmenter
from runtime.steady import steady
from runtime.video import segment_video
from tests.tiny import REPOSITORY, called
from tests.tiny_tflite import frames_of, sample_image, video

run = partial(called, main)


def test_a_class_is_shown_once_it_was_seen_often_enough_in_a_row():
    hold = steady(3)
    seen = [0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 0, 0, 2, 0, 2, 2, 2]
    shown = [int(hold(np.full((2, 3), value, np.uint8))[1, 2]) for value in seen]
    assert shown == [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2]


def test_each_pixel_is_held_by_itself_and_a_new_size_starts_anew():
    hold = steady(2)
    hold(np.array([[0, 0]], np.uint8))
    assert hold(np.array([[1, 0]], np.uint8)).tolist() == [[0, 0]]
    assert hold(np.array([[1, 1]], np.uint8)).tolist() == [[1, 0]]
    assert hold(np.array([[2, 2, 2]], np.uint8)).tolist() == [[2, 2, 2]]


def test_one_frame_shows_each_as_it_is_and_long_videos_do_not_overflow():
    hold = steady(1)
    for value in (0, 1, 0, 2):
        assert hold(np.full((1, 1), value, np.uint8))[0, 0] == value
    hold = steady(255)
    for _ in range(600):
        assert hold(np.zeros((1, 1), np.uint8))[0, 0] == 0
    assert [int(hold(np.ones((1, 1), np.uint8))[0, 0]) for _ in range(255)] == [0] * 254 + [1]


@pytest.mark.parametrize("frames", [0, 256])
def test_frames_to_wait_are_1_to_255(frames):
    with pytest.raises(UserError, match=f"--smooth is {frames}; it has to be 1"):
        steady(frames)


def test_frames_of_another_shape_are_placed_as_asked(model, tmp_path, capsys):
    video(tmp_path / "wide.mp4", 3, size=(64, 32))  # 2:1 before a model of 3:2
    for asked, used in ((), "letterbox"), (("--fit", "tiles"), "tiles"):
        assert run(model, tmp_path / "wide.mp4", "--out", tmp_path / used, *asked) == 0
        facts = json.loads((tmp_path / used / "wide.json").read_text(encoding="utf-8"))
        assert facts["fit"] == used and facts["size"] == [32, 64]
        assert {row["name"]: row["share"] for row in facts["classes"]} == {"green": 0.5, "blue": 0.5}
    video(tmp_path / "strip.mp4", 2, size=(1600, 8))
    capsys.readouterr()
    assert run(model, tmp_path / "strip.mp4", "--out", tmp_path / "o", "--fit", "tiles") == 2
    assert f"{tmp_path / 'strip.mp4'}: an image of 1600x8 pixels takes" in capsys.readouterr().err
    assert not (tmp_path / "o" / "strip.json").exists()


def test_a_video_gets_the_name_asked_for(model, tmp_path, capsys):
    video(tmp_path / "drive.mp4", 9)
    assert run(model, tmp_path / "drive.mp4", "--out", tmp_path / "o" / "seen.mp4", "--smooth", 3) == 0
    facts = json.loads((tmp_path / "o" / "seen.json").read_text(encoding="utf-8"))
    assert facts["frames"] == 9 and facts["smooth"] == 3 and not facts["cut_off"]
    assert set(facts["seconds_busy"]) == {"decode", "segment", "encode"}
    assert len(frames_of(tmp_path / "o" / "seen.mp4")) == 9
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["seen.json", "seen.mp4"]
    assert "9 frames" in capsys.readouterr().out


def test_a_video_that_is_cut_off_is_said_and_what_it_holds_is_kept(model, tmp_path, capsys):
    whole = tmp_path / "whole.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 12.0, (48, 32))
    for number in range(60):
        writer.write(np.full((32, 48, 3), number, np.uint8))
    writer.release()
    (tmp_path / "cut.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert run(model, tmp_path / "cut.avi", "--out", tmp_path / "o") == 2
    facts = json.loads((tmp_path / "o" / "cut.json").read_text(encoding="utf-8"))
    assert facts["cut_off"] and facts["frames_expected"] == 60 and 10 < facts["frames"] < 40
    assert len(frames_of(tmp_path / "o" / "cut_overlay.mp4")) == facts["frames"]
    assert f"announces 60 frames and holds {facts['frames']}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["IMAGE", "--out", "x.mp4"], "is a video's name, but the input is none"),
        (["VIDEO", "--out", "x.avi"], "videos are written as .mp4"),
        (["VIDEO", "--out", "VIDEO"], "is the video itself"),
        (["VIDEO", "--out", "o", "--polygons", "coco"], "--polygons is for images"),
        (["IMAGE", "--out", "o", "--smooth", "3"], "--smooth is for videos"),
        (["VIDEO", "--out", "o", "--smooth", "0"], "--smooth is 0"),
    ],
)
def test_what_does_not_go_together_is_said(model, tmp_path, capsys, arguments, words):
    video(tmp_path / "drive.mp4", 3)
    sample_image(tmp_path / "street.png")
    names = {"VIDEO": tmp_path / "drive.mp4", "IMAGE": tmp_path / "street.png"}
    before = (tmp_path / "drive.mp4").read_bytes()
    assert run(model, *(names.get(one, one) for one in arguments)) == 2
    assert words in capsys.readouterr().err and (tmp_path / "drive.mp4").read_bytes() == before


def test_drawing_and_segmenting_have_threads_of_their_own(model, tmp_path, monkeypatch):
    video(tmp_path / "drive.mp4", 5)
    threads: dict[str, set[int]] = {"segment": set(), "overlay": set()}

    def noting(name, real):
        def noted(*what):
            threads[name].add(threading.get_ident())
            return real(*what)

        return noted

    monkeypatch.setattr(Segmenter, "segment", noting("segment", Segmenter.segment))
    monkeypatch.setattr(Segmentation, "overlay", noting("overlay", Segmentation.overlay))
    places = (tmp_path / "drive.mp4", tmp_path / "o.mp4", tmp_path / "o.json")
    facts = segment_video(Segmenter(model), *places, 0.5, lambda text: None)
    assert facts["frames"] == 5 and threads["segment"] == {threading.get_ident()}
    assert len(threads["overlay"]) == 1 and threads["overlay"] != threads["segment"]


MEMORY = """
import resource, sys
from runtime.__main__ import main
code = main(sys.argv[1:])
print("KiB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


@pytest.mark.slow
def test_ten_thousand_images_take_the_memory_of_five_hundred(model, tmp_path):
    sample_image(tmp_path / "one.png")
    kib = {}
    for count in (500, 10_000):
        folder = tmp_path / f"in{count}"
        folder.mkdir()
        for number in range(count):
            os.link(tmp_path / "one.png", folder / f"{number:05d}.png")
        command = [
            sys.executable,
            "-c",
            MEMORY,
            str(model),
            str(folder),
            "--out",
            str(tmp_path / f"o{count}"),
        ]
        done = subprocess.run(
            [*command, "--polygons", "coco,geojson"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        kib[count] = int(done.stdout.split("KiB")[1])
        assert f"{count} images" in done.stdout
    # What grows is the list of names, some 2 kB an image; kept results would be megabytes.
    assert kib[10_000] - kib[500] < 40_000
    coco = json.loads((tmp_path / "o10000" / "annotations_coco.json").read_text(encoding="utf-8"))
    assert len(coco["images"]) == 10_000 and len(coco["annotations"]) == 30_000
