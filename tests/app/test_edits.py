"""Corrections by hand: what a polygon covers, what a region is, and what cannot be filled."""

import numpy as np
import pytest

from app.edits import Polygon, Region, Stroke, corrected, polygon_mask, region_mask, stroke_mask
from runtime.errors import UserError

IDS = np.array(
    [
        [0, 0, 1, 1, 0],
        [0, 1, 0, 1, 0],
        [2, 2, 2, 1, 0],
    ],
    np.uint8,
)


def test_a_region_is_connected_by_edges_and_corners():
    assert region_mask(IDS, 0, 0).astype(int).tolist() == [[1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [0, 0, 0, 0, 0]]
    assert region_mask(IDS, 4, 2).astype(int).tolist() == [[0, 0, 0, 0, 1]] * 3
    assert corrected(IDS, [Region(0, 2, 7)]).tolist() == [[0, 0, 1, 1, 0], [0, 1, 0, 1, 0], [7, 7, 7, 1, 0]]


def test_a_polygon_covers_its_border_and_what_is_inside():
    square = polygon_mask((6, 8), [(1, 1), (4, 1), (4, 3), (1, 3)])
    expected = np.zeros((6, 8), bool)
    expected[1:4, 1:5] = True
    assert np.array_equal(square, expected)
    triangle = polygon_mask((5, 5), [(0, 0), (4, 4), (0, 4)])
    assert np.array_equal(triangle, np.tril(np.ones((5, 5), bool)))


def test_a_brush_paints_what_lies_within_half_its_width_of_the_line():
    dab = stroke_mask((11, 11), [(5, 5)], 5)
    y, x = np.mgrid[:11, :11]
    assert np.array_equal(dab, (x - 5) ** 2 + (y - 5) ** 2 <= 2.5**2) and dab.sum() == 21
    line = stroke_mask((9, 12), [(2, 4), (9, 4)], 3)
    assert line[3:6, 2:10].all() and line.sum() == 3 * 8 + 2 * 3  # and a round end of 3 pixels on each side
    assert np.array_equal(
        stroke_mask((9, 12), [(2, 4), (9, 4)], 1).nonzero(), (np.full(8, 4), np.arange(2, 10))
    )
    assert (corrected(IDS, [Stroke(((0, 0), (4, 2)), 20, 7)]) == 7).all()


def test_corrections_follow_one_another_and_leave_the_prediction_alone():
    before = IDS.copy()
    whole = Polygon(((0, 0), (4, 0), (4, 2), (0, 2)), 5)
    assert (corrected(IDS, [whole]) == 5).all()
    assert (corrected(IDS, [whole, Region(2, 1, 255)]) == 255).all()  # of what is there by then
    assert np.array_equal(corrected(IDS, []), IDS) and np.array_equal(IDS, before)


@pytest.mark.parametrize(
    ("edit", "part"),
    [
        (Region(5, 0, 1), "5, 0 lies outside the image of 5x3"),
        (Region(0, -1, 1), "0, -1 lies outside"),
        (Polygon(((0, 0), (1, 1)), 1), "three points or more, not 2"),
        (Polygon(((0, 0), (1, 1), (0, 3)), 1), "0, 3 lies outside"),
        (Stroke(((0, 0), (9, 9)), 3, 1), "9, 9 lies outside"),
        (Stroke(((0, 0),), 0, 1), "a brush of 0 pixels over 1 points paints nothing"),
        (Stroke((), 3, 1), "over 0 points paints nothing"),
        (Region(0, 0, 256), "256 has to be from 0 to 255"),
    ],
)
def test_what_cannot_be_filled(edit, part):
    with pytest.raises(UserError, match=part):
        corrected(IDS, [edit])
