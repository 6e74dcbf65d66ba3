"""Checkpoints: whole or known to be damaged, whatever happens to the disk."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import UserError
from training import checkpoints

REPOSITORY = Path(__file__).parents[1]


def arrays(step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    return {
        "model/0000": rng.normal(size=(3, 4)).astype(np.float32),
        "optimizer/0000": np.array(step, np.int64),
    }


def save(folder: Path, *steps: int) -> None:
    for step in steps:
        checkpoints.save(folder, step, arrays(step), {"progress": {"step": step}})


def test_round_trip_and_the_last_three_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 30, 400)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        f"step-{step:08d}.checkpoint" for step in (2, 30, 400)
    ]
    found, meta = checkpoints.latest(tmp_path, print)
    assert meta["progress"] == {"step": 400}
    for name, value in arrays(400).items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("damage", ["truncate", "flip a byte", "empty", "not json"])
def test_a_damaged_newest_is_named_and_the_one_before_is_taken(tmp_path: Path, damage: str) -> None:
    save(tmp_path, 1, 2)
    newest = tmp_path / "step-00000002.checkpoint"
    data = bytearray(newest.read_bytes())
    if damage == "flip a byte":
        data[-100] ^= 1
    newest.write_bytes(
        {"truncate": bytes(data[:-50]), "flip a byte": bytes(data), "empty": b"", "not json": b"hello\n"}[
            damage
        ]
    )
    said: list[str] = []
    found, meta = checkpoints.latest(tmp_path, said.append)
    assert meta["step"] == 1
    assert "step-00000002" in said[0] and "damaged" in said[0]


def test_all_damaged_is_refused_and_never_restarted(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="all 2 checkpoints .* damaged"):
        checkpoints.latest(tmp_path, lambda text: None)


def test_none_at_all_is_a_new_run_and_leftovers_go(tmp_path: Path) -> None:
    (tmp_path / ".writing-step-00000001.checkpoint").write_bytes(b"half")
    assert checkpoints.latest(tmp_path, print) is None
    assert not list(tmp_path.iterdir())


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from runtime.errors import UserError
from training import checkpoints
folder = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write then fails with an OSError, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    checkpoints.save(folder, 2, {"a": np.zeros(100_000)}, {})
except UserError as error:
    print(error)
    sys.exit(2)
"""


def test_a_full_disk_leaves_the_last_good_checkpoint_whole(tmp_path: Path) -> None:
    """The kernel itself refuses the write, in a real second process."""
    save(tmp_path, 1)
    before = (tmp_path / "step-00000001.checkpoint").read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert "step-00000002.checkpoint could not be written" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.checkpoint"]
    assert (tmp_path / "step-00000001.checkpoint").read_bytes() == before


def test_a_pickled_object_is_never_loaded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pickle|Object"):
        checkpoints.save(tmp_path, 1, {"a": np.array([object()])}, {})
        checkpoints.read(next(tmp_path.glob("step-*")))
