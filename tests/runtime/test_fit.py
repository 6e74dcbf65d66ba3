"""Where an image lies before a model of one size, by arithmetic; the windows' maps come back to where they were."""

import numpy as np
import pytest

from runtime import fit
from runtime.errors import UserError
from runtime.fit import Placing, frames, join_ids, join_scores, placing

FRAME = (360, 480)


@pytest.mark.parametrize(
    ("size", "inner", "at"),
    [
        ((1080, 1920), (270, 480), (45, 0)),
        ((270, 480), (270, 480), (45, 0)),
        ((1920, 1080), (360, 203), (0, 138)),  # 202.5 is 203, and 277 are left
        ((720, 960), (360, 480), (0, 0)),
        ((1, 1), (360, 360), (0, 60)),
        ((1, 1000), (1, 480), (179, 0)),  # at least one pixel
    ],
)
def test_a_letterbox_keeps_the_aspect(size, inner, at):
    place = placing("letterbox", size, FRAME)
    assert (place.fit, place.inner, place.at, place.canvas) == ("letterbox", inner, at, FRAME)
    assert place.whole == (inner == FRAME)


@pytest.mark.parametrize(
    ("size", "inner", "tops", "lefts"),
    [
        ((1080, 1920), (360, 640), (0,), (0, 160)),
        ((360, 1440), (360, 1440), (0,), (0, 320, 640, 960)),  # 960 in steps of at most 360: three
        ((853, 480), (853, 480), (0, 246, 493), (0,)),  # 493 in steps of at most 270: two
        ((720, 960), (468, 624), (0, 108), (0, 144)),  # 1.3 times the frame
        ((36, 48), (468, 624), (0, 108), (0, 144)),
    ],
)
def test_tiles_cover_the_image_at_its_own_aspect(size, inner, tops, lefts):
    place = placing("tiles", size, FRAME)
    assert (place.inner, place.tops, place.lefts, place.at) == (inner, tops, lefts, (0, 0))
    assert place.canvas == place.inner and len(place.windows) == len(tops) * len(lefts)


@pytest.mark.parametrize(
    ("size", "way"),
    [
        ((360, 480), "stretch"),
        ((1080, 1920), "letterbox"),
        ((1000, 2000), "letterbox"),
        ((1000, 2667), "tiles"),  # just beyond twice as wide as 4:3
        ((1000, 1000), "stretch"),
        ((1000, 801), "stretch"),  # 0.6 times 4:3 is 0.8
        ((1000, 799), "tiles"),
        ((1920, 1080), "tiles"),
        ((10, 1000), "letterbox"),  # 75 windows and more would be too many
        ((1, 40_000_000), "letterbox"),
    ],
)
def test_auto_goes_by_the_aspect(size, way):
    assert placing("auto", size, FRAME).fit == way
    scaled = (3 * size[0], 3 * size[1])
    assert placing("auto", scaled, FRAME).fit == way and placing("auto", size, (36, 48)).fit == way


def test_too_many_tiles_and_an_unknown_fit_are_refused_in_one_sentence():
    with pytest.raises(UserError) as error:
        placing("tiles", (3, 300), FRAME)  # 360 high: 36000 wide, and 35520 in steps of 360 are 99
    assert str(error.value) == (
        "an image of 300x3 pixels takes 100 tiles of 480x360, and up to 32 are run; "
        "choose another fit, such as letterbox."
    )
    with pytest.raises(UserError) as error:
        fit.checked_fit("crop")
    assert str(error.value) == "fit is 'crop'; it has to be one of auto, letterbox, stretch, tiles."


def test_what_a_window_shows():
    rgb = np.random.default_rng(1).integers(0, 256, (4, 12, 3), np.uint8)
    (boxed,) = frames(rgb, placing("letterbox", (4, 12), (8, 12)))
    assert (boxed[2:6] == rgb).all() and (boxed[:2] == 128).all() and (boxed[6:] == 128).all()
    wide = np.random.default_rng(2).integers(0, 256, (8, 30, 3), np.uint8)
    place = placing("tiles", (8, 30), (8, 12))
    assert place.lefts == (0, 9, 18)
    assert all(
        (frame == wide[:, left : left + 12]).all()
        for frame, left in zip(frames(wide, place), place.lefts, strict=True)
    )


PLACES = [
    Placing("tiles", (8, 12), (20, 31), (0, 6, 12), (0, 10, 19)),
    Placing("tiles", (8, 12), (8, 31), (0,), (0, 10, 19)),
    Placing("tiles", (8, 12), (15, 20), (0, 3, 7), (0, 2, 8)),  # three windows over one pixel
    Placing("letterbox", (8, 12), (5, 12)),
    Placing("letterbox", (8, 12), (8, 3)),
]


@pytest.mark.parametrize("place", PLACES)
def test_maps_cut_from_one_canvas_come_back_as_they_were(place):
    scores = np.random.default_rng(3).random((*place.canvas, 2)).astype(np.float32)
    top, left = place.at
    inner = np.s_[top : top + place.inner[0], left : left + place.inner[1]]
    found = join_scores([scores[window] for window in place.windows], place, 1)
    np.testing.assert_allclose(found, scores[inner][..., 1], atol=1e-6)
    ids = (scores[..., 0] * 200).astype(np.uint8)
    assert (join_ids([ids[window] for window in place.windows], place) == ids[inner]).all()


@pytest.mark.parametrize("place", PLACES[:3])
def test_a_pixel_is_of_the_window_whose_middle_is_nearest(place):
    maps = [np.full(place.frame, number, np.uint8) for number in range(len(place.windows))]
    owner = join_ids(maps, place)
    ys, xs = np.mgrid[: place.canvas[0], : place.canvas[1]] + 0.5
    down, across = np.divmod(owner.astype(int), len(place.lefts))
    for starts, side, chosen, at in (
        (place.tops, place.frame[0], down, ys),
        (place.lefts, place.frame[1], across, xs),
    ):
        away = abs(at[..., None] - (np.array(starts) + side / 2))
        found = np.take_along_axis(away, chosen[..., None], -1)[..., 0]
        assert (
            found <= away.min(-1) + 1
        ).all() and found.max() < side / 2  # where two are as near, either will do


def test_scores_of_two_windows_are_blended_by_how_central_a_pixel_is():
    """At the first pixel of the second window's 4 columns of overlap the first counts 3.5 parts, the second 0.5."""
    place = Placing("tiles", (2, 8), (2, 12), (0,), (0, 4))
    found = join_scores([np.zeros((2, 8, 1)), np.full((2, 8, 1), 8.0)], place, 0)
    assert found[0].tolist() == [0, 0, 0, 0, 1, 3, 5, 7, 8, 8, 8, 8]
