"""A 64-bit Arm board without the board: QEMU's user mode, Debian 13's Python, and the pins of requirements-runtime.txt.

    python -m tests.arm                # fetch what is missing; tests/test_arm.py runs the files

Fetched once into .venv/arm (330 MB; --folder takes another): an arm64 Python and the libraries that the
wheels ask for from Debian, each package by the SHA-256 that the index of the release has; wheels for aarch64 from the
package index, by the hashes of the pins; QEMU itself from Debian where the machine has none of 8 or later (7.2 crashes
in LiteRT). DEBIAN_MIRROR names another address than Debian's own. `dpkg-deb` unpacks: Debian and Ubuntu have it.

An emulator's times say nothing of a board's, so none is taken.
"""

import argparse
import hashlib
import lzma
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runtime.errors import UserError, exit_on_user_error
from tests.tiny import REPOSITORY

FOLDER = Path(sys.prefix) / "arm"  # in the environment, which tests look through no more than git does
MIRROR = os.environ.get("DEBIAN_MIRROR") or "https://deb.debian.org/debian"
RELEASE, PYTHON = "trixie", "3.13"
WANTED = ("python3", "libstdc++6", "libgl1", "libglib2.0-0t64", "libxcb1")
DRAWS = ("libglx-mesa0",)  # what would draw by libGL, 200 MB; OpenCV loads libGL and draws nothing
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
# Raspberry Pi 3, 4 and 5: the last has the dot products and half floats that other kernels are for.
CORES = ("cortex-a53", "cortex-a72", "cortex-a76")
OLDEST_QEMU = 8
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}  # as Debian calls them
Index = dict[str, dict[str, str]]


class Board(NamedTuple):
    """The emulator, the root of the arm64 system, and the folder of its wheels."""

    qemu: Path
    root: Path
    wheels: Path

    def run(self, core: str, *arguments: object) -> str:
        """The output of Python on that core, in the repository."""
        python = self.root / "usr" / "bin" / f"python{PYTHON}"
        command = [self.qemu, "-cpu", core, "-L", self.root, python, *arguments]
        paths = f"{REPOSITORY}{os.pathsep}{self.wheels}"
        environment = {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(
            [str(part) for part in command], cwd=REPOSITORY, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{core}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        return done.stdout


def ready(folder: Path = FOLDER) -> Board | None:
    """The board that `made` has made of today's pins, if it has."""
    mark = folder / "made"
    if not mark.exists() or mark.read_text(encoding="utf-8") != _pins():
        return None
    qemu = _installed_qemu() or folder / "qemu" / "usr" / "bin" / "qemu-aarch64"
    return Board(qemu, folder / "root", folder / "wheels") if qemu.exists() else None


def made(folder: Path = FOLDER) -> Board:
    """The board, fetched where it is not there. UserError where something cannot be fetched."""
    board = ready(folder)
    if board:
        return board
    if not shutil.which("dpkg-deb"):
        raise UserError("dpkg-deb, which unpacks Debian's packages, is not installed")
    shutil.rmtree(folder, ignore_errors=True)
    root = folder / "root"
    for below in ("lib", "bin"):
        (root / "usr" / below).mkdir(parents=True)
        (root / below).symlink_to(Path("usr") / below)
    _install(WANTED, "arm64", root)
    if not _installed_qemu():
        machine = platform.machine()
        if machine not in MACHINES:
            raise UserError(f"no qemu-aarch64 of {OLDEST_QEMU} or later is installed on this {machine}")
        _install(("qemu-user",), MACHINES[machine], folder / "qemu", alone=True)
        for path in (folder / "qemu" / "usr" / "bin").iterdir():  # 300 MB of other machines' emulators
            if path.name != "qemu-aarch64":
                path.unlink()
    pip = ["install", "--quiet", "--no-deps", "--only-binary=:all:", "--no-compile", "--require-hashes"]
    wanted = ["--python-version", PYTHON, "--implementation", "cp", "--target", str(folder / "wheels")]
    wanted += [part for name in PLATFORMS for part in ("--platform", name)]
    command = [sys.executable, "-m", "pip", *pip, *wanted, "-r", "requirements-runtime.txt"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"wheels for aarch64 cannot be fetched: {done.stderr.strip()[-500:]}")
    (folder / "made").write_text(_pins(), encoding="utf-8")
    board = ready(folder)
    assert board
    return board


def _pins() -> str:
    text = (REPOSITORY / "requirements-runtime.txt").read_bytes()
    return f"{RELEASE} {PYTHON} {' '.join(WANTED)} {hashlib.sha256(text).hexdigest()}"


def _installed_qemu() -> Path | None:
    """QEMU of this machine, when it is new enough."""
    for name in ("qemu-aarch64", "qemu-aarch64-static"):
        path = shutil.which(name)
        if path:
            told = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
            version = re.search(r"version (\d+)\.", told)
            if version and int(version[1]) >= OLDEST_QEMU:
                return Path(path)
    return None


def _install(names: Sequence[str], architecture: str, root: Path, alone: bool = False) -> None:
    """Packages of Debian, and those that they depend on unless `alone`, unpacked below `root`; none is set up."""
    index = parse_index(lzma.decompress(_fetched(f"dists/{RELEASE}/main/binary-{architecture}/Packages.xz")))
    wanted = list(names) if alone else needed(index, names)
    for number, name in enumerate(wanted, 1):
        print(
            f"\r{number} of {len(wanted)} packages of {architecture}  ", end="", file=sys.stderr, flush=True
        )
        data = _fetched(index[name]["Filename"])
        if hashlib.sha256(data).hexdigest() != index[name]["SHA256"]:
            raise UserError(f"{index[name]['Filename']} of {MIRROR} is not what its index says")
        root.mkdir(parents=True, exist_ok=True)
        package = root / "package.deb"
        package.write_bytes(data)
        subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
        package.unlink()
    print(file=sys.stderr)


def parse_index(text: bytes) -> Index:
    """Debian's Packages file: the fields of each package by its name, one line each."""
    found = {}
    for paragraph in text.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if re.match(r"[\w-]+: ", line))
        if "Package" in fields:
            found[fields["Package"]] = fields
    return found


def needed(index: Index, names: Sequence[str]) -> list[str]:
    """The names and all that they depend on, of alternatives the first that there is; without DRAWS."""
    found: list[str] = []
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found or name in DRAWS:
            continue
        found.append(name)
        fields = index[name]
        asked = f"{fields.get('Pre-Depends', '')},{fields.get('Depends', '')}".split(",")
        for choices in asked:
            each = [re.split(r"[ :(]", one.strip())[0] for one in choices.split("|")]
            waiting += [one for one in each if one in index][:1]
    return found


def _fetched(path: str) -> bytes:
    address = f"{MIRROR}/{path}"
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return bytes(answer.read())
    except OSError as error:
        raise UserError(
            f"{address} cannot be fetched: {error}; DEBIAN_MIRROR names another mirror"
        ) from error


def ids_on(
    board: Board, core: str, images: Mapping[Path, np.ndarray], folder: Path
) -> dict[Path, np.ndarray]:
    """Class ids (N, H, W) of each file for its images (N, H, W, 3), by `Segmenter` on that core."""
    given, answers = folder / "images.npz", folder / f"{core}.npz"
    np.savez(given, **{str(number): images[file] for number, file in enumerate(images)})
    board.run(core, "-m", "tests.arm_guest", given, answers, *images)
    with np.load(answers) as held:
        return {file: held[str(number)] for number, file in enumerate(images)}


def main(arguments: list[str] | None = None) -> int:
    command = argparse.ArgumentParser(prog="python -m tests.arm", description=(__doc__ or "").splitlines()[0])
    command.add_argument("--folder", type=Path, default=FOLDER, metavar="DIR", help="default .venv/arm")
    board = made(command.parse_args(arguments).folder)
    said = (
        "import platform, sys, numpy, cv2; print(platform.machine(), sys.version.split()[0], cv2.__version__)"
    )
    print(f"{board.qemu}: {board.run(CORES[0], '-c', said).strip()}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_on_user_error(main))
