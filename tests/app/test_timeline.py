"""The timeline of a video as CSV, and the sample video."""

import cv2
import numpy as np
import pytest

from app import sample_video, timeline
from runtime.errors import UserError
from tests.page import png


def test_a_row_a_frame():
    classes = [{"name": "road"}, {"name": "a, b"}]
    facts = {"rate": 8.0, "classes": classes, "timeline": [[0.75, 0.25], [1.0, 0.0]]}
    assert timeline.as_csv(facts).decode() == (
        'frame,seconds,road,"a, b"\n1,0.0,0.75,0.25\n2,0.125,1.0,0.0\n'
    )


def test_the_sample_is_a_zoom_into_each_image(tmp_path):
    side = np.zeros((100, 200, 3), np.uint8)
    side[:, 100:] = 255  # black left, white right: the border stays in the middle
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(png(side))
    (tmp_path / "made.mp4").write_bytes(sample_video.made(sorted(tmp_path.glob("*.png"))))
    capture, frames = cv2.VideoCapture(str(tmp_path / "made.mp4")), []
    while (read := capture.read())[0]:
        frames.append(read[1])
    assert len(frames) == 2 * sample_video.FRAMES and frames[0].shape == (240, 480, 3)
    assert all(frame[:, :220].mean() < 30 and frame[:, 260:].mean() > 220 for frame in frames)
    corner = np.zeros((100, 200, 3), np.uint8)
    corner[:20] = 255  # a fifth of the rows, which the zoom to 0.6 leaves behind
    assert sample_video.zoomed(corner, 0.0)[:47].min() == 255 and sample_video.zoomed(corner, 1.0).max() == 0


def test_without_images_there_is_no_sample():
    with pytest.raises(UserError, match="no image in examples/"):
        sample_video.made([])
