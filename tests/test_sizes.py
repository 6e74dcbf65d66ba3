"""Which sizes of which networks lie on the front of mIoU against time."""

from pathlib import Path

import pytest

from benchmarks import sizes
from runtime.errors import UserError


def row(label: str, size: str, ms: float, miou: float) -> sizes.Row:
    return {
        "label": label,
        "drive": "0006R0",
        "size": size,
        "int8": miou,
        "lost": 0.1,
        "ms": ms,
        "timed": "once",
    }


ROWS = [
    row("small", "360x480", 5.0, 50.0), row("small", "720x960", 20.0, 58.0),
    row("large", "360x480", 9.0, 49.0), row("large", "720x960", 36.0, 60.0), row("large", "480x640", 20.0, 55.0),
]  # fmt: skip


def test_the_front_holds_what_nothing_beats_without_taking_longer():
    found = [(one["label"], one["size"]) for one in sizes.front(ROWS)]
    assert found == [("small", "360x480"), ("small", "720x960"), ("large", "720x960")]


def test_a_table_is_ordered_by_time_and_leaves_out_what_was_not_timed():
    lines = sizes.tables([*ROWS, {**ROWS[0], "label": "untimed"} | {"ms": 1.0}]).splitlines()[4:]
    assert [line.split(" | ")[-2] for line in lines] == ["1.0", "5.0", "9.0", "20.0", "20.0", "36.0"]
    untimed = {key: value for key, value in ROWS[0].items() if key != "ms"}
    assert "small" not in sizes.tables([untimed, ROWS[2]]) and sizes.tables([untimed]) == ""


def test_another_drive_or_another_machine_is_another_table():
    """The slow row of another drive is beaten by nothing there."""
    slow = {**row("small", "360x480", 99.0, 1.0), "drive": "0016E5"}
    later = {**row("small", "360x480", 98.0, 1.0), "timed": "elsewhere"}
    text = sizes.tables([*ROWS, slow, later])
    assert text.count("Without ") == 3 and "Without 0016E5 (once):" in text
    assert "| 99.0 | yes |" in text and "| 98.0 | yes |" in text


def test_the_plot_is_drawn(tmp_path: Path):
    sizes.draw(tmp_path / "images" / "plot.png", ROWS)
    assert (tmp_path / "images" / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_a_run_of_another_kind_is_refused(tmp_path: Path):
    assert sizes.names(tmp_path / "unseen-STDC1_wide-0006R0-0") == ("STDC1 wide", "0006R0")
    known = sizes.names(tmp_path / "unseen-DeepLabV3__MobileNetEdgeTPU-0006R0-0")
    assert known == ("DeepLabV3+ MobileNetEdgeTPU", "0006R0")  # as docs/unseen.json has it
    with pytest.raises(UserError, match="no run of benchmarks.unseen"):
        sizes.names(tmp_path / "first")
