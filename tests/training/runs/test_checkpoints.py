"""Checkpoints: whole or known to be damaged, whatever happens to the disk."""

import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest

from runtime.errors import UserError
from runtime.files import WRITING, make_folder, write_whole
from tests.tiny import REPOSITORY
from training.runs import best_weights, checkpoints
from training.runs.load_weights import load_weights

TEMPORARY = f"{WRITING}{os.getpid()}-recipe.json"


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


def test_no_flipped_bit_is_taken_wherever_it_lies(tmp_path: Path) -> None:
    """Every bit of the first line, which holds step and best score, and 2000 of the arrays."""
    progress = {"step": 52, "best_miou": 0.0123456789, "history": [{"epoch": 1, "loss": 1.5e-05}]}
    path = checkpoints.save(tmp_path, 52, arrays(1), {"progress": progress})
    content = path.read_bytes()
    assert checkpoints.decode(content)[1]["progress"] == progress
    line = 8 * (content.index(b"\n") + 1)
    rest = np.random.default_rng(0).integers(line, 8 * len(content), 2000)
    for bit in [*range(line), *map(int, rest)]:
        spoilt = bytearray(content)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError):
            checkpoints.decode(bytes(spoilt))


def test_a_checkpoint_of_format_1_still_opens() -> None:
    """Its hash, the last entry of the first line, is of the arrays alone."""
    payload = io.BytesIO()
    np.savez(payload, **arrays(3))
    head = {"progress": {"step": 3}, "step": 3, "sha256": hashlib.sha256(payload.getvalue()).hexdigest()}
    found, meta = checkpoints.decode(json.dumps(head).encode() + b"\n" + payload.getvalue())
    assert meta == head
    np.testing.assert_array_equal(found["model/0000"], arrays(3)["model/0000"])


def test_a_link_of_the_temporary_name_is_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("mine", encoding="utf-8")
    inside = tmp_path / "run"
    inside.mkdir()
    (inside / TEMPORARY).symlink_to(outside)
    write_whole(inside / "recipe.json", b"{}")
    assert outside.read_text(encoding="utf-8") == "mine" and (inside / "recipe.json").read_bytes() == b"{}"
    assert [path.name for path in inside.iterdir()] == ["recipe.json"]


@pytest.mark.parametrize("name", [TEMPORARY, "recipe.json"], ids=["temporary", "final"])
def test_a_folder_of_the_name_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="recipe.json cannot be written"):
        write_whole(tmp_path / "recipe.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_where_results_shall_go_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "evaluation").write_text("", encoding="utf-8")
    for place in (tmp_path / "evaluation", tmp_path / "evaluation/camvid-val"):
        for do in (checkpoints.check_folder, make_folder):
            with pytest.raises(UserError, match="evaluation"):
                do(place)
    checkpoints.check_folder(tmp_path / "a/b")
    checkpoints.check_folder(Path("a/b"))
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation"]


@pytest.mark.parametrize("what", ["a file", "a dangling link"])
def test_checkpoints_that_cannot_be_listed_are_not_taken_for_none(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "checkpoints"
    if what == "a file":
        folder.write_text("", encoding="utf-8")
    else:
        folder.symlink_to(tmp_path / "an-unplugged-disk")
    with pytest.raises(UserError, match="cannot be read .* --fresh"):
        checkpoints.latest(folder, print)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from runtime.errors import UserError
from training.runs import checkpoints
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
    assert "step-00000002.checkpoint cannot be written" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.checkpoint"]
    assert (tmp_path / "step-00000001.checkpoint").read_bytes() == before


def test_a_pickled_object_is_never_loaded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pickle|Object"):
        checkpoints.save(tmp_path, 1, {"a": np.array([object()])}, {})
        checkpoints.read(next(tmp_path.glob("step-*")))


@contextmanager
def full_disk(most: int) -> Iterator[None]:
    """The kernel refuses to make any file of this process larger than `most` bytes, as a full disk would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(("most", "refused"), [(20_000, best_weights.NAME), (30, best_weights.HASH)])
def test_a_full_disk_leaves_the_best_weights_whole_and_says_so_in_a_sentence(
    tmp_path: Path, most: int, refused: str
) -> None:
    """HDF5 itself would end the process by SIGSEGV, or leave tracebacks at exit."""
    model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(100, name="dense")])
    best_weights.write(tmp_path, model)
    content = (tmp_path / best_weights.NAME).read_bytes()
    model.layers[0].set_weights([value + 1 for value in model.layers[0].get_weights()])
    with full_disk(most), pytest.raises(UserError, match=f"{refused} cannot be written"):
        best_weights.write(tmp_path, model)
    best_weights.check_present(tmp_path)
    assert (tmp_path / best_weights.NAME).read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == [best_weights.HASH, best_weights.NAME]


def test_the_best_weights_are_known_by_their_hash(tmp_path: Path) -> None:
    """A seeded bit of each of 64 places; sha256sum agrees with best.sha256."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="dense")])
    best_weights.write(tmp_path, model)
    path = tmp_path / best_weights.NAME
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="dense")])
    load_weights(other, path)
    for mine, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    content = path.read_bytes()
    assert (tmp_path / best_weights.HASH).read_text(
        encoding="utf-8"
    ) == f"{hashlib.sha256(content).hexdigest()}  {best_weights.NAME}\n"
    for bit in np.random.default_rng(0).integers(0, 8 * len(content), 64):
        spoilt = bytearray(content)
        spoilt[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoilt)
        with pytest.raises(UserError, match="best.weights.h5 is damaged or another file"):
            load_weights(other, path)
    path.unlink()
    with pytest.raises(UserError, match="best.weights.h5 is not there"):
        best_weights.check_present(tmp_path)
    path.write_bytes(content)
    (tmp_path / best_weights.HASH).unlink()  # a run of before
    best_weights.check_present(tmp_path)


@pytest.mark.parametrize("dies_at", [best_weights.HASH, best_weights.NAME])
def test_killed_while_the_best_weights_are_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    """Whichever file was the last to be written, the weights that are there are known."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="dense")])
    best_weights.write(tmp_path, model)
    model.layers[0].set_weights([value + 1 for value in model.layers[0].get_weights()])

    def write_and_die(path: Path, content: bytes) -> None:
        write_whole(path, content)
        if path.name == dies_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(best_weights, "write_whole", write_and_die)
    with pytest.raises(KeyboardInterrupt):
        best_weights.write(tmp_path, model)
    best_weights.check_present(tmp_path)
