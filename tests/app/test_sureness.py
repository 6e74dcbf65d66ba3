"""The heat map of the page: dark where the model is sure, brighter the less it is."""

import numpy as np

from app.sureness import heat


def test_the_less_sure_the_brighter():
    drawn = heat(np.array([[1.0, 0.75, 0.5, 0.0, -0.1, 1.2]], np.float32))
    assert drawn.shape == (1, 6, 3) and drawn.dtype == np.uint8
    sums = drawn[0].astype(int).sum(axis=1)
    assert sums[0] < sums[1] < sums[2] < sums[3] and sums[0] < 20 and sums[3] > 500
    assert (drawn[0, 4] == drawn[0, 3]).all() and (drawn[0, 5] == drawn[0, 0]).all()  # clipped
