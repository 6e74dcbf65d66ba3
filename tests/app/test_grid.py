"""Several images as a grid: their shares as a table and as one CSV."""

import numpy as np

from app import grid
from runtime.segmenter import Segmentation
from tests import tiny_tflite as tiny


def found(name: str, ids: list[list[int]]) -> grid.Found:
    array = np.array(ids, np.uint8)
    one = Segmentation(array, tiny.LABELS, tiny.PALETTE, 0.1, np.zeros((*array.shape, 3), np.uint8))
    return grid.Found(name, one, (array.shape[0], array.shape[1]), one.legend())


TWO = [found("a, b.png", [[1, 1, 1, 2]]), found("<i>.png", [[1, 1], [0, 0]])]


def test_one_csv_holds_the_shares_of_all():
    assert grid.as_csv(TWO).decode().splitlines() == [
        "image,width,height,green,red,blue",  # green has most of both together
        '"a, b.png",4,1,0.75,0.0,0.25',
        "<i>.png,2,2,0.5,0.5,0.0",
    ]


def test_the_table_ends_with_the_mean_and_names_stay_text():
    table = grid.shares_table(TWO)
    assert '<th scope="row">&lt;i&gt;.png</th><td>50.0%</td><td>50.0%</td><td>0.0%</td>' in table
    assert '<th scope="row">Mean</th><td>62.5%</td><td>25.0%</td><td>12.5%</td>' in table
