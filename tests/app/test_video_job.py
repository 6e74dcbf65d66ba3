"""A video goes on beside the page, in the colours that are chosen, tells how far it is, and can stop."""

import time

import numpy as np
import pytest

from app import palettes, video_job
from tests import tiny_tflite as tiny
from tests.tiny_tflite import video

LIMITS = {
    "timeline": True,
    "most_frames": 2000,
    "most_pixels": 10**6,
    "opacity": 0.5,
    "smooth": 1,
    "fit": "auto",
}


def ended(job: video_job.Job) -> video_job.Job:
    for _ in range(3000):
        if not job.running:
            return job
        time.sleep(0.1)
    raise AssertionError("the job does not end")


def started(root, mask_bytes, frames: int, **options) -> video_job.Job:
    model = tiny.write_bundle(root / "models" / "tiny.tflite", mask_bytes)
    video(root / "drive.mp4", frames)
    data = (root / "drive.mp4").read_bytes()
    return video_job.start(("v",), model, data, "drive.mp4", {**LIMITS, **options})


def test_it_is_made_in_the_colours_that_are_chosen(root, mask_bytes):
    job = ended(started(root, mask_bytes, 12, palette=palettes.safe_palette(3)))
    assert not job.error and job.made.facts["complete"] and job.made.facts["frames"] == 12
    assert job.share == 1.0 and job.line.startswith("frame 12/12")
    colours = {tuple(row["colour"]) for row in job.made.facts["classes"]}
    assert colours and colours <= set(palettes.OKABE_ITO[:3])
    # the video is green above, blue below: half and half in each of its frames
    assert [row["share"] for row in job.made.facts["classes"]] == pytest.approx([0.5, 0.5], abs=0.1)
    assert np.allclose(job.made.facts["timeline"], 0.5, atol=0.1) and len(job.made.facts["timeline"]) == 12
    assert job.made.video[:4] == b"\x1a\x45\xdf\xa3"  # WebM


@pytest.mark.parametrize("why", ["asked", "left alone"])
def test_when_it_stops_what_there_is_stays(root, mask_bytes, monkeypatch, why):
    if why == "left alone":
        monkeypatch.setattr(video_job, "PATIENCE", 0.0)
    job = started(root, mask_bytes, 1500)
    job.stop = why == "asked"
    ended(job)
    assert not job.error and not job.made.facts["complete"] and 0 < job.made.facts["frames"] < 1500


def test_what_is_no_video_ends_in_one_sentence(root, mask_bytes):
    model = tiny.write_bundle(root / "models" / "tiny.tflite", mask_bytes)
    job = ended(video_job.start(("v",), model, b"nothing", "drive.mp4", LIMITS))
    assert job.made is None and job.error.startswith("drive.mp4 is no video that is read here;")
    assert "b'" not in job.error
