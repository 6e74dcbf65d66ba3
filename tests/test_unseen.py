"""The protocol of drives that training has not seen: who is left out, and what the table says of it."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import unseen
from runtime.errors import UserError
from tests.folders import save

FLOAT, INT8 = "float", "int8"


@pytest.fixture
def camvid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "camvid"
    for kind in ("train", "trainannot"):
        (folder / kind).mkdir(parents=True)
        for name in ("0001TP_1", "0006R0_1", "0006R0_2", "0016E5_1"):
            save(folder / kind / f"{name}.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_drive_is_left_out_of_training_and_scored(camvid: Path):
    found = unseen.links(camvid, "0006R0")
    listed = {kind: sorted(path.name[:6] for path in (found / kind).iterdir()) for kind in ("train", "val")}
    assert listed == {"train": ["0001TP", "0016E5"], "val": ["0006R0", "0006R0"]}
    assert (found / "valannot" / "0006R0_1.png").read_bytes() == (
        camvid / "trainannot/0006R0_1.png"
    ).read_bytes()
    assert unseen.links(camvid, "val") == camvid


def scores(*values: float) -> dict[str, dict[str, dict[str, float]]]:
    """Float and int8 of each drive in turn, seed 0."""
    pairs = zip(values[::2], values[1::2], strict=True)
    return {
        drive: {"0": {FLOAT: first, INT8: second}}
        for drive, (first, second) in zip(unseen.DRIVES, pairs, strict=False)
    }


def test_a_row_has_means_spreads_and_what_it_gains():
    known = {
        "plain": {"flags": ["unet"], "drives": scores(50, 49, 60, 59, 70, 69)},
        "better": {"flags": ["unet"], "drives": scores(52, 51, 61, 61, 72, 72), "beside": "plain"},
        "alike": {"flags": ["unet"], "drives": scores(50, 48, 60, 61, 70, 70), "beside": "plain"},
        "one": {"flags": ["unet"], "drives": scores(51, 51), "beside": "plain"},
    }
    better, alike, one = (unseen.line(name, known[name], known) for name in ("better", "alike", "one"))
    assert (
        "| not measured | 52.00, 51.00 | 61.00, 61.00 | 72.00, 72.00 | 61.67, 61.33 | +0.33 ± 0.58 | not measured |"
        in better
    )
    assert better.endswith("plain: +2.33 ± 0.58 |")  # 2, 2 and 3
    assert alike.endswith("plain: +0.67 ± 1.53, within the spread |")  # -1, 2 and 1
    assert one.endswith(
        "| not measured | not measured | not measured | +0.00 | not measured | plain: +2.00, one drive |"
    )


def test_a_row_says_where_its_score_on_val_comes_from():
    on_drive = {FLOAT: 50.0, INT8: 49.0, "val float": 70.0, "val int8": 69.5}
    on_drive |= {"corrupted float": 40.0, "corrupted int8": 39.0}
    known: dict[str, unseen.Row] = {
        "a drive": {"flags": ["unet"], "drives": {"0006R0": {"0": on_drive}}},
        "all": {
            "flags": ["unet"],
            "drives": {"val": {"0": {FLOAT: 72.0, INT8: 71.0}}, "0006R0": {"0": on_drive}},
        },
    }
    assert unseen.line("a drive", known["a drive"], known).startswith(
        "| a drive | 70.00, 69.50 * | not measured |"
    )
    assert unseen.line("all", known["all"], known).startswith("| all | 72.00, 71.00 | not measured |")
    assert "| +1.00 | 40.00, 39.00 |" in unseen.line("all", known["all"], known)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--label", "a"], "flags of training.train are missing"),
        (["--label", "a", "--drives", "0005VD", "--", "unet"], "0005VD is no drive.*0001TP"),
        (["--label", "a", "--beside", "b", "--", "unet"], 'no row is called "b"'),
    ],
)
def test_what_cannot_be_measured_is_said(camvid: Path, arguments: list[str], told: str):
    with pytest.raises(UserError, match=told):
        unseen.main([str(camvid), *arguments])
    assert not unseen.FIGURES.exists()


def test_a_row_with_other_flags_is_refused_and_what_is_done_is_not_done_again(camvid: Path, monkeypatch):
    asked = []

    def measured(*arguments) -> dict[str, float]:
        asked.append(arguments[2:])
        return {FLOAT: 1.0, INT8: 1.0}

    monkeypatch.setattr(unseen, "measured", measured)
    command = [str(camvid), "--label", "a", "--drives", "0001TP", "0006R0", "--"]
    unseen.main([*command, "unet", "--epochs", "2"])
    unseen.main([*command, "unet", "--epochs", "2"])
    assert asked == [("0001TP", 0), ("0006R0", 0)]
    assert 'python -m benchmarks.unseen DIR --label "a" -- unet --epochs 2' in unseen.PAGE.read_text()
    second = [str(camvid), "--label", "b", "--drives", "0001TP", "--", "unet"]
    unseen.main(second)
    unseen.main([*second[:3], "--beside", "a", *second[3:]])  # asked for once all is measured
    assert "a: +0.00, one drive" in unseen.PAGE.read_text() and len(asked) == 3
    with pytest.raises(UserError, match="other flags: unet --epochs 2"):
        unseen.main([*command, "unet"])


def test_a_row_that_was_measured_beside_another_takes_nothing_back(camvid: Path):
    unseen.keep("first", {"flags": ["a"], "drives": {}})
    unseen.keep("second", {"flags": ["b"], "drives": {}})
    assert list(unseen.keep("first", {"flags": ["c"], "drives": {}})) == ["first", "second"]
    assert unseen.figures()["first"]["flags"] == ["c"]
