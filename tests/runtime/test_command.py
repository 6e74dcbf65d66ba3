"""`python -m runtime` and `python -m runtime.benchmark`: what they write, say and return."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import cv2
import numpy as np
import pytest

from runtime import benchmark
from runtime.__main__ import main
from runtime.errors import UserError, exit_on_user_error
from runtime.files import WRITING, whole_file
from tests import tiny_tflite as tiny
from tests.tiny import REPOSITORY, called
from tests.tiny_tflite import frames_of, sample_image, video

WRITTEN = f"{WRITING}*long*"
run = partial(called, main)


def test_one_image(model, tmp_path, capsys):
    ids = sample_image(tmp_path / "street.png")
    out = tmp_path / "out" / "deeper"
    assert run(model, tmp_path / "street.png", "--out", out, "--polygons", "json") == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "street.json",
        "street_mask.png",
        "street_overlay.png",
    ]
    mask = cv2.imread(str(out / "street_mask.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (8, 12) and (mask == ids).all()
    facts = json.loads((out / "street.json").read_text(encoding="utf-8"))
    assert facts["image"] == "street.png" and facts["size"] == [8, 12] and facts["seconds"] > 0
    assert {row["name"]: row["share"] for row in facts["classes"]} == {
        "red": 1 / 3,
        "green": 1 / 3,
        "blue": 1 / 3,
    }
    assert {row["name"] for row in facts["polygons"]} == {"red", "green", "blue"}
    rgb, _ = tiny.colours()
    overlay = cv2.imread(str(out / "street_overlay.png"))[..., ::-1].astype(int)
    expected = (rgb.astype(int) + np.array(tiny.PALETTE)[ids]) / 2
    assert np.abs(overlay - expected).max() <= 0.5
    assert "1 image in" in capsys.readouterr().out

    assert run(model, tmp_path / "street.png", "--out", out) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(model, tmp_path / "street.png", "--out", out, "--overwrite", "--opacity", 0) == 0
    assert (cv2.imread(str(out / "street_overlay.png"))[..., ::-1] == rgb).all()


def test_the_fit_is_chosen_and_said(model, tmp_path, capsys):
    rgb, ids = tiny.colours(4, 12)
    cv2.imwrite(str(tmp_path / "wide.png"), rgb[..., ::-1])
    for asked, used in ((), "letterbox"), (("--fit", "stretch"), "stretch"), (("--fit", "tiles"), "tiles"):
        out = tmp_path / used
        assert run(model, tmp_path / "wide.png", "--out", out, *asked) == 0
        assert json.loads((out / "wide.json").read_text(encoding="utf-8"))["fit"] == used
        assert cv2.imread(str(out / "wide_mask.png"), cv2.IMREAD_UNCHANGED).shape == (4, 12)
    found = cv2.imread(str(tmp_path / "letterbox" / "wide_mask.png"), cv2.IMREAD_UNCHANGED)
    assert (found == ids).all()
    cv2.imwrite(str(tmp_path / "strip.png"), np.zeros((2, 400, 3), np.uint8))
    assert run(model, tmp_path / "strip.png", "--out", tmp_path / "o") == 0
    capsys.readouterr()
    assert run(model, tmp_path / "strip.png", "--out", tmp_path / "p", "--fit", "tiles") == 2
    assert f"{tmp_path / 'strip.png'}: an image of 400x2 pixels takes" in capsys.readouterr().err
    assert run(model, tmp_path / "wide.png", "--out", tmp_path / "q", "--fit", "crop") == 2
    said = capsys.readouterr().err
    assert "--fit is 'crop'; it has to be one of auto, letterbox, stretch, tiles." in said
    assert not (tmp_path / "q").exists()
    sys.stdout.flush()
    assert exit_on_user_error(benchmark.main, [str(model), "--runs", "1", "--fit", "tiles"]) == 0


def test_folder_with_bad_files_goes_on_and_says_so(model, tmp_path, capsys):
    photos = tmp_path / "photos"
    for name in ("a.png", "sub/b.png", "same.png", "same.bmp"):
        sample_image(photos / name)
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (photos / "anim.gif").write_bytes(b"GIF89a")
    (photos / "notes.txt").write_text("not looked at", encoding="utf-8")
    out = photos / "masks"
    assert run(model, photos, "--out", out) == 2
    said = capsys.readouterr()
    assert "broken.jpg" in said.err and "anim.gif" in said.err and "notes.txt" not in said.err
    assert "4 images" in said.out and "2 could not be read" in said.out and "images/s" in said.out
    masks = sorted(str(path.relative_to(out)) for path in out.rglob("*_mask.png"))
    assert masks == ["a_mask.png", "same_bmp_mask.png", "same_png_mask.png", "sub/b_mask.png"]
    # A second run does not take its own masks for images.
    (photos / "broken.jpg").unlink()
    (photos / "anim.gif").unlink()
    assert run(model, photos, "--out", out, "--overwrite") == 0
    assert "4 images" in capsys.readouterr().out


def test_every_image_has_results_of_its_own_and_linked_folders_are_read(model, tmp_path, capsys):
    photos = tmp_path / "photos"
    for name in ("a.png", "a.bmp", "a_bmp.png", "A.png", "annotations_coco.png", "b.png", "b_polygons.png"):
        sample_image(photos / name)
    sample_image(tmp_path / "elsewhere/c.png")
    (photos / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (photos / "linked/back").symlink_to(photos, target_is_directory=True)
    (photos / "._a.png").write_bytes(b"left by macOS")
    sample_image(photos / "__MACOSX/x.png")
    out = tmp_path / "o"
    assert run(model, photos, "--out", out, "--polygons", "cityscapes,coco") == 0
    assert "8 images in" in capsys.readouterr().out
    masks = [str(path.relative_to(out)).casefold() for path in out.rglob("*_mask.png")]
    reports = [
        path
        for path in out.rglob("*.json")
        if "shares" in (text := path.read_text(encoding="utf-8")) or '"model"' in text
    ]
    assert len(set(masks)) == 8 == len(reports) and "linked/c_mask.png" in masks
    assert len(list(out.rglob("*_polygons.json"))) >= 8 and (out / "annotations_coco.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["MODEL", "none.png", "--out", "o"], "none.png does not exist"),
        (["none.tflite", "IMAGE", "--out", "o"], "none.tflite does not exist"),
        (["IMAGE", "IMAGE", "--out", "o"], "not a TFLite model"),
        (["MODEL", "IMAGE", "--out", "IMAGE"], "is a file"),
        (["MODEL", "IMAGE", "--out", "o", "--opacity", "3"], "--opacity is 3.0"),
        (["MODEL", "IMAGE", "--out", "o", "--threads", "0"], "threads is 0"),
        (["MODEL", "EMPTY", "--out", "o"], "holds no images"),
        (["MODEL", "EMPTY", "--out", "EMPTY"], "name another"),
        (["MODEL", "VIDEO", "--out", "o"], "junk.mp4 is no video that is read here"),
    ],
)
def test_bad_arguments_are_one_sentence(model, tmp_path, monkeypatch, capsys, arguments, part):
    monkeypatch.chdir(tmp_path)
    sample_image(tmp_path / "image.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk.mp4").write_bytes(b"no video")
    names = {"MODEL": model, "IMAGE": "image.png", "EMPTY": "empty", "VIDEO": "junk.mp4"}
    assert run(*[names.get(argument, argument) for argument in arguments]) == 2
    err = capsys.readouterr().err
    assert part in err and err.startswith("error: ") and err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_missing_arguments_and_help(capsys):
    for arguments, code in (([], 2), (["--help"], 0)):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == code
    assert "exit code" in capsys.readouterr().out


def test_a_file_is_whole_or_not_there(tmp_path):
    (tmp_path / "x.png").write_bytes(b"old")
    with pytest.raises(RuntimeError), whole_file(tmp_path / "x.png") as part:
        part.write_bytes(b"half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    assert (tmp_path / "x.png").read_bytes() == b"old"
    with pytest.raises(UserError, match="cannot be written"), whole_file(tmp_path / "x.png" / "y.png"):
        pass


def test_video(model, tmp_path, capsys):
    video(tmp_path / "drive.mp4", 9)
    assert run(model, tmp_path / "drive.mp4", "--out", tmp_path / "o", "--opacity", 1) == 0
    facts = json.loads((tmp_path / "o" / "drive.json").read_text(encoding="utf-8"))
    assert facts["frames"] == facts["frames_expected"] == 9 and facts["complete"] and facts["rate"] == 12
    assert {row["name"]: round(row["share"], 1) for row in facts["classes"]} == {"green": 0.5, "blue": 0.5}
    frames = frames_of(tmp_path / "o" / "drive_overlay.mp4")
    assert len(frames) == 9 and frames[0].shape == (32, 48, 3)
    # the palette's green and blue, as far as MPEG-4 keeps colours
    assert np.abs(frames[4][5:9, 20:28].astype(int) - (0, 200, 0)).max() < 40
    assert np.abs(frames[4][23:27, 20:28].astype(int) - (0, 0, 200)).max() < 40
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["drive.json", "drive_overlay.mp4"]
    assert "9 frames" in capsys.readouterr().out


def test_truncated_video_is_refused(model, tmp_path, capsys):
    video(tmp_path / "cut.mp4", 30)
    data = (tmp_path / "cut.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    assert run(model, tmp_path / "cut.mp4", "--out", tmp_path / "o") == 2
    assert "cut.mp4 cannot be read as a video" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_video_stopped_early_is_playable(model, tmp_path, number):
    video(tmp_path / "long.mp4", 3000, size=(320, 240))
    command = [
        sys.executable,
        "-m",
        "runtime",
        str(model),
        str(tmp_path / "long.mp4"),
        "--out",
        str(tmp_path),
    ]
    # A shell starts background jobs with SIGINT ignored, and the child would inherit that.
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, preexec_fn=heeds)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in tmp_path.glob(WRITTEN)) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.05)
    os.kill(process.pid, number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped early" in out
    facts = json.loads((tmp_path / "long.json").read_text(encoding="utf-8"))
    assert not facts["complete"] and 0 < facts["frames"] < 3000
    assert len(frames_of(tmp_path / "long_overlay.mp4")) == facts["frames"]
    assert not list(tmp_path.glob(WRITTEN))


def test_benchmark_times_each_file_in_turn(model, tmp_path, capsys):
    other = tmp_path / "other.tflite"
    other.write_bytes(tiny.scores_model(stride=2))
    arguments = [str(model), str(other), "--runs", "5", "--json", str(tmp_path / "b.json")]
    assert benchmark.main(arguments) == 0
    text = capsys.readouterr().out
    assert "tiny.tflite" in text and "other.tflite" in text and "5 interleaved runs" in text
    rows = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    for row in rows:
        assert row["model_ms"]["p10"] <= row["model_ms"]["median"] <= row["model_ms"]["p90"]
        # The whole path holds the model's run, so it cannot be quicker.
        assert 0 < row["model_ms"]["median"] < row["whole_ms"]["median"]
    assert exit_on_user_error(benchmark.main, [str(model), "--runs", "0"]) == 2
