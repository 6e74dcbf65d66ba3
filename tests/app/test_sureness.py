"""The heat map of the page: the image in grey where the model is sure, coloured and brighter the less it is."""

import numpy as np

from app.views import heat


def test_the_less_sure_the_brighter():
    confidence = np.array([[1.0, 0.75, 0.5, 0.0, -0.1, 1.2]], np.float32)
    drawn = heat(confidence, np.zeros((1, 6, 3), np.uint8))
    assert drawn.shape == (1, 6, 3) and drawn.dtype == np.uint8
    sums = drawn[0].astype(int).sum(axis=1)
    assert sums[0] < sums[1] < sums[2] < sums[3] and sums[0] < 20 and sums[3] > 300
    assert (drawn[0, 4] == drawn[0, 3]).all() and (drawn[0, 5] == drawn[0, 0]).all()  # clipped


def test_where_the_model_is_sure_the_image_is_seen_in_grey():
    """0.4 of the weighted mean 0.299, 0.587, 0.114 of red, green and blue (ITU-R BT.601), and inferno's black."""
    drawn = heat(np.ones((1, 1), np.float32), np.array([[[100, 200, 50]]], np.uint8))
    expected = 0.4 * (0.299 * 100 + 0.587 * 200 + 0.114 * 50)
    np.testing.assert_allclose(drawn[0, 0], expected, atol=3)
