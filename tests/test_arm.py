"""The same class ids on an Arm board's cores, emulated, as here (`make test-arm`; tests/arm.py says how)."""

from pathlib import Path

import numpy as np
import pytest

from tests import arm, arm_files, arm_guest
from tests.arm import Board, needed, parse_index

# Processors add up float32 in orders of their own, so that a pixel of two classes nearly alike may be either's. What
# ships in 8 bits is exact.
LEAST = 0.99
INDEX = b"""\
Package: python3
Depends: python3-minimal (= 3.13), libpython3:any | absent
Pre-Depends: nowhere

Package: python3-minimal
Description: several
 lines: not a field

Package: libpython3
Depends: python3, libglx-mesa0

Package: libglx-mesa0
Depends: python3-minimal

Package: other
"""


def test_packages_are_found_by_what_they_depend_on():
    index = parse_index(INDEX)
    assert set(index) == {"python3", "python3-minimal", "libpython3", "libglx-mesa0", "other"}
    assert sorted(needed(index, ["python3"])) == ["libpython3", "python3", "python3-minimal"]


def test_a_package_that_is_not_what_the_index_says_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    index = b"Package: one\nFilename: pool/one.deb\nSHA256: " + 64 * b"0" + b"\n"
    monkeypatch.setattr(
        arm, "_fetched", lambda path: arm.lzma.compress(index) if "Packages" in path else b"!"
    )
    with pytest.raises(arm.UserError, match="pool/one.deb of http.* is not what its index says"):
        arm._install(("one",), "arm64", tmp_path)


@pytest.fixture(scope="module")
def board() -> Board:
    found = arm.ready()
    if found is None:
        pytest.skip("there is no arm64 system in .venv/arm: `make test-arm` fetches it, QEMU included")
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, np.ndarray]:
    folder = tmp_path_factory.mktemp("arm")
    return {**arm_files.shipped(), **arm_files.small(folder), **arm_files.prompted(folder)}


@pytest.fixture(scope="module")
def here(files: dict[Path, np.ndarray]) -> dict[Path, np.ndarray]:
    return dict(zip(files, arm_guest.answers([*files], [*files.values()]), strict=True))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("core", arm.CORES)
def test_every_file_gives_the_same_ids(board: Board, core: str, files, here, tmp_path: Path):
    found = arm.ids_on(board, core, files, tmp_path)
    wrong = []
    for file, ids in found.items():
        same = ids == here[file]
        print(arm_files.row(core, file, float(same.mean()), len(np.unique(here[file]))))
        exact = file.parent.name == "models" and file.stem.endswith("_int8")
        if not (same.all() if exact else same.mean() > LEAST):
            wrong.append(f"{file.name}: {same.mean():.4%} of the ids")
    assert len(found) > 20 and not wrong, wrong
